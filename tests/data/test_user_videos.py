import numpy as np
import pytest

from tests import videos
from zsar_jax.data import decode, preprocessing, user_videos

PREP = preprocessing.Preprocessing(
  size=32,
  short_side=32,
  mean=(0.5, 0.5, 0.5),
  std=(0.25, 0.25, 0.25),
  num_frames=3,
  sampling='dense',
  frame_stride=1,
  sample_fps=10.0,
  inputs='rgb',
  token_length=16,
  vocabulary_hash='',
)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  frames = videos.numbered_frames(9, 32, 64)
  frames[:, :, 32:] = 255 - frames[:, :, 32:]  # The right half differs.
  return videos.write_video(
    tmp_path_factory.mktemp('v') / 'v.mp4', frames, fps=10
  )


def test_views_are_clips_by_crops(path):
  views = user_videos.read_views(path, PREP, num_views=3, num_crops=2)
  assert views.clips.shape == (6, 3, 32, 32, 3)
  assert views.warnings == () and views.comment == ''
  left, right = views.clips[::2], views.clips[1::2]
  assert [videos.frame_numbers(clip) for clip in left] == [
    [0, 1, 2],
    [3, 4, 5],
    [6, 7, 8],
  ]
  np.testing.assert_allclose(views.times, np.arange(9).reshape(3, 3) / 10)
  np.testing.assert_allclose(
    left.mean(axis=(2, 3, 4)) + right.mean(axis=(2, 3, 4)), 255, atol=4
  )


def test_one_view_is_the_middle(path):
  views = user_videos.read_views(path, PREP)
  assert views.clips.shape == (1, 3, 32, 32, 3)


def test_short_video_is_warned_of(tmp_path):
  short = videos.write_video(tmp_path / 's.mp4', videos.numbered_frames(2))
  (warning,) = user_videos.read_views(short, PREP).warnings
  assert 'has 2 frames, fewer than the 3 of a clip' in warning


def test_unusable_video_raises_and_is_named(tmp_path):
  with pytest.raises(decode.VideoError, match='nowhere.mp4: does not exist'):
    user_videos.read_views(str(tmp_path / 'nowhere.mp4'), PREP)
