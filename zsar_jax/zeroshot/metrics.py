"""Ranks, and permutations of classes, on the host."""

from collections.abc import Sequence

import numpy as np


def ranks_of_truth(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Counts the classes before the true one; ties go to the lower index.

  Args:
    scores: [n u]; -inf marks a class that is not a candidate.
    labels: int [n], below u.

  Returns:
    int [n]; 0 if the true class is the answer, u if it is not a candidate.

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


def derangements(
  groups: Sequence[str], count: int, seed: int = 0
) -> np.ndarray:
  """Draws permutations of classes within their group that move every class.

  Args:
    groups: the group of each of u classes; a group of one class stays.
    count: number of permutations.
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
