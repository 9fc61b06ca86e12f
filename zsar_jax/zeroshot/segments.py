"""Finds segments of a long video from probabilities of sliding windows.

All windows get their classes together: the path that maximises the sum of log
probabilities, less a cost for every change of class (Viterbi's algorithm). So
an uncertain window follows its neighbours. The recipe is our choice.

`find_segments` sees the whole video. `Segmenter` gets windows one by one, and
returns a segment as soon as no later window can change it.
"""

import collections
from collections.abc import Sequence
import dataclasses

import numpy as np

NONE = -1
# Below it a probability counts as this.
_LEAST = 1e-12


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
    total, came_from[w] = _step(total, log_probabilities[w], switch_cost)
  path = np.empty(len(log_probabilities), int)
  path[-1] = total.argmax()
  for w in range(len(path) - 1, 0, -1):
    path[w - 1] = came_from[w, path[w]]
  return path


def _step(
  total: np.ndarray, log_probabilities: np.ndarray, switch_cost: float
) -> tuple[np.ndarray, np.ndarray]:
  """Adds one window to the best sums [c] that end with each label.

  Returns:
    The sums [c] with the window, and the label before it on each path [c].
  """
  best = int(total.argmax())
  switch = total[best] - switch_cost > total
  came_from = np.where(switch, best, np.arange(len(total)))
  total = total[came_from] - switch_cost * switch + log_probabilities
  return total, came_from


class _PathFinder:
  """`best_path` for windows that come one by one."""

  def __init__(self, switch_cost: float, max_wait: int):
    self._cost, self._max_wait = switch_cost, max_wait
    self._total: np.ndarray | None = None
    # Of each window whose label is open, but the oldest.
    self._came_from: collections.deque[np.ndarray] = collections.deque()

  def add(self, log_probabilities: np.ndarray) -> list[int]:
    """Takes a window's row [c]; returns labels that became certain, in order.

    Labels are certain where the best paths to all labels of the newest window
    agree. After `max_wait` windows the best path of the moment decides, and
    other paths are given up.
    """
    if self._total is None:
      self._total = log_probabilities.astype(np.float64)
      return []
    self._total, came_from = _step(self._total, log_probabilities, self._cost)
    self._came_from.append(came_from)
    ends = np.flatnonzero(np.isfinite(self._total))
    # Back through the open windows, until all paths are in one label.
    for back in range(len(self._came_from)):
      ends = np.unique(self._came_from[-1 - back][ends])
      if len(ends) == 1:
        return self._settle(len(self._came_from) - back, int(ends[0]))
    if len(self._came_from) < self._max_wait:
      return []
    return self._give_up_others()

  def _settle(self, count: int, last: int) -> list[int]:
    """Returns the `count` oldest open labels, whose last one is known."""
    labels = [last]
    steps = [self._came_from.popleft() for _ in range(count)]
    for came_from in reversed(steps[:-1]):
      labels.append(int(came_from[labels[-1]]))
    return labels[::-1]

  def _give_up_others(self) -> list[int]:
    """Decides the oldest open label by the best path of the moment."""
    first = np.arange(len(self._total))
    for came_from in reversed(self._came_from):
      first = came_from[first]
    label = int(first[self._total.argmax()])
    self._total[first != label] = -np.inf
    return self._settle(1, label)

  def finish(self) -> list[int]:
    """Returns the labels that were open."""
    if self._total is None:
      return []
    labels = [int(self._total.argmax())]
    for came_from in reversed(self._came_from):
      labels.append(int(came_from[labels[-1]]))
    self._total = None
    self._came_from.clear()
    return labels[::-1]


class _Joiner:
  """Joins labelled windows, in order, into segments without a gap."""

  def __init__(self):
    self._label: int | None = None

  def add(
    self, start: float, end: float, label: int, score: float
  ) -> Segment | None:
    """Takes a window; returns the segment before it if it has ended."""
    ended, centre = None, (start + end) / 2
    if label != self._label:
      if self._label is not None:
        # Halfway between the centres of the windows on both sides.
        start = (self._centre + centre) / 2
        ended = self._segment(start)
      self._label, self._start = label, start
      self._sum, self._count = 0.0, 0
    self._sum, self._count = self._sum + score, self._count + 1
    self._centre, self._end = centre, end
    return ended

  def finish(self) -> Segment | None:
    """Returns the last segment; None if there was no window."""
    return None if self._label is None else self._segment(self._end)

  def _segment(self, end: float) -> Segment:
    mean = self._sum / self._count
    return Segment(self._start, end, self._label, mean)


class Segmenter:
  """`find_segments` for windows that come one by one.

  Memory does not grow with the number of windows.
  """

  def __init__(self, switch_cost: float = 1.0, max_wait: int = 60):
    """Starts without windows.

    Args:
      switch_cost: in nats; see `best_path`.
      max_wait: windows after which a label is decided, certain or not. Until
        then the segments are those of `find_segments`. Our choice.

    Raises:
      ValueError: a negative cost, or no window to wait for.
    """
    if not switch_cost >= 0 or max_wait < 1:
      raise ValueError(
        f'switch_cost={switch_cost} must not be negative, and '
        f'max_wait={max_wait} must be at least 1'
      )
    self._finder = _PathFinder(switch_cost, max_wait)
    self._joiner = _Joiner()
    self._open: collections.deque[tuple[float, float, np.ndarray]] = (
      collections.deque()
    )

  def add(
    self, start: float, end: float, probabilities: np.ndarray, none: float
  ) -> list[Segment]:
    """Takes the next window.

    Args:
      start: seconds.
      end: seconds.
      probabilities: of the candidates [c].
      none: probability of none of the candidates.

    Returns:
      Segments that have ended for certain, in order.

    Raises:
      ValueError: a probability is NaN.
    """
    row = np.append(probabilities, none)
    if np.isnan(row).any():
      raise ValueError('a probability is NaN')
    self._open.append((start, end, row))
    return self._join(self._finder.add(np.log(np.maximum(row, _LEAST))))

  def finish(self) -> list[Segment]:
    """Returns the segments that are left; there are no more windows."""
    last = self._join(self._finder.finish())
    final = self._joiner.finish()
    return last if final is None else [*last, final]

  def _join(self, labels: Sequence[int]) -> list[Segment]:
    found = []
    for label in labels:
      start, end, row = self._open.popleft()
      named = label if label < len(row) - 1 else NONE
      ended = self._joiner.add(start, end, named, float(row[label]))
      found += [ended] if ended else []
    return found


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
  path = best_path(np.log(np.maximum(columns, _LEAST)), switch_cost)
  joiner, found = _Joiner(), []
  for i, label in enumerate(path.tolist()):
    ended = joiner.add(
      float(starts[i]),
      float(ends[i]),
      label if label < probabilities.shape[1] else NONE,
      float(columns[i, label]),
    )
    found += [ended] if ended else []
  return [*found, joiner.finish()]
