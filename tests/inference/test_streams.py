"""Windows and segments of frames as they come."""

import itertools

import numpy as np
import pytest

from tests import videos
import zsar_jax
from zsar_jax.data import decode
from zsar_jax.inference import predictions

_NAMES = ['juggling', 'rowing', 'walking to the right slowly']


@pytest.fixture(scope='module')
def model():
  return zsar_jax.load('stick_figures').add_classes(_NAMES)


@pytest.fixture(scope='module')
def film(tmp_path_factory):
  """A video with a varying rate, and its (seconds, frame) pairs."""
  rng = np.random.default_rng(0)
  frames = np.repeat(
    rng.integers(0, 255, (70, 6, 8, 3), np.uint8), 10, 1
  ).repeat(10, 2)
  times = np.cumsum(rng.integers(60, 180, 70)) / 1000
  path = videos.write_video(
    tmp_path_factory.mktemp('film') / 'film.mp4', frames, times=times
  )
  shown, info = decode.decode_all(path, path)
  return path, list(zip(info.timestamps.tolist(), shown, strict=True))


def split(events):
  """Windows, segments."""
  kinds = predictions.NamedWindow, predictions.NamedSegment
  events = list(events)
  return [[e for e in events if isinstance(e, kind)] for kind in kinds]


@pytest.mark.parametrize('size, window, stride', [(1, 0, 0), (4, 1.3, 0.9)])
def test_a_stream_and_its_file_are_the_same_to_the_bit(
  model, film, size, window, stride
):
  path, frames = film
  options = dict(window=window, stride=stride)
  of_file = list(model.windows(path, **options, batch_size=size))
  windows, found = split(model.stream(frames, **options, batch_size=size))
  assert len(windows) > 4 and windows == of_file
  assert len({w.score for w in windows}) > 2
  assert [w.start for w in windows] == sorted(w.start for w in windows)
  # Segments cover the video.
  assert found[0].start == 0 and found[-1].end == windows[-1].end
  for a, b in itertools.pairwise(found):
    assert a.end == b.start and a.name != b.name


def test_segments_are_those_of_the_file(model, film):
  path, frames = film
  size = model.recognizer.config.zeroshot.batch_size
  for cost in (0.0, 1.0):
    whole, _ = model.segment(path, switch_cost=cost, window=1)
    stream = model.stream(frames, switch_cost=cost, window=1, batch_size=size)
    assert split(stream)[1] == whole


def test_a_video_shorter_than_a_window(model, film, tmp_path):
  path = videos.write_video(tmp_path / 's.mp4', videos.numbered_frames(5))
  shown, info = decode.decode_all(path, path)
  frames = list(zip(info.timestamps.tolist(), shown, strict=True))
  windows, (segment,) = split(model.stream(frames))
  assert windows == list(model.windows(path, batch_size=1))
  assert (segment.start, segment.end) == (0, windows[0].end)
  assert segment.end == pytest.approx(5 / 30)


def test_an_answer_comes_with_its_last_frame(model, film):
  _, frames = film
  stream = model.open_stream()
  for seconds, frame in frames:
    for event in stream.add(seconds, frame):
      if isinstance(event, predictions.NamedWindow):
        assert event.end < seconds <= event.end + 0.36
  assert list(stream.finish())


def test_frames_that_are_late_or_missing(model, film):
  _, frames = film
  in_order = split(model.stream(frames))
  swapped = frames.copy()
  swapped[9], swapped[10] = frames[10], frames[9]
  assert split(model.stream(swapped)) == in_order
  # One that comes after its windows are told is left out.
  late = [*frames[:3], *frames[4:40], frames[3], *frames[40:]]
  missing = [*frames[:3], *frames[4:]]
  assert split(model.stream(late)) == split(model.stream(missing))
  windows, _ = split(model.stream(missing[::3]))
  assert [w.start for w in windows[:-1]] == [w.start for w in in_order[0][:-1]]


def test_time_may_count_from_anywhere(model, film):
  _, frames = film
  moved = [(seconds + 1024, frame) for seconds, frame in frames]
  a, b = split(model.stream(frames))[0], split(model.stream(moved))[0]
  assert [w.name for w in a] == [w.name for w in b]
  assert a[0].start == b[0].start == 0


def test_classes_are_those_of_the_start(model, film):
  other = zsar_jax.load('stick_figures').add_classes(['rowing'])
  stream = other.stream(film[1])
  other.clear_classes().add_classes(['juggling', 'bowling'])
  assert set(split(stream)[0][0].probabilities) == {'rowing'}


def broken(frames, error):
  yield from frames
  raise error


def test_what_was_seen_comes_before_an_error(model, film):
  _, frames = film
  error = decode.VideoError('camera:0', 'gave no frame for 10 s')
  stream = model.stream(broken(frames[:40], error))
  found = []
  with pytest.raises(decode.VideoError, match='gave no frame'):
    for event in stream:
      found.append(event)
  assert split(found) == split(model.stream(frames[:40]))
  with pytest.raises(decode.VideoError, match='gave no frame'):
    next(model.stream(broken([], error)))


def test_what_cannot_be_used_is_refused(model, film):
  _, frames = film
  frame = frames[0][1]
  cases = (
    ([], 'ended without a frame'),
    (frames[:1], 'ended after a single frame'),
    ([(0, frame), (1, frame[:-2])], 'frame size from 80x60 to 80x58'),
    ([(0, frame / 255)], r'expected frames as uint8 RGB \[h w 3\], got float'),
    ([(0, None)], 'expected frames as uint8'),
    ([(0, frame[..., 0])], r'got uint8 \[60, 80\]'),
    ([(float('nan'), frame)], 'a frame at nan s'),
    ([(60, frame), (60.1, frame), (0, frame)], 'go back from 0.100 to -60'),
    ([(0, frame), (33_000, frame)], 'jump from 0.000 to 33000'),
  )
  for case, message in cases:
    with pytest.raises(ValueError, match=message):
      list(model.stream(case))
  with pytest.raises(ValueError, match='expected views of 48x48'):
    list(model.stream(frames, are_views=True))
  for case, message in cases[2:]:
    with pytest.raises(ValueError, match=f'^camera:7:? .*{message}'):
      list(model.stream(case, name='camera:7'))
  # At once, not when the first frame comes.
  for options, message in (
    (dict(window=-1), 'must not be negative'),
    (dict(switch_cost=-1), 'switch_cost=-1'),
    (dict(batch_size=0), 'batch_size=0'),
  ):
    with pytest.raises(ValueError, match=message):
      model.stream(frames, **options)
  with pytest.raises(ValueError, match='call add_classes first'):
    zsar_jax.load('stick_figures').stream(frames)
