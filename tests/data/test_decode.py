import concurrent.futures
import functools

import av
import numpy as np
import pytest

from tests import videos
from zsar_jax.data import decode, video_transforms

NUM_FRAMES = 40
NUMBERS = [i % 15 for i in range(NUM_FRAMES)]
UNEVEN_TIMES = np.cumsum([0] + [0.02, 0.05, 0.2] * 13)

# File name -> how it is written. Between them: closed and open groups, one
# group only, B-frames, no presentation times, a varying rate, no index.
FORMATS = {
  'groups_of_12.mp4': dict(),
  'one_group.mp4': dict(gop=250),
  'open_groups.mp4': dict(
    options={'x264-params': 'scenecut=0:b-adapt=0:open-gop=1'}
  ),
  'varying_rate.mp4': dict(times=UNEVEN_TIMES),
  'matroska.mkv': dict(),
  'transport.ts': dict(),
  'raw_stream.h264': dict(),
  'h264_b_frames.avi': dict(),
  'mpeg4_b_frames.avi': dict(codec='mpeg4'),
  'mpeg4.avi': dict(codec='mpeg4', b_frames=0),
  'hevc.mp4': dict(
    codec='libx265', options={'x265-params': 'log-level=none:keyint=12'}
  ),
  'vp8.webm': dict(codec='libvpx'),
  'vp9.webm': dict(codec='libvpx-vp9'),
  'av1.mp4': dict(
    codec='libsvtav1', options={'svtav1-params': 'keyint=12:enable-tf=0'}
  ),
  'animation.gif': dict(codec='gif', fps=10),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('videos')


@pytest.fixture(scope='module', params=FORMATS)
def video(request, folder):
  options = FORMATS[request.param]
  codec = options.get('codec', 'libx264')
  if codec not in av.codecs_available:
    pytest.skip(f'this FFmpeg has no encoder {codec}')
  # AV1 needs 64 pixels each way.
  frames = videos.numbered_frames(NUM_FRAMES, 72, 96)
  write = (
    videos.write_video
    if codec in ('libx264', 'mpeg4', 'gif')
    else videos.write_video_apart
  )
  return write(folder / request.param, frames, **options)


@pytest.fixture(scope='module')
def mp4(folder):
  frames = videos.numbered_frames(NUM_FRAMES)
  return videos.write_video(folder / 'plain.mp4', frames)


def _short(pixels):
  return functools.partial(
    video_transforms.resize_short_side, short_side=pixels
  )


def read(path):
  with open(path, 'rb') as f:
    return f.read()


def test_every_frame_alone_is_exact(video):
  alone = [
    videos.frame_numbers(decode.decode_frames(video, [i], 'v'))[0]
    for i in range(NUM_FRAMES)
  ]
  assert alone == NUMBERS


@pytest.mark.parametrize(
  'indices', [[13, 2, 39, 2], [0, 1, 2], [11, 12], [5, 37], [39, 38, 37]]
)
def test_any_order_and_repeats(video, indices):
  frames = decode.decode_frames(video, indices, 'v')
  assert videos.frame_numbers(frames) == [NUMBERS[i] for i in indices]
  assert frames.dtype == np.uint8
  assert frames.flags.c_contiguous


def test_whole_and_part_agree_to_the_bit(video):
  rng = np.random.default_rng(0)
  frames, info = decode.decode_all(video, 'v', transform=_short(20))
  assert frames.shape == (NUM_FRAMES, 20, 27, 3)
  assert info.timestamps.shape == (NUM_FRAMES,)
  info = decode.read_info(video, 'v')
  for source in (video, read(video)):
    indices = rng.integers(NUM_FRAMES, size=6)
    part = decode.decode_frames(
      source, indices, 'v', transform=_short(20), info=info
    )
    np.testing.assert_array_equal(part, frames[indices])


def test_good_videos_pass(video):
  info = decode.check_video(video, 'v')
  assert len(info.timestamps) == NUM_FRAMES
  assert info.timestamps[0] == 0
  assert (np.diff(info.timestamps) > 0).all()


def test_constant_rate_times(mp4):
  info = decode.read_info(mp4, 'v')
  np.testing.assert_allclose(info.timestamps, np.arange(NUM_FRAMES) / 30)
  assert info.duration == pytest.approx(NUM_FRAMES / 30)
  assert info.keyframes.tolist() == [0, 12, 24, 36]


def test_varying_rate_times(folder):
  path = videos.write_video(
    folder / 'vfr.mp4', videos.numbered_frames(NUM_FRAMES), times=UNEVEN_TIMES
  )
  info = decode.read_info(path, 'v')
  np.testing.assert_allclose(info.timestamps, UNEVEN_TIMES, atol=1e-3)
  # The last frame lasts as long as the median one.
  assert info.duration == pytest.approx(UNEVEN_TIMES[-1] + 0.05, abs=1e-3)


def test_seeks_only_over_whole_groups(mp4, monkeypatch):
  decoded = []
  original = decode._numbered

  def spy(frames, pts, key):
    for index, frame in original(frames, pts, key):
      decoded.append(index)
      yield index, frame

  monkeypatch.setattr(decode, '_numbered', spy)
  decode.decode_frames(mp4, [13, 14, 16, 38], 'v')
  assert decoded == [12, 13, 14, 15, 16, 36, 37, 38]
  decoded.clear()
  decode.decode_all(mp4, 'v')
  assert decoded == list(range(NUM_FRAMES))


def noise(n, height=48, width=64, seed=0):
  """Returns frames that all differ, so that a wrong one is detected."""
  blocks = np.random.default_rng(seed).integers(
    256, size=(n, -(-height // 8), -(-width // 8), 3), dtype=np.uint8
  )
  return blocks.repeat(8, 1).repeat(8, 2)[:, :height, :width]


def test_frames_left_out_change_nothing(folder):
  path = videos.write_video(
    folder / 'pyramid.mp4',
    noise(NUM_FRAMES),
    gop=20,
    b_frames=3,
    options={'x264-params': 'scenecut=0:b-adapt=0:b-pyramid=normal'},
  )
  whole, info = decode.decode_all(path, 'v')
  for seed in range(20):
    rng = np.random.default_rng(seed)
    indices = rng.integers(NUM_FRAMES, size=rng.integers(1, 6))
    some = decode.decode_frames(path, indices, 'v', info=info)
    np.testing.assert_array_equal(some, whole[indices])


def test_frames_are_left_out(folder, monkeypatch):
  path = videos.write_video(
    folder / 'one_group.mp4',
    noise(NUM_FRAMES),
    gop=NUM_FRAMES,
    options={'x264-params': 'scenecut=0:b-adapt=0:b-pyramid=none'},
  )
  decoded = []
  original = decode._numbered

  def spy(frames, pts, key):
    for index, frame in original(frames, pts, key):
      decoded.append(index)
      yield index, frame

  monkeypatch.setattr(decode, '_numbered', spy)
  decode.decode_frames(path, [31], 'v')
  assert decoded[-1] == 31
  assert len(decoded) < 16  # Two of three are B-frames.


def test_a_frame_left_out_in_error_is_decoded_after_all(mp4, monkeypatch):
  original = decode.decode_on

  def drops_too_many(container, stream, guard, kept=None):
    for frame in original(container, stream, guard, kept):
      if kept is None or frame.pts not in kept:
        yield frame

  monkeypatch.setattr(decode, 'decode_on', drops_too_many)
  frames = decode.decode_frames(mp4, [2, 30], 'v')
  assert videos.frame_numbers(frames) == [2, 0]


@pytest.mark.parametrize(
  'name, pixel_format, height, width',
  [
    ('odd.webm', 'yuv420p', 45, 63),
    ('portrait.webm', 'yuv420p', 63, 35),
    ('10_bits.mp4', 'yuv420p10le', 48, 64),
    ('10_bits_422.mkv', 'yuv422p10le', 64, 48),
    ('full_chroma.mp4', 'yuv444p', 45, 33),
    # libx265's vector code aborts on 10 bits and sides under 64.
    ('10_bits_hevc.mp4', 'yuv420p10le', 96, 72),
  ],
)
def test_sizes_and_depths(folder, name, pixel_format, height, width):
  codec = 'libvpx-vp9' if name.endswith('.webm') else 'libx264'
  codec = 'libx265' if 'hevc' in name else codec
  frames = videos.numbered_frames(20, height, width)
  path = videos.write_video_by_program(
    folder / name, frames, fps=10, codec=codec, pixel_format=pixel_format
  )
  with av.open(path) as container:
    assert container.streams.video[0].format.name == pixel_format
  decode.check_video(path, name)
  shown = decode.decode_frames(path, [13, 2], name)
  assert shown.shape == (2, height, width, 3)
  assert videos.frame_numbers(shown) == [13, 2]


def test_tags_that_are_not_utf8_do_not_matter(folder):
  path = folder / 'latin.mp4'
  with av.open(str(path), 'w') as container:
    container.metadata['comment'] = 'cafZZ'
    stream = container.add_stream('libx264', rate=10)
    stream.height, stream.width, stream.pix_fmt = 48, 64, 'yuv420p'
    for frame in videos.numbered_frames(3):
      frame = av.VideoFrame.from_ndarray(frame, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  path.write_bytes(path.read_bytes().replace(b'cafZZ', b'caf\xe9\xe9'))
  for source in (str(path), path.read_bytes()):
    assert decode.read_comment(source, 'v').startswith('caf')
    assert videos.frame_numbers(decode.decode_frames(source, [2], 'v')) == [2]


def test_a_seek_that_fails_is_made_up_for(mp4, monkeypatch):
  def lost(frames, pts, key):
    if pts is not None:
      raise decode._OutOfStep
    yield from enumerate(frames)

  monkeypatch.setattr(decode, '_numbered', lost)
  frames = decode.decode_frames(mp4, [30, 3], 'v')
  assert videos.frame_numbers(frames) == [0, 3]


def test_a_dropped_frame_shows_the_one_before(mp4, monkeypatch):
  original = decode._numbered

  def dropping(frames, pts, key):
    return (f for f in original(frames, pts, key) if f[0] not in (0, 5, 39))

  monkeypatch.setattr(decode, '_numbered', dropping)
  frames = decode.decode_frames(mp4, [0, 4, 5, 6, 39], 'v')
  assert videos.frame_numbers(frames) == [1, 4, 4, 6, 38 % 15]


def test_clip_cut_without_encoding_it_anew(mp4, folder):
  # From the keyframe 12 on, of which frames 12 to 16 are marked as not shown.
  path = str(folder / 'cut.mp4')
  options = {'avoid_negative_ts': 'disabled', 'use_editlist': '1'}
  with av.open(mp4) as source, av.open(path, 'w', options=options) as cut:
    stream = source.streams.video[0]
    copy = cut.add_stream_from_template(stream)
    frame = round(1 / 30 / stream.time_base)
    for packet in source.demux(stream):
      if packet.size and packet.pts >= 12 * frame:
        packet.pts -= 17 * frame
        packet.dts -= 17 * frame
        packet.stream = copy
        cut.mux(packet)
  info = decode.check_video(path, 'v')
  assert len(info.timestamps) == NUM_FRAMES - 17
  frames, _ = decode.decode_all(path, 'v')
  assert videos.frame_numbers(frames) == NUMBERS[17:]
  alone = [decode.decode_frames(path, [i], 'v')[0] for i in range(len(frames))]
  np.testing.assert_array_equal(alone, frames)


def test_rotation_tag_is_obeyed(folder):
  if not hasattr(av.VideoStream, 'set_display_rotation'):
    pytest.skip('this PyAV cannot write a rotation tag')
  frames = np.zeros((4, 48, 64, 3), np.uint8)
  frames[:, :, 32:] = 200  # The right half is bright.
  for degrees in (90, 180, -90):
    path = videos.write_video(folder / 'turn.mp4', frames, rotation=degrees)
    shown = decode.decode_frames(path, [2], 'v')[0]
    expected = np.rot90(frames[2], degrees // 90)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 10


def test_colours_are_rgb(folder):
  frames = np.zeros((4, 48, 64, 3), np.uint8)
  frames[..., 0] = 200
  path = videos.write_video(folder / 'red.mp4', frames)
  mean = decode.decode_frames(path, [1], 'v')[0].mean((0, 1))
  assert mean[0] > 150 and mean[1] < 50 and mean[2] < 50


def test_short_side_shrinks_by_area(mp4):
  whole = decode.decode_frames(mp4, [3], 'v')[0]
  small = decode.decode_frames(mp4, [3], 'v', transform=_short(12))[0]
  assert small.shape == (12, 16, 3)
  np.testing.assert_array_equal(
    small, video_transforms.resize_short_side(whole, 12)
  )


def test_threads(mp4):
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    results = pool.map(
      lambda i: videos.frame_numbers(decode.decode_frames(mp4, [i], 'v')),
      range(NUM_FRAMES),
    )
    assert [r[0] for r in results] == NUMBERS


def test_indices_outside_the_video(mp4):
  for indices in ([-1], [NUM_FRAMES], [0, 1000]):
    with pytest.raises(IndexError, match='40 frames'):
      decode.decode_frames(mp4, indices, 'v')
  with pytest.raises(ValueError, match='no frame indices'):
    decode.decode_frames(mp4, [], 'v')


def test_decoding_bad_bytes_raises_nothing_else(mp4):
  good = read(mp4)
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(60):
    bad = bytearray(good[: rng.integers(len(good) // 2, len(good) + 1)])
    for at in rng.integers(len(bad), size=30):
      bad[at] = rng.integers(256)
    try:
      frames, info = decode.decode_all(bytes(bad), 'v')
    except decode.VideoError:
      refused += 1
    else:
      assert len(frames) == len(info.timestamps)
  assert refused > 30
