import numpy as np
import pytest
from scipy import stats

from zsar_jax.zeroshot import hubness

RNG = np.random.default_rng(0)


def test_counts_by_hand():
  scores = np.array([[3.0, 2, 1], [3, 2, 1], [1, 3, 2]])
  assert hubness.k_occurrence(scores, 1).tolist() == [2, 1, 0]
  assert hubness.k_occurrence(scores, 2).tolist() == [2, 3, 1]
  assert hubness.k_occurrence(scores, 1, [0.5, 0.5, 3]).tolist() == [1, 3, 0]


def test_ties_go_to_the_lower_class():
  assert hubness.k_occurrence(np.zeros((4, 3)), 2).tolist() == [4, 4, 0]


def test_skewness_is_scipys():
  counts = RNG.gamma(1.0, size=40)
  assert hubness.skewness(counts) == pytest.approx(stats.skew(counts))
  assert hubness.skewness(np.full(7, 0.3)) == 0


def test_robin_hood_by_hand():
  assert hubness.robin_hood(np.array([4.0, 0, 0, 0])) == 0.75
  assert hubness.robin_hood(np.ones(5)) == 0


def test_a_perfect_classifier_has_no_hubs_however_many_videos_a_class_has():
  labels = np.array([0] * 90 + [1] * 9 + [2])
  measured = hubness.measure(np.eye(3)[labels], labels)
  np.testing.assert_allclose(measured.counts, 1)
  assert measured.skewness == 0 and measured.robin_hood == pytest.approx(0)
  assert measured.largest_share == pytest.approx(1 / 3)
  assert not measured.reliable


def test_permuting_classes_permutes_counts():
  scores, labels = RNG.normal(size=(80, 6)), RNG.integers(6, size=80)
  order = RNG.permutation(6)
  a = hubness.measure(scores, labels, 3)
  b = hubness.measure(scores[:, order], np.argsort(order)[labels], 3)
  np.testing.assert_allclose(b.counts, a.counts[order])
  assert a.skewness == pytest.approx(b.skewness)


@pytest.mark.parametrize(
  'u,ks', [(1, (1,)), (2, (1,)), (3, (1,)), (12, (1, 6)), (101, (1, 10))]
)
def test_neighbourhoods_fit_the_number_of_classes(u, ks):
  assert hubness.default_ks(u) == ks


@pytest.mark.parametrize('k', [-1, 0, 4])
def test_impossible_neighbourhoods_raise(k):
  with pytest.raises(ValueError, match='between 1 and the 3 classes'):
    hubness.k_occurrence(np.zeros((2, 3)), k)
  with pytest.raises(ValueError, match=r'videos \[1\] are not numbers'):
    hubness.k_occurrence(np.array([[0.0, 1], [np.nan, 1]]), 1)


def hub():
  """Videos of six classes; class 0 is near to everything."""
  labels = np.arange(120) % 6
  scores = 0.4 * RNG.random((120, 6)) + 0.3 * np.eye(6)[labels]
  scores[:, 0] += 0.35
  return scores, labels


@pytest.mark.parametrize(
  'correct', [hubness.inverted_softmax, hubness.sinkhorn]
)
def test_corrections_take_hubs_away(correct):
  scores, labels = hub()
  corrected = correct(scores, 0.1)
  np.testing.assert_allclose(corrected.sum(1), 1)
  right = lambda s: (s.argmax(1) == labels).mean()
  before, after = (hubness.measure(s, labels) for s in (scores, corrected))
  assert before.robin_hood > 0.3 > 0.1 > after.robin_hood
  assert right(corrected) > right(scores) + 0.2
  with pytest.raises(ValueError, match='positive'):
    correct(scores, 0)


def test_sinkhorn_balances_the_classes():
  plan = hubness.sinkhorn(hub()[0], 0.1)
  np.testing.assert_allclose(plan.sum(0), 20, rtol=1e-6)


def test_sinkhorn_stops_where_the_classes_are_balanced_enough():
  scores = hub()[0]
  # A tolerance that the first plan meets leaves it as it is.
  e = np.exp(scores / 0.1)
  rows = e / e.sum(1, keepdims=True)
  np.testing.assert_allclose(hubness.sinkhorn(scores, 0.1, tolerance=1e9), rows)
  rough = hubness.sinkhorn(scores, 0.1, tolerance=0.1).sum(0)
  assert 1e-6 < np.abs(rough / 20 - 1).max() < 0.1


