"""Finds segments of a long video from probabilities of sliding windows.

All windows get their classes together: the path that maximises the sum of log
probabilities, less a cost for every change of class (Viterbi's algorithm). So
an uncertain window follows its neighbours. The recipe is our choice.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

NONE = -1


@dataclasses.dataclass(frozen=True)
class Segment:
  """A stretch of a video.

  Attributes:
    start: seconds.
    end: seconds.
    label: index of the class; `NONE` for none of the candidates.
    score: mean probability of the label over the segment's windows.
  """

  start: float
  end: float
  label: int
  score: float


def best_path(log_probabilities: np.ndarray, switch_cost: float) -> np.ndarray:
  """Finds the labels with the largest sum, less `switch_cost` for each change.

  Args:
    log_probabilities: [w c].
    switch_cost: not negative.

  Returns:
    int [w]; ties stay with the label before, then go to the lower index.

  Raises:
    ValueError: no window, a negative cost, or NaN.
  """
  if log_probabilities.ndim != 2 or not log_probabilities.size:
    raise ValueError(
      f'expected windows x classes, got shape {log_probabilities.shape}'
    )
  if switch_cost < 0 or np.isnan(log_probabilities).any():
    raise ValueError('the switch cost is negative or a probability is NaN')
  total = log_probabilities[0].astype(np.float64)
  came_from = np.zeros(log_probabilities.shape, int)
  for w in range(1, len(log_probabilities)):
    best = int(total.argmax())
    switch = total[best] - switch_cost > total
    came_from[w] = np.where(switch, best, np.arange(len(total)))
    total = total[came_from[w]] - switch_cost * switch + log_probabilities[w]
  path = np.empty(len(log_probabilities), int)
  path[-1] = total.argmax()
  for w in range(len(path) - 1, 0, -1):
    path[w - 1] = came_from[w, path[w]]
  return path


def find_segments(
  starts: Sequence[float],
  ends: Sequence[float],
  probabilities: np.ndarray,
  none: np.ndarray,
  switch_cost: float = 1.0,
) -> list[Segment]:
  """Joins windows into segments that cover the video without a gap.

  Args:
    starts: seconds [w], ascending.
    ends: seconds [w].
    probabilities: of the candidates [w c].
    none: probability of none of the candidates [w].
    switch_cost: in nats; see `best_path`.

  Returns:
    Segments in order. The border of two segments lies halfway between the
    centres of the windows on its two sides.

  Raises:
    ValueError: shapes disagree; or as `best_path`.
  """
  w = len(starts)
  if len(ends) != w or probabilities.shape[0] != w or len(none) != w:
    raise ValueError(
      f'{w} starts, {len(ends)} ends, {len(probabilities)} rows of '
      f'probabilities and {len(none)} of none'
    )
  columns = np.concatenate([probabilities, np.asarray(none)[:, None]], axis=1)
  path = best_path(np.log(np.maximum(columns, 1e-12)), switch_cost)
  centres = (np.asarray(starts) + np.asarray(ends)) / 2
  changes = np.flatnonzero(path[1:] != path[:-1]) + 1
  firsts, lasts = [0, *changes], [*changes, w]
  segments = []
  for first, last in zip(firsts, lasts, strict=True):
    border = lambda i: float((centres[i - 1] + centres[i]) / 2)
    label = int(path[first])
    segments.append(
      Segment(
        float(starts[0]) if first == 0 else border(first),
        float(ends[-1]) if last == w else border(last),
        label if label < probabilities.shape[1] else NONE,
        float(columns[first:last, label].mean()),
      )
    )
  return segments
