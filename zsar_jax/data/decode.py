"""Exact frames out of video files and bytes.

Index i means the i-th frame in display order. A request decodes as little as
it can: from the keyframe at or before its first frame, and after that it
seeks only over whole groups of pictures, because a seek costs more than the
few frames that it skips.

Frames are found by their presentation times. Some files have none that can
be trusted (AVI with B-frames, raw streams, equal or missing times): those
are decoded from the start and their frames counted. A frame that the decoder
drops shows the one before it, so that the answer never depends on where
decoding began.

Frames come upright (the rotation tag is obeyed) and in RGB. Pixels are taken
as square: a sample aspect ratio is not applied.

All functions may run in many threads at once: they keep no state, and each
decodes with a single thread, since the loader already fills the cores.

```python
info = read_info(video, 'walk.mp4')
middle = np.searchsorted(info.timestamps, info.duration / 2) - 1
frame = decode_frames(video, [middle], 'walk.mp4', info=info)[0]
```
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import io
import os

import av
import numpy as np

# A video may lack this much of what it promises and still be used.
_MISSING_SHARE = 0.1
_MISSING_SECONDS = 1.0


class VideoError(ValueError):
  """A video that cannot be used; the message names it and says why.

  Attributes:
    name: the video.
    reason: why it cannot be used, to be read after the name.
    transient: another try might end otherwise: it ran into a deadline, or
      the process that decoded it died.
  """

  def __init__(self, name: str, reason: str, transient: bool = False):
    # All go to the base class, so that the error survives pickling.
    super().__init__(name, reason, transient)
    self.name = name
    self.reason = reason
    self.transient = transient

  def __str__(self):
    return f'{self.name}: {self.reason}'


class _OutOfStep(Exception):
  """The decoder's frames are not those the timestamps promise."""


@dataclasses.dataclass(frozen=True, eq=False)
class VideoInfo:
  """What a video's packets say without being decoded.

  Attributes:
    timestamps: float64 [n], when each frame appears, in seconds since the
      first one, sorted.
    duration: seconds; the last frame lasts the median gap between frames.
    keyframes: int64, sorted, the frames that decoding can begin at; the
      first is always 0.
    pts: int64 [n], the timestamps in the file's own clock, sorted; None
      where they cannot be trusted and frames have to be counted.
  """

  timestamps: np.ndarray
  duration: float
  keyframes: np.ndarray
  pts: np.ndarray | None


def read_info(video: bytes | str, name: str) -> VideoInfo:
  """Reads the times of all frames without decoding any.

  Args:
    video: the file's content, or its path.
    name: what to call the video in an error.

  Returns:
    The video's frame times and keyframes; at least one frame.

  Raises:
    VideoError: missing, empty, not a video, damaged, or without frames.
  """
  with _open(video, name) as (container, stream):
    return _read_info(container, stream, name)[0]


def read_comment(video: bytes | str, name: str) -> str:
  """The comment that a video's container carries, '' if none.

  Args:
    video: the file's content, or its path.
    name: what to call the video in an error.

  Raises:
    VideoError: missing, empty, or not a video.
  """
  with _open(video, name) as (container, _):
    return container.metadata.get('comment', '')


def decode_frames(
  video: bytes | str,
  indices: Sequence[int] | np.ndarray,
  name: str,
  *,
  transform: Callable[[np.ndarray], np.ndarray] | None = None,
  info: VideoInfo | None = None,
) -> np.ndarray:
  """Decodes the frames at some display-order indices.

  Args:
    video: the file's content, or its path.
    indices: [k] frame indices in [0, n), in any order, repeats allowed.
    name: what to call the video in an error.
    transform: if given, applied to each frame, uint8 [h w 3], as it is
      decoded (such as a resize), so that memory stays small.
    info: the result of `read_info` for this video, if already at hand.

  Returns:
    uint8 RGB [k, h, w, 3].

  Raises:
    VideoError: a frame cannot be decoded, or the frame size changes.
    IndexError: an index is outside [0, n).
    ValueError: `indices` is empty.
  """
  indices = np.asarray(indices, np.int64)
  if not indices.size:
    raise ValueError(f'{name}: no frame indices given')
  if info is None:
    info = read_info(video, name)
  num_frames = len(info.timestamps)
  if indices.min() < 0 or indices.max() >= num_frames:
    raise IndexError(
      f'{name}: frame indices {indices.min()} to {indices.max()} asked for, '
      f'but it has {num_frames} frames'
    )
  if info.pts is not None:
    # A seek can land where the decoder is lost (missing references, an index
    # that lies): decoding from the start settles whether the file is bad or
    # only the shortcut.
    with (
      _open(video, name) as (container, stream),
      contextlib.suppress(_OutOfStep, av.FFmpegError),
    ):
      return _gather(container, stream, indices, info, name, transform)
  counted = dataclasses.replace(info, pts=None, keyframes=np.zeros(1, int))
  with _open(video, name) as (container, stream):
    return _gather(container, stream, indices, counted, name, transform)


