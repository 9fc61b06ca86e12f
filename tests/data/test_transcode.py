import dataclasses

import numpy as np
import pytest

from tests import videos
from zsar_jax.data import decode, stored_videos, transcode

NUM_FRAMES, FPS = 50, 25


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  frames = videos.numbered_frames(NUM_FRAMES, 64, 96)
  return videos.write_video(
    tmp_path_factory.mktemp('v') / 'v.mp4', frames, fps=FPS, gop=50
  )


def store(path, start=0.0, end=None, **storage):
  storage = transcode.Storage(**storage)
  return transcode.store_video(path, 'v', start, end, storage.to_dict())


def pictures(content, seconds, fps, per_record=100):
  jpegs, spans = content
  return stored_videos.JpegFrames(
    lambda record: {'jpegs': jpegs, 'spans': spans},
    'v',
    duration=seconds,
    fps=fps,
    frames_per_record=per_record,
  )


def test_bytes_are_kept_where_nothing_is_asked(path):
  facts, content = store(path)
  assert facts == {'num_frames': NUM_FRAMES, 'seconds': pytest.approx(2.0)}
  assert content == []


def test_reencoded_frames_are_the_same_at_the_same_times(path):
  facts, (video,) = store(path, reencode=True, keyframe_interval=5)
  frames, info = decode.decode_all(video, 'v')
  assert videos.frame_numbers(frames) == [i % 15 for i in range(NUM_FRAMES)]
  source = decode.read_info(path, 'v')
  np.testing.assert_allclose(info.timestamps, source.timestamps, atol=1e-4)
  assert facts['num_frames'] == NUM_FRAMES
  assert np.diff(info.keyframes).max() <= 5


def test_short_side_is_reduced_but_never_enlarged(path):
  _, (video,) = store(path, reencode=True, short_side=32)
  assert decode.decode_all(video, 'v')[0].shape[1:3] == (32, 48)
  _, (video,) = store(path, reencode=True, short_side=128)
  assert decode.decode_all(video, 'v')[0].shape[1:3] == (64, 96)


def test_odd_sides_lose_a_line(tmp_path):
  frames = videos.numbered_frames(6, 33, 47)
  odd = videos.write_video(tmp_path / 'o.avi', frames, codec='mpeg4')
  _, (video,) = store(odd, reencode=True)
  assert decode.decode_all(video, 'v')[0].shape == (6, 32, 46, 3)


def test_rotation_is_applied(tmp_path):
  frames = videos.numbered_frames(6, 32, 48)
  turned = videos.write_video(tmp_path / 'r.mp4', frames, rotation=90)
  _, (video,) = store(turned, reencode=True)
  assert decode.decode_all(video, 'v')[0].shape[1:3] == (48, 32)
  facts, content = store(turned, kind='frames')
  picture = pictures(content, facts['seconds'], 10.0).decode([0])
  assert picture.shape == (1, 48, 32, 3)


def test_pictures_show_what_is_on_display(path):
  facts, content = store(path, kind='frames', fps=10.0)
  stored = pictures(content, facts['seconds'], 10.0)
  # Every 0.1 s of 25 frames a second: frames 0, 2, 5, 7, 10, ...
  shown = [int(j * 2.5) % 15 for j in range(20)]
  assert len(stored.timestamps) == len(shown)
  frames = stored.decode(range(20))
  assert videos.frame_numbers(frames) == shown
  picked = stored.decode([7, 0, 7])
  np.testing.assert_array_equal(picked, frames[[7, 0, 7]])


