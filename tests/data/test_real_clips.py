"""Real videos: every frame there, upright, and the same as FFmpeg's own."""

import csv

import numpy as np
import pytest

from tests import processes
from zsar_jax.data import decode, video_transforms


@pytest.fixture(scope='module')
def clips(test_data):
  if not (test_data / 'clips' / 'index.csv').exists():
    pytest.skip(f'{test_data} has no clips/index.csv')
  return test_data / 'clips'


@pytest.fixture(scope='module')
def rows(clips):
  """(row of the index, path) of the videos that can be used."""
  with open(clips / 'index.csv', newline='') as f:
    found = [(row, str(clips / row['file'])) for row in csv.DictReader(f)]
  good = [f for f in found if f[0]['decode'] == 'ok']
  assert len(good) == len(found) - 1 > 10
  return good


def small(frame):
  return video_transforms.resize_short_side(frame, 64)


def test_counts_and_rotations(rows):
  for row, path in rows:
    name = row['file']
    info = decode.check_video(path, name)
    assert len(info.timestamps) == int(row['frames']), name
    whole, _ = decode.decode_all(path, name, transform=small)
    assert len(whole) == int(row['frames']), name
    upright = row['rotation'] in ('', '0')
    wide = int(row['w']) >= int(row['h'])
    assert (whole.shape[2] >= whole.shape[1]) == (wide == upright), name


def test_some_frames_are_those_of_the_whole(rows):
  rng = np.random.default_rng(0)
  for row, path in rows:
    whole, info = decode.decode_all(path, row['file'], transform=small)
    for size in (1, 3, 16):
      indices = rng.integers(len(whole), size=size)
      frames = decode.decode_frames(
        path, indices, row['file'], transform=small, info=info
      )
      np.testing.assert_array_equal(frames, whole[indices], row['file'])


def ffmpeg_frames(program, path, shape):
  """All frames as FFmpeg's own program writes them."""
  command = f'-v error -threads 1 -i {path} -map 0:v:0 -fps_mode passthrough'
  command += ' -sws_flags neighbor -f rawvideo -pix_fmt rgb24 -'
  done = processes.run([program, *command.split()], text=False)
  assert done.returncode == 0, done.stderr
  return np.frombuffer(done.stdout, np.uint8).reshape(-1, *shape)


def test_frames_equal_those_of_ffmpeg(rows):
  imageio_ffmpeg = pytest.importorskip('imageio_ffmpeg')
  program = imageio_ffmpeg.get_ffmpeg_exe()
  for row, path in rows:
    ours, _ = decode.decode_all(path, row['file'])
    theirs = ffmpeg_frames(program, path, ours.shape[1:])
    assert len(ours) == len(theirs), row['file']
    assert np.array_equal(ours, theirs), row['file']


@pytest.mark.parametrize(
  'name, words',
  [
    ('decord_corrupted.mp4', 'is damaged: decoding stops after 28 frames'),
    ('derived/empty.mp4', 'empty'),
    ('derived/k400_abseiling_truncated250k.mp4', 'cut off'),
    ('derived/kth_single_frame.mp4', '1 frame'),
  ],
)
def test_bad_clips_are_refused(clips, name, words):
  with pytest.raises(decode.VideoError, match=words):
    decode.check_video(str(clips / name), name)


@pytest.mark.parametrize(
  'name', ['k400_abseiling_vfr.mp4', 'ucf_basketball_vp9.webm']
)
def test_derived_clips_pass(clips, name):
  path = str(clips / 'derived' / name)
  info = decode.check_video(path, name)
  whole, _ = decode.decode_all(path, name, transform=small)
  assert len(whole) == len(info.timestamps) > 2
  some = decode.decode_frames(path, [7, 20], name, transform=small)
  np.testing.assert_array_equal(some, whole[[7, 20]])