def decode_all(
  video: bytes | str,
  name: str,
  *,
  transform: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, VideoInfo]:
  """Decodes a whole short video, to be kept in memory.

  `decode_all(v, n, transform=f)[0][i]` and
  `decode_frames(v, i, n, transform=f)` are the same to the bit.

  Args:
    video: the file's content, or its path.
    name: what to call the video in an error.
    transform: see `decode_frames`.

  Returns:
    Frames, uint8 RGB [n, h, w, 3], and what `read_info` says of the video.

  Raises:
    VideoError: the video cannot be used; see `decode_frames`.
  """
  info = read_info(video, name)
  indices = np.arange(len(info.timestamps))
  frames = decode_frames(video, indices, name, transform=transform, info=info)
  return frames, info


def check_video(video: bytes | str, name: str) -> VideoInfo:
  """Decodes a whole video to learn whether it can be used.

  Args:
    video: the file's content, or its path.
    name: what to call the video in an error.

  Returns:
    The video's frame times and keyframes.

  Raises:
    VideoError: the video is missing, empty, not a video, has a single frame,
      changes its frame size, does not decode without an error, or lacks more
      than a tenth or more than one second of the frames it declares.
  """
  with _open(video, name) as (container, stream):
    info, num_discarded = _read_info(container, stream, name)
    declared = _declared_frames(container, stream, info, num_discarded)
  with _open(video, name) as (container, stream):
    decoded = 0
    first_size = None
    try:
      for frame in container.decode(stream):
        size = _displayed_size(frame)
        first_size = first_size or size
        if size != first_size:
          raise VideoError(name, _size_change(first_size, size))
        decoded += not frame.is_corrupt
    except av.FFmpegError as e:
      reason = f'is damaged: decoding stops after {decoded} frames ({_why(e)})'
      raise VideoError(name, reason) from e
  missing = declared - decoded
  if _too_many_missing(missing, declared, info):
    raise VideoError(
      name, f'is cut off or damaged: {decoded} of {declared} frames decode'
    )
  if decoded < 2:
    raise VideoError(
      name, f'has {decoded} frame; an action needs at least 2 to show motion'
    )
  return info


