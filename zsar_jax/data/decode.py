"""Decodes exact frames of video files and bytes.

Index i means the i-th frame in display order. A request decodes as little as
it can. It starts at the keyframe at or before its first frame. After that it
seeks only over whole groups of pictures, because a seek costs more than the
few frames that it skips. In H.264 it skips frames that nobody asked for and
no other frame refers to.

Frames are found by their presentation times. Some files have no times that
can be trusted (AVI with B-frames, raw streams, equal or missing times). Those
are decoded from the start, and their frames counted. If the decoder drops a
frame, the frame before it takes its place. So the result never depends on
where decoding began.

Frames come upright (the rotation tag is obeyed) and in RGB. They are equal to
the bit to the output of `ffmpeg -sws_flags neighbor -pix_fmt rgb24`. Pixels
count as square: a sample aspect ratio is not applied.

All functions may run in many threads at once. They keep no state. Each decodes
with a single thread, because the loader already fills the cores.

```python
info = read_info(video, 'walk.mp4')
middle = np.searchsorted(info.timestamps, info.duration / 2) - 1
frame = decode_frames(video, [middle], 'walk.mp4', info=info)[0]
```
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from typing import Any

import av
import numpy as np

from zsar_jax.data.upright import size_change, upright_rgb
from zsar_jax.data.video_check import check_video
from zsar_jax.data.video_file import (
  VideoInfo,
  decode_on,
  open_video,
  read_comment,
  read_info,
  too_many_missing,
)
from zsar_jax.data.video_limits import (
  DEFAULT_LIMITS,
  Guard,
  Limits,
  VideoError,
)

__all__ = [
  'Limits',
  'VideoError',
  'VideoInfo',
  'check_and_decode',
  'check_video',
  'decode_all',
  'decode_frames',
  'read_comment',
  'read_info',
]


class _OutOfStep(Exception):
  """The decoder's frames do not match the timestamps."""


def decode_frames(
  video: bytes | str,
  indices: Sequence[int] | np.ndarray,
  name: str,
  *,
  transform: Callable[[np.ndarray], np.ndarray] | None = None,
  info: VideoInfo | None = None,
  limits: Limits = DEFAULT_LIMITS,
) -> np.ndarray:
  """Decodes the frames at some display-order indices.

  Args:
    video: the file's content, or its path.
    indices: [k] frame indices in [0, n), in any order, repeats allowed.
    name: what to call the video in an error.
    transform: applied to each frame, uint8 [h w 3], as it is decoded (such as
      a resize), so that memory stays small; None for nothing. Called once per
      distinct frame, in display order. If decoding must begin again, so do the
      calls.
    info: the result of `read_info` for this video, if already at hand.
    limits: bounds on the video.

  Returns:
    uint8 RGB [k, h, w, 3].

  Raises:
    VideoError: a frame cannot be decoded, the frame size changes, or the
      video is outside the limits.
    IndexError: an index is outside [0, n).
    ValueError: `indices` is empty.
  """
  indices = np.asarray(indices, np.int64)
  if not indices.size:
    raise ValueError(f'{name}: no frame indices given')
  guard = Guard(name, limits)
  if info is None:
    info = read_info(video, name, limits=limits)
  num_frames = len(info.timestamps)
  if indices.min() < 0 or indices.max() >= num_frames:
    raise IndexError(
      f'{name}: frame indices {indices.min()} to {indices.max()} requested, '
      f'but it has {num_frames} frames'
    )
  # A seek can land where the decoder fails (missing references, a wrong index).
  # In a damaged file a frame that was left out may have been needed. So try
  # again with all frames, and last from the start. That shows whether the file
  # is bad or only the shortcut.
  for leave_out in (True, False) if info.pts is not None else ():
    with (
      open_video(video, guard) as opened,
      contextlib.suppress(_OutOfStep, av.FFmpegError),
    ):
      return _gather(*opened, indices, info, guard, transform, leave_out)
  counted = dataclasses.replace(info, pts=None, keyframes=np.zeros(1, int))
  with open_video(video, guard) as opened:
    return _gather(*opened, indices, counted, guard, transform, False)


def decode_all(
  video: bytes | str,
  name: str,
  *,
  transform: Callable[[np.ndarray], np.ndarray] | None = None,
  limits: Limits = DEFAULT_LIMITS,
) -> tuple[np.ndarray, VideoInfo]:
  """Decodes a whole short video, to be kept in memory.

  `decode_all(v, n, transform=f)[0][i]` and
  `decode_frames(v, i, n, transform=f)` are the same to the bit.

  Args:
    video: the file's content, or its path.
    name: what to call the video in an error.
    transform: see `decode_frames`.
    limits: bounds on the video.

  Returns:
    Frames, uint8 RGB [n, h, w, 3], and the result of `read_info`.

  Raises:
    VideoError: the video cannot be used; see `decode_frames`.
  """
  info = read_info(video, name, limits=limits)
  indices = np.arange(len(info.timestamps))
  frames = decode_frames(
    video, indices, name, transform=transform, info=info, limits=limits
  )
  return frames, info


