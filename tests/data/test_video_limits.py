import time

import pytest

from tests import videos
from zsar_jax.data import decode, video_limits


@pytest.fixture(scope='module')
def mp4(tmp_path_factory):
  path = tmp_path_factory.mktemp('videos') / 'a.mp4'
  return videos.write_video(path, videos.numbered_frames(40))


CALLS = {
  'read_info': decode.read_info,
  'check_video': decode.check_video,
  'decode_all': decode.decode_all,
  'decode_frames': lambda video, name, **kwargs: decode.decode_frames(
    video, [1, 30], name, **kwargs
  ),
}
calls = pytest.mark.parametrize('call', CALLS.values(), ids=CALLS)


@calls
def test_within_the_limits(mp4, call):
  call(mp4, 'v', limits=decode.Limits(1.4, 48 * 64, 40 * 48 * 64 * 3, 60.0))


@calls
def test_duration(mp4, call):
  with pytest.raises(
    decode.VideoError, match='v: lasts 1 s; the limit is 1.25 s'
  ) as error:
    call(mp4, 'v', limits=decode.Limits(max_seconds=1.25))
  assert not error.value.transient


@calls
def test_pixels_by_the_header(mp4, call):
  with pytest.raises(
    decode.VideoError, match='v: has frames of 64x48; the limit is 3071 pix'
  ):
    call(mp4, 'v', limits=decode.Limits(max_pixels=48 * 64 - 1))


@pytest.mark.parametrize('call', [CALLS['check_video'], CALLS['decode_all']])
def test_pixels_of_a_frame_larger_than_the_header_says(call, tmp_path):
  paths = [
    videos.write_video(
      tmp_path / f'{width}.h264', videos.numbered_frames(12, 48, width), gop=12
    )
    for width in (64, 640)
  ]
  content = b''.join(open(path, 'rb').read() for path in paths)
  # Without the limit, the error is about the change of size.
  with pytest.raises(decode.VideoError, match='changes its frame size'):
    call(content, 'v')
  with pytest.raises(decode.VideoError, match='damaged|has frames of 640x48'):
    call(content, 'v', limits=decode.Limits(max_pixels=48 * 64))


def test_decoded_bytes(mp4):
  limits = decode.Limits(max_decoded_bytes=40 * 48 * 64 * 3 - 1)
  words = 'would take 368640 bytes decoded; the limit is 368639'
  with pytest.raises(decode.VideoError, match=words):
    decode.decode_all(mp4, 'v', limits=limits)
  # Only the returned value counts.
  decode.decode_all(mp4, 'v', limits=limits, transform=lambda f: f[:8])
  with pytest.raises(decode.VideoError, match='737280 bytes'):
    decode.decode_frames(mp4, [3] * 80, 'v', limits=limits)
  # Nothing is kept of a video that is only looked at.
  decode.check_video(mp4, 'v', limits=limits)


@calls
def test_deadline(mp4, call):
  with pytest.raises(
    decode.VideoError, match='v: took longer than 0 s to decode'
  ) as error:
    call(mp4, 'v', limits=decode.Limits(deadline=0.0))
  assert error.value.transient


def test_deadline_between_frames(mp4):
  info = decode.read_info(mp4, 'v')
  seen = []

  def slow(frame):
    seen.append(frame)
    time.sleep(0.3)
    return frame

  with pytest.raises(decode.VideoError, match='took longer than 0.5 s'):
    decode.decode_frames(
      mp4,
      range(40),
      'v',
      transform=slow,
      info=info,
      limits=decode.Limits(deadline=0.5),
    )
  assert 1 <= len(seen) <= 3


def test_defaults_let_a_film_in_4k_pass():
  guard = video_limits.Guard('v', decode.Limits())
  guard.check_size(2160, 3840)
  guard.check_size(4096, 2304)
  guard.check_seconds(2.9 * 3600)
  guard.check_time()
