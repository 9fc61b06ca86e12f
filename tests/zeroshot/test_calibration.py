import numpy as np
import pytest
from scipy import special
from sklearn import linear_model
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
  for scale in (3.0, 0.0015, 100.0):
    t = calibration.softmax_temperature(scale * logits, labels)
    assert t == pytest.approx(scale, rel=0.05)


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
  'change',
  [
    {'temperatures': [1.0]},
    {'slopes': [1.0] * 40},
    {'risks': [[0.0]]},
    {'more': 1},
  ],
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


def by_hand():
  """Two sizes, 2 and 8: a set of 4 lies in the middle of their logarithms."""
  thresholds = np.linspace(0, 1, 101)
  return calibration.Calibration(
    candidates=(2, 8),
    temperatures=(0.1, 0.3),
    slopes=(4.0, 8.0),
    intercepts=(-1.0, -3.0),
    risks=np.stack([0.6 - 0.6 * thresholds, 0.8 - 0.4 * thresholds]),
    coverages=np.stack([1 - thresholds, 1 - 0.5 * thresholds]),
    measured_on='a test',
    num_videos=7,
    figures={},
  )


def test_parameters_are_linear_in_the_logarithm_of_the_candidates():
  scores = np.array([[0.3, 0.1, 0.2, -0.4]])
  p, none = by_hand().probabilities(scores)
  known = special.expit(6.0 * 0.3 - 2.0)
  np.testing.assert_allclose(none, [1 - known])
  np.testing.assert_allclose(p, known * special.softmax(scores / 0.2, axis=1))
  # Outside they are constant.
  for k, (t, slope, intercept) in ((1, (0.1, 4, -1)), (20, (0.3, 8, -3))):
    scores = np.linspace(-0.2, 0.3, k)[None]
    p, _ = by_hand().probabilities(scores)
    known = special.expit(slope * scores.max() + intercept)
    np.testing.assert_allclose(p, known * special.softmax(scores / t, axis=1))


def test_risk_and_coverage_are_linear_between_what_was_measured():
  fitted = by_hand()
  for threshold, k, risk, coverage in (
    (0.0, 2, 0.6, 1.0),
    (0.5, 2, 0.3, 0.5),
    (0.5, 8, 0.6, 0.75),
    (0.5, 4, 0.45, 0.625),
    (0.255, 2, 0.6 - 0.6 * 0.255, 1 - 0.255),
    (1.0, 99, 0.4, 0.5),
  ):
    assert fitted.risk(threshold, k) == pytest.approx((risk, coverage))


def test_what_is_fitted_on_videos_that_are_never_mistaken():
  labels = np.arange(30) % 6
  scores = np.random.default_rng(0).random((30, 6))
  scores[np.arange(30), labels] += 9
  fitted = calibration.fit(
    scores, labels, measured_on='these', sizes=(1, 2, 5, 6, 7)
  )
  # Six candidates leave none that could be absent.
  assert fitted.candidates == (1, 2, 5)
  assert (fitted.measured_on, fitted.num_videos) == ('these', 30)
  assert fitted.temperatures[0] == 1
  assert fitted.risks.shape == fitted.coverages.shape == (3, 101)
  # Every video of the half that shows no candidate is answered wrongly at a
  # threshold of nothing; none is at a half.
  np.testing.assert_allclose(fitted.risks[:, 0], 0.5)
  np.testing.assert_allclose(fitted.coverages[:, 0], 1)
  np.testing.assert_allclose(fitted.risks[:, 50], 0, atol=1e-9)
  np.testing.assert_allclose(fitted.coverages[:, 50], 0.5)
  # Where nothing is answered nothing is wrong by definition.
  assert (fitted.coverages >= 0).all() and (fitted.coverages <= 1).all()
  figures = fitted.figures
  assert figures['candidates'] == 5
  assert figures['auroc_none_of_these'] == 1
  assert figures['fpr_at_95_tpr'] == 0
  assert figures['brier'] == pytest.approx(0, abs=1e-6)
  # All right ones come first: risk (i - n) / i for the second half.
  n = 600
  expected = np.sum(np.arange(1, n + 1) / (n + np.arange(1, n + 1))) / (2 * n)
  assert figures['area_under_risk_coverage'] == pytest.approx(expected)


def test_a_fit_depends_on_its_seed_and_two_classes_are_enough():
  fit = lambda **seed: calibration.fit(
    SCORES[:60], LABELS[:60], measured_on='x', sizes=(3,), **seed
  )
  assert fit().to_dict() == fit(seed=0, draws=20).to_dict()
  assert fit().to_dict() != fit(seed=1).to_dict()
  assert fit().to_dict() != fit(draws=19).to_dict()
  two = calibration.fit(
    np.array([[1.0, 0.0], [0.2, 0.9]]), np.array([0, 1]), measured_on='x'
  )
  assert two.candidates == (1,)


def test_slope_and_intercept_are_those_of_logistic_regression():
  rng = np.random.default_rng(0)
  positive, negative = rng.normal(0.6, 0.2, 300), rng.normal(0.3, 0.1, 200)
  found = calibration.known_probability(positive, negative)
  x = np.concatenate([positive, negative])
  y = np.r_[np.ones(300), np.zeros(200)]
  weights = np.r_[np.full(300, 1 / 300), np.full(200, 1 / 200)]
  spread = x.std()
  # Its penalty is half the square over C, on the standardised score.
  model = linear_model.LogisticRegression(C=1 / (2 * 1e-3), tol=1e-10)
  model.fit((x[:, None] - x.mean()) / spread, y, weights)
  slope = model.coef_[0, 0] / spread
  intercept = model.intercept_[0] - slope * x.mean()
  assert found == pytest.approx((slope, intercept), rel=1e-3)
  # Scores that say the opposite are not used.
  slope, intercept = calibration.known_probability(negative, positive)
  assert slope == 0 and intercept == pytest.approx(0, abs=1e-5)


def test_temperatures_have_ends():
  # Never wrong, and never right.
  sure = calibration.softmax_temperature(np.eye(3), np.arange(3))
  assert special.softmax(np.eye(3) / sure, axis=1).min() < 1e-12
  unsure = calibration.softmax_temperature(np.eye(3), np.array([1, 2, 0]))
  assert unsure == pytest.approx(np.exp(5), rel=0.01)