@contextlib.contextmanager
def _open(
  video: bytes | str, name: str
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
  """Opens a video's first video stream; FFmpeg's errors become VideoError."""
  if isinstance(video, str):
    if not os.path.exists(video):
      raise VideoError(name, 'does not exist')
    if not os.path.isfile(video):
      raise VideoError(name, 'is not a file')
    empty = os.path.getsize(video) == 0
    # FFmpeg would take 'a:b.mp4' for a protocol; an absolute path is a path.
    source = os.path.abspath(video)
  else:
    empty = len(video) == 0
    source = io.BytesIO(video)
  if empty:
    raise VideoError(name, 'is empty (0 bytes)')
  try:
    # Tags in another encoding than UTF-8 would raise by default.
    container = av.open(source, metadata_errors='replace')
  except PermissionError as e:
    raise VideoError(name, 'may not be read (permission denied)') from e
  except av.FFmpegError as e:
    reason = f'is not a video, or it is cut off or damaged ({_why(e)})'
    raise VideoError(name, reason) from e
  with container:
    stream = _first_video_stream(container)
    if stream is None:
      raise VideoError(name, 'has no video stream')
    if stream.codec_context is None:
      raise VideoError(name, 'no decoder for its video codec')
    stream.thread_type = 'NONE'
    stream.codec_context.thread_count = 1
    try:
      yield container, stream
    except av.FFmpegError as e:
      raise VideoError(name, f'is damaged ({_why(e)})') from e


def _first_video_stream(
  container: av.container.InputContainer,
) -> av.VideoStream | None:
  """The first video stream that is not a cover picture."""
  cover = av.stream.Disposition.attached_pic
  for stream in container.streams.video:
    if not stream.disposition & cover:
      return stream
  return None


def _read_info(container, stream, name: str) -> tuple[VideoInfo, int]:
  """`read_info` on an open container, which is left at its end.

  Args:
    container: just opened.
    stream: its video stream.
    name: what to call the video in an error.

  Returns:
    The frames' times, and how many further frames are never shown: those
    outside the edit list of a clip that was cut without encoding it anew.

  Raises:
    VideoError: there is no frame.
  """
  packets = [
    (p.pts, p.dts, p.is_keyframe, p.duration, p.is_discard)
    for p in container.demux(stream)
    if p.size  # The last one is empty: it flushes the decoder.
  ]
  num_packets = len(packets)
  packets = [p[:-1] for p in packets if not p[-1]]
  num_discarded = num_packets - len(packets)
  if not packets:
    raise VideoError(name, 'has no frames')
  pts, dts, is_key, packet_durations = zip(*packets, strict=True)
  ticks = next((t for t in (pts, dts) if None not in t), None)
  if ticks is None:
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    timestamps = np.arange(len(packets)) / rate
  else:
    ticks = np.sort(np.array(ticks, np.int64))
    timestamps = (ticks - ticks[0]) * float(stream.time_base)
  if len(timestamps) > 1:
    last = float(np.median(np.diff(timestamps)))
  else:
    last = float((packet_durations[0] or 0) * (stream.time_base or 0))
  duration = float(timestamps[-1]) + last
  # AVI stores no presentation times. With B-frames FFmpeg makes up wrong
  # ones; without, frames are shown in the order in which they are stored.
  made_up = container.format.name == 'avi' and stream.codec_context.has_b_frames
  trusted = None not in pts and len(set(pts)) == len(pts) and not made_up
  if not trusted:
    keyframes = np.zeros(1, np.int64)
    return VideoInfo(timestamps, duration, keyframes, None), num_discarded
  key_pts = [t for t, key in zip(pts, is_key, strict=True) if key]
  keyframes = np.searchsorted(ticks, np.array(key_pts, np.int64))
  keyframes = np.union1d([0], keyframes).astype(np.int64)
  return VideoInfo(timestamps, duration, keyframes, ticks), num_discarded


def _declared_frames(
  container, stream, info: VideoInfo, num_discarded: int
) -> int:
  """How many frames the header promises to show, at least those present."""
  present = len(info.timestamps)
  if stream.frames:
    return max(present, stream.frames - num_discarded)
  # Matroska and WebM declare no count, only how long the longest stream is:
  # that says something of the video only where there is nothing else.
  if container.duration and len(container.streams) == 1 and info.duration:
    declared = container.duration / av.time_base
    return max(present, round(present * declared / info.duration))
  return present


def _too_many_missing(missing: int, declared: int, info: VideoInfo) -> bool:
  """Whether so many frames are missing that a video cannot be used."""
  seconds = missing * info.duration / len(info.timestamps)
  return missing > _MISSING_SHARE * declared or seconds > _MISSING_SECONDS


def _gather(
  container,
  stream,
  indices: np.ndarray,
  info: VideoInfo,
  name: str,
  transform: Callable[[np.ndarray], np.ndarray] | None,
) -> np.ndarray:
  """Decodes and stacks the frames at `indices`; see `decode_frames`."""
  wanted, inverse = np.unique(indices, return_inverse=True)
  # One converter for all frames: setting it up costs as much as a frame.
  converter = av.video.reformatter.VideoReformatter()
  out = None
  for i, frame in enumerate(_shown(container, stream, wanted, info, name)):
    rgb = _upright_rgb(frame, converter)
    if transform is not None:
      rgb = transform(rgb)
    if out is None:
      out = np.empty((len(wanted), *rgb.shape), np.uint8)
    if rgb.shape != out.shape[1:]:
      raise VideoError(name, _size_change(out.shape[1:3], rgb.shape[:2]))
    out[i] = rgb
  # A whole video is asked for in order: spare it a second copy.
  return out if np.array_equal(wanted, indices) else out[inverse]


def _shown(
  container, stream, wanted: np.ndarray, info: VideoInfo, name: str
) -> Iterator[av.VideoFrame]:
  """Yields the frame on display at each of the sorted indices `wanted`."""
  num_frames = len(info.timestamps)
  decoder, position = None, -1
  for target in wanted.tolist():
    group = np.searchsorted(info.keyframes, target, 'right') - 1
    key = int(info.keyframes[group])
    if decoder is None or key > position + 1:
      if key > 0:
        container.seek(int(info.pts[key]), stream=stream)
      decoder = _numbered(container.decode(stream), info.pts, key)
      position, shown = -1, None
      ahead = None  # (index, frame) that is decoded but not yet due.
    while position < target:
      ahead = ahead or next(decoder, (num_frames, None))
      if ahead[0] > target:
        break  # The decoder dropped `target`.
      (position, shown), ahead = ahead, None
    if shown is None and ahead[1] is not None:
      frame, missing = ahead[1], ahead[0] - target
    else:
      frame, missing = shown, target - position
    if frame is None or _too_many_missing(missing, num_frames, info):
      raise VideoError(
        name,
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
    _OutOfStep: a frame has no, an unknown or a falling time, or decoding
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


def _quarter_turns(frame: av.VideoFrame) -> int:
  """Counterclockwise quarter turns that set a frame upright."""
  return round(frame.rotation / 90) % 4


def _displayed_size(frame: av.VideoFrame) -> tuple[int, int]:
  """Height and width of a frame set upright."""
  size = (frame.height, frame.width)
  return size if _quarter_turns(frame) % 2 == 0 else size[::-1]


def _upright_rgb(
  frame: av.VideoFrame, converter: av.video.reformatter.VideoReformatter
) -> np.ndarray:
  """A decoded frame as uint8 RGB [h, w, 3]."""
  rgb = converter.reformat(frame, format='rgb24').to_ndarray()
  turns = _quarter_turns(frame)
  return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _size_change(first: Sequence[int], other: Sequence[int]) -> str:
  """The reason given where frames are not all of one size."""
  return (
    f'changes its frame size from {first[1]}x{first[0]} to '
    f'{other[1]}x{other[0]}'
  )


def _why(error: av.FFmpegError) -> str:
  """FFmpeg's own words, without its numbers and the file's path."""
  return error.strerror or type(error).__name__
