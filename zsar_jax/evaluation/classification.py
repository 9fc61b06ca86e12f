"""Validates the classifier of the seen classes on held-out videos."""

import numpy as np

from zsar_jax.evaluation import results
from zsar_jax.zeroshot import metrics, scoring, statistics


def seen_validation_row(
  embeddings: np.ndarray,
  labels: np.ndarray,
  groups: list[str],
  class_centres: np.ndarray,
  readable: np.ndarray | None = None,
) -> results.Row:
  """Computes top-1 accuracy of held-out videos among all seen classes.

  It shows early whether training fails. No setting is chosen by it.

  Args:
    embeddings: [n v d], unit vectors.
    labels: int [n], index among the seen classes.
    groups: recording session of each video.
    class_centres: learnt centres [s d], unit vectors.
    readable: bool [n]; an unreadable video counts as wrong. None if all are
      readable.

  Returns:
    The row of method `seen` and metric `seen_val_top1`.
  """
  scores = np.asarray(scoring.similarity_scores(embeddings, class_centres))
  correct = metrics.ranks_of_truth(scores, labels) < 1
  if readable is None:
    readable = np.ones(len(labels), bool)
  correct &= readable
  n = len(labels)
  gains = statistics.Gains(correct[:, None] / n, np.full(n, 1 / n), False)
  (resampled,) = statistics.resample([gains], labels, groups)
  (low,), (high,) = statistics.interval(resampled.over_videos)
  s = class_centres.shape[0]
  return results.Row(
    'seen',
    'seen_val_top1',
    float(correct.mean()),
    float(low),
    float(high),
    1 / s,
    len(labels),
    s,
    int((~readable).sum()),
  )
