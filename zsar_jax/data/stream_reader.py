"""Reads a camera, a pipe, an address or a growing file; runs in a child.

The source may block for any time. So a thread reads it, and the tasks of
`stream_source` only ask what has come.
"""

import collections
from collections.abc import Iterator
import functools
import os
import threading
import time
from typing import Any

import av
import numpy as np

from zsar_jax.data import preprocessing, video_transforms
from zsar_jax.data.upright import displayed_size, size_change, upright_rgb
from zsar_jax.data.video_file import open_source, reason_of
from zsar_jax.data.video_limits import DEFAULT_LIMITS, Guard, VideoError

# Frames that wait to be asked for.
_MOST_WAITING = 64
# In a row that do not decode.
_MOST_BAD = 100
_GUESSED_RATE = 25.0
# Seconds from one look at a growing file, or at a camera that failed, to the
# next.
_PAUSE = 0.05
# Seconds: to open an address, and for each read.
_NETWORK_TIMEOUT = (10.0, 10.0)
_NO_VIDEO = 'is not a video, or it is cut off or damaged'

_Frames = Iterator[tuple[float, np.ndarray]]


class _Reader:
  """A thread that reads a source, and the frames that it has read."""

  def __init__(self, frames: _Frames, drops: bool):
    """Starts the thread.

    Args:
      frames: seconds and uint8 RGB [h w 3].
      drops: forget the oldest frame where too many wait; else the source has
        to wait.
    """
    self._condition = threading.Condition()
    self._waiting: collections.deque = collections.deque()
    self._prep: preprocessing.Preprocessing | None = None
    self._drops, self._began, self._ended = drops, False, False
    self._error: Exception | None = None
    threading.Thread(target=self._work, args=(frames,), daemon=True).start()

  def _work(self, frames: _Frames) -> None:
    try:
      for seconds, rgb in frames:
        if not self._is_wanted():
          continue
        self._put(seconds, video_transforms.middle_view(rgb, self._prep))
    except Exception as e:
      self._error = e
    with self._condition:
      self._ended = True
      self._condition.notify_all()

  def _is_wanted(self) -> bool:
    """Waits until somebody asks; what does not wait itself is forgotten."""
    with self._condition:
      self._began = True
      self._condition.notify_all()
      if not self._drops:
        self._condition.wait_for(lambda: self._prep is not None)
      return self._prep is not None

  def _put(self, seconds: float, view: np.ndarray) -> None:
    has_room = lambda: len(self._waiting) < _MOST_WAITING
    with self._condition:
      if self._drops and not has_room():
        self._waiting.popleft()
      self._condition.wait_for(has_room)
      self._waiting.append((seconds, view))
      self._condition.notify_all()

  def wait(self, seconds: float) -> None:
    """Waits for the first frame; raises the error if there is none."""
    with self._condition:
      self._condition.wait_for(lambda: self._began or self._ended, seconds)
      if self._error is not None and not self._began:
        raise self._error

  def take(
    self, prep: preprocessing.Preprocessing, seconds: float
  ) -> tuple[list[tuple[float, np.ndarray]], bool]:
    """Returns frames that have come, and whether that was all."""
    with self._condition:
      self._prep = self._prep or prep
      self._condition.notify_all()
      self._condition.wait_for(lambda: self._waiting or self._ended, seconds)
      taken = list(self._waiting)
      self._waiting.clear()
      self._condition.notify_all()
      if not taken and self._error is not None:
        raise self._error
      return taken, self._ended and not taken


_reader: _Reader | None = None


def open_task(
  kind: str, where: str, name: str, drops: bool, patience: float, wait: float
) -> tuple[dict[str, Any], list[np.ndarray]]:
  """Begins to read a source.

  Args:
    kind: see `stream_source.Found`.
    where: see `stream_source.Found`; for a pipe the number of the open file.
    name: what to call it in an error.
    drops: it does not wait for the reader: forget what comes too fast.
    patience: seconds that a file may rest until it counts as whole.
    wait: seconds to wait for the first frame.

  Raises:
    VideoError: it cannot be read, if that is known by then.
  """
  global _reader
  opener = {
    'camera': _camera,
    'pipe': _pipe,
    'address': _address,
    'file': functools.partial(_file, patience=patience),
  }[kind]
  _reader = _Reader(opener(where, name), drops)
  _reader.wait(wait)
  return {}, []


def read_task(
  prep: str, wait: float
) -> tuple[dict[str, Any], list[np.ndarray]]:
  """Returns the `times` of frames and their views; whether it has `ended`.

  Args:
    prep: the preprocessing of the weights, as JSON.
    wait: seconds to wait for a frame.

  Raises:
    VideoError: the source cannot be read any further.
  """
  taken, ended = _reader.take(preprocessing.Preprocessing.from_json(prep), wait)
  times, views = zip(*taken, strict=True) if taken else ((), ())
  return {'times': times, 'ended': ended}, [np.stack(views)] if views else []


