import numpy as np
import pytest

from zsar_jax.data import clips

SECOND = np.arange(30) / 30  # 30 frames at 30 a second.


def test_uniform_takes_the_middle_of_each_segment():
  # Segments of 7.5 frames; their middles fall on frames 3.75, 11.25, ...
  assert clips.sample_uniform(SECOND, 1.0, 4).tolist() == [3, 11, 18, 26]


def test_uniform_every_frame():
  np.testing.assert_array_equal(
    clips.sample_uniform(SECOND, 1.0, 30), np.arange(30)
  )


def test_instants_on_a_frame_boundary_do_not_flicker():
  # 15 middles of a second fall exactly on the beginnings of odd frames.
  np.testing.assert_array_equal(
    clips.sample_uniform(SECOND, 1.0, 15), np.arange(1, 30, 2)
  )


def test_uniform_repeats_frames_of_a_short_video():
  indices = clips.sample_uniform(np.array([0.0, 0.5]), 1.0, 8)
  assert indices.tolist() == [0] * 4 + [1] * 4


def test_segment_training_stays_in_its_segments():
  rng = np.random.default_rng(0)
  seen = set()
  for _ in range(200):
    indices = clips.sample_segments(SECOND, 1.0, 3, rng)
    assert (indices // 10).tolist() == [0, 1, 2]
    seen.update(indices.tolist())
  assert seen == set(range(30))


def test_uniform_training_keeps_its_distances():
  rng = np.random.default_rng(0)
  starts = set()
  for _ in range(200):
    indices = clips.sample_uniform(SECOND, 1.0, 3, rng)
    np.testing.assert_array_equal(np.diff(indices), [10, 10])
    starts.add(int(indices[0]))
  assert starts == set(range(10))


def test_segment_and_uniform_agree_in_evaluation():
  for view in range(3):
    np.testing.assert_array_equal(
      clips.sample_segments(SECOND, 1.0, 4, view=view, num_views=3),
      clips.sample_uniform(SECOND, 1.0, 4, view=view, num_views=3),
    )


def test_uniform_views_interleave():
  views = [
    clips.sample_uniform(SECOND, 1.0, 3, view=v, num_views=2) for v in (0, 1)
  ]
  assert views[0].tolist() == [2, 12, 22]
  assert views[1].tolist() == [7, 17, 27]


def test_uniform_goes_by_time_not_by_count():
  # Ten frames in the first tenth of a second, then ten in the rest.
  times = np.concatenate([np.arange(10) / 100, 0.1 + np.arange(10) * 0.09])
  indices = clips.sample_uniform(times, 1.0, 10)
  assert (indices >= 10).sum() == 9


@pytest.mark.parametrize('fps', [10, 25, 30, 60])
def test_dense_shows_true_speed_at_any_rate(fps):
  times = np.arange(10 * fps) / fps
  indices = clips.sample_dense(times, 10.0, 8, 6, 30)
  np.testing.assert_allclose(np.diff(times[indices]), 0.2, atol=1 / fps)
  # Centred: 1.6 s out of 10 s, frames in the middle of 0.2 s steps.
  assert times[indices[0]] == pytest.approx(4.3, abs=1 / fps)
  assert times[indices[-1]] == pytest.approx(5.7, abs=1 / fps)


def test_dense_views_cover_the_video():
  times = np.arange(300) / 30
  views = [
    clips.sample_dense(times, 10.0, 16, 2, 30, view=v, num_views=4)
    for v in range(4)
  ]
  assert views[0][0] == 1 and views[-1][-1] == 299
  starts = [v[0] for v in views]
  np.testing.assert_allclose(np.diff(starts), np.diff(starts)[0], atol=1)


def test_dense_longer_than_the_video_repeats_its_last_frame():
  for view, rng in ((0, None), (2, None), (0, np.random.default_rng(0))):
    indices = clips.sample_dense(SECOND, 1.0, 8, 6, 30, rng, view, 3)
    assert indices.tolist() == [3, 9, 15, 21, 27, 29, 29, 29]


def test_dense_training_starts_anywhere_it_fits():
  rng = np.random.default_rng(0)
  starts = [
    clips.sample_dense(SECOND, 1.0, 10, 1, 30, rng)[0] for _ in range(500)
  ]
  assert set(starts) == set(range(21))


def test_one_frame():
  for sampling in ('uniform', 'dense'):
    indices = clips.sample_indices(
      np.zeros(1),
      0.0,
      clips.Sampling(sampling, 4, frame_stride=2, sample_fps=30),
    )
    assert indices.tolist() == [0] * 4


def test_dispatch():
  sampling = lambda method: clips.Sampling(method, 4, 2, 30)
  np.testing.assert_array_equal(
    clips.sample_indices(SECOND, 1.0, sampling('uniform')),
    clips.sample_uniform(SECOND, 1.0, 4),
  )
  np.testing.assert_array_equal(
    clips.sample_indices(SECOND, 1.0, sampling('dense'), view=1, num_views=3),
    clips.sample_dense(SECOND, 1.0, 4, 2, 30, view=1, num_views=3),
  )
  with pytest.raises(ValueError, match="'unifrom'"):
    clips.sample_indices(SECOND, 1.0, sampling('unifrom'))


def test_same_seed_same_clip():
  for sampling in ('uniform', 'dense'):
    first, second = (
      clips.sample_indices(
        SECOND,
        1.0,
        clips.Sampling(sampling, 4, frame_stride=2, sample_fps=30),
        rng=np.random.default_rng(5),
      )
      for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_refusals():
  with pytest.raises(ValueError, match='without frames'):
    clips.sample_uniform(np.zeros(0), 0.0, 4)
  with pytest.raises(ValueError, match='num_frames'):
    clips.sample_uniform(SECOND, 1.0, 0)
  with pytest.raises(ValueError, match='view 2 of 2'):
    clips.sample_dense(SECOND, 1.0, 4, 2, 30, view=2, num_views=2)
  with pytest.raises(ValueError, match='positive'):
    clips.sample_dense(SECOND, 1.0, 4, 0, 30)


@pytest.mark.parametrize(
  ('stride', 'fps'), [(1, 30), (2, 30), (3, 7.5), (5, 60)]
)
def test_a_dense_window_takes_a_frame_every_step_from_its_start(stride, fps):
  # A frame every 10 ms, each on display from its time to the next one's.
  times = np.arange(1000) / 100
  start = 2.345
  found = clips.sample_window(
    times,
    start,
    window=1.0,
    sampling=clips.Sampling('dense', 5, stride, fps),
  )
  instants = [start + k * (stride / fps) for k in range(5)]
  expected = [max(i for i in range(1000) if times[i] <= t) for t in instants]
  assert found.tolist() == expected


@pytest.mark.parametrize('n, expected', [(5, [0, 7, 14, 21, 29]), (1, [14])])
def test_ends_are_the_first_frame_the_last_and_others_between(n, expected):
  assert clips.sample_ends(SECOND, 1.0, n).tolist() == expected
  # As the Perception Encoder's own processor counts frames.
  steps = [int(i * 29 / (n - 1)) for i in range(n)] if n > 1 else [14]
  assert expected == steps
  sampling = clips.Sampling('ends', n, 1, 30)
  assert clips.sample_indices(SECOND, 1.0, sampling).tolist() == expected
  shown = clips.sample_window(SECOND, 0.0, SECOND[-1], sampling)
  assert shown.tolist() == expected


def test_views_of_ends_lie_around_the_single_one():
  views = [
    clips.sample_ends(SECOND, 1.0, 4, view=v, num_views=2) for v in (0, 1)
  ]
  # A quarter of the distance of 29 / 3 frames earlier, and later.
  assert views[0].tolist() == [0, 7, 16, 26]
  assert views[1].tolist() == [2, 12, 21, 29]
  rng = np.random.default_rng(0)
  drawn = np.stack([clips.sample_ends(SECOND, 1.0, 4, rng) for _ in range(50)])
  assert (np.abs(drawn - [0, 9.67, 19.33, 29]) <= 5.84).all()
  assert drawn[:, 1].min() <= 6 and drawn[:, 1].max() >= 13


@pytest.mark.parametrize('sampling', ['segment', 'uniform'])
def test_other_windows_show_the_middle_of_equal_parts(sampling):
  times = np.arange(1000) / 100
  found = clips.sample_window(
    times,
    3.0,
    window=2.0,
    sampling=clips.Sampling(sampling, 4, frame_stride=99, sample_fps=0.1),
  )
  assert found.tolist() == [325, 375, 425, 475]


def test_a_window_past_the_end_repeats_the_last_frame():
  times = np.arange(10) / 10
  found = clips.sample_window(
    times,
    0.75,
    window=1.0,
    sampling=clips.Sampling('dense', 4, frame_stride=1, sample_fps=10),
  )
  assert found.tolist() == [7, 8, 9, 9]


def test_one_frame_is_the_middle_one():
  assert clips.sample_uniform(SECOND, 1.0, 1).tolist() == [15]
  assert clips.sample_segments(SECOND, 1.0, 1).tolist() == [15]
  assert clips.sample_dense(SECOND, 1.0, 1, 2, 30).tolist() == [15]


def test_before_the_first_frame_the_first_is_shown():
  indices = clips.sample_uniform(np.array([0.5, 0.75]), 1.0, 4)
  assert indices.tolist() == [0, 0, 0, 1]


def test_a_single_view_is_the_default():
  np.testing.assert_array_equal(
    clips.sample_segments(SECOND, 1.0, 4), [3, 11, 18, 26]
  )
  kwargs = dict(frame_stride=1, sample_fps=30)
  np.testing.assert_array_equal(
    clips.sample_dense(SECOND, 1.0, 10, **kwargs), np.arange(10, 20)
  )
  for method in ('uniform', 'segment', 'dense'):
    sampling = clips.Sampling(method, 4, **kwargs)
    np.testing.assert_array_equal(
      clips.sample_indices(SECOND, 1.0, sampling),
      clips.sample_indices(SECOND, 1.0, sampling, view=0, num_views=1),
    )


@pytest.mark.parametrize('view', [-1, 2, 3])
def test_views_that_do_not_exist_are_refused(view):
  with pytest.raises(ValueError, match=f'view {view} of 2'):
    clips.sample_uniform(SECOND, 1.0, 4, view=view, num_views=2)


@pytest.mark.parametrize(
  ('stride', 'fps'), [(0, 30), (-1, 30), (2, 0), (2, -1), (-2, -30)]
)
def test_strides_and_rates_that_are_not_positive_are_refused(stride, fps):
  with pytest.raises(ValueError, match='must be positive'):
    clips.sample_dense(SECOND, 1.0, 4, stride, fps)


def test_a_rate_of_one_frame_a_second_will_do():
  times = np.arange(100) / 10
  assert clips.sample_dense(times, 10.0, 4, 0.5, 1).tolist() == [42, 47, 52, 57]
