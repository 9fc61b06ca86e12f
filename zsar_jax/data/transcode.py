"""Converts a video file to the form in which a prepared dataset stores it.

| storage | is | takes |
|---|---|---|
| video | the file as it is | the least time to prepare |
| video, re-encoded | H.264, small, with many keyframes | the least disk |
| frames | JPEG pictures at a fixed rate | the least time to read |

`store_video` does the work. It reads untrusted files, so it runs in a child
process (see `isolated`). That is why its arguments and facts are JSON.
"""

import dataclasses
import fractions
import hashlib
import io
import json
from typing import Any

import av
import numpy as np
import simplejpeg

from zsar_jax.data import decode, stored_videos, video_transforms

KINDS = ('video', 'frames')
# Ticks a second of a re-encoded video: fine enough for any frame rate.
_CLOCK = 90_000
# As in `clips`: the time "when frame 3 begins" may be too early by a rounding
# error.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Storage:
  """How videos are stored. A kind ignores the settings that it does not use.

  Attributes:
    kind: 'video' or 'frames'.
    reencode: kind 'video': encode anew. False keeps the bytes as they are,
      unless only a stretch of the file is stored.
    short_side: largest short side in pixels; larger frames are reduced to it.
    keyframe_interval: re-encoded: most frames from one keyframe to the next.
    crf: re-encoded: constant rate factor of x264, 0 (best) to 51.
    fps: kind 'frames': pictures a second.
    quality: kind 'frames': of the JPEGs, 1 to 100.
    frames_per_record: kind 'frames': longer videos take several records.
  """

  kind: str = 'video'
  reencode: bool = False
  short_side: int = 256
  keyframe_interval: int = 12
  crf: int = 20
  fps: float = 10.0
  quality: int = 85
  frames_per_record: int = 100

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ValueError(f'storage {self.kind!r} is not one of {KINDS}')
    bounds = {
      'short_side': (16, 4096),
      'keyframe_interval': (1, 1000),
      'crf': (0, 51),
      'fps': (0.1, 240),
      'quality': (1, 100),
      'frames_per_record': (1, 100_000),
    }
    for field, (low, high) in bounds.items():
      value = getattr(self, field)
      if not low <= value <= high:
        raise ValueError(f'storage {field}={value} is not in [{low}, {high}]')

  def to_dict(self) -> dict[str, Any]:
    """Returns the settings that this kind uses, as JSON values."""
    if self.kind == 'frames':
      used = ('fps', 'quality', 'short_side', 'frames_per_record')
    else:
      used = ('reencode', 'crf', 'short_side', 'keyframe_interval')
    return {'kind': self.kind, **{k: getattr(self, k) for k in used}}

  @property
  def hash(self) -> str:
    """8 hex digits of the settings that this kind uses."""
    text = json.dumps(self.to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]

  def keeps_bytes(self, is_whole_file: bool) -> bool:
    """Returns whether the video's own bytes are stored."""
    return self.kind == 'video' and not self.reencode and is_whole_file


def store_video(
  path: str,
  name: str,
  start: float,
  end: float | None,
  storage: dict[str, Any],
) -> tuple[dict[str, Any], list[Any]]:
  """Checks a video and makes its stored form.

  Args:
    path: of the file.
    name: what to call the video in an error.
    start: seconds at which the stretch begins.
    end: seconds at which it ends; None for the end of the file.
    storage: `Storage.to_dict()`.

  Returns:
    Facts: `num_frames` of the stretch and its `seconds`. And the content: []
    if the bytes are kept, [mp4] for a re-encoded video, [jpegs, spans int64
    [n 2]] for frames.

  Raises:
    VideoError: the file cannot be used, or the stretch has under two frames.
  """
  storage = Storage(**storage)
  info = decode.check_video(path, name)
  stop = info.duration if end is None else min(end, info.duration)
  first, last = np.searchsorted(
    info.timestamps, np.array([start, stop]) - _ROUNDING
  )
  facts = {'num_frames': int(last - first), 'seconds': float(stop - start)}
  if facts['num_frames'] < 2:
    raise decode.VideoError(
      name,
      f'has {facts["num_frames"]} frames from {start:g} to {stop:g} s; an '
      'action needs at least 2 to show motion',
    )
  if storage.keeps_bytes(start == 0 and end is None):
    return facts, []
  if storage.kind == 'video':
    return facts, [_encode_mp4(path, name, info, first, last, storage)]
  count = stored_videos.num_stored_frames(facts['seconds'], storage.fps)
  instants = start + np.arange(count) / storage.fps
  shown = np.searchsorted(info.timestamps, instants + _ROUNDING, 'right') - 1
  # The frame before the stretch may still be on display when it begins.
  return facts, _encode_jpegs(path, name, info, np.maximum(shown, 0), storage)


