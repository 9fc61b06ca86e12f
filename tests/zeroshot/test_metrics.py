import math

import numpy as np
import pytest

from zsar_jax.zeroshot import metrics


def test_ranks_count_the_classes_before_the_true_one():
  scores = np.array([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.9, 0.1, 0.5]])
  ranks = metrics.ranks_of_truth(scores, np.array([0, 1, 2]))
  assert ranks.tolist() == [0, 2, 1]


def test_ties_go_to_the_lower_class():
  scores = np.zeros((3, 3))
  ranks = metrics.ranks_of_truth(scores, np.arange(3))
  assert ranks.tolist() == [0, 1, 2]


def test_classes_that_are_no_candidates_stand_last():
  scores = np.array([[-np.inf, -5.0, -np.inf]])
  assert metrics.ranks_of_truth(scores, np.array([1])).tolist() == [0]


def test_a_true_class_that_is_no_candidate_is_never_right():
  scores = np.full((3, 3), -np.inf)
  scores[2, 2] = 0.0
  ranks = metrics.ranks_of_truth(scores, np.array([0, 1, 0]))
  assert ranks.tolist() == [3, 3, 3]


def test_scores_that_are_not_numbers_raise_and_the_videos_are_named():
  scores = np.zeros((4, 2))
  scores[2, 1] = np.nan
  with pytest.raises(ValueError, match=r'videos \[2\]'):
    metrics.ranks_of_truth(scores, np.zeros(4, int))


def test_per_class_mean_weighs_classes_and_not_videos():
  # Class 0: 1 of 1; class 3: 1 of 4.
  correct = np.array([1, 1, 0, 0, 0])
  labels = np.array([0, 3, 3, 3, 3])
  assert metrics.per_class_mean(correct, labels) == pytest.approx(0.625)


def test_interval_of_one_class_is_the_binomial_one():
  n, p = 400, 0.3
  correct = (np.arange(n) < p * n).astype(float)
  names = [str(i) for i in range(n)]
  deviation = math.sqrt(p * (1 - p) / n)
  for per_class in (False, True):
    low, high = metrics.bootstrap_interval(
      correct, np.zeros(n, int), names, per_class=per_class
    )
    # Video proportions move in steps of 1 / 400.
    assert low == pytest.approx(p - 1.96 * deviation, abs=0.004)
    assert high == pytest.approx(p + 1.96 * deviation, abs=0.004)


def test_interval_is_stratified_by_class():
  # One class always right and one never: resampling within classes cannot
  # change anything.
  correct = np.array([1.0] * 10 + [0.0] * 30)
  labels = np.array([0] * 10 + [1] * 30)
  names = [str(i) for i in range(40)]
  assert metrics.bootstrap_interval(correct, labels, names, per_class=True) == (
    0.5,
    0.5,
  )
  assert metrics.bootstrap_interval(
    correct, labels, names, per_class=False
  ) == (0.25, 0.25)


def test_resampling_whole_groups_is_wider():
  # Twenty sessions of ten videos, each right or wrong as a whole.
  correct = np.repeat(np.arange(20) % 2, 10).astype(float)
  labels = np.zeros(200, int)
  width = {}
  for name, groups in (
    ('videos', [str(i) for i in range(200)]),
    ('groups', [str(i // 10) for i in range(200)]),
  ):
    low, high = metrics.bootstrap_interval(
      correct, labels, groups, per_class=True
    )
    width[name] = high - low
  assert width['groups'] / width['videos'] == pytest.approx(
    math.sqrt(10), rel=0.15
  )


def test_interval_is_the_same_every_time():
  rng = np.random.default_rng(1)
  correct, labels = rng.integers(2, size=50), rng.integers(4, size=50)
  args = correct, labels, [str(i) for i in range(50)]
  assert metrics.bootstrap_interval(
    *args, per_class=True
  ) == metrics.bootstrap_interval(*args, per_class=True)


def test_higher_level_is_wider():
  correct, labels = np.arange(40) % 2, np.zeros(40, int)
  names = [str(i) for i in range(40)]
  low_95, high_95 = metrics.bootstrap_interval(
    correct, labels, names, per_class=True
  )
  low_50, high_50 = metrics.bootstrap_interval(
    correct, labels, names, per_class=True, level=0.5
  )
  assert low_95 < low_50 < high_50 < high_95


def test_derangements_move_every_class_within_its_group():
  groups = ['a', 'b', 'a', 'b', 'a', 'alone']
  drawn = metrics.derangements(groups, 50)
  assert drawn.shape == (50, 6)
  for order in drawn:
    assert sorted(order) == list(range(6))
    assert [groups[i] for i in order] == groups
    assert (order[:5] != np.arange(5)).all()
    assert order[5] == 5  # nothing to swap with
  # Both derangements of three classes occur.
  assert len({tuple(order[[0, 2, 4]]) for order in drawn}) == 2