def test_inverted_softmax_by_its_definition():
  scores = RNG.normal(size=(5, 3))
  e = np.exp(scores / 0.7)
  wanted = e / e.sum(0)
  np.testing.assert_allclose(
    hubness.inverted_softmax(scores, 0.7), wanted / wanted.sum(1, keepdims=True)
  )


@pytest.mark.parametrize(('u', 'reliable'), [(19, False), (20, True)])
def test_a_skewness_says_something_from_20_classes_on(u, reliable):
  labels = np.arange(u)
  assert hubness.measure(np.eye(u), labels).reliable is reliable


def test_skewness_of_equal_counts_is_zero_whatever_their_rounding():
  counts = np.full(7, 1e6)
  counts[0] += 1e-9
  assert hubness.skewness(counts) == 0
  assert hubness.skewness(np.zeros(3)) == 0
  # Small, but not equal.
  counts[0] += 1
  assert hubness.skewness(counts) == pytest.approx(stats.skew(counts), rel=1e-3)


def test_the_nearest_class_counts_unless_told_otherwise():
  scores, labels = hub()
  found = hubness.measure(scores, labels)
  once = np.bincount(scores.argmax(axis=1), minlength=6) / 20
  np.testing.assert_allclose(found.counts, once)
  assert found.largest_share == pytest.approx(once.max() / 6)
  assert found.robin_hood == pytest.approx(hubness.robin_hood(once))
  assert found.skewness == pytest.approx(stats.skew(once))


@pytest.mark.parametrize(
  'correct', [hubness.inverted_softmax, hubness.sinkhorn]
)
def test_temperatures_below_zero_are_refused_and_below_one_are_not(correct):
  with pytest.raises(ValueError, match='positive'):
    correct(np.ones((2, 2)), -0.5)
  np.testing.assert_allclose(correct(np.ones((2, 2)), 0.5), 0.5)


def test_a_step_of_sinkhorn_by_hand():
  e = np.exp(RNG.normal(size=(5, 3)) / 0.7)
  plan = e / e.sum(axis=1, keepdims=True)
  for steps in range(3):
    np.testing.assert_allclose(
      hubness.sinkhorn(np.log(e) * 0.7, 0.7, steps, 0.0), plan
    )
    plan = plan / plan.sum(axis=0)
    plan = plan / plan.sum(axis=1, keepdims=True)


def test_the_first_ten_videos_without_numbers_are_named():
  scores = np.full((20, 2), np.nan)
  scores[:3] = 0
  with pytest.raises(ValueError, match=r'videos \[3, 4, .*, 12\] are not'):
    hubness.k_occurrence(scores, 1)


def test_hubs_get_shorter_by_hand():
  # Two seen classes, so one neighbour counts.
  seen = np.array([[1.0, 0], [0, 1.0]])
  composites = np.array([[1.0, 0], [0, -1], [0.8, 0.6]])
  # Of the class left out only the other seen class counts.
  left_out, ids = np.array([[0.8, 0.6], [0.6, 0.8]]), np.array([0, 1])
  typical = hubness.typical_likeness(left_out, ids, seen)
  found = hubness.shrink_hubs(composites, seen, 0.5, typical)
  lengths = np.sqrt(0.6 / np.array([1.0, 0.05, 0.8]))
  np.testing.assert_allclose(found, composites * lengths[:, None], rtol=1e-6)
  assert found.dtype == np.float32


@pytest.mark.parametrize('s, counted', [(20, 1), (40, 2), (60, 3), (400, 10)])
def test_the_more_seen_classes_the_more_neighbours_count(s, counted):
  cosines = np.linspace(0.9, 0.1, s)
  seen = np.zeros((s, s + 1))
  seen[:, 0] = cosines
  seen[np.arange(s), np.arange(s) + 1] = np.sqrt(1 - cosines**2)
  axis = np.eye(1, s + 1)
  typical = hubness.typical_likeness(axis, np.array([0]), seen)
  (found,) = hubness.shrink_hubs(axis, seen, 1.0, typical)
  expected = cosines[1 : counted + 1].mean() / cosines[:counted].mean()
  assert found[0] == pytest.approx(expected, rel=1e-5)


def test_without_strength_nothing_gets_shorter():
  seen = np.eye(3)
  found = hubness.shrink_hubs(seen, seen, 0.0, 0.5)
  np.testing.assert_array_equal(found, seen)
  with pytest.raises(ValueError, match='hub_correction must be 0 or more'):
    hubness.shrink_hubs(seen, seen, -0.1, 0.5)
