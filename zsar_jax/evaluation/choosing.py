"""Chooses transfer settings on inner draws.

An inner draw holds out some seen classes as pseudo-unseen classes. A model
trained on a class is not zero-shot on it, so every draw has its own model,
trained without the held-out classes. The true unseen classes are never used.

The rule (our choice): `grid` lists a few settings. They are compared by the
mean, over draws, of the transfer's per-class accuracy among the candidates of
the video's own source. The best setting replaces the declared default only if
it is better by more than one standard error.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, TypeVar

import numpy as np

from zsar_jax.evaluation import (
  accuracy,
  example_draws,
  generalised,
  methods,
  task,
)
from zsar_jax.evaluation.protocol_evaluation import Evaluation
from zsar_jax.zeroshot import calibration, examples, scoring

_Choice = TypeVar('_Choice')
# Candidates for `example_prior`, the numbers of examples that they are compared
# at, and how often examples are drawn.
PRIORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_NUM_EXAMPLES = (1, 2, 5)
_EXAMPLE_DRAWS = 10
_PENALTIES = np.round(np.linspace(0, 0.5, 51), 3)


def grid(
  default: methods.TransferSettings, num_seen: int
) -> list[methods.TransferSettings]:
  """Returns the settings to compare.

  Args:
    default: the settings of the config.
    num_seen: number of seen classes of a composite.

  Returns:
    At most eight settings: first the default, then settings that differ from
    it in one field each.
  """
  changes = [
    {'temperature': default.temperature * factor} for factor in (0.5, 2, 4)
  ]
  changes += [{'top_k': k} for k in (3, 5) if k < num_seen]
  changes.append({'centre_text': not default.centre_text})
  if default.relatedness_source == 'trained':
    changes.append({'relatedness_source': 'initial'})
  return [default, *(dataclasses.replace(default, **c) for c in changes)][:8]


def _transfer_scores(draw: Evaluation, settings) -> np.ndarray:
  composites = methods.all_composites(draw.seen, draw.unseen, settings)
  z = scoring.view_means(draw.videos.embeddings)
  return scoring.score_videos(z, composites['transfer'])


def transfer_accuracy(
  draw: Evaluation, settings: methods.TransferSettings
) -> float:
  """What choices are compared by: per-class accuracy of the transfer.

  Args:
    draw: an evaluation of unseen classes.
    settings: of the transfer.

  Returns:
    In [0, 1]; with several sources, among candidates of the video's own.
  """
  scores = _transfer_scores(draw, settings)
  figures = accuracy.Accuracies(
    draw.unseen, draw.videos.as_tested(len(draw.unseen.names)), resamples=2
  )
  figures.add_scores('transfer', draw.videos.pad(scores), brief=True)
  metric = accuracy.SAME_SOURCE if figures.many_sources else accuracy.PER_CLASS
  return {row.metric: row.value for row in figures.rows()}[metric]


def choose(
  draws: Sequence[Evaluation],
  default: methods.TransferSettings,
  names: Sequence[str],
) -> dict[str, Any]:
  """Chooses settings and GZSL penalty on inner draws, and fits a calibration.

  Args:
    draws: one evaluation for each draw, by the draw's own model.
    default: the settings of the config.
    names: protocol name of each draw.

  Returns:
    A JSON-able dict: `settings`, `calibration`, `chosen_on` (the names),
    `compared` (the accuracy of every setting in every draw) and
    `compared_priors` (that of every `example_prior`).

  Raises:
    ValueError: no draw, or draws with different numbers of unseen classes.
  """
  if not draws:
    raise ValueError('no inner draw to choose by')
  sizes = {len(draw.unseen.names) for draw in draws}
  if len(sizes) > 1:
    raise ValueError(f'the draws have {sorted(sizes)} unseen classes')
  compared = _compare(draws, default)
  chosen = best(compared)
  priors = compare_priors(draws, chosen)
  chosen = dataclasses.replace(
    chosen,
    seen_penalty=_penalty(draws, chosen),
    example_prior=best([*priors.items()]) if priors else chosen.example_prior,
  )
  fitted = calibration.fit(
    np.concatenate([_transfer_scores(draw, chosen) for draw in draws]),
    np.concatenate([draw.videos.labels for draw in draws]),
    measured_on=f'pseudo-unseen classes of {", ".join(names)}',
  )
  classes = {name for draw in draws for name in draw.unseen.names}
  fitted = dataclasses.replace(fitted, num_classes=len(classes))
  return {
    'settings': dataclasses.asdict(chosen),
    'chosen_on': list(names),
    'compared': [
      {'settings': dataclasses.asdict(settings), 'accuracies': values}
      for settings, values in compared
    ],
    'compared_priors': {f'{prior:g}': v for prior, v in priors.items()},
    'calibration': fitted.to_dict(),
  }


def _compare(
  draws: Sequence[Evaluation], default: methods.TransferSettings
) -> list[tuple[methods.TransferSettings, list[float]]]:
  """Returns each setting with its accuracy per draw, the default first."""
  have_initial = all(
    draw.seen.classes.initial_text is not None
    and draw.unseen.initial_text is not None
    for draw in draws
  )
  least_seen = min(len(draw.seen.classes.names) for draw in draws)
  return [
    (settings, [transfer_accuracy(d, settings) for d in draws])
    for settings in grid(default, least_seen)
    if have_initial or settings.relatedness_source != 'initial'
  ]


def best(compared: Sequence[tuple[_Choice, Sequence[float]]]) -> _Choice:
  """Returns the best choice if its gain exceeds a standard error.

  Args:
    compared: (choice, its accuracy in each draw), the default first.

  Returns:
    The choice with the best mean, or else the default. One draw has no standard
    error, and changes nothing.
  """
  default, of_default = compared[0]
  found, of_best = max(compared, key=lambda pair: np.mean(pair[1]))
  gain = np.array(of_best) - np.array(of_default)
  error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
  return found if gain.mean() > error else default


def compare_priors(
  draws: Sequence[Evaluation], settings: methods.TransferSettings
) -> dict[float, list[float]]:
  """Compares how much a name counts beside example videos.

  Args:
    draws: evaluations of unseen classes; their videos are examples and test.
    settings: of the transfer.

  Returns:
    `example_prior`, the default first -> for each draw the mean accuracy with
    1, 2 and 5 examples of every class; {} where a draw has too few videos.
  """
  priors = dict.fromkeys((settings.example_prior, *PRIORS))
  found: dict[float, list[float]] = {prior: [] for prior in priors}
  for draw in draws:
    videos, names = draw.videos, draw.unseen.names
    rng, labels = np.random.default_rng(0), np.asarray(draw.videos.labels)
    try:
      drawn = [
        example_draws.draw(videos, names, max(_NUM_EXAMPLES), rng)
        for _ in range(_EXAMPLE_DRAWS)
      ]
    except ValueError:  # too few videos or recording sessions
      return {}
    composites = methods.all_composites(draw.seen, draw.unseen, settings)
    directions = examples.directions(videos.embeddings)
    for prior, values in found.items():
      accuracies = [
        example_draws.per_class_accuracy(
          example_draws.scores(
            one, videos.embeddings, directions, composites['transfer'], n, prior
          ),
          labels[one.tested],
        ).mean()
        for one in drawn
        for n in _NUM_EXAMPLES
      ]
      values.append(float(np.mean(accuracies)))
  return found


def _penalty(draws: Sequence[Evaluation], settings) -> float | None:
  """Returns the penalty on seen classes with the best mean H over draws.

  Returns None if a draw has no videos of seen classes.
  """
  curves = [
    generalised.transfer_curve(
      draw.seen, draw.unseen, draw.seen_videos, draw.videos, settings
    )
    for draw in draws
    if draw.seen_videos is not None
  ]
  if len(curves) < len(draws):
    return None
  means = [
    np.mean([curve.at(penalty)[2] for curve in curves])
    for penalty in _PENALTIES
  ]
  return float(_PENALTIES[int(np.argmax(means))])


def calibrate_on_seen(
  evaluation: Evaluation,
  settings: methods.TransferSettings,
  protocol: str,
) -> calibration.Calibration | None:
  """Fits a calibration without inner draws, leaving out one class at a time.

  Every seen class is composited from the others. Held-out videos of the seen
  classes are scored against these composites. The encoders were trained on
  these classes, so the probabilities are too high; `measured_on` says so.

  Args:
    evaluation: its `seen_videos` are used.
    settings: of the transfer.
    protocol: name of the protocol, for `measured_on`.

  Returns:
    The calibration; None without held-out videos, or with fewer than three
    seen classes.
  """
  seen, videos = evaluation.seen, evaluation.seen_videos
  if videos is None or len(seen.classes.names) < 3:
    return None
  return calibrate(
    seen,
    seen.classes,
    videos,
    settings,
    f'held-out videos of seen classes of {protocol}, each class composited '
    'from the others: the encoders were trained on them, so the '
    'probabilities are too high',
  )


def calibrate(
  seen: task.Seen,
  candidates: task.Classes,
  videos: task.TestVideos,
  settings: methods.TransferSettings,
  measured_on: str,
) -> calibration.Calibration:
  """Fits a calibration that treats every candidate as unseen.

  Args:
    seen: the seen classes with their prototypes.
    candidates: at least two. A candidate that is also a seen class is
      composited from the other seen classes.
    videos: their labels index the candidates.
    settings: of the transfer.
    measured_on: describes these videos and classes.

  Returns:
    The calibration.

  Raises:
    ValueError: fewer than two candidates.
  """
  composites = _left_out_composites(seen, candidates, settings)
  scores = scoring.score_videos(
    scoring.view_means(videos.embeddings), composites
  )
  return calibration.fit(scores, videos.labels, measured_on=measured_on)


def _left_out_composites(
  seen: task.Seen,
  candidates: task.Classes,
  settings: methods.TransferSettings,
) -> np.ndarray:
  """Composites each candidate from all other seen classes, [c d]."""
  names = np.array(seen.classes.names)
  limited = dataclasses.replace(
    settings, top_k=min(settings.top_k, len(names) - 1)
  )
  composites = []
  for c, name in enumerate(candidates.names):
    rest = names != name
    composite, _ = methods.unseen_prototypes(
      _only(seen.classes, rest),
      seen.prototypes[rest],
      _only(candidates, np.arange(len(candidates.names)) == c),
      limited,
    )
    composites.append(composite)
  return np.concatenate(composites)


def _only(classes: task.Classes, keep: np.ndarray) -> task.Classes:
  """Returns names and embeddings of the classes in a mask, bool [c]."""
  initial = classes.initial_text
  return task.Classes(
    tuple(classes.names[i] for i in np.flatnonzero(keep)),
    classes.text[keep],
    initial_text=None if initial is None else initial[keep],
  )
