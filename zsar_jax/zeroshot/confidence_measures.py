"""Measures of how well confidences agree with correctness."""

import numpy as np


def expected_calibration_error(
  confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> float:
  """Averages |accuracy - confidence| over equal bins (Naeini et al. 2015).

  Args:
    confidence: [n], in [0, 1].
    correct: [n], in [0, 1].
    bins: number of bins.

  Returns:
    The mean, weighted by the videos of each bin, in [0, 1].
  """
  at = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
  gap = np.bincount(at, np.asarray(correct) - confidence, minlength=bins)
  return float(np.abs(gap).sum() / len(at))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
  """Computes the mean squared distance to the truth as one-hot rows.

  Args:
    probabilities: [n k].
    labels: int [n].

  Returns:
    In [0, 2].
  """
  away = np.array(probabilities, np.float64)
  away[np.arange(len(labels)), labels] -= 1
  return float((away**2).sum(axis=1).mean())


def risk_coverage(
  confidence: np.ndarray, correct: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the share of wrong answers among the most confident ones.

  Args:
    confidence: [n].
    correct: [n] in [0, 1].

  Returns:
    coverage [n], from 1 / n to 1, and risk [n].
  """
  order = np.argsort(-np.asarray(confidence), kind='stable')
  n = np.arange(1, len(order) + 1)
  return n / len(order), np.cumsum(1 - np.asarray(correct)[order]) / n


def area_under_risk_coverage(
  confidence: np.ndarray, correct: np.ndarray
) -> float:
  """Computes the mean risk over all coverages.

  Args:
    confidence: [n].
    correct: [n], in [0, 1].

  Returns:
    In [0, 1].
  """
  return float(risk_coverage(confidence, correct)[1].mean())


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
  """Computes how often a positive scores above a negative; ties count half.

  Args:
    positive: scores [p].
    negative: scores [m].

  Returns:
    In [0, 1].
  """
  from scipy import stats

  u = stats.mannwhitneyu(positive, negative).statistic
  return float(u / (len(positive) * len(negative)))


def fpr_at_tpr(
  positive: np.ndarray, negative: np.ndarray, tpr: float = 0.95
) -> float:
  """Computes the false positive rate at a true positive rate.

  Args:
    positive: scores [p].
    negative: scores [m].
    tpr: share of the positives that are accepted.

  Returns:
    Share of the negatives that are accepted at the same threshold.
  """
  ordered = np.sort(positive)
  accepted = int(np.ceil(tpr * len(ordered)))
  threshold = ordered[len(ordered) - accepted]
  return float((np.asarray(negative) >= threshold).mean())
