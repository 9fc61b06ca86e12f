"""Videos with a strip below that says what happens."""

import os

import numpy as np
from PIL import Image
import pytest

from tests import videos
from zsar_jax.data import annotated_video, caption_strip, decode

NONE = 'none of these'


def write(tmp_path, frames, segments, **kwargs):
  """The frames of a video with a strip, and when they appear."""
  path = videos.write_video(tmp_path / 'v.mp4', frames, **kwargs)
  output = str(tmp_path / 'out.mp4')
  assert annotated_video.write(path, output, segments, NONE) == ''
  assert sorted(os.listdir(tmp_path)) == ['out.mp4', 'v.mp4']
  shown, info = decode.decode_all(output, output)
  return shown, info.timestamps, decode.read_info(path, path).timestamps


def test_each_frame_has_what_happens_below_it(tmp_path):
  frames = videos.numbered_frames(30, 240, 320)
  segments = [(0.0, 0.5, 'juggling', 0.9), (0.5, 1.0, NONE, 0.6)]
  shown, times, before = write(tmp_path, frames, segments)
  assert shown.shape[0] == 30 and shown.shape[2] == 320
  np.testing.assert_allclose(times, before, atol=1e-3)
  # The picture is as it was.
  assert videos.frame_numbers(shown[:, :240]) == videos.frame_numbers(frames)
  strip = shown[:, 240:].astype(int)
  # The words change with the segment, and only then.
  words = strip[:, :18].mean(axis=(2, 3))
  same = lambda a, b: np.abs(words[a] - words[b]).max() < 3
  assert same(1, 13) and same(17, 28) and not same(13, 17)
  # The bar: blue, then grey; bright where it was played.
  bar = strip[:, -4]
  assert bar[28, 20, 2] > 150 > bar[28, 20, 0] + 50
  assert np.ptp(bar[28, 250]) < 30 and bar[28, 250].min() > 100
  assert bar[1, 20:].max() < 110
  brightness = bar[:, :, :].mean(axis=(1, 2))
  assert (np.diff(brightness) > -2).all()


@pytest.mark.parametrize('height, width', [(47, 63), (33, 321), (90, 31)])
def test_any_size_gets_even_sides_and_room_for_words(tmp_path, height, width):
  rng = np.random.default_rng(0)
  frames = np.repeat(
    rng.integers(0, 255, (6, 1, 1, 3), np.uint8), height, 1
  ).repeat(width, 2)
  # H.264 of 4:2:0 has no odd sides; Motion PNG does.
  path = videos.write_video(tmp_path / 'v.mkv', frames, codec='ffv1')
  output = str(tmp_path / 'out.mkv')
  annotated_video.write(path, output, [(0, 0.2, 'a' * 300, 1.0)], NONE)
  shown, _ = decode.decode_all(output, output)
  assert shown.shape[1] % 2 == shown.shape[2] % 2 == 0
  assert 320 <= shown.shape[2] <= 384
  original, _ = decode.decode_all(path, path)
  times = shown.shape[2] // width if width < 320 else 1
  middle = shown[:, height * times // 2, shown.shape[2] // 2]
  wanted = original[:, height // 2, width // 2]
  np.testing.assert_allclose(middle.astype(int), wanted, atol=12)


def test_rotation_and_a_varying_rate(tmp_path):
  times = np.cumsum([0, 40, 400, 33, 33, 900, 10, 250]) / 1000
  frames = videos.numbered_frames(8, 320, 400)
  frames[:, :, :200] = 0
  shown, after, before = write(
    tmp_path,
    frames,
    [(0, 3, 'x', 0.5)],
    times=times,
    rotation=90,
  )
  np.testing.assert_allclose(after, before, atol=1e-3)
  # A quarter turn, counterclockwise: the dark left half is below.
  assert shown.shape[2] == 320
  assert shown[7, 300:380].mean() < 20 < shown[7, 20:100].mean()


def test_equal_times_become_different_ones(tmp_path):
  frames = videos.numbered_frames(5)
  path = videos.write_video(tmp_path / 'v.avi', frames, codec='mpeg4')
  output = str(tmp_path / 'out.mov')
  annotated_video.write(path, output, [(0, 1, 'x', 0.5)], NONE)
  info = decode.read_info(output, output)
  assert (np.diff(info.timestamps) > 0).all() and len(info.timestamps) == 5


def test_a_bad_video_leaves_nothing(tmp_path):
  path, output = tmp_path / 'v.mp4', tmp_path / 'out.mp4'
  path.write_text('no video')
  with pytest.raises(decode.VideoError, match='v.mp4: is not a video'):
    annotated_video.write(str(path), str(output), [(0, 1, 'x', 1)], NONE)
  assert os.listdir(tmp_path) == ['v.mp4']


def test_a_folder_that_is_not_there_is_named(tmp_path):
  path = videos.write_video(tmp_path / 'v.mp4', videos.numbered_frames(5))
  with pytest.raises(FileNotFoundError, match='out.mp4'):
    annotated_video.write(
      path, str(tmp_path / 'none' / 'out.mp4'), [(0, 1, 'x', 1)], NONE
    )


def test_files_beside_the_output_stay(tmp_path):
  path = videos.write_video(tmp_path / 'v.mp4', videos.numbered_frames(5))
  other = tmp_path / 'out.mp4.part'
  other.write_text('mine')
  output = tmp_path / 'out.mp4'
  annotated_video.write(path, str(output), [(0, 1, 'x', 1)], NONE)
  assert other.read_text() == 'mine'
  assert sorted(os.listdir(tmp_path)) == ['out.mp4', 'out.mp4.part', 'v.mp4']


@pytest.mark.parametrize(
  'text, lines',
  [
    ('juggling', ['juggling']),
    ('arm wrestling', ['arm', 'wrestling']),
    ('a b c d e f', ['a b c d e', 'f']),
    ('playing the cello', ['playing', 'the cello']),
    ('playing the violin', ['playing', 'the viol…']),
    ('x' * 30, ['x' * 9, 'x' * 8 + '…']),
    ('', ['']),
  ],
)
def test_names_are_broken_into_lines(text, lines):
  assert caption_strip.wrap(text, len, 9, 2) == lines


def test_names_fit_whatever_they_are():
  long = 'assembling a bicycle and then riding it down a hill ' * 4
  for width in (320, 1280):
    strip = caption_strip.Strip(
      [(0, 1, long, 1.0), (1, 2, '跑步', 0.5)], 2.0, width, NONE
    )
    picture = strip.at(0.5)
    assert picture.shape == (strip.height, width, 3)
    # Nothing is written over the right edge.
    paper = picture[: strip.height // 2, -3:]
    assert Image.fromarray(np.ascontiguousarray(paper)).getcolors() == [
      (paper.shape[0] * 3, (24, 24, 28))
    ]


def test_letters_that_no_font_has_are_told(monkeypatch):
  monkeypatch.setattr(caption_strip, '_fonts_of_machine', lambda: ['none.ttf'])
  strip = caption_strip.Strip([(0, 1, '跑步 ёλ', 1.0)], 1.0, 320, NONE)
  assert strip.lacking == '跑步'