def test_a_picture_that_stays_is_stored_once(tmp_path):
  slow = videos.write_video(
    tmp_path / 's.mp4', videos.numbered_frames(4, 32, 32), fps=4
  )
  facts, (jpegs, spans) = store(slow, kind='frames', fps=12.0)
  assert len(spans) == 12 and len(np.unique(spans[:, 0])) == 4
  assert spans.max() == len(jpegs)
  shown = pictures((jpegs, spans), facts['seconds'], 12.0).decode(range(12))
  assert videos.frame_numbers(shown) == [i // 3 for i in range(12)]


@pytest.mark.parametrize('kind', transcode.KINDS)
def test_a_stretch_is_cut_to_the_frame(path, kind):
  facts, content = store(path, 0.4, 1.2, kind=kind, fps=25.0)
  assert facts == {'num_frames': 20, 'seconds': pytest.approx(0.8)}
  expected = [i % 15 for i in range(10, 30)]
  if kind == 'video':
    frames, info = decode.decode_all(content[0], 'v')
    assert info.timestamps[0] == 0
  else:
    frames = pictures(content, facts['seconds'], 25.0).decode(range(20))
  assert videos.frame_numbers(frames) == expected


def test_a_stretch_beyond_the_end_ends_with_the_video(path):
  facts, _ = store(path, 1.0, 9.0)
  assert facts == {'num_frames': 25, 'seconds': pytest.approx(1.0)}


def test_unusable_videos_raise(path, tmp_path):
  with pytest.raises(decode.VideoError, match='0 frames from 5 to 2 s'):
    store(path, 5.0, 9.0)
  damaged = tmp_path / 'd.mp4'
  with open(path, 'rb') as f:
    damaged.write_bytes(f.read()[:1500])
  with pytest.raises(decode.VideoError):
    store(str(damaged), kind='frames')


def test_only_what_a_kind_uses_names_it():
  a = transcode.Storage(kind='frames', crf=30)
  assert a.hash == transcode.Storage(kind='frames').hash
  assert a.hash != transcode.Storage(kind='frames', fps=5.0).hash
  assert transcode.Storage(**a.to_dict()).hash == a.hash


@pytest.mark.parametrize(
  'bad', [{'kind': 'mp4'}, {'quality': 0}, {'fps': 0.0}, {'crf': 52}]
)
def test_bad_settings_raise_and_are_named(bad):
  (value,) = bad.values()
  with pytest.raises(ValueError, match=str(value)):
    transcode.Storage(**bad)


def test_damaged_picture_raises_and_is_named(path):
  facts, (jpegs, spans) = store(path, kind='frames')
  broken = bytearray(jpegs)
  broken[spans[3][0] : spans[3][0] + 20] = bytes(20)
  stored = pictures((bytes(broken), spans), facts['seconds'], 10.0)
  assert len(stored.decode([2])) == 1
  with pytest.raises(decode.VideoError, match='v: stored frame 3 is damaged'):
    stored.decode([2, 3])


@pytest.mark.parametrize('storage', [{'reencode': True}, {'kind': 'frames'}])
def test_frames_are_stored_once_where_decoding_begins_again(
  path, storage, monkeypatch
):
  expected = store(path, **storage)
  numbered = decode._numbered

  def lost(frames, pts, key):
    for i, frame in enumerate(numbered(frames, pts, key)):
      if pts is not None and i == 7:
        raise decode._OutOfStep
      yield frame

  monkeypatch.setattr(decode, '_numbered', lost)
  facts, content = store(path, **storage)
  assert facts == expected[0]
  if storage.get('kind') == 'frames':
    for a, b in zip(content, expected[1], strict=True):
      np.testing.assert_array_equal(a, b)
    return
  # x264 does not give the same bytes every time, but the same frames.
  frames, info = decode.decode_all(content[0], 'v')
  assert videos.frame_numbers(frames) == [i % 15 for i in range(NUM_FRAMES)]
  np.testing.assert_allclose(
    info.timestamps, decode.read_info(path, 'v').timestamps, atol=1e-3
  )


def test_equal_times_are_set_apart(path, monkeypatch):
  info = decode.read_info(path, 'v')
  times = info.timestamps.copy()
  times[10:13] = times[10]
  times[-1] = times[-2]
  monkeypatch.setattr(
    decode,
    'check_video',
    lambda path, name: dataclasses.replace(info, timestamps=times),
  )
  _, (video,) = store(path, reencode=True)
  frames, stored = decode.decode_all(video, 'v')
  assert videos.frame_numbers(frames) == [i % 15 for i in range(NUM_FRAMES)]
  np.testing.assert_allclose(stored.timestamps, times, atol=1e-4)
  assert np.diff(stored.timestamps).min() > 0


def test_a_frame_too_narrow_for_an_encoder_is_an_error_of_the_video(tmp_path):
  narrow = videos.write_video(
    tmp_path / 'n.gif', videos.numbered_frames(3, 8, 1), codec='gif'
  )
  with pytest.raises(decode.VideoError, match='1x8 .too small'):
    store(narrow, reencode=True)
