"""Opens video files with care, and reads their packets without decoding.

Files are untrusted. FFmpeg's many errors become one, `VideoError`. The limits
are checked when the header is known, and again between packets.

`decode` re-exports the names that its callers need.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import io
import os

import av
import numpy as np

from zsar_jax.data.video_limits import (
  DEFAULT_LIMITS,
  Guard,
  Limits,
  VideoError,
)

# A video may lack this much of the declared frames and still be used.
_MISSING_SHARE = 0.1
_MISSING_SECONDS = 1.0


# Errors when FFmpeg lacks a part; the file may be good.
_LACKS = (
  av.error.DecoderNotFoundError,
  av.error.DemuxerNotFoundError,
  av.error.NotImplementedError,
  av.error.PatchWelcomeError,
)
_UNSUPPORTED = (
  'cannot be read by this FFmpeg ({}); convert it, for example to MP4'
)


@dataclasses.dataclass(frozen=True, eq=False)
class VideoInfo:
  """Facts about a video, read from its packets without decoding.

  Attributes:
    timestamps: float64 [n], when each frame appears, in seconds since the
      first one, sorted.
    duration: seconds; the last frame lasts the median gap between frames.
    keyframes: int64, sorted, the frames that decoding can begin at; the
      first is always 0.
    pts: int64 [n], the timestamps in the file's own clock, sorted; None
      if they cannot be trusted, so that frames must be counted.
  """

  timestamps: np.ndarray
  duration: float
  keyframes: np.ndarray
  pts: np.ndarray | None


def read_info(
  video: bytes | str, name: str, *, limits: Limits = DEFAULT_LIMITS
) -> VideoInfo:
  """Reads the times of all frames without decoding any.

  Args:
    video: the file's content, or its path.
    name: what to call the video in an error.
    limits: bounds on the video.

  Returns:
    The video's frame times and keyframes; at least one frame.

  Raises:
    VideoError: the video is missing, empty, no video, damaged, without frames,
      or outside the limits.
  """
  guard = Guard(name, limits)
  with open_video(video, guard) as (container, stream):
    return read_packets(container, stream, guard)[0]


def read_comment(video: bytes | str, name: str) -> str:
  """Reads the comment in a video's container; '' if there is none.

  Args:
    video: the file's content, or its path.
    name: what to call the video in an error.

  Raises:
    VideoError: the video is missing, empty, or no video.
  """
  guard = Guard(name, DEFAULT_LIMITS)
  with open_video(video, guard) as (container, _):
    return container.metadata.get('comment', '')


@contextlib.contextmanager
def open_video(
  video: bytes | str, guard: Guard
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
  """Opens a video's first video stream; FFmpeg's errors become VideoError.

  Args:
    video: the file's content, or its path.
    guard: of the call.

  Yields:
    The container and its stream, which decodes with one thread.

  Raises:
    VideoError: it cannot be opened, its frames are too large, or FFmpeg
      fails within the `with` block.
  """
  name = guard.name
  if isinstance(video, str):
    if not os.path.exists(video):
      raise VideoError(name, 'does not exist')
    if not os.path.isfile(video):
      raise VideoError(name, 'is not a file')
    empty = os.path.getsize(video) == 0
  else:
    empty = len(video) == 0
  if empty:
    raise VideoError(name, 'is empty (0 bytes)')
  with open_source(lambda: _open_container(video), guard) as opened:
    try:
      yield opened
    except av.FFmpegError as e:
      reason = f'is damaged ({reason_of(e)})'
      raise VideoError(name, unsupported(e, video, opened[0]) or reason) from e


@contextlib.contextmanager
def open_source(
  opener: Callable[[], av.container.InputContainer], guard: Guard
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
  """Opens the first video stream of anything that FFmpeg can read.

  Args:
    opener: opens the container.
    guard: of the call.

  Yields:
    The container and its stream, which decodes with one thread.

  Raises:
    VideoError: it cannot be opened, or its frames are too large.
  """
  name = guard.name
  try:
    container = opener()
  except PermissionError as e:
    raise VideoError(name, 'may not be read (permission denied)') from e
  except av.FFmpegError as e:
    reason = f'is not a video, or it is cut off or damaged ({reason_of(e)})'
    if isinstance(e, _LACKS):
      reason = _UNSUPPORTED.format(reason_of(e))
    raise VideoError(name, reason) from e
  with container:
    stream = _first_video_stream(container)
    if stream is None:
      raise VideoError(name, 'has no video stream')
    if stream.codec_context is None:
      raise VideoError(
        name, _UNSUPPORTED.format('no decoder for its video codec')
      )
    codec = stream.codec_context
    guard.check_size(codec.height or 0, codec.width or 0)
    # Bounds frames that are larger than the header says.
    codec.options = {'max_pixels': str(guard.limits.max_pixels)}
    stream.thread_type = 'NONE'
    codec.thread_count = 1
    yield container, stream


def _open_container(video: bytes | str) -> av.container.InputContainer:
  """Opens a container; tags that are not UTF-8 do not matter."""
  # FFmpeg would read 'a:b.mp4' as a protocol; an absolute path is a path.
  source = os.path.abspath if isinstance(video, str) else io.BytesIO
  try:
    return av.open(source(video))
  except UnicodeDecodeError:
    # Only PyAV up to version 18 raises this. Version 19 replaces what it cannot
    # read, and no longer has the argument.
    return av.open(source(video), metadata_errors='replace')


def _first_video_stream(
  container: av.container.InputContainer,
) -> av.VideoStream | None:
  """Finds the first video stream that is no cover or other single picture."""
  cover = av.stream.Disposition.attached_pic
  streams = [s for s in container.streams.video if not s.disposition & cover]
  # An animated AVIF begins with its first picture as a stream of its own.
  moving = (stream for stream in streams if stream.frames != 1)
  return next(moving, streams[0] if streams else None)


def read_packets(container, stream, guard: Guard) -> tuple[VideoInfo, int]:
  """Does `read_info` on an open container, and leaves it at its end.

  Args:
    container: just opened.
    stream: its video stream.
    guard: of the call.

  Returns:
    The frames' times, and the number of further frames that are never shown.
    These lie outside the edit list of a clip that was cut without re-encoding.

  Raises:
    VideoError: there is no frame, or the video is outside the limits.
  """
  packets = []
  for p in container.demux(stream):
    guard.check_time()
    if p.size:  # The last one is empty: it flushes the decoder.
      packets.append((p.pts, p.dts, p.is_keyframe, p.duration, p.is_discard))
  num_packets = len(packets)
  packets = [p[:-1] for p in packets if not p[-1]]
  num_discarded = num_packets - len(packets)
  if not packets:
    raise VideoError(guard.name, 'has no frames')
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
  guard.check_seconds(duration)
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


def decode_on(
  container, stream, guard: Guard, kept: set[int] | None = None
) -> Iterator[av.VideoFrame]:
  """Decodes from where an open container stands to its end.

  Args:
    container: open.
    stream: its video stream.
    guard: of the call.
    kept: times, in the file's clock, of the frames that are needed. Others may
      be left out if no frame refers to them. None keeps all.

  Yields:
    Frames in display order.

  Raises:
    VideoError: the deadline has passed.
    FFmpegError: a packet does not decode.
  """
  for packet in container.demux(stream):
    guard.check_time()
    if kept is not None:
      skip = 'DEFAULT' if packet.pts in kept else 'NONREF'
      stream.codec_context.skip_frame = skip
    yield from packet.decode()


def declared_frames(
  container, stream, info: VideoInfo, num_discarded: int
) -> int:
  """Returns how many frames the header promises, at least those present."""
  present = len(info.timestamps)
  if stream.frames:
    return max(present, stream.frames - num_discarded)
  # Matroska and WebM declare no count, only the length of the longest stream.
  # That is the video's length only if there is no other stream.
  if container.duration and len(container.streams) == 1 and info.duration:
    declared = container.duration / av.time_base
    return max(present, round(present * declared / info.duration))
  return present


def too_many_missing(missing: int, declared: int, info: VideoInfo) -> bool:
  """Returns whether too many frames are missing to use a video."""
  seconds = missing * info.duration / len(info.timestamps)
  return missing > _MISSING_SHARE * declared or seconds > _MISSING_SECONDS


def unsupported(
  error: av.FFmpegError,
  video: bytes | str,
  container: av.container.InputContainer,
) -> str:
  """Says why this FFmpeg cannot decode a whole file; '' if it can.

  Args:
    error: of decoding.
    video: the file's content, or its path.
    container: the open video.
  """
  if isinstance(error, _LACKS):
    return _UNSUPPORTED.format(reason_of(error))
  # FFmpeg before version 9 reads any WebP as a single picture.
  if container.format.name == 'webp_pipe' and _is_animated_webp(video):
    return _UNSUPPORTED.format('animated WebP')
  return ''


def _is_animated_webp(video: bytes | str) -> bool:
  """Checks the header: developers.google.com/speed/webp/docs/riff_container."""
  if isinstance(video, str):
    with open(video, 'rb') as f:
      video = f.read(21)
  extended = video[:4] == b'RIFF' and video[8:16] == b'WEBPVP8X'
  return extended and len(video) > 20 and bool(video[20] & 0b10)


def reason_of(error: av.FFmpegError) -> str:
  """Returns FFmpeg's own words, without its numbers and the file's path."""
  return error.strerror or type(error).__name__
