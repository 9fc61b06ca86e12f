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


def test_the_first_ten_videos_without_numbers_are_named():
  scores = np.zeros((20, 2))
  scores[3:, 0] = np.nan
  with pytest.raises(ValueError, match=r'videos \[3, 4, .*, 12\] are not'):
    metrics.ranks_of_truth(scores, np.zeros(20, int))


def test_derangements_depend_on_their_seed():
  groups = ['a'] * 6
  drawn = metrics.derangements(groups, 5)
  np.testing.assert_array_equal(drawn, metrics.derangements(groups, 5, seed=0))
  assert (drawn != metrics.derangements(groups, 5, seed=1)).any()


def test_two_classes_can_only_be_swapped():
  assert metrics.derangements(['a', 'a'], 3).tolist() == [[1, 0]] * 3
