"""Our statistics and optima against those of well-known libraries.

Random cases with seeds. What a test by hand shows stands beside the module's
own tests; here many cases are compared with an independent implementation.
"""

import gc

import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn import calibration as sk_calibration
from sklearn import linear_model
from sklearn import metrics as sk_metrics

from zsar_jax.zeroshot import calibration, simplex, statistics


@pytest.fixture
def quick_collections():
  """statsmodels collects garbage in every call: leaves it little to look at."""
  gc.collect()
  gc.freeze()
  yield
  gc.unfreeze()


def test_holm_equals_statsmodels(quick_collections):
  # Here, because no other test should wait for the import.
  from statsmodels.stats import multitest

  rng = np.random.default_rng(0)
  for k in (1, 2, 3, 8, 40):
    for power in (1, 12):
      p = rng.random(k) ** power
      # Ties and a p-value of one are ordinary cases.
      for values in (p, np.append(np.round(p, 1), 1.0)):
        _, theirs, _, _ = multitest.multipletests(values, method='holm')
        np.testing.assert_allclose(statistics.holm(values), theirs, rtol=1e-12)


def _scipys_sign_flips(contributions, resamples, rng=None):
  return stats.permutation_test(
    (contributions,),
    lambda x, axis: x.sum(axis=axis),
    permutation_type='samples',
    alternative='two-sided',
    vectorized=True,
    n_resamples=resamples,
    rng=rng,
  ).pvalue


@pytest.mark.parametrize('c', [2, 3, 7, 12])
def test_exact_sign_flips_of_weighted_classes_equal_scipys(c):
  rng = np.random.default_rng(c)
  weights = rng.dirichlet(np.ones(c))
  differences = rng.normal([0, 0.5, -1], 1, size=(c, 3))
  # Many patterns tie where differences are coarse.
  differences[:, 1] = np.round(differences[:, 1])
  ours = statistics.sign_flip_test(differences, weights)
  for column, p in zip(differences.T, ours, strict=True):
    theirs = _scipys_sign_flips(weights * column, np.inf)
    assert p == pytest.approx(theirs, rel=1e-12)


def test_random_sign_flips_come_near_scipys():
  rng = np.random.default_rng(0)
  c = 30
  weights = rng.dirichlet(np.full(c, 4.0))
  differences = rng.normal([0, 0.2, 0.5], 1, size=(c, 3))
  ours = statistics.sign_flip_test(differences, weights, seed=3)
  for column, p in zip(differences.T, ours, strict=True):
    theirs = _scipys_sign_flips(weights * column, 9999, rng=5)
    # Four standard errors of the difference of two estimates of 9,999 draws.
    bound = 4 * np.sqrt(2 * theirs * (1 - theirs) / 9999) + 1e-3
    assert p == pytest.approx(theirs, abs=bound)


@pytest.mark.parametrize('seed', range(4))
def test_temperature_is_scipys_optimum_of_the_slope(seed):
  # Over 1 / T, not log T as ours: a convex problem, and another method.
  rng = np.random.default_rng(seed)
  n, k = 200, 3 + seed
  scores = rng.normal(size=(n, k)) * 10.0 ** rng.integers(-2, 2)
  labels = rng.integers(k, size=n)
  scores[np.arange(n), labels] += scores.std()

  def loss(slope):
    logs = special.log_softmax(slope[0] * scores, axis=1)
    return -logs[np.arange(n), labels].mean()

  start = 1 / scores.std()
  theirs = optimize.minimize(
    loss, [start], method='Nelder-Mead', options={'xatol': 1e-8 * start}
  )
  ours = calibration.softmax_temperature(scores, labels)
  assert 1 / ours == pytest.approx(theirs.x[0], rel=1e-3)
  assert loss([1 / ours]) == pytest.approx(theirs.fun, abs=1e-8)
  assert theirs.fun == pytest.approx(
    sk_metrics.log_loss(
      labels, special.softmax(scores / ours, axis=1), labels=range(k)
    )
  )


def test_temperature_of_two_candidates_is_a_logistic_regression():
  rng = np.random.default_rng(7)
  scores, labels = rng.normal(size=(400, 2)), rng.integers(2, size=400)
  scores[np.arange(400), labels] += 1
  model = linear_model.LogisticRegression(
    C=np.inf, fit_intercept=False, tol=1e-10
  )
  model.fit(scores[:, 1:] - scores[:, :1], labels)
  ours = calibration.softmax_temperature(scores, labels)
  assert 1 / ours == pytest.approx(model.coef_[0, 0], rel=1e-3)


