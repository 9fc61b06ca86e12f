"""Generalised zero-shot learning: seen and unseen classes are candidates.

Seen classes win too often, because the model was trained on their videos. So a
penalty is subtracted from their scores (calibrated stacking, Chao et al. 2016).
S and U are the per-class accuracies of seen and unseen videos (Xian et al.
2019).
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class PenaltyCurve:
  """S and U as functions of the penalty.

  Attributes:
    penalties: [p - 1], ascending: the break points. Between two of them S and
      U are constant.
    seen_accuracy: [p], S before the first break point, between them, and
      after the last.
    unseen_accuracy: [p], U at the same places.
  """

  penalties: np.ndarray
  seen_accuracy: np.ndarray
  unseen_accuracy: np.ndarray

  @property
  def ausuc(self) -> float:
    """Area under U as a function of S, by the trapezoid rule, in [0, 1]."""
    order = slice(None, None, -1)  # S falls as the penalty grows
    return float(
      np.trapezoid(self.unseen_accuracy[order], self.seen_accuracy[order])
    )

  def at(self, penalty: float) -> tuple[float, float, float]:
    """Returns S, U and their harmonic mean H at a penalty.

    At a break point the best seen and the best unseen class of a video tie;
    the seen class wins.

    Args:
      penalty: any number.

    Returns:
      S, U and H, each in [0, 1].
    """
    i = int(np.searchsorted(self.penalties, penalty, side='left'))
    s, u = float(self.seen_accuracy[i]), float(self.unseen_accuracy[i])
    return s, u, harmonic_mean(s, u)


def harmonic_mean(seen: float, unseen: float) -> float:
  """Computes 2 S U / (S + U); 0 where both are 0."""
  total = seen + unseen
  return 2 * seen * unseen / total if total > 0 else 0.0


def _video_weights(labels: np.ndarray) -> np.ndarray:
  """Returns 1 / (classes x videos of the class) for each video."""
  _, inverse, counts = np.unique(
    labels, return_inverse=True, return_counts=True
  )
  return 1 / (len(counts) * counts[inverse])


def _steps(scores, labels, seen):
  """Returns each video's break point, and if it is right before and after."""
  of_seen = np.where(seen, scores, -np.inf)
  of_unseen = np.where(seen, -np.inf, scores)
  breaks = of_seen.max(axis=1) - of_unseen.max(axis=1)
  before = of_seen.argmax(axis=1) == labels
  after = of_unseen.argmax(axis=1) == labels
  return breaks, before, after


def penalty_curve(
  seen_scores: np.ndarray,
  seen_labels: np.ndarray,
  unseen_scores: np.ndarray,
  unseen_labels: np.ndarray,
  seen: np.ndarray,
) -> PenaltyCurve:
  """Computes S and U exactly, for penalties from minus to plus infinity.

  A video's answer is argmax_c(score_c - penalty [c seen]): its best seen
  class below max_seen - max_unseen, its best unseen class above.

  Args:
    seen_scores: of videos of seen classes [m c].
    seen_labels: int [m].
    unseen_scores: of videos of unseen classes [n c].
    unseen_labels: int [n].
    seen: bool [c], which classes are seen; ties within either kind go to the
      lower class index.

  Returns:
    The curve.

  Raises:
    ValueError: no seen or no unseen class, no video of either, or a score is
      not a number.
  """
  seen = np.asarray(seen, bool)
  if seen.all() or not seen.any():
    raise ValueError('GZSL needs both seen and unseen classes')
  if not len(seen_labels) or not len(unseen_labels):
    raise ValueError('GZSL needs videos of both seen and unseen classes')
  if np.isnan(seen_scores).any() or np.isnan(unseen_scores).any():
    raise ValueError('GZSL scores are not all numbers')
  points, curves = [], []
  for scores, labels in (
    (seen_scores, np.asarray(seen_labels)),
    (unseen_scores, np.asarray(unseen_labels)),
  ):
    breaks, before, after = _steps(scores, labels, seen)
    weights = _video_weights(labels)
    order = np.argsort(breaks, kind='stable')
    change = (weights * (after.astype(float) - before))[order]
    start = (weights * before).sum()
    levels = start + np.concatenate([[0.0], np.cumsum(change)])
    points.append(breaks[order])
    curves.append(levels)
  penalties = np.unique(np.concatenate(points))
  accuracies = []
  for breaks, levels in zip(points, curves, strict=True):
    # After break point p all videos with breaks <= p have switched.
    switched = np.searchsorted(breaks, penalties, side='right')
    values = levels[np.concatenate([[0], switched])]
    accuracies.append(np.clip(values, 0.0, 1.0))
  return PenaltyCurve(penalties, *accuracies)
