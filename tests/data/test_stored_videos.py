import numpy as np
import pytest
import simplejpeg

from tests import videos
from zsar_jax.data import decode, stored_videos

FPS, PER_RECORD, NUM_FRAMES = 10.0, 4, 10


@pytest.fixture(scope='module')
def frames():
  return videos.numbered_frames(NUM_FRAMES, 16, 24)


@pytest.fixture
def records(frames):
  """The records of a video of 10 pictures; the first two share a span."""
  made = []
  for first in range(0, NUM_FRAMES, PER_RECORD):
    part = [simplejpeg.encode_jpeg(f) for f in frames[first:][:PER_RECORD]]
    ends = np.cumsum([len(p) for p in part])
    spans = np.stack([np.r_[0, ends[:-1]], ends], axis=1)
    made.append({'jpegs': b''.join(part), 'spans': spans})
  made[0]['spans'][1] = made[0]['spans'][0]
  return made


@pytest.fixture
def video(records):
  def read(record):
    video.reads.append(record)
    return records[record]

  video = stored_videos.JpegFrames(
    read,
    'v',
    duration=NUM_FRAMES / FPS,
    fps=FPS,
    frames_per_record=PER_RECORD,
  )
  video.reads = []
  return video


@pytest.mark.parametrize(
  'seconds, fps, count',
  [
    (1.0, 10.0, 10),
    (0.3, 10.0, 3),  # 3.0000000000000004 in floats.
    (1.01, 10.0, 11),
    (0.01, 10.0, 1),
    (0.0, 10.0, 1),
    (10.0, 2.5, 25),
  ],
)
def test_number_of_pictures(seconds, fps, count):
  assert stored_videos.num_stored_frames(seconds, fps) == count


def test_number_of_records():
  assert stored_videos.num_records(10.0, 10.0, 100) == 1
  assert stored_videos.num_records(10.01, 10.0, 100) == 2
  assert stored_videos.num_records(0.0, 10.0, 100) == 1


def test_pictures_come_at_a_fixed_rate(video):
  np.testing.assert_allclose(video.timestamps, np.arange(NUM_FRAMES) / FPS)
  assert video.duration == 1.0


def test_pictures_come_in_the_order_asked_for(video, frames):
  shown = video.decode([9, 0, 1, 4, 4])
  assert shown.shape == (5, *frames.shape[1:])
  assert videos.frame_numbers(shown) == [9, 0, 0, 4, 4]
  # Each record is read once, and no other.
  assert video.reads == [0, 1, 2]
  assert videos.frame_numbers(video.decode([5, 6])) == [5, 6]
  assert video.reads == [0, 1, 2, 1]


def test_transform_is_applied_to_each(video):
  small = video.decode([2, 7], lambda rgb: rgb[:8, :8])
  assert small.shape == (2, 8, 8, 3)
  assert videos.frame_numbers(small) == [2, 7]


@pytest.mark.parametrize('bad', [[-1], [0, 10]])
def test_pictures_that_are_not_there_raise(video, bad):
  with pytest.raises(IndexError, match='v: .*10 frames'):
    video.decode(bad)


def test_no_indices_raise(video):
  with pytest.raises(ValueError, match='v: no frame indices'):
    video.decode([])


def test_damaged_picture_raises_and_is_named(video, records):
  record = records[1]
  start, end = record['spans'][2]
  record['jpegs'] = (
    record['jpegs'][:start] + bytes(end - start) + record['jpegs'][end:]
  )
  assert len(video.decode([5, 7])) == 2
  with pytest.raises(decode.VideoError, match='v: stored frame 6 is damaged'):
    video.decode([6])


def test_encoded_video_is_the_file(tmp_path, frames):
  path = videos.write_video(tmp_path / 'v.mp4', frames, fps=5)
  with open(path, 'rb') as f:
    video = stored_videos.EncodedVideo(f.read(), 'v')
  assert video.duration == pytest.approx(2.0)
  np.testing.assert_allclose(video.timestamps, np.arange(10) / 5)
  assert videos.frame_numbers(video.decode([3, 1])) == [3, 1]
  assert video.decode([3], lambda rgb: rgb[:8]).shape == (1, 8, 24, 3)


def test_bytes_that_are_no_video_raise():
  with pytest.raises(decode.VideoError, match='v: is not a video'):
    stored_videos.EncodedVideo(b'nothing', 'v')