def _reduce(rgb: np.ndarray, short_side: int) -> np.ndarray:
  """Resizes a frame that is larger; a smaller one is kept."""
  if min(rgb.shape[:2]) <= short_side:
    return rgb
  return video_transforms.resize_short_side(rgb, short_side)


class _Restarted(Exception):
  """The decoder has started again and repeats frames."""


def _encode(path, name, info, indices, open_encoder):
  """Feeds each frame at the sorted, distinct `indices` to an encoder once.

  No frame is kept in memory. If the times of a video turn out to be wrong half
  way, `decode` starts again and counts frames. Then the encoder starts again
  too.

  Args:
    path: of the file.
    name: what to call the video in an error.
    info: of the video.
    indices: [k].
    open_encoder: makes two functions. The first takes a frame. The second
      returns the encoded result.

  Returns:
    The encoded result.

  Raises:
    VideoError: the video does not decode, or its frames cannot be encoded.
  """
  counted = dataclasses.replace(info, pts=None, keyframes=np.zeros(1, int))
  try:
    return _encode_once(path, name, info, indices, open_encoder)
  except _Restarted:
    return _encode_once(path, name, counted, indices, open_encoder)


def _encode_once(path, name, info, indices, open_encoder):
  nothing = np.zeros((1, 1, 3), np.uint8)
  visited = 0
  put, finish = open_encoder()

  def transform(rgb):
    nonlocal visited
    visited += 1
    if visited > len(indices):
      raise _Restarted
    try:
      put(rgb)
    except av.FFmpegError as e:
      # `decode` would mistake the original error for its own.
      raise decode.VideoError(name, _not_encoded(rgb, e)) from e
    return nothing

  decode.decode_frames(path, indices, name, transform=transform, info=info)
  return finish()


def _not_encoded(rgb: np.ndarray, error: Exception) -> str:
  height, width = rgb.shape[:2]
  return f'cannot be encoded anew at {width}x{height} ({error})'


def _encode_jpegs(path, name, info, shown, storage) -> list[Any]:
  """Encodes pictures of the frames `shown` [n], each frame once."""

  def open_encoder():
    pictures = []

    def put(rgb):
      small = np.ascontiguousarray(_reduce(rgb, storage.short_side))
      pictures.append(simplejpeg.encode_jpeg(small, storage.quality))

    return put, lambda: pictures

  unique, inverse = np.unique(shown, return_inverse=True)
  pictures = _encode(path, name, info, unique, open_encoder)
  ends = np.cumsum([len(p) for p in pictures])
  starts = ends - [len(p) for p in pictures]
  spans = np.stack([starts, ends], axis=1)[inverse].astype(np.int64)
  return [b''.join(pictures), spans]


def _encode_mp4(path, name, info, first, last, storage) -> bytes:
  """Encodes the frames [first, last) as H.264, at their own times, no audio."""
  clock = fractions.Fraction(1, _CLOCK)
  times = info.timestamps[first:last] - info.timestamps[first]
  steps = np.arange(last - first)
  # A file may show frames at equal times; a container must not.
  ticks = np.round(times * _CLOCK).astype(int) - steps
  ticks = np.maximum.accumulate(ticks) + steps

  def open_encoder():
    out = io.BytesIO()
    mp4 = av.open(out, 'w', format='mp4')
    left = iter(ticks.tolist())
    stream = None

    def put(rgb):
      nonlocal stream
      rgb = _reduce(rgb, storage.short_side)
      # 4:2:0 needs even sides.
      height, width = (side // 2 * 2 for side in rgb.shape[:2])
      if not height or not width:
        raise decode.VideoError(name, _not_encoded(rgb, 'too small'))
      rgb = np.ascontiguousarray(rgb[:height, :width])
      if stream is None:
        rate = len(times) / max(times[-1], 1 / _CLOCK)
        stream = _add_stream(mp4, rate, rgb.shape, clock, storage)
      frame = av.VideoFrame.from_ndarray(rgb, format='rgb24')
      frame.pts, frame.time_base = next(left), clock
      mp4.mux(stream.encode(frame))

    def finish():
      with mp4:
        mp4.mux(stream.encode())
      return out.getvalue()

    return put, finish

  return _encode(path, name, info, np.arange(first, last), open_encoder)


def _add_stream(mp4, rate, shape, clock, storage):
  rate = fractions.Fraction(max(round(rate * 1000), 1), 1000)
  stream = mp4.add_stream('libx264', rate=rate)
  stream.height, stream.width = shape[:2]
  stream.pix_fmt = 'yuv420p'
  context = stream.codec_context
  context.time_base = clock
  context.gop_size = storage.keyframe_interval
  # One thread: there is a video under way for each core already.
  context.thread_count = 1
  context.options = {'crf': str(storage.crf), 'preset': 'veryfast'}
  return stream
