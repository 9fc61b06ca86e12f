import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk_metrics

from zsar_jax.zeroshot import calibration

RNG = np.random.default_rng(0)


def make_scores(n=600, c=12, scale=0.1):
  labels = np.arange(n) % c
  scores = RNG.normal(size=(n, c)) * scale
  scores[np.arange(n), labels] += 2 * scale
  return scores, labels


SCORES, LABELS = make_scores()
FITTED = calibration.fit(SCORES, LABELS, measured_on='a test')


def test_temperature_recovers_the_one_that_made_the_labels():
  logits = RNG.normal(size=(20000, 5))
  p = special.softmax(logits, axis=1)
  labels = (p.cumsum(1) > RNG.random((20000, 1))).argmax(1)
  t = calibration.softmax_temperature(3.0 * logits, labels)
  assert t == pytest.approx(3.0, rel=0.05)


def test_temperature_is_the_best_of_many():
  t = calibration.softmax_temperature(SCORES, LABELS)
  loss = lambda t: sk_metrics.log_loss(
    LABELS, special.softmax(SCORES / t, axis=1)
  )
  assert all(loss(t) <= loss(t * f) + 1e-9 for f in (0.5, 0.9, 1.1, 2))


def test_known_probability_recovers_the_logistic_function():
  # Scores of known and unknown videos one deviation apart: slope 1 / sd.
  positive, negative = RNG.normal(1, 1, 40000), RNG.normal(0, 1, 40000)
  slope, intercept = calibration.known_probability(positive, negative)
  assert slope == pytest.approx(1, abs=0.05)
  assert intercept == pytest.approx(-0.5, abs=0.05)


def test_scores_that_tell_nothing_give_even_odds():
  x = RNG.normal(size=500)
  slope, intercept = calibration.known_probability(x, x)
  assert special.expit(slope * 3 + intercept) == pytest.approx(0.5, abs=0.01)
  # And ones that are never wrong stay finite.
  assert np.isfinite(calibration.known_probability(x + 99, x)).all()


def test_calibration_error_by_hand():
  confidence = np.array([0.95, 0.95, 0.55, 0.55])
  correct = np.array([1, 0, 1, 1])
  ece = calibration.expected_calibration_error(confidence, correct, bins=2)
  # Both values lie in the upper half: |3 - 3| / 4.
  assert ece == pytest.approx(0)
  ece = calibration.expected_calibration_error(confidence, correct, bins=10)
  assert ece == pytest.approx((0.9 + 0.9) / 4)


def test_brier_by_hand_and_by_scikit_learn():
  p = np.array([[0.7, 0.3], [0.2, 0.8]])
  assert calibration.brier(p, np.array([0, 0])) == pytest.approx(
    (0.09 + 0.09 + 0.64 + 0.64) / 2
  )
  binary = RNG.random(50)
  y = (RNG.random(50) < 0.5).astype(int)
  ours = calibration.brier(np.stack([1 - binary, binary], 1), y)
  assert ours == pytest.approx(2 * sk_metrics.brier_score_loss(y, binary))


def test_risk_and_coverage_by_hand():
  coverage, risk = calibration.risk_coverage([0.2, 0.9, 0.5], [0, 1, 0])
  np.testing.assert_allclose(coverage, [1 / 3, 2 / 3, 1])
  np.testing.assert_allclose(risk, [0, 1 / 2, 2 / 3])
  assert calibration.area_under_risk_coverage(
    [0.2, 0.9, 0.5], [0, 1, 0]
  ) == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)


def test_auroc_and_fpr_are_scikit_learns():
  positive = RNG.normal(1, 1, 300).round(1)  # with ties
  negative = RNG.normal(0, 1, 200).round(1)
  y = np.r_[np.ones(300), np.zeros(200)]
  x = np.r_[positive, negative]
  assert calibration.auroc(positive, negative) == pytest.approx(
    sk_metrics.roc_auc_score(y, x)
  )
  fpr, tpr, _ = sk_metrics.roc_curve(y, x, drop_intermediate=False)
  assert calibration.fpr_at_tpr(positive, negative) == pytest.approx(
    fpr[tpr >= 0.95][0]
  )


@pytest.mark.parametrize('k', [1, 2, 4, 7, 30])
def test_probabilities_and_none_sum_to_one(k):
  scores = RNG.normal(size=(20, k)) * 0.1
  p, none = FITTED.probabilities(scores)
  np.testing.assert_allclose(p.sum(1) + none, 1)
  assert (p >= 0).all() and (none >= 0).all()


def test_a_single_candidate_is_judged_by_its_score():
  (low, high), none = FITTED.probabilities(np.array([[-0.2], [0.5]]))
  assert low[0] < 0.3 < 0.7 < high[0]
  assert none[0] > 0.7


def test_stated_risk_is_what_a_fresh_draw_measures():
  scores, labels = make_scores(6000)
  rng = np.random.default_rng(9)
  wrong = answered = 0
  for score, label in zip(scores, labels, strict=True):
    others = rng.permutation(np.delete(np.arange(12), label))
    for candidates in (np.r_[label, others[:4]], others[:5]):
      p, _ = FITTED.probabilities(score[candidates][None])
      if p.max() >= 0.6:
        answered += 1
        wrong += candidates[p.argmax()] != label
  risk, coverage = FITTED.risk(0.6, 5)
  assert risk == pytest.approx(wrong / answered, abs=0.03)
  assert coverage == pytest.approx(answered / 12000, abs=0.03)


def test_probabilities_are_calibrated_where_they_were_fitted():
  assert FITTED.figures['expected_calibration_error'] < 0.05
  assert FITTED.figures['auroc_none_of_these'] > 0.6


def test_read_back_it_gives_the_same():
  again = calibration.Calibration.from_dict(FITTED.to_dict())
  scores = RNG.normal(size=(5, 4))
  np.testing.assert_array_equal(
    again.probabilities(scores)[0], FITTED.probabilities(scores)[0]
  )
  assert again.risk(0.37, 6) == pytest.approx(FITTED.risk(0.37, 6), abs=1e-5)


@pytest.mark.parametrize(
  'change', [{'temperatures': [1.0]}, {'risks': [[0.0]]}, {'more': 1}]
)
def test_damaged_ones_are_refused(change):
  with pytest.raises(ValueError, match='damaged calibration'):
    calibration.Calibration.from_dict({**FITTED.to_dict(), **change})


def test_one_class_cannot_be_calibrated():
  with pytest.raises(ValueError, match='at least two classes'):
    calibration.fit(np.zeros((3, 1)), np.zeros(3, int), measured_on='x')


def test_softmax_and_logistic_are_scipys_and_do_not_overflow():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(50, 7)) * 10.0 ** rng.integers(-3, 5, (50, 1))
  with np.errstate(over='raise', invalid='raise'):
    shares = calibration._softmax(logits)
    known = calibration._logistic(logits)
  np.testing.assert_allclose(
    shares, special.softmax(logits, axis=1), atol=1e-14
  )
  np.testing.assert_allclose(known, special.expit(logits), atol=1e-14)