def _camera(where: str, name: str) -> _Frames:
  import cv2  # slow to load

  capture = cv2.VideoCapture(int(where) if where.isdigit() else where)
  if not capture.isOpened():
    raise VideoError(
      name, 'cannot be opened: is it there, and does no other program use it?'
    )
  guard, first, bad = Guard(name, DEFAULT_LIMITS), None, 0
  while bad <= _MOST_BAD:
    is_good, bgr = capture.read()
    seconds = time.monotonic()
    if not is_good:
      bad += 1
      time.sleep(_PAUSE)
      continue
    bad, first = 0, first or bgr.shape[:2]
    guard.check_size(*bgr.shape[:2])
    if bgr.shape[:2] != first:
      raise VideoError(name, size_change(first, bgr.shape[:2]))
    yield seconds, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
  raise VideoError(name, 'has stopped: it gives no frames any more')


class _Bytes:
  """A file that FFmpeg reads from its beginning to its end."""

  def __init__(self, descriptor: int, patience: float = 0.0):
    """Takes an open file; `patience` in seconds for more at its end."""
    self._descriptor, self._patience = descriptor, patience
    self.num_bytes = 0

  def read(self, size: int) -> bytes:
    """Reads some bytes; none at the end."""
    until = time.monotonic() + self._patience
    while True:
      data = os.read(self._descriptor, size)
      self.num_bytes += len(data)
      if data or time.monotonic() >= until:
        return data
      time.sleep(_PAUSE)


def _pipe(where: str, name: str) -> _Frames:
  is_open = where.isdigit()
  source = _Bytes(int(where) if is_open else os.open(where, os.O_RDONLY))
  hint = (
    '; a pipe cannot be rewound, so an MP4 must have its index at the '
    'beginning: better send MPEG-TS or Matroska'
  )
  return _of_bytes(source, name, hint)


def _file(where: str, name: str, patience: float) -> _Frames:
  with open(where, 'rb') as f:
    head = f.read(1 << 16)
  # The index of an MP4 lies anywhere, so the file must be whole; unless it has
  # fragments, each with an index of its own.
  if head[4:8] == b'ftyp' and b'mvex' not in head:
    hint = '; an MP4 can be read when it is whole: better write Matroska'
    opener = lambda: av.open(os.path.abspath(where))
    return _opened(opener, name, f'{_NO_VIDEO} ({{}}){hint}')
  return _of_bytes(_Bytes(os.open(where, os.O_RDONLY), patience), name)


def _address(where: str, name: str) -> _Frames:
  opener = lambda: av.open(where, timeout=_NETWORK_TIMEOUT)
  return _opened(opener, name, 'cannot be opened ({})')


def _of_bytes(source: _Bytes, name: str, hint: str = '') -> _Frames:
  def opener():
    try:
      return av.open(source)
    except av.FFmpegError as e:
      if source.num_bytes:
        raise
      raise VideoError(name, 'is empty (0 bytes)') from e

  return _opened(opener, name, f'{_NO_VIDEO} ({{}}){hint}', hint)


def _opened(opener, name: str, if_not: str, hint: str = '') -> _Frames:
  """Opens a container and decodes it.

  Args:
    opener: returns the container.
    name: what to call it in an error.
    if_not: why it cannot be opened, with {} for FFmpeg's reason.
    hint: follows an error where nothing decodes.
  """
  guard = Guard(name, DEFAULT_LIMITS)

  def open_it():
    try:
      return opener()
    except av.FFmpegError as e:
      raise VideoError(name, if_not.format(reason_of(e))) from e

  with open_source(open_it, guard) as opened:
    yield from _decoded(*opened, guard, hint)


def _decoded(container, stream, guard: Guard, hint: str) -> _Frames:
  """Decodes to the end. A packet that does not decode is a lost frame."""
  converter = av.video.reformatter.VideoReformatter()
  rate = float(stream.average_rate or stream.guessed_rate or _GUESSED_RATE)
  first_size = first_pts = None
  seconds = -1 / rate
  for frame in _frames(container, stream, guard, hint):
    guard.check_size(frame.height, frame.width)
    size = displayed_size(frame)
    first_size = first_size or size
    if size != first_size:
      raise VideoError(guard.name, size_change(first_size, size))
    if frame.pts is None or frame.time_base is None:
      seconds += 1 / rate
    else:
      first_pts = frame.pts if first_pts is None else first_pts
      seconds = (frame.pts - first_pts) * float(frame.time_base)
    yield seconds, upright_rgb(frame, converter)


def _frames(
  container, stream, guard: Guard, hint: str
) -> Iterator[av.VideoFrame]:
  bad = 0
  try:
    for packet in container.demux(stream):
      try:
        frames = packet.decode()
      except av.FFmpegError as e:
        bad += 1
        if bad > _MOST_BAD:
          raise VideoError(
            guard.name,
            f'is damaged: {bad} packets in a row do not decode '
            f'({reason_of(e)})',
          ) from e
        continue
      if frames:
        bad, hint = 0, ''
      yield from frames
  except av.FFmpegError as e:
    raise VideoError(guard.name, f'is damaged ({reason_of(e)}){hint}') from e
