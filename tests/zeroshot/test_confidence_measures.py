import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from zsar_jax.zeroshot import confidence_measures

RNG = np.random.default_rng(0)


def test_calibration_error_by_hand():
  confidence = np.array([0.95, 0.95, 0.55, 0.55])
  correct = np.array([1, 0, 1, 1])
  ece = confidence_measures.expected_calibration_error(
    confidence, correct, bins=2
  )
  # Both values lie in the upper half: |3 - 3| / 4.
  assert ece == pytest.approx(0)
  ece = confidence_measures.expected_calibration_error(
    confidence, correct, bins=10
  )
  assert ece == pytest.approx((0.9 + 0.9) / 4)


def test_brier_by_hand_and_by_scikit_learn():
  p = np.array([[0.7, 0.3], [0.2, 0.8]])
  assert confidence_measures.brier(p, np.array([0, 0])) == pytest.approx(
    (0.09 + 0.09 + 0.64 + 0.64) / 2
  )
  binary = RNG.random(50)
  y = (RNG.random(50) < 0.5).astype(int)
  ours = confidence_measures.brier(np.stack([1 - binary, binary], 1), y)
  assert ours == pytest.approx(2 * sk_metrics.brier_score_loss(y, binary))


def test_risk_and_coverage_by_hand():
  coverage, risk = confidence_measures.risk_coverage([0.2, 0.9, 0.5], [0, 1, 0])
  np.testing.assert_allclose(coverage, [1 / 3, 2 / 3, 1])
  np.testing.assert_allclose(risk, [0, 1 / 2, 2 / 3])
  assert confidence_measures.area_under_risk_coverage(
    [0.2, 0.9, 0.5], [0, 1, 0]
  ) == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)


def test_auroc_and_fpr_are_scikit_learns():
  positive = RNG.normal(1, 1, 300).round(1)  # with ties
  negative = RNG.normal(0, 1, 200).round(1)
  y = np.r_[np.ones(300), np.zeros(200)]
  x = np.r_[positive, negative]
  assert confidence_measures.auroc(positive, negative) == pytest.approx(
    sk_metrics.roc_auc_score(y, x)
  )
  fpr, tpr, _ = sk_metrics.roc_curve(y, x, drop_intermediate=False)
  assert confidence_measures.fpr_at_tpr(positive, negative) == pytest.approx(
    fpr[tpr >= 0.95][0]
  )


def test_confidence_of_one_and_risk_of_ties():
  assert confidence_measures.expected_calibration_error(
    np.ones(4), np.array([1, 1, 1, 0])
  ) == pytest.approx(0.25)
  # 15 bins: 0.06 and 0.07 do not share one.
  assert confidence_measures.expected_calibration_error(
    np.array([0.06, 0.07]), np.array([1, 0])
  ) == pytest.approx((0.94 + 0.07) / 2)
  _, risk = confidence_measures.risk_coverage([0.5] * 3, [1, 0, 1])
  np.testing.assert_allclose(risk, [0, 1 / 2, 1 / 3])


def test_fpr_at_other_rates_by_hand():
  positive = np.arange(1, 11) / 10
  negative = np.array([0.05, 0.15, 0.45, 0.55, 0.95])
  assert confidence_measures.fpr_at_tpr(positive, negative, 1.0) == 4 / 5
  assert confidence_measures.fpr_at_tpr(positive, negative, 0.6) == 2 / 5
  assert confidence_measures.fpr_at_tpr(positive, negative, 0.55) == 2 / 5
  assert confidence_measures.fpr_at_tpr(positive, negative, 0.1) == 0