def check_and_decode(
  path: str, name: str, num_frames: int
) -> tuple[dict[str, Any], list[np.ndarray]]:
  """Checks a file and decodes evenly spread frames; a task for `isolated`.

  Args:
    path: of the file.
    name: what to call the video in an error.
    num_frames: how many frames, from the first to the last.

  Returns:
    Facts: the `shape` [num_frames h w 3] and the video's `seconds`; and the
    frames, uint8 RGB.

  Raises:
    VideoError: see `check_video`.
  """
  info = check_video(path, name)
  indices = np.linspace(0, len(info.timestamps) - 1, num_frames).astype(int)
  frames = decode_frames(path, indices, name, info=info)
  return {'shape': frames.shape, 'seconds': info.duration}, [frames]


def _gather(
  container,
  stream,
  indices: np.ndarray,
  info: VideoInfo,
  guard: Guard,
  transform: Callable[[np.ndarray], np.ndarray] | None,
  leave_out: bool,
) -> np.ndarray:
  """Decodes and stacks the frames at `indices`; see `decode_frames`."""
  wanted, inverse = np.unique(indices, return_inverse=True)
  # One converter for all frames: setting it up costs as much as a frame.
  converter = av.video.reformatter.VideoReformatter()
  out = None
  frames = _shown(container, stream, wanted, info, guard, leave_out)
  for i, frame in enumerate(frames):
    guard.check_size(frame.height, frame.width)
    rgb = upright_rgb(frame, converter)
    if transform is not None:
      rgb = transform(rgb)
    if out is None:
      guard.check_bytes(len(wanted) * rgb.size)
      out = np.empty((len(wanted), *rgb.shape), np.uint8)
    if rgb.shape != out.shape[1:]:
      raise VideoError(guard.name, size_change(out.shape[1:3], rgb.shape[:2]))
    out[i] = rgb
  # A whole video is requested in order: avoid a second copy.
  if np.array_equal(wanted, indices):
    return out
  guard.check_bytes(len(indices) * out[0].size)
  return out[inverse]


def _shown(
  container,
  stream,
  wanted: np.ndarray,
  info: VideoInfo,
  guard: Guard,
  leave_out: bool,
) -> Iterator[av.VideoFrame]:
  """Yields the frame on display at each of the sorted indices `wanted`.

  Args:
    container: just opened.
    stream: its video stream.
    wanted: indices.
    info: of the video.
    guard: of the call.
    leave_out: skip frames that are neither wanted nor a reference.

  Yields:
    Frames.

  Raises:
    VideoError: a frame and too many of its neighbours do not decode.
    _OutOfStep: the decoder's frames do not match the timestamps.
  """
  num_frames = len(info.timestamps)
  # Only H.264 packets say for certain that no frame refers to them.
  leave_out &= stream.codec_context.name == 'h264' and len(wanted) < num_frames
  kept = None
  if leave_out:
    kept = set(info.pts[np.union1d(wanted, info.keyframes)].tolist())
  decoder, position = None, -1
  for target in wanted.tolist():
    group = np.searchsorted(info.keyframes, target, 'right') - 1
    key = int(info.keyframes[group])
    if decoder is None or key > position + 1:
      if key > 0:
        container.seek(int(info.pts[key]), stream=stream)
      frames = decode_on(container, stream, guard, kept)
      decoder = _numbered(frames, info.pts, key)
      # `ahead`: (index, frame) that is decoded but not yet due.
      position, shown, ahead = -1, None, None
    while position < target:
      ahead = ahead or next(decoder, (num_frames, None))
      if ahead[0] > target:
        break  # The decoder dropped `target`.
      (position, shown), ahead = ahead, None
    if leave_out and position != target:
      raise _OutOfStep
    if shown is None and ahead[1] is not None:
      frame, missing = ahead[1], ahead[0] - target
    else:
      frame, missing = shown, target - position
    if frame is None or too_many_missing(missing, num_frames, info):
      raise VideoError(
        guard.name,
        f'is cut off or damaged: frame {target} of {num_frames} and '
        f'{missing - 1} before or after it do not decode',
      )
    yield frame


def _numbered(
  frames: Iterator[av.VideoFrame], pts: np.ndarray | None, key: int
) -> Iterator[tuple[int, av.VideoFrame]]:
  """Yields (index, frame) from the keyframe `key` on.

  Args:
    frames: decoded from `key` or somewhere before it.
    pts: the sorted times of all frames; None counts frames from 0.
    key: index of the first frame to yield, 0 for the start of the file.

  Yields:
    Frames in display order with rising indices.

  Raises:
    _OutOfStep: the time of a frame is missing, unknown or falls, or decoding
      did not begin with `key`.
  """
  if pts is None:
    yield from enumerate(frames)
    return
  previous, started = -1, key == 0
  for frame in frames:
    index = -1 if frame.pts is None else int(np.searchsorted(pts, frame.pts))
    if not previous < index < len(pts) or pts[index] != frame.pts:
      raise _OutOfStep
    previous = index
    if index < key:
      # Either the seek landed early, or these are the leading frames of an
      # open group, which need the group before and decode wrongly here.
      continue
    if not started and index != key:
      raise _OutOfStep
    started = True
    yield index, frame
  if not started:
    raise _OutOfStep
