"""Accuracies and their intervals, on the host in float64."""

from collections.abc import Sequence

import numpy as np


def ranks_of_truth(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """How many classes stand before the true one; ties to the lower index.

  Args:
    scores: [n u]; -inf marks a class that is no candidate, NaN is refused.
    labels: int [n], below u.

  Returns:
    int [n]; 0 means the true class is the answer, u that it was no candidate.

  Raises:
    ValueError: a score is NaN.
  """
  scores = np.asarray(scores)
  if np.isnan(scores).any():
    rows = np.flatnonzero(np.isnan(scores).any(axis=1))
    raise ValueError(f'scores of videos {rows[:10].tolist()} are not numbers')
  truth = scores[np.arange(len(labels)), labels][:, None]
  before = np.arange(scores.shape[1])[None] < np.asarray(labels)[:, None]
  ahead = (scores > truth) | ((scores == truth) & before)
  absent = np.isneginf(truth[:, 0])
  return np.where(absent, scores.shape[1], ahead.sum(axis=1))


def per_class_mean(correct: np.ndarray, labels: np.ndarray) -> float:
  """Mean over classes of the mean correctness within the class.

  Args:
    correct: [n] in [0, 1].
    labels: int [n].

  Returns:
    In [0, 1]; every class that occurs weighs the same.
  """
  return float(
    np.mean([correct[labels == c].mean() for c in np.unique(labels)])
  )


def bootstrap_interval(
  correct: np.ndarray,
  labels: np.ndarray,
  groups: Sequence[str],
  *,
  per_class: bool,
  resamples: int = 10_000,
  level: float = 0.95,
  seed: int = 0,
) -> tuple[float, float]:
  """Percentile bootstrap over videos, classes fixed.

  Whole groups are resampled within each class, because videos of one
  recording session are not independent.

  Args:
    correct: [n] in [0, 1].
    labels: int [n].
    groups: recording session of each video.
    per_class: the statistic is the per-class mean; otherwise the mean over
      videos.
    resamples: bootstrap samples.
    level: of the interval.
    seed: of the resampling.

  Returns:
    (low, high).
  """
  rng = np.random.default_rng(seed)
  correct = np.asarray(correct, np.float64)
  hits, sizes = [], []  # per class, [resamples]
  groups = np.asarray(groups)
  for c in np.unique(labels):
    chosen = labels == c
    _, group = np.unique(groups[chosen], return_inverse=True)
    n = group.max() + 1
    group_hits = np.bincount(group, correct[chosen], minlength=n)
    group_sizes = np.bincount(group, minlength=n)
    draws = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    hits.append(draws @ group_hits)
    sizes.append(draws @ group_sizes)
  if per_class:
    statistic = np.mean(
      [h / s for h, s in zip(hits, sizes, strict=True)], axis=0
    )
  else:
    statistic = np.sum(hits, axis=0) / np.sum(sizes, axis=0)
  tail = (1 - level) / 2
  low, high = np.quantile(statistic, [tail, 1 - tail])
  return float(low), float(high)


def derangements(
  groups: Sequence[str], count: int, seed: int = 0
) -> np.ndarray:
  """Random permutations of classes within their group, none left in place.

  Args:
    groups: of each of u classes; a group of one class cannot be deranged
      and stays.
    count: permutations to draw.
    seed: of the draw.

  Returns:
    int [count u].
  """
  rng = np.random.default_rng(seed)
  groups = np.asarray(groups)
  out = np.tile(np.arange(len(groups)), (count, 1))
  for row in out:
    for group in np.unique(groups):
      members = np.flatnonzero(groups == group)
      if len(members) < 2:
        continue
      while True:  # a random permutation is a derangement 1 time in e
        shuffled = rng.permutation(members)
        if (shuffled != members).all():
          break
      row[members] = shuffled
  return out
