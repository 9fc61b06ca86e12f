"""Chooses settings on inner draws, where seen classes play unseen.

A model that was trained on a class is not zero-shot on it, so every draw has
a model of its own, trained without the classes that play unseen. The true
unseen classes are never looked at.

The rule (our choice): few settings, written down here, are compared by the
mean over draws of the per-class accuracy of the transfer, among the
candidates of the video's own source; what is not better than the declared
default by more than one standard error keeps the default.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.evaluation import accuracy, generalised, methods
from zsar_jax.evaluation.protocol_evaluation import Evaluation
from zsar_jax.zeroshot import calibration, scoring

_PENALTIES = np.round(np.linspace(0, 0.5, 51), 3)


def grid(
  default: methods.TransferSettings, num_seen: int
) -> list[methods.TransferSettings]:
  """At most eight settings, the default first.

  Args:
    default: declared in the config.
    num_seen: classes that a composite can be made of.

  Returns:
    The default, and others that differ from it in one thing each.
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


def _accuracy(draw: Evaluation, scores: np.ndarray) -> float:
  """Per class, same source where there are several."""
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
  """Settings, GZSL penalty and calibration from inner draws.

  Args:
    draws: evaluations of the draws' own models.
    default: the declared settings.
    names: of the draws' protocols.

  Returns:
    JSON-able: `settings`, `calibration`, `chosen_on`, and `compared`, every
    setting's accuracy in every draw.

  Raises:
    ValueError: no draw, or draws with different numbers of unseen classes.
  """
  if not draws:
    raise ValueError('no inner draw to choose by')
  sizes = {len(draw.unseen.names) for draw in draws}
  if len(sizes) > 1:
    raise ValueError(f'the draws have {sorted(sizes)} unseen classes')
  known = all(
    draw.seen.classes.initial_text is not None
    and draw.unseen.initial_text is not None
    for draw in draws
  )
  least_seen = min(len(draw.seen.classes.names) for draw in draws)
  compared = []
  for settings in grid(default, least_seen):
    if settings.relatedness_source == 'initial' and not known:
      continue
    values = [_accuracy(d, _transfer_scores(d, settings)) for d in draws]
    compared.append((settings, values))
  best, values = max(compared, key=lambda pair: np.mean(pair[1]))
  of_default = np.array(compared[0][1])
  gain = np.array(values) - of_default
  error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
  chosen = best if gain.mean() > error else default
  chosen = dataclasses.replace(chosen, seen_penalty=_penalty(draws, chosen))
  fitted = calibration.fit(
    np.concatenate([_transfer_scores(draw, chosen) for draw in draws]),
    np.concatenate([draw.videos.labels for draw in draws]),
    measured_on=f'pseudo-unseen classes of {", ".join(names)}',
  )
  return {
    'settings': dataclasses.asdict(chosen),
    'chosen_on': list(names),
    'compared': [
      {'settings': dataclasses.asdict(settings), 'accuracies': values}
      for settings, values in compared
    ],
    'calibration': fitted.to_dict(),
  }


def _penalty(draws: Sequence[Evaluation], settings) -> float | None:
  """The seen-class penalty with the best mean H; None without seen videos."""
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
  """A calibration where there are no inner draws: each seen class left out.

  Every seen class is composited from the others, and held-out videos of the
  seen classes choose among these composites. The encoders were trained on the
  classes, so it promises too much; `measured_on` says so.

  Args:
    evaluation: with held-out videos of seen classes.
    settings: of the transfer.
    protocol: its name.

  Returns:
    The calibration; None without such videos, or with fewer than three seen
    classes.
  """
  seen, videos = evaluation.seen, evaluation.seen_videos
  s = len(seen.classes.names)
  if videos is None or s < 3:
    return None
  composites = []
  for c in range(s):
    rest = np.arange(s) != c
    others = dataclasses.replace(
      seen.classes,
      names=tuple(
        n for n, keep in zip(seen.classes.names, rest, strict=True) if keep
      ),
      text=seen.classes.text[rest],
      initial_text=None
      if seen.classes.initial_text is None
      else seen.classes.initial_text[rest],
      sources=(),
      attributes=(),
    )
    own = dataclasses.replace(
      others,
      names=(seen.classes.names[c],),
      text=seen.classes.text[[c]],
      initial_text=None
      if seen.classes.initial_text is None
      else seen.classes.initial_text[[c]],
    )
    limited = dataclasses.replace(
      settings, top_k=min(settings.top_k, s - 1), weighting='softmax'
    )
    composites.append(
      methods.unseen_prototypes(others, seen.prototypes[rest], own, limited)[0]
    )
  scores = scoring.score_videos(
    scoring.view_means(videos.embeddings), np.concatenate(composites)
  )
  return calibration.fit(
    scores,
    videos.labels,
    measured_on=(
      f'held-out videos of seen classes of {protocol}, each class composited '
      'from the others: the encoders know them, so this promises too much'
    ),
  )
