"""Reads frames of a video as a prepared dataset stores it.

Both storages say when each frame appears and what it shows. So sampling and the
input path are the same for both.

| storage | class | frames |
|---|---|---|
| video | `EncodedVideo` | all, by decoding a compressed file |
| frames | `JpegFrames` | one every 1 / fps seconds, each a picture of its own |
"""

from collections.abc import Callable, Sequence
import math

import numpy as np
import simplejpeg

from zsar_jax.data import decode

Transform = Callable[[np.ndarray], np.ndarray]

# A duration is a sum of floats. If it exceeds a whole frame by less than this
# share of one, that is rounding.
_ROUNDING = 1e-6


def num_stored_frames(seconds: float, fps: float) -> int:
  """Returns how many pictures the frames storage keeps of a video.

  Picture j shows the frame on display at j / fps seconds.

  Args:
    seconds: duration of the video.
    fps: pictures a second.

  Returns:
    At least 1.
  """
  return max(1, math.ceil(seconds * fps - _ROUNDING))


def num_records(seconds: float, fps: float, frames_per_record: int) -> int:
  """Returns how many records the frames storage needs for a video."""
  return -(-num_stored_frames(seconds, fps) // frames_per_record)


class EncodedVideo:
  """A compressed video file held in memory.

  Attributes:
    data: the file's content.
    name: what to call it in an error.
    info: times of its frames.
  """

  def __init__(self, data: bytes, name: str):
    self.data = data
    self.name = name
    self.info = decode.read_info(data, name)

  @property
  def timestamps(self) -> np.ndarray:
    """Seconds since the first frame at which each appears, float64 [n]."""
    return self.info.timestamps

  @property
  def duration(self) -> float:
    """Seconds."""
    return self.info.duration

  def decode(
    self, indices: Sequence[int], transform: Transform | None = None
  ) -> np.ndarray:
    """Decodes the frames at some indices; see `decode.decode_frames`."""
    return decode.decode_frames(
      self.data, indices, self.name, transform=transform, info=self.info
    )


class JpegFrames:
  """Pictures taken from a video at a fixed rate, in one or more records.

  Attributes:
    name: what to call the video in an error.
    duration: seconds.
  """

  def __init__(
    self,
    read_record: Callable[[int], dict],
    name: str,
    *,
    duration: float,
    fps: float,
    frames_per_record: int,
  ):
    """Stores how to read records; reads none.

    Args:
      read_record: number of a record of this video -> its `jpegs`, bytes of
        its pictures, and `spans`, int [n 2], where each begins and ends.
      name: see the class.
      duration: see the class.
      fps: pictures a second.
      frames_per_record: pictures in each record but the last.
    """
    self._read_record = read_record
    self._per_record = frames_per_record
    self._fps = fps
    self.name = name
    self.duration = duration

  @property
  def timestamps(self) -> np.ndarray:
    """Seconds since the first picture at which each appears, float64 [n]."""
    return np.arange(num_stored_frames(self.duration, self._fps)) / self._fps

  def decode(
    self, indices: Sequence[int], transform: Transform | None = None
  ) -> np.ndarray:
    """Decodes the pictures at some indices.

    Args:
      indices: [k], in any order, repeats allowed.
      transform: applied to every picture, uint8 [h w 3].

    Returns:
      uint8 RGB [k h w 3].

    Raises:
      VideoError: a picture does not decode.
      IndexError: an index has no picture.
      ValueError: there are no indices.
    """
    wanted, inverse = np.unique(np.asarray(indices, int), return_inverse=True)
    if not wanted.size:
      raise ValueError(f'{self.name}: no frame indices given')
    total = num_stored_frames(self.duration, self._fps)
    if wanted[0] < 0 or wanted[-1] >= total:
      raise IndexError(
        f'{self.name}: frame indices {wanted[0]} to {wanted[-1]} requested, '
        f'but it has {total} frames'
      )
    out, record, at = None, None, -1
    for i, index in enumerate(wanted.tolist()):
      if index // self._per_record != at:
        at = index // self._per_record
        record = self._read_record(at)
      start, end = record['spans'][index - at * self._per_record]
      try:
        picture = simplejpeg.decode_jpeg(record['jpegs'][start:end])
      except ValueError as e:
        raise decode.VideoError(
          self.name, f'stored frame {index} is damaged ({e})'
        ) from e
      if transform is not None:
        picture = transform(picture)
      if out is None:
        out = np.empty((len(wanted), *picture.shape), np.uint8)
      out[i] = picture
    # A clip is requested in order: avoid a second copy.
    return out if np.array_equal(wanted, indices) else out[inverse]
