import numpy as np
import pytest

from zsar_jax.zeroshot import metrics, ranking

RNG = np.random.default_rng(0)


def test_every_split_equals_its_own_ranks():
  scores = RNG.integers(0, 4, size=(5000, 9)).astype(np.float32)  # many ties
  labels = RNG.integers(9, size=5000)
  candidates = RNG.random((9, 6)) < 0.6
  ranks = ranking.ranks_in_splits(scores, labels, candidates)
  for s, column in enumerate(candidates.T):
    at = np.flatnonzero(column)
    inside = np.isin(labels, at)
    wanted = metrics.ranks_of_truth(
      scores[np.ix_(inside, at)], np.searchsorted(at, labels[inside])
    )
    np.testing.assert_array_equal(ranks[inside, s], wanted)
    assert (ranks[~inside, s] == 9).all()


def test_classes_of_other_sources_do_not_stand_before():
  scores = np.array([[0.1, 0.9, 0.5]], np.float32)
  allowed = np.array([[True, False, True]] * 3)
  ranks = ranking.ranks_in_splits(
    scores, np.array([0]), np.ones((3, 1), bool), allowed
  )
  assert ranks.tolist() == [[1]]


def test_what_is_no_number_or_no_candidate():
  scores = np.array([[0.0, -np.inf], [np.nan, 1.0]], np.float32)
  with pytest.raises(ValueError, match=r'videos \[1\] are not numbers'):
    ranking.ranks_in_splits(scores, np.array([0, 0]), np.ones((2, 1), bool))
  ranks = ranking.ranks_in_splits(
    scores[:1], np.array([1]), np.ones((2, 1), bool)
  )
  assert ranks.tolist() == [[2]]


def test_permuting_classes_permutes_nothing_else():
  scores = RNG.normal(size=(50, 7)).astype(np.float32)
  labels = RNG.integers(7, size=50)
  candidates = np.ones((7, 1), bool)
  order = RNG.permutation(7)
  place = np.argsort(order)
  np.testing.assert_array_equal(
    ranking.ranks_in_splits(scores, labels, candidates),
    ranking.ranks_in_splits(scores[:, order], place[labels], candidates),
  )


def test_answers_are_the_best_candidates():
  scores = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
  candidates = np.array([False, True, True])
  assert ranking.answers(scores, candidates).tolist() == [1, 1]
  allowed = np.array([[True, False, True]] * 2)
  assert ranking.answers(scores, candidates, allowed).tolist() == [2, 2]


def test_tiles_do_not_show(monkeypatch):
  scores = RNG.integers(0, 4, size=(10, 5)).astype(np.float32)
  labels = RNG.integers(5, size=10)
  candidates = RNG.random((5, 3)) < 0.7
  allowed = RNG.random((5, 5)) < 0.7
  whole = ranking.ranks_in_splits(scores, labels, candidates, allowed)
  assert whole.shape == (10, 3)
  for tile in (1, 3, 5, 9, 10, 11):
    monkeypatch.setattr(ranking, '_TILE', tile)
    np.testing.assert_array_equal(
      ranking.ranks_in_splits(scores, labels, candidates, allowed), whole
    )


def test_no_video_has_no_rank():
  ranks = ranking.ranks_in_splits(
    np.zeros((0, 3), np.float32), np.zeros(0, int), np.ones((3, 2), bool)
  )
  assert ranks.shape == (0, 2)


def test_what_is_allowed_goes_by_the_videos_class():
  scores = np.array([[0.1, 0.9, 0.5]] * 3, np.float32)
  allowed = np.array([[True, True, False], [False, True, True], [True] * 3])
  ranks = ranking.ranks_in_splits(
    scores, np.arange(3), np.ones((3, 1), bool), allowed
  )
  # Before class 0 stands 1 alone, before 1 nothing, before 2 class 1.
  assert ranks[:, 0].tolist() == [1, 0, 1]


def test_all_tiles_have_one_shape(monkeypatch):
  shapes, real = [], ranking._tile_ranks

  def recorded(scores, *others):
    shapes.append(scores.shape)
    return real(scores, *others)

  monkeypatch.setattr(ranking, '_tile_ranks', recorded)
  monkeypatch.setattr(ranking, '_TILE', 4)
  for n, tiles in ((3, 1), (4, 1), (5, 2), (11, 3)):
    shapes.clear()
    ranking.ranks_in_splits(
      np.zeros((n, 2), np.float32), np.zeros(n, int), np.ones((2, 1), bool)
    )
    assert shapes == [(min(n, 4), 2)] * tiles


def test_a_class_that_is_no_candidate_twice_over_is_none():
  ranks = ranking.ranks_in_splits(
    np.array([[-np.inf, 0.0]], np.float32),
    np.array([0]),
    np.array([[False], [True]]),
  )
  assert ranks.tolist() == [[2]]


def test_answers_are_candidates_however_low_their_scores():
  scores = np.array([[-1.0, -3.0, -2.0]])
  candidates = np.array([False, True, True])
  assert ranking.answers(scores, candidates).tolist() == [2]


def test_the_first_ten_videos_without_numbers_are_named():
  scores = np.full((20, 2), np.nan, np.float32)
  scores[:3] = 0
  with pytest.raises(ValueError, match=r'videos \[3, 4, .*, 12\] are not'):
    ranking.ranks_in_splits(scores, np.zeros(20, int), np.ones((2, 1), bool))
