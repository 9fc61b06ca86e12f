import itertools

import numpy as np
import pytest

from zsar_jax.zeroshot import segments

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('cost', [0, 0.3, 2.0])
def test_path_is_the_best_of_all(cost):
  for _ in range(5):
    logs = RNG.normal(size=(5, 3))
    value = lambda path, logs=logs: (
      sum(logs[i, c] for i, c in enumerate(path))
      - cost * sum(a != b for a, b in itertools.pairwise(path))
    )
    best = max(itertools.product(range(3), repeat=5), key=value)
    path = segments.best_path(logs, cost)
    assert value(path) == pytest.approx(value(best))


def test_no_cost_is_the_best_class_of_each_window():
  logs = RNG.normal(size=(20, 4))
  np.testing.assert_array_equal(segments.best_path(logs, 0), logs.argmax(1))


def find(labels, cost=1.0, none=None, stride=1.0, length=2.0):
  p = np.full((len(labels), 3), 0.1)
  p[np.arange(len(labels)), labels] = 0.7
  none = np.full(len(labels), 0.1) if none is None else none
  starts = np.arange(len(labels)) * stride
  return segments.find_segments(starts, starts + length, p, none, cost)


def test_segments_cover_the_video_without_a_gap():
  found = find([0, 0, 0, 2, 2, 1, 1, 1])
  assert [s.label for s in found] == [0, 2, 1]
  assert found[0].start == 0 and found[-1].end == 9
  for a, b in itertools.pairwise(found):
    assert a.end == b.start
  # Windows 2 and 3 are centred on 3 s and 4 s.
  assert found[0].end == 3.5
  assert found[0].score == pytest.approx(0.7)


def test_a_window_in_doubt_goes_with_its_neighbours():
  labels = [0, 0, 0, 1, 0, 0]
  assert [s.label for s in find(labels, cost=0)] == [0, 1, 0]
  assert [s.label for s in find(labels, cost=2)] == [0]


def test_none_of_these_has_segments_of_its_own():
  none = np.array([0.1, 0.1, 5, 5, 5, 0.1])
  found = find([0] * 6, none=none)
  assert [s.label for s in found] == [0, segments.NONE, 0]


def test_one_window_is_one_segment():
  (only,) = find([1])
  assert (only.start, only.end, only.label) == (0, 2, 1)


def test_what_does_not_fit_raises():
  with pytest.raises(ValueError, match='2 starts, 1 ends'):
    segments.find_segments([0, 1], [1], np.ones((2, 3)), np.ones(2))
  with pytest.raises(ValueError, match='negative or a probability is NaN'):
    segments.best_path(np.full((2, 2), np.nan), 1)
  with pytest.raises(ValueError, match='negative'):
    segments.best_path(np.zeros((2, 2)), -1)
  with pytest.raises(ValueError, match='windows x classes'):
    segments.best_path(np.zeros((0, 2)), 1)


def test_ties_stay_with_the_label_before():
  logs = np.zeros((3, 3))
  logs[0, 1] = 1.0
  assert segments.best_path(logs, 0.1).tolist() == [1, 1, 1]
  # A change that pays for itself exactly is none.
  logs[1:, 2] = 0.5
  assert segments.best_path(logs[:, 1:], 1.0).tolist() == [0, 0, 0]
  # Then the lower label.
  assert segments.best_path(np.zeros((2, 3)), 0.5).tolist() == [0, 0]


def test_changing_costs_what_was_asked_for_and_one_nat_by_default():
  # Two windows of class 1 amid class 0, for which 0.9 nats are to be had.
  gain = 0.45
  p = np.array([[0.6, 0.4]] * 6)
  p[2:4] = np.array([1, np.exp(gain)]) / (1 + np.exp(gain))
  starts = np.arange(6.0)
  sure = p.copy()
  sure[[0, 1, 4, 5]] = [0.999, 0.001]
  labels = lambda *cost: [
    s.label
    for s in segments.find_segments(
      starts, starts + 1, sure, np.full(6, 1e-9), *cost
    )
  ]
  assert labels(0.44) == [0, 1, 0]
  assert labels(0.46) == [0]
  assert labels() == [0]
  sure[2:4] = np.array([1, np.exp(1.01)]) / (1 + np.exp(1.01))
  assert labels() == [0, 1, 0]


