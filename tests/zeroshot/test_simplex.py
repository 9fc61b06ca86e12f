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


def test_the_largest_eigenvalue_is_met_or_a_little_exceeded():
  rng = np.random.default_rng(0)
  for s, d in ((3, 8), (20, 5), (60, 32)):
    points = rng.normal(size=(s, d))
    gram = points @ points.T
    true = np.linalg.eigvalsh(gram)[-1]
    assert true <= simplex._largest_eigenvalue(gram) <= 1.11 * true
  assert simplex._largest_eigenvalue(np.zeros((3, 3))) == 0


def test_the_gradient_steps_alone_come_near():
  rng = np.random.default_rng(1)
  points = unit(rng.normal(size=(30, 12)))
  targets = unit(rng.normal(size=(20, 12)))
  gram, related = points @ points.T, targets @ points.T
  rough = simplex._projected_gradient(gram, related)
  exact = simplex.nearest_mixtures(targets, points)
  np.testing.assert_allclose(rough.sum(axis=1), 1)
  assert rough.min() >= 0
  distance = lambda w: ((targets - w @ points) ** 2).sum(axis=1)
  assert (distance(rough) - distance(exact)).max() < 2e-4


def test_a_mixture_of_chosen_points_solves_its_equations():
  rng = np.random.default_rng(2)
  points, target = rng.normal(size=(6, 9)), rng.normal(size=9)
  chosen = np.array([1, 2, 5])
  found = simplex._solve(points @ points.T, points @ target, chosen)
  # By elimination: w_0 + w_1 + w_2 = 1.
  own = points[chosen]
  rest, *_ = np.linalg.lstsq((own[1:] - own[0]).T, target - own[0], rcond=None)
  np.testing.assert_allclose(found, [1 - rest.sum(), *rest])


@pytest.mark.parametrize('seed', range(8))
def test_polishing_ends_at_the_best_from_anywhere(seed):
  rng = np.random.default_rng(seed)
  points, target = rng.normal(size=(12, 6)), rng.normal(size=6)
  gram, related = points @ points.T, points @ target
  starts = [np.full(12, 1 / 12), *np.eye(12)[[0, 5]]]
  starts.append(rng.dirichlet(np.ones(12)))
  found = [simplex._polish(gram, related, w) for w in starts]
  for w in found:
    # The slope is the same along all chosen points, and no less elsewhere.
    slope = gram @ w - related
    np.testing.assert_allclose(slope[w > 0], slope @ w, atol=1e-8)
    assert slope.min() >= slope @ w - 1e-8
    assert w.sum() == pytest.approx(1) and w.min() >= 0
    np.testing.assert_allclose(w, found[0], atol=1e-7)


def test_copies_of_points_and_of_the_target():
  rng = np.random.default_rng(3)
  points = np.repeat(unit(rng.normal(size=(4, 5))), 3, axis=0)
  weights = simplex.nearest_mixtures(points[[0, 4]], points)
  np.testing.assert_allclose(weights @ points, points[[0, 4]], atol=1e-6)


def test_projecting_by_hand():
  np.testing.assert_allclose(
    simplex.project(
      np.array([[0.3, 0.7], [2.0, 0.0], [0.6, 0.6], [-1.0, -3.0], [1.5, 1.0]])
    ),
    [[0.3, 0.7], [1, 0], [0.5, 0.5], [1, 0], [0.75, 0.25]],
  )