@pytest.mark.parametrize('seed', range(4))
def test_known_probability_equals_scikit_learns_regression(seed):
  rng = np.random.default_rng(seed)
  sizes = rng.integers(40, 300, size=2)
  scale, shift = 10.0 ** rng.integers(-3, 3), rng.normal()
  positive = scale * (shift + rng.normal(rng.random() + 0.1, 1, sizes[0]))
  negative = scale * (shift + rng.normal(0, 1 + seed, sizes[1]))
  x = np.concatenate([positive, negative])
  y = np.repeat([1, 0], sizes)
  # Half of the weight for each side; the penalty is on the standardised slope.
  weights = np.repeat(1 / sizes, sizes)
  model = linear_model.LogisticRegression(C=1 / (2 * 1e-3), tol=1e-10)
  standard = ((x - x.mean()) / x.std())[:, None]
  model.fit(standard, y, weights)
  slope, intercept = calibration.known_probability(positive, negative)
  np.testing.assert_allclose(
    special.expit(slope * x + intercept),
    model.predict_proba(standard)[:, 1],
    atol=1e-4,
  )


def test_calibration_error_follows_scikit_learns_curve():
  rng = np.random.default_rng(0)
  confidence = rng.random(5000)
  correct = rng.random(5000) < confidence**2
  for bins in (5, 15):
    # Its last edge is open as ours is closed: none lies on it here.
    share, mean = sk_calibration.calibration_curve(
      correct, confidence, n_bins=bins
    )
    counts, _ = np.histogram(confidence, bins=bins, range=(0, 1))
    theirs = (counts * np.abs(share - mean)).sum() / len(confidence)
    ours = calibration.expected_calibration_error(confidence, correct, bins)
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize('k', [2, 3, 9])
def test_brier_of_several_classes_is_their_sum_by_scikit_learn(k):
  rng = np.random.default_rng(k)
  p = rng.dirichlet(np.ones(k), size=80)
  labels = rng.integers(k, size=80)
  theirs = sum(
    sk_metrics.brier_score_loss(labels == c, p[:, c]) for c in range(k)
  )
  assert calibration.brier(p, labels) == pytest.approx(theirs)


@pytest.mark.parametrize('seed', range(4))
def test_ranking_of_known_videos_equals_scikit_learn_with_ties(seed):
  rng = np.random.default_rng(seed)
  # Rounded: many scores tie, within sides and between them.
  positive = np.round(rng.normal(0.5, 1, 90), 1)
  negative = np.round(rng.normal(0, 1, 70), 1)
  x = np.concatenate([positive, negative])
  y = np.repeat([1, 0], [90, 70])
  assert calibration.auroc(positive, negative) == pytest.approx(
    sk_metrics.roc_auc_score(y, x)
  )
  fpr, tpr, _ = sk_metrics.roc_curve(y, x, drop_intermediate=False)
  for rate in (0.5, 0.8, 0.95):
    assert calibration.fpr_at_tpr(positive, negative, rate) == pytest.approx(
      fpr[tpr >= rate - 1e-12][0]
    )


def _slsqp(value, slope, start):
  """Where a value is least over the simplex, by scipy."""
  return optimize.minimize(
    value,
    start,
    jac=slope,
    method='SLSQP',
    bounds=[(0, None)] * len(start),
    constraints={'type': 'eq', 'fun': lambda w: w.sum() - 1},
    options={'ftol': 1e-13, 'maxiter': 500},
  ).x


@pytest.mark.parametrize('s', [1, 2, 5, 30])
def test_projection_equals_scipys_constrained_optimum(s):
  rng = np.random.default_rng(s)
  x = np.concatenate(
    [rng.normal(size=(4, s)), 5 + 0.1 * rng.normal(size=(2, s))]
  )
  for row, ours in zip(x, simplex.project(x), strict=True):
    theirs = _slsqp(
      lambda w, row=row: 0.5 * ((w - row) ** 2).sum(),
      lambda w, row=row: w - row,
      np.full(s, 1 / s),
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize('s,d', [(2, 3), (6, 10), (20, 8)])
def test_nearest_mixtures_equal_scipys_constrained_least_squares(s, d):
  rng = np.random.default_rng(10 * s + d)
  points = rng.normal(size=(s, d))
  targets = np.concatenate(
    [
      rng.normal(size=(3, d)),
      # Inside the hull: nothing is left over.
      rng.dirichlet(np.ones(s), size=2) @ points,
    ]
  )
  weights = simplex.nearest_mixtures(targets, points)
  for target, ours in zip(targets, weights, strict=True):
    value = lambda w, t=target: 0.5 * ((t - w @ points) ** 2).sum()
    slope = lambda w, t=target: (w @ points - t) @ points.T
    theirs = _slsqp(value, slope, np.full(s, 1 / s))
    assert value(ours) == pytest.approx(value(theirs), abs=1e-8)
    # With fewer points than dimensions the mixture is one; else its place is.
    np.testing.assert_allclose(ours @ points, theirs @ points, atol=1e-4)
    if s <= d:
      np.testing.assert_allclose(ours, theirs, atol=1e-4)
