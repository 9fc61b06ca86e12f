import numpy as np
import pytest
from scipy import optimize

from zsar_jax.zeroshot import simplex


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_projection_is_the_nearest_point():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(20, 5))
  projected = simplex.project(x)
  np.testing.assert_allclose(projected.sum(1), 1)
  assert projected.min() >= 0
  # No other point of the simplex is nearer.
  others = rng.dirichlet(np.ones(5), size=2000)
  nearest = ((x[:, None] - others[None]) ** 2).sum(2).min(1)
  assert (((x - projected) ** 2).sum(1) <= nearest + 1e-12).all()


def test_by_hand():
  points = np.eye(3)
  # A point of the triangle is itself; beyond an edge it falls onto the edge.
  targets = np.array([[0.2, 0.3, 0.5], [1.0, 1.0, -5.0], [9.0, 0.0, 0.0]])
  np.testing.assert_allclose(
    simplex.nearest_mixtures(targets, points),
    [[0.2, 0.3, 0.5], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]],
    atol=1e-12,
  )


@pytest.mark.parametrize('s,d', [(14, 8), (60, 32), (8, 64)])
def test_equals_scipys_non_negative_least_squares(s, d):
  rng = np.random.default_rng(s)
  points = unit(rng.normal(size=(s, d)))
  targets = unit(
    rng.dirichlet(np.full(s, 0.3), 9) @ points + 0.2 * rng.normal(size=(9, d))
  )
  ours = simplex.nearest_mixtures(targets, points)
  # A heavy row makes scipy's weights sum to one.
  heavy = 1e4
  system = np.vstack([points.T, heavy * np.ones(s)])
  for weights, target in zip(ours, targets, strict=True):
    theirs, _ = optimize.nnls(system, np.append(target, heavy))
    distance = lambda w, t=target: ((t - w @ points) ** 2).sum()
    assert distance(weights) <= distance(theirs / theirs.sum()) + 1e-9
    assert weights.sum() == pytest.approx(1) and weights.min() >= 0


def test_points_that_are_one_share_the_weight():
  points = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
  (weights,) = simplex.nearest_mixtures(np.array([[0.6, 0.4]]), points)
  assert weights[:2].sum() == pytest.approx(0.6)
  assert weights[2] == pytest.approx(0.4)


def test_one_point_and_no_information():
  assert simplex.nearest_mixtures(
    np.ones((2, 3)), np.ones((1, 3))
  ).tolist() == [
    [1.0],
    [1.0],
  ]
  weights = simplex.nearest_mixtures(np.zeros((1, 3)), np.zeros((4, 3)))
  assert weights.sum() == pytest.approx(1) and weights.min() >= 0
