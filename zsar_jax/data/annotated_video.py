"""Writes a video again, with a strip below it that says what happens.

The file is untrusted, so a child process decodes it; see `isolated`. It also
encodes, because the frames are there.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import fractions
import os
import secrets
from typing import Any

import av
import numpy as np

from zsar_jax.data import isolated, user_videos
from zsar_jax.data.caption_strip import Strip
from zsar_jax.data.upright import size_change, upright_rgb
from zsar_jax.data.video_file import decode_on, open_video
from zsar_jax.data.video_limits import DEFAULT_LIMITS, Guard, VideoError

_TASK = 'zsar_jax.data.annotated_video:write_task'
SUFFIXES = {'.mp4': 'mp4', '.mkv': 'matroska', '.mov': 'mov'}
# Ticks a second: whole milliseconds, and every usual frame rate.
_CLOCK = 90_000
_CRF = 20
# Narrower pictures leave no room for words: they are enlarged, or get a margin.
_LEAST_WIDTH = 320
_MOST_HEIGHT = 2160
# Seconds, and seconds for each of the video.
_DEADLINE, _DEADLINE_EACH = 600.0, 20.0

_Segments = Sequence[tuple[float, float, str, float]]


def write(path: str, output: str, segments: _Segments, nameless: str) -> str:
  """Writes a video with a strip of names below it, without its sound.

  Frames keep their times, and are upright.

  Args:
    path: of the video.
    output: file to write, with one of `SUFFIXES`; it appears when it is whole.
    segments: that cover the video: start and end in seconds, name, probability.
    nameless: the name that stands for none.

  Returns:
    Letters that could not be drawn, because no font has them.

  Raises:
    VideoError: the video cannot be used.
    OSError: the file cannot be written.
  """
  duration = segments[-1][1]
  deadline = _DEADLINE + _DEADLINE_EACH * duration
  # A name of its own: a file of the user's is never overwritten.
  folder = os.path.dirname(output)
  part = os.path.join(folder, f'.{secrets.token_hex(8)}.part')
  try:
    facts, _ = isolated.run(
      _TASK,
      {
        'path': path,
        'output': part,
        'container': SUFFIXES[os.path.splitext(output)[1].lower()],
        'segments': [list(segment) for segment in segments],
        'nameless': nameless,
        'deadline': deadline,
      },
      name=path,
      deadline=deadline,
    )
    os.replace(part, output)
  except OSError as e:
    raise OSError(e.errno, e.strerror or str(e), output) from e
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(part)
  return facts['lacking']


def write_task(
  path: str,
  output: str,
  container: str,
  segments: _Segments,
  nameless: str,
  deadline: float,
) -> tuple[dict[str, Any], list[np.ndarray]]:
  """Does the work of `write` in the child."""
  limits = dataclasses.replace(DEFAULT_LIMITS, deadline=deadline)
  # Finding the segments has checked it, perhaps in this child.
  info = user_videos.read_info_once(path)
  strip = encoder = None
  # A file of Python's, so that a full disk is an error of the system.
  with open(output, 'wb') as f, av.open(f, 'w', format=container) as out:
    for seconds, picture in _pictures(path, info, limits):
      picture = _roomy(picture)
      if encoder is None:
        strip = Strip(segments, info.duration, picture.shape[1], nameless)
        height = picture.shape[0] + strip.height
        rate = len(info.timestamps) / max(info.duration, 1 / _CLOCK)
        encoder = _Encoder(out, rate, height, picture.shape[1])
      encoder.put(seconds, np.concatenate([picture, strip.at(seconds)]))
    encoder.finish()
  return {'lacking': strip.lacking}, []


def _pictures(path: str, info, limits) -> Iterator[tuple[float, np.ndarray]]:
  """Yields seconds and upright RGB [h w 3] of all frames."""
  guard = Guard(path, limits)
  converter = av.video.reformatter.VideoReformatter()
  first_shape = None
  with open_video(path, guard) as (container, stream):
    for i, frame in enumerate(decode_on(container, stream, guard)):
      guard.check_size(frame.height, frame.width)
      rgb = upright_rgb(frame, converter)
      first_shape = first_shape or rgb.shape
      if rgb.shape != first_shape:
        raise VideoError(path, size_change(first_shape, rgb.shape))
      if info.pts is None or frame.pts is None:
        seconds = info.timestamps[min(i, len(info.timestamps) - 1)]
      else:
        seconds = (frame.pts - info.pts[0]) * float(stream.time_base)
      yield float(seconds), rgb


def _roomy(picture: np.ndarray) -> np.ndarray:
  """Makes room for words, and both sides even, as 4:2:0 wants them."""
  height, width = picture.shape[:2]
  times = min(-(-_LEAST_WIDTH // width), max(_MOST_HEIGHT // height, 1))
  picture = picture.repeat(times, 0).repeat(times, 1)
  height, width = picture.shape[:2]
  margin = max(_LEAST_WIDTH - width, 0)
  # A last odd row or column is there twice.
  picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
  sides = margin // 4 * 2, (margin - margin // 4 * 2) // 2 * 2
  return np.pad(picture, ((0, 0), sides, (0, 0)))


class _Encoder:
  """H.264 of frames that come at any times."""

  def __init__(self, out, rate: float, height: int, width: int):
    rate = fractions.Fraction(max(round(rate * 1000), 1), 1000)
    self._out, self._stream = out, out.add_stream('libx264', rate=rate)
    self._stream.height, self._stream.width = height, width
    self._stream.pix_fmt = 'yuv420p'
    self._clock = fractions.Fraction(1, _CLOCK)
    self._stream.codec_context.time_base = self._clock
    options = {'crf': str(_CRF), 'preset': 'veryfast'}
    self._stream.codec_context.options = options
    self._last = -1

  def put(self, seconds: float, rgb: np.ndarray) -> None:
    frame = av.VideoFrame.from_ndarray(rgb, format='rgb24')
    # A file may show frames at equal times; a container must not.
    self._last = max(round(seconds * _CLOCK), self._last + 1)
    frame.pts, frame.time_base = self._last, self._clock
    self._out.mux(self._stream.encode(frame))

  def finish(self) -> None:
    self._out.mux(self._stream.encode())
