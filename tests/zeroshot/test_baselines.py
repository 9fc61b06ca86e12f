import numpy as np
import pytest
from sklearn import linear_model

from zsar_jax.zeroshot import baselines


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


RNG = np.random.default_rng(0)
Z = unit(RNG.normal(size=(30, 8))).astype(np.float32)
CENTRES = unit(RNG.normal(size=(6, 8))).astype(np.float32)
SEEN_TEXT = unit(RNG.normal(size=(6, 5))).astype(np.float32)
TEXT = unit(RNG.normal(size=(4, 5))).astype(np.float32)


def test_conse_by_its_definition():
  scores = baselines.conse_scores(Z, CENTRES, 7.0, SEEN_TEXT, TEXT, top=3)
  for z, row in zip(Z, scores, strict=True):
    logits = 7 * CENTRES @ z
    p = np.exp(logits) / np.exp(logits).sum()
    top = np.argsort(-p)[:3]
    f = unit(sum(p[s] * SEEN_TEXT[s] for s in top))
    np.testing.assert_allclose(row, TEXT @ f, atol=1e-5)


def test_conse_of_more_than_all_is_of_all():
  every = baselines.conse_scores(Z, CENTRES, 7.0, SEEN_TEXT, TEXT, top=6)
  more = baselines.conse_scores(Z, CENTRES, 7.0, SEEN_TEXT, TEXT, top=99)
  np.testing.assert_array_equal(every, more)


def test_conse_weights_are_the_largest_probabilities():
  weights = np.asarray(baselines.conse_weights(Z, CENTRES, 7.0, 2))
  assert ((weights > 0).sum(1) == 2).all() and (weights.sum(1) < 1).all()


def regression(ridge):
  labels = np.arange(30) % 6
  sums = np.stack([Z[labels == c].sum(0) for c in range(6)])
  return labels, baselines.ridge_to_text(
    Z.T @ Z, sums, np.bincount(labels), SEEN_TEXT, ridge
  )


def test_ridge_to_text_equals_scikit_learn():
  labels, b = regression(0.02)
  # scikit-learn does not divide by the number of videos.
  theirs = linear_model.Ridge(alpha=0.02 * 30, fit_intercept=False)
  theirs.fit(Z.astype(np.float64), SEEN_TEXT[labels])
  np.testing.assert_allclose(b, theirs.coef_.T, atol=1e-6)


def test_regression_rows_rank_as_the_cosine_does():
  _, b = regression(0.02)
  rows = baselines.regression_rows(b, TEXT)
  predicted = unit(Z @ b)
  np.testing.assert_array_equal(
    np.argsort(Z @ rows.T, axis=1), np.argsort(predicted @ TEXT.T, axis=1)
  )


def test_regression_from_nothing_raises():
  with pytest.raises(ValueError, match='ridge must be positive'):
    baselines.ridge_to_text(np.eye(2), np.eye(2), [1, 1], np.eye(2), 0)
  with pytest.raises(ValueError, match='no training video'):
    baselines.ridge_to_text(np.eye(2), np.eye(2), [0, 0], np.eye(2), 1)


@pytest.mark.parametrize('beta', [0, 0.3, 1])
def test_ensemble_ranks_as_the_mean_of_log_probabilities(beta):
  a, b = RNG.normal(size=(2, 30, 4))
  log_softmax = lambda x: x - np.log(np.exp(x).sum(1, keepdims=True))
  wanted = (1 - beta) * log_softmax(a / 0.2) + beta * log_softmax(b / 3)
  ours = baselines.ensemble_scores(
    a, b, beta=beta, transfer_temperature=0.2, match_temperature=3
  )
  difference = ours - wanted
  np.testing.assert_allclose(
    difference, np.broadcast_to(difference[:, :1], difference.shape), atol=1e-9
  )


def test_ensemble_refuses_what_means_nothing():
  with pytest.raises(ValueError, match='beta=2'):
    baselines.ensemble_scores(Z, Z, beta=2)
  with pytest.raises(ValueError, match='temperatures'):
    baselines.ensemble_scores(Z, Z, match_temperature=0)


def test_conse_takes_the_ten_likeliest_by_default():
  centres = unit(np.random.default_rng(1).normal(size=(12, 8)))
  text = unit(np.random.default_rng(2).normal(size=(12, 5)))
  scores = lambda **top: baselines.conse_scores(
    Z, centres, 7.0, text, TEXT, **top
  )
  np.testing.assert_array_equal(scores(), scores(top=10))
  assert (scores() != scores(top=9)).any()
  assert (scores() != scores(top=11)).any()
  assert scores().dtype == np.float32


def test_conse_of_names_that_cancel_is_nothing():
  text = np.array([[1.0, 0.0], [-1.0, 0.0]])
  scores = baselines.conse_scores(
    np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]] * 2), 5.0, text, text
  )
  np.testing.assert_array_equal(scores, [[0, 0]])


def test_an_ensemble_weighs_both_alike_by_default():
  a, b = np.random.default_rng(0).normal(size=(2, 3, 4))
  np.testing.assert_allclose(
    baselines.ensemble_scores(a, b), 0.5 * a / 0.1 + 0.5 * b / 1.0
  )


@pytest.mark.parametrize(
  'wrong',
  [
    {'beta': -0.1},
    {'beta': 1.1},
    {'transfer_temperature': 0},
    {'transfer_temperature': -0.5},
    {'match_temperature': -0.5},
  ],
)
def test_what_an_ensemble_refuses(wrong):
  with pytest.raises(ValueError, match='beta=|temperatures'):
    baselines.ensemble_scores(Z, Z, **wrong)


def test_a_ridge_below_zero_is_refused():
  with pytest.raises(ValueError, match='ridge must be positive'):
    baselines.ridge_to_text(np.eye(2), np.eye(2), [1, 1], np.eye(2), -1)


def test_regression_rows_are_the_names_seen_from_the_videos():
  b = np.random.default_rng(0).normal(size=(8, 5))
  rows = baselines.regression_rows(b, TEXT)
  assert rows.dtype == np.float32
  np.testing.assert_allclose(Z @ rows.T, (Z @ b) @ TEXT.T, atol=1e-5)
