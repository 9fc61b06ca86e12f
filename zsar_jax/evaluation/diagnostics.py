"""Explains a zero-shot result: floors, controls, oracles and facts.

The *error ladder* goes down from the best case: `oracle_prototypes` (true class
means), `oracle_mixture` (the best mixtures of seen prototypes),
`oracle_relatedness` (transfer with true relatedness), `transfer`,
`control_permuted_names` (transfer with wrong names). The step with the largest
loss shows what failed: the encoder, the span of the seen classes, or the names.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.evaluation import accuracy, results, task
from zsar_jax.zeroshot import (
  claims,
  hubness,
  prototypes,
  scoring,
  semantic_transfer,
  simplex,
)

PERMUTED_NAMES = 'control_permuted_names'
LADDER = (
  'oracle_prototypes',
  'oracle_mixture',
  'oracle_relatedness',
  'transfer',
  PERMUTED_NAMES,
)
_NUM_FOLDS = 5
# The paper claims fewer hubs for transfer than for nearest names.
_HUBNESS_OF = ('transfer', 'nearest_name', 'ridge_to_text', 'fusion')


def floor_rows(figures: accuracy.Accuracies) -> list[results.Row]:
  """Computes accuracies of guessing, with or without one known property.

  Args:
    figures: has the classes and splits.

  Returns:
    Rows `floor_chance`, `floor_<attribute>_only` and `floor_source_only`.
  """
  u = len(figures.unseen.names)
  rows = [figures.floor_row('floor_chance', np.ones((u, u), bool))]
  rows += [
    figures.floor_row(f'floor_{attribute}_only', figures.agreement(attribute))
    for attribute in figures.unseen.attribute_names
  ]
  if figures.many_sources:
    rows.append(figures.floor_row('floor_source_only', figures.same_source))
  return rows


def add_controls(
  figures: accuracy.Accuracies,
  seen,
  unseen: task.Classes,
  videos,
  transfer,
  settings,
) -> None:
  """Adds the accuracies of the controls.

  A control takes something away from the transfer: the right names, the
  motion, the order of frames, or the pixels.

  Args:
    figures: receives the accuracies.
    seen: the seen classes.
    unseen: the candidates.
    videos: the test videos.
    transfer: transfer scores [n u].
    settings: of the transfer.
  """
  figures.add_permuted(PERMUTED_NAMES, videos.pad(transfer))
  scores = control_scores(seen, unseen, videos, settings)
  for name, of_control in scores.items():
    figures.add_scores(name, videos.pad(of_control), brief=True)


def control_scores(
  seen, unseen: task.Classes, videos, settings
) -> dict[str, np.ndarray]:
  """Scores the transfer without motion, frame order, or pixels.

  Args:
    seen: the seen classes.
    unseen: the candidates.
    videos: the test videos.
    settings: of the transfer.

  Returns:
    Control -> scores [n u]. A control whose arrays are missing is left out.
  """
  softmax = _softmax_weights(seen.classes, unseen, settings)
  controls = [
    (f'control_{change}', seen.prototypes, scoring.view_means(embeddings))
    for change, embeddings in videos.changed_embeddings.items()
  ]
  if videos.metadata is not None and seen.metadata_prototypes is not None:
    controls.append(
      ('control_metadata', seen.metadata_prototypes, videos.metadata)
    )
  return {
    name: scoring.score_videos(
      embeddings, np.asarray(semantic_transfer.composite(softmax, there))
    )
    for name, there, embeddings in controls
  }


def _softmax_weights(
  seen: task.Classes, unseen: task.Classes, settings
) -> np.ndarray:
  """Returns the softmax transfer weights [u s] of the method `transfer`."""
  initial = settings.relatedness_source == 'initial'
  return semantic_transfer.transfer_weights(
    unseen.initial_text if initial else unseen.text,
    seen.initial_text if initial else seen.text,
    temperature=settings.temperature,
    top_k=settings.top_k,
    centre=settings.centre_text,
  )


def _attribute_vectors(groups: Sequence[task.Classes]) -> list[np.ndarray]:
  """Returns one-hot attribute vectors [c a] for each group of classes."""
  values = sorted(
    {pair for g in groups for a in g.attributes for pair in a.items()}
  )
  return [
    np.array([[a.get(k) == v for k, v in values] for a in g.attributes], float)
    for g in groups
  ]


def add_oracles(
  figures: accuracy.Accuracies, seen, unseen: task.Classes, videos, z, settings
) -> None:
  """Adds the accuracies of the oracles; see `oracle_scores`.

  Args:
    figures: receives the accuracies.
    seen: the seen classes.
    unseen: the candidates.
    videos: the test videos.
    z: embeddings, means over views [n d].
    settings: of the transfer.
  """
  scores = oracle_scores(seen, unseen, videos, z, settings)
  for name, of_oracle in scores.items():
    figures.add_scores(name, videos.pad(of_oracle), brief=True)


def oracle_scores(
  seen, unseen: task.Classes, videos, z, settings
) -> dict[str, np.ndarray]:
  """Scores by the oracles, which use the labels of the unseen videos.

  Args:
    seen: the seen classes.
    unseen: the candidates.
    videos: the test videos.
    z: embeddings, means over views [n d].
    settings: of the transfer.

  Returns:
    Oracle -> scores [n u]. An oracle whose arrays are missing is left out.
  """
  found = {}
  if seen.classes.attribute_names and unseen.attribute_names:
    seen_vectors, unseen_vectors = _attribute_vectors([seen.classes, unseen])
    trained = dataclasses.replace(settings, relatedness_source='trained')
    weights = _softmax_weights(
      dataclasses.replace(seen.classes, text=seen_vectors),
      dataclasses.replace(unseen, text=unseen_vectors),
      trained,
    )
    composites = np.asarray(
      semantic_transfer.composite(weights, seen.prototypes)
    )
    found['oracle_relatedness'] = scoring.score_videos(z, composites)
  if len(videos.labels) < 2:
    return found

  def mixtures(means):
    weights = simplex.nearest_mixtures(means, seen.prototypes)
    return np.asarray(semantic_transfer.composite(weights, seen.prototypes))

  scores = out_of_fold_scores(
    videos.embeddings,
    videos.labels,
    _divisible(videos.labels, videos.groups),
    len(unseen.names),
    (mixtures, lambda means: means),
  )
  names = ('oracle_mixture', 'oracle_prototypes')
  return found | dict(zip(names, scores, strict=True))


def _divisible(labels: np.ndarray, groups: Sequence[str]) -> list[str]:
  """Returns recording sessions such that every class has several.

  A class with a single session has no prototype outside that session. Each
  of its videos then counts as a session. This overestimates the oracle for
  the class. Leaving the class out would put the oracle below the method that
  it bounds.
  """
  of_class: dict[int, set[str]] = {}
  for label, group in zip(labels.tolist(), groups, strict=True):
    of_class.setdefault(label, set()).add(group)
  return [
    group if len(of_class[label]) > 1 else f'{group} video {i}'
    for i, (label, group) in enumerate(
      zip(labels.tolist(), groups, strict=True)
    )
  ]


def out_of_fold_scores(
  embeddings: np.ndarray,
  labels: np.ndarray,
  groups: Sequence[str],
  num_classes: int,
  changes: Sequence[Callable[[np.ndarray], np.ndarray]],
) -> list[np.ndarray]:
  """Scores videos against true class means, by cross-validation over groups.

  A video's class means come from other recording sessions than its own.

  Args:
    embeddings: [n v d].
    labels: int [n].
    groups: recording session of each video.
    num_classes: u.
    changes: functions of the true means [k d]; each is applied before scoring.

  Returns:
    Scores [n u] for each change; -inf for a class without a video outside the
    fold.
  """
  names, group = np.unique(np.asarray(groups), return_inverse=True)
  fold_of_group = np.random.default_rng(0).permutation(len(names)) % _NUM_FOLDS
  fold = fold_of_group[group]
  shape = (len(labels), num_classes)
  scores = [np.full(shape, -np.inf, np.float32) for _ in changes]
  z = scoring.view_means(embeddings)
  for f in range(_NUM_FOLDS):
    inside, outside = fold == f, fold != f
    known = np.unique(labels[outside])
    if not inside.any() or not known.size:
      continue
    means = prototypes.class_prototypes(
      z[outside], np.searchsorted(known, labels[outside]), known.size
    )
    for of_change, change in zip(scores, changes, strict=True):
      of_change[np.ix_(inside, known)] = scoring.score_videos(
        z[inside], change(means)
      )
  return scores


def facts(
  seen,
  unseen: task.Classes,
  videos,
  z: np.ndarray,
  scores: dict[str, np.ndarray],
  figures: accuracy.Accuracies,
  settings,
) -> dict[str, Any]:
  """Computes figures other than accuracies, for the paper's claims.

  Args:
    seen: the seen classes.
    unseen: the candidates.
    videos: the test videos.
    z: embeddings, means over views [n d].
    scores: method -> [n u].
    figures: the accuracies; only their splits are used.
    settings: of the transfer.

  Returns:
    A JSON-able dict: `hubness` (method -> k -> figures, means over splits) and
    `semantic_gap`. With class embeddings from before training also
    `relatedness_kept`, the Spearman correlation of the relatedness before and
    after training.
  """
  found = {
    'hubness': {
      method: _hubness(scores[method], videos, figures)
      for method in _HUBNESS_OF
      if method in scores
    }
  }
  found |= _semantic_gap(seen, unseen, videos, z)
  if seen.classes.initial_text is not None and unseen.initial_text is not None:
    related = [
      np.asarray(semantic_transfer.relatedness(a, b, settings.centre_text))
      for a, b in (
        (unseen.text, seen.classes.text),
        (unseen.initial_text, seen.classes.initial_text),
      )
    ]
    found['relatedness_kept'] = claims.spearman(*related)
  return found


def _hubness(scores, videos, figures: accuracy.Accuracies) -> dict[str, Any]:
  """Measures hubness for each k, as means over splits."""
  n = len(videos.labels)
  of_splits = {}
  for candidates, tested in zip(
    figures.tested.candidates.T, figures.tested.tested.T, strict=True
  ):
    columns = np.flatnonzero(candidates)
    rows = np.flatnonzero(tested[:n])
    labels = np.searchsorted(columns, videos.labels[rows])
    part = scores[np.ix_(rows, columns)]
    for k in hubness.default_ks(len(columns)):
      measured = hubness.measure(part, labels, k)
      of_splits.setdefault(k, []).append(measured)
  return {
    f'k={k}': {
      'skewness': float(np.mean([m.skewness for m in several])),
      'robin_hood': float(np.mean([m.robin_hood for m in several])),
      'largest_share': float(np.mean([m.largest_share for m in several])),
      'reliable': bool(all(m.reliable for m in several)),
    }
    for k, several in of_splits.items()
  }


def _semantic_gap(seen, unseen: task.Classes, videos, z) -> dict[str, Any]:
  """Computes the semantic gap, between classes' names and their videos.

  It is 1 - the Spearman correlation between the relatedness of class names and
  the similarity of true prototypes.
  """
  present = np.unique(videos.labels)
  if len(present) < 2 or len(seen.classes.names) < 2:
    return {}
  means = prototypes.class_prototypes(
    z, np.searchsorted(present, videos.labels), len(present)
  )
  related = np.asarray(
    semantic_transfer.relatedness(unseen.text[present], seen.classes.text)
  )
  visual = means @ seen.prototypes.T
  sources = tuple(unseen.sources[i] for i in present) if unseen.sources else ()
  own = np.asarray(
    semantic_transfer.relatedness(seen.classes.text, seen.classes.text)
  )
  pairs = np.triu_indices(len(own), 1)
  return {
    'semantic_gap': {
      'unseen_x_seen': claims.semantic_gap(related, visual),
      'p_value': claims.semantic_gap_test(related, visual, sources=sources),
      'seen_x_seen': claims.semantic_gap(
        own[pairs], (seen.prototypes @ seen.prototypes.T)[pairs]
      ),
    }
  }