def test_scores_are_means_and_borders_lie_between_the_centres():
  p = np.array([[0.9, 0.05], [0.7, 0.2], [0.1, 0.8], [0.0, 0.6]])
  none = np.array([0.05, 0.1, 0.1, 0.4])
  first, second = segments.find_segments(
    [0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 8.0, 9.5], p, none, 0.1
  )
  assert (first.start, first.end, first.label) == (0.0, 4.0, 0)
  assert (second.start, second.end, second.label) == (4.0, 9.5, 1)
  assert first.score == pytest.approx(0.8)
  assert second.score == pytest.approx(0.7)


@pytest.mark.parametrize('short', ['ends', 'probabilities', 'none'])
def test_each_shape_that_disagrees_is_refused(short):
  given = {
    'starts': [0, 1],
    'ends': [1, 2],
    'probabilities': np.ones((2, 3)),
    'none': np.ones(2),
  }
  whole = given[short]
  for wrong in (whole[:1], np.concatenate([whole, whole])):
    with pytest.raises(ValueError, match='2 starts'):
      segments.find_segments(**{**given, short: wrong})
  with pytest.raises(ValueError, match='windows x classes'):
    segments.best_path(np.zeros(2), 1)


def test_a_single_number_that_is_none_is_refused_and_no_cost_is_none():
  logs = np.zeros((3, 2))
  assert segments.best_path(logs, 0).tolist() == [0, 0, 0]
  logs[1, 1] = np.nan
  with pytest.raises(ValueError, match='probability is NaN'):
    segments.best_path(logs, 1)


def test_borders_are_not_whole_seconds():
  p = np.array([[0.98, 0.01], [0.01, 0.98]])
  first, second = segments.find_segments(
    [0, 0.5], [1, 1.5], p, np.full(2, 0.01), 0
  )
  # The centres are 0.5 and 1.
  assert first.end == second.start == 0.75


def flow(p, none, cost, max_wait=60):
  """Segments of windows that come one by one, and when each was certain."""
  segmenter = segments.Segmenter(cost, max_wait)
  found, when = [], []
  for w, row in enumerate(p):
    ended = segmenter.add(float(w), w + 2.0, row, float(none[w]))
    found += ended
    when += [w] * len(ended)
  return found + segmenter.finish(), when


@pytest.mark.parametrize('cost', [0, 0.3, 2.0, 8.0])
@pytest.mark.parametrize('sharp', [0.3, 3.0])
def test_windows_one_by_one_give_the_segments_of_the_whole(cost, sharp):
  for _ in range(20):
    p = np.exp(sharp * RNG.normal(size=(40, 4)))
    p /= p.sum(axis=1, keepdims=True)
    none = RNG.uniform(0, 0.5, 40)
    starts = np.arange(40.0)
    whole = segments.find_segments(starts, starts + 2, p, none, cost)
    assert flow(p, none, cost)[0] == whole


def test_a_segment_is_told_when_nothing_can_change_it():
  # A clear change: the window after it settles it.
  p = np.array([[0.98, 0.01]] * 5 + [[0.01, 0.98]] * 5)
  found, when = flow(p, np.full(10, 0.01), 1.0)
  assert [s.label for s in found] == [0, 1] and when == [6]


def test_doubt_is_decided_in_the_end():
  # Two labels that stay as likely as each other never settle.
  p = np.array([[0.5, 0.5]] * 1000 + [[0.0, 1.0]] * 30)
  segmenter = segments.Segmenter(5.0, max_wait=8)
  found = []
  for w, row in enumerate(p):
    found += segmenter.add(float(w), w + 2.0, row, 0.0)
    assert len(segmenter._open) <= 9
  found += segmenter.finish()
  # The first label of a tie was decided 8 windows later, and so one after the
  # other. The 8 that were open when the doubt ended may go either way.
  assert [s.label for s in found] == [0, 1]
  assert 992 <= found[0].end <= 1000.5


def test_a_segmenter_refuses_what_it_cannot_use():
  with pytest.raises(ValueError, match='switch_cost=-1'):
    segments.Segmenter(-1)
  with pytest.raises(ValueError, match='max_wait=0'):
    segments.Segmenter(1, 0)
  with pytest.raises(ValueError, match='NaN'):
    segments.Segmenter().add(0, 1, np.array([np.nan, 0.1]), 0.0)
  assert segments.Segmenter().finish() == []
