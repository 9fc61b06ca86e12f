"""Cutting frames that come one by one into the windows of the whole video."""

import numpy as np
import pytest

from zsar_jax.data import clips, preprocessing, windows

_PREP = dict(
  size=2,
  short_side=2,
  mean=(0.5,) * 3,
  std=(0.5,) * 3,
  num_frames=4,
  sampling='dense',
  frame_stride=2,
  sample_fps=10.0,
  inputs='rgb',
  token_length=4,
  vocabulary_hash='',
)
RNG = np.random.default_rng(0)


def prep(**changes):
  return preprocessing.Preprocessing(**{**_PREP, **changes})


def views(n):
  """n different views."""
  numbers = np.arange(n)[:, None] >> np.arange(12) & 1
  return numbers.astype(np.uint8).reshape(n, 2, 2, 3)


def number(view):
  return int((view.reshape(-1) << np.arange(12)).sum())


def cut(cutter, times):
  """(start, end, frame numbers) of all windows."""
  found = []
  for seconds, view in zip(times, views(len(times)), strict=True):
    found += cutter.add(seconds, view)
  return [
    (w.start, w.end, [number(view) for view in w.clip])
    for w in [*found, *cutter.finish()]
  ]


def expected(times, prep, window, stride):
  """The same of a file with these frames."""
  times = np.array(times)
  duration = times[-1] + np.median(np.diff(times))
  length = windows.window_seconds(prep, window, stride)
  starts, length = windows.plan(duration, length, stride)
  return [
    (
      start,
      start + length,
      clips.sample_window(times, start, length, prep.clip_sampling).tolist(),
    )
    for start in starts
  ]


@pytest.mark.parametrize('sampling', ['dense', 'uniform', 'ends'])
@pytest.mark.parametrize(
  'window, stride',
  # The defaults, strides that fit and do not, windows shorter than a clip,
  # gaps between windows, and windows that are longer than the video.
  [(0, 0), (1, 0.25), (1.1, 0.4), (0.3, 0.3), (0.5, 2), (99, 0), (99, 3)],
)
def test_windows_are_those_of_the_whole_video(sampling, window, stride):
  with_sampling = prep(sampling=sampling)
  for times in (
    np.arange(60) / 10,
    np.arange(61) / 10,
    np.arange(100) / 30,
    np.cumsum(RNG.uniform(0.01, 0.4, 60)) - 0.01,
    np.concatenate([np.arange(20) / 10, 30 + np.arange(20) / 10]),
    [0.0, 0.04],
  ):
    times = (np.array(times) - times[0]).tolist()
    cutter = windows.Cutter(with_sampling, window, stride)
    assert cut(cutter, times) == expected(times, with_sampling, window, stride)


def test_windows_come_as_soon_as_they_are_complete():
  cutter = windows.Cutter(prep(), 1, 0.5)
  came = []
  for i, view in enumerate(views(40)):
    came += [(i / 10, w.start) for w in cutter.add(i / 10, view)]
  assert came[0] == (1.1, 0) and came[1] == (1.6, 0.5)


def test_memory_does_not_grow():
  cutter = windows.Cutter(prep(), 1)
  (view,) = views(1)
  for i in range(3000):
    list(cutter.add(i / 20, view))
    assert len(cutter._views) == len(cutter._times) < 40


def test_a_late_frame_finds_its_place():
  times = [0, 0.1, 0.3, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
  found = cut(windows.Cutter(prep(), 0.4, 0.4), times)
  order = np.argsort(times).tolist()
  sorted_times = sorted(times)
  wanted = expected(sorted_times, prep(), 0.4, 0.4)
  assert [w[2] for w in found] == [[order[i] for i in w[2]] for w in wanted]


def test_gaps_are_left_out_if_wished():
  times = [*np.arange(0, 4, 0.1), *np.arange(60, 64, 0.1)]
  whole = cut(windows.Cutter(prep(), 2), times)
  live = cut(windows.Cutter(prep(), 2, skip_gaps=True), times)
  assert len(whole) == 63
  starts = [w[0] for w in live]
  assert starts == pytest.approx([0, 1, 2, 3, 58, 59, 60, 61, 62])
  assert live == [w for w in whole if w in live]


def test_too_many_frames_for_a_window(monkeypatch):
  monkeypatch.setattr(windows, '_MOST_HELD', 600)
  message = '^camera:7: .* over 50 frames.* a shorter window'
  with pytest.raises(ValueError, match=message):
    cut(windows.Cutter(prep(), 10, name='camera:7'), np.arange(60) / 10)
