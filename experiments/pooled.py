"""Pools accuracies over several splits, each with its own models.

The statistics are those of `zsar_jax.evaluation.accuracy`. A video that two
splits test counts twice. Both copies have the same class and recording session,
so the bootstraps draw them together. Seeds are averaged video by video before
resampling; their spread is reported separately.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from zsar_jax.evaluation import (
  accuracy,
  diagnostics,
  generalised,
  methods,
  results,
  task,
)
from zsar_jax.evaluation.protocol_evaluation import Evaluation
from zsar_jax.zeroshot import metrics, ranking, scoring

METRICS = (accuracy.SAME_SOURCE, accuracy.PER_CLASS)
# Scores of every method of one trained cell: method -> [n u].
Scores = Mapping[str, np.ndarray]


def all_scores(
  evaluation: Evaluation, settings: methods.TransferSettings
) -> dict[str, np.ndarray]:
  """Scores the test videos by all methods, controls and oracles.

  Args:
    evaluation: arrays of one model.
    settings: of the methods.

  Returns:
    Method -> scores [n u] of the readable videos.
  """
  seen, unseen, videos = evaluation.seen, evaluation.unseen, evaluation.videos
  z = scoring.view_means(videos.embeddings)
  return {
    **methods.method_scores(seen, unseen, z, videos.match, settings),
    **diagnostics.control_scores(seen, unseen, videos, settings),
    **diagnostics.oracle_scores(seen, unseen, videos, z, settings),
  }


class Pool:
  """Accuracies over some splits.

  Attributes:
    figures: the accuracies.
  """

  def __init__(self, splits: Sequence[Evaluation], resamples: int = 0):
    """Concatenates the test videos of all splits.

    Args:
      splits: one evaluation per split; only its test is used.
      resamples: number of bootstrap resamples; 0 means the default.
    """
    names = sorted({n for e in splits for n in e.unseen.names})
    self._own = [
      np.array([names.index(n) for n in e.unseen.names]) for e in splits
    ]
    parts = [e.videos.as_tested(len(e.unseen.names)) for e in splits]
    self._sizes = [len(part.labels) for part in parts]
    self._ids = [e.video_ids for e in splits]
    self._videos = [e.videos for e in splits]
    candidates = np.zeros((len(names), len(splits)), bool)
    tested = np.zeros((sum(self._sizes), len(splits)), bool)
    first = 0
    self._rows = []
    for s, (own, size) in enumerate(zip(self._own, self._sizes, strict=True)):
      candidates[own, s] = True
      self._rows.append(slice(first, first + size))
      tested[self._rows[s], s] = True
      first += size
    by_name = lambda column: {
      name: value
      for e in splits
      if getattr(e.unseen, column)
      for name, value in zip(
        e.unseen.names, getattr(e.unseen, column), strict=True
      )
    }
    sources, attributes = by_name('sources'), by_name('attributes')
    in_order = lambda known: tuple(known[n] for n in names) if known else ()
    unseen = task.Classes(
      tuple(names),
      np.zeros((len(names), 1)),
      in_order(sources),
      in_order(attributes),
    )
    self.figures = accuracy.Accuracies(
      unseen,
      task.Tested(
        np.concatenate(
          [own[p.labels] for own, p in zip(self._own, parts, strict=True)]
        ),
        tuple(g for p in parts for g in p.groups),
        np.concatenate([p.readable for p in parts]),
        candidates,
        tested,
      ),
      resamples,
    )
    self.spread: dict[tuple[str, str], np.ndarray] = {}

  def _local(self, s: int):
    """Returns labels, and which classes share a source, within split s."""
    own = self._own[s]
    labels = np.searchsorted(own, self.figures.tested.labels[self._rows[s]])
    return labels, self.figures.same_source[np.ix_(own, own)]

  def _correct(self, s: int, scores: np.ndarray, same_source: bool):
    """Returns whether each video of a split is recognised, [n]."""
    labels, alike = self._local(s)
    everything = np.ones((len(self._own[s]), 1), bool)
    padded = self._videos[s].pad(scores)
    allowed = alike if same_source else None
    return (
      ranking.ranks_in_splits(padded, labels, everything, allowed)[:, 0] < 1
    )

  def _permuted(self, s: int, scores: np.ndarray, same_source: bool):
    """Returns the same with names permuted within their source, mean of 20."""
    labels, alike = self._local(s)
    own = self._own[s]
    everything = np.ones(len(own), bool)
    padded = self._videos[s].pad(scores)
    allowed = alike[labels] if same_source else None
    found = ranking.answers(padded, everything, allowed)
    sources = np.array(self.figures.unseen.sources or [''] * len(self._own))
    groups = sources[own] if self.figures.unseen.sources else [''] * len(own)
    orders = metrics.derangements(groups, 20, seed=s)
    return (found[:, None] == orders.T[labels]).mean(axis=1)

  def add(self, name: str, scores: Sequence[Sequence[np.ndarray]]) -> None:
    """Adds a method.

    Args:
      name: name of its rows.
      scores: for each split and each seed, scores [n u].
    """
    self._add(name, scores, self._correct)

  def add_permuted(self, name: str, scores: Sequence[Sequence[np.ndarray]]):
    """Adds a method with permuted names; arguments as for `add`."""
    self._add(name, scores, self._permuted)

  def _add(self, name, scores, judge) -> None:
    labels = self.figures.tested.labels
    sizes = self.figures.tested.candidates.astype(float)
    for metric in METRICS:
      same = metric == accuracy.SAME_SOURCE
      if same and not self.figures.many_sources:
        continue
      correct = np.zeros(self.figures.tested.tested.shape)
      of_seeds = []
      for s, seeds in enumerate(scores):
        right = np.stack([judge(s, one, same) for one in seeds])
        correct[self._rows[s], s] = right.mean(axis=0)
        of_seeds.append([self._per_class(s, one) for one in right])
      alike = (
        self.figures.same_source
        if same
        else np.ones_like(self.figures.same_source)
      )
      chance = 1 / np.maximum(alike @ sizes, 1)[labels]
      self.figures.add(name, metric, correct, chance, True)
      if len({len(x) for x in of_seeds}) == 1:
        self.spread[name, metric] = np.array(of_seeds)  # [splits seeds]

  def _per_class(self, s: int, right: np.ndarray) -> float:
    labels, _ = self._local(s)
    return float(np.mean([right[labels == c].mean() for c in set(labels)]))

  def rows(self) -> list[results.Row]:
    """Returns all rows, then chance and the accuracy of knowing the source."""
    floors = [diagnostics.floor_rows(self.figures)]
    return [*self.figures.rows(), *floors[0]]

  def paired(
    self, first: str, others: Sequence[str], primary: str = ''
  ) -> list[results.Paired]:
    """Returns differences of one method from others, in both metrics."""
    return [
      pair
      for metric in METRICS
      for pair in self.figures.paired(first, others, metric, primary)
    ]


def generalised_means(
  evaluations: Sequence[Evaluation],
  settings: Sequence[methods.TransferSettings],
) -> dict[tuple[str, str], float]:
  """Returns mean GZSL figures over models: (method, metric) -> value."""
  found: dict[tuple[str, str], list[float]] = {}
  for evaluation, chosen in zip(evaluations, settings, strict=True):
    if evaluation.seen_videos is None:
      continue
    of_model = generalised.evaluate(
      evaluation.seen,
      evaluation.unseen,
      evaluation.seen_videos,
      evaluation.videos,
      chosen,
    )
    for row in of_model.rows:
      found.setdefault((row.method, row.metric), []).append(row.value)
  return {key: float(np.mean(values)) for key, values in found.items()}


def fact_means(
  evaluations: Sequence[Evaluation],
  settings: Sequence[methods.TransferSettings],
) -> dict[str, float]:
  """Returns means over models of hubness, semantic gap, relatedness kept."""
  found: dict[str, list[float]] = {}

  def walk(prefix, value):
    if isinstance(value, Mapping):
      for key, part in value.items():
        walk(f'{prefix} {key}'.strip(), part)
    elif isinstance(value, bool):
      return
    else:
      found.setdefault(prefix, []).append(float(value))

  for evaluation, chosen in zip(evaluations, settings, strict=True):
    seen, unseen = evaluation.seen, evaluation.unseen
    videos = dataclasses.replace(evaluation.videos)
    z = scoring.view_means(videos.embeddings)
    u = len(unseen.names)
    figures = accuracy.Accuracies(unseen, videos.as_tested(u), 2)
    scores = methods.method_scores(seen, unseen, z, videos.match, chosen)
    walk(
      '',
      diagnostics.facts(seen, unseen, videos, z, scores, figures, chosen),
    )
  return {name: float(np.mean(values)) for name, values in found.items()}
