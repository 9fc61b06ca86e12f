"""Frames as they come: from a camera, a pipe, an address or a growing file.

A child process reads and decodes them; see `isolated` and `stream_reader`. What
comes out are the views that the model sees, so little goes through the pipe.

```python
with Source(find('camera:0')) as source:
  source.open()
  for seconds, view in source.frames(prep):
    ...
```
"""

from collections.abc import Iterator
import dataclasses
import os
import re
import stat
import sys
import time

import numpy as np

from zsar_jax.data import isolated, preprocessing
from zsar_jax.data.video_limits import VideoError
from zsar_jax.system import terminal

_OPEN_TASK = 'zsar_jax.data.stream_reader:open_task'
_READ_TASK = 'zsar_jax.data.stream_reader:read_task'
_DEVICE = '/dev/video'
# What FFmpeg may open. Others read files of this machine.
_SCHEMES = ('rtsp', 'rtsps', 'rtmp', 'http', 'https', 'tcp', 'udp', 'srt')
# Seconds that a camera or an address may give nothing.
_PATIENCE = 10.0
# Seconds without growth after which a file is whole.
_FILE_PATIENCE = 5.0
# Seconds: an error that comes this fast is told before the model is loaded.
_EARLY = 1.0
# Seconds that the child waits for a frame. So long a request to stop waits.
_WAIT = 0.2
# Seconds of a task beyond what it waits. A child that takes longer hangs.
_DEADLINE = 60.0


@dataclasses.dataclass(frozen=True)
class Found:
  """Where a stream comes from.

  Attributes:
    kind: 'camera', 'pipe', 'address' or 'file'.
    where: number or device of a camera, address, path; '' for stdin.
    name: what to call it in an error.
  """

  kind: str
  where: str
  name: str

  @property
  def is_live(self) -> bool:
    """Returns whether it goes on while nobody reads."""
    is_download = self.where.lower().startswith('http')
    return self.kind == 'camera' or self.kind == 'address' and not is_download


def find(text: str) -> Found:
  """Understands what a user calls a source.

  Args:
    text: 'camera:0', '/dev/video0', '-' for stdin, an address such as
      'rtsp://...', or the path of a file or named pipe.

  Returns:
    What it is.

  Raises:
    ValueError: it is none of these, or nothing is piped into stdin.
    FileNotFoundError: no such camera or file.
  """
  if text == '-':
    if sys.stdin is None or sys.stdin.isatty():
      raise ValueError('nothing is piped into standard input')
    return Found('pipe', '', 'standard input')
  scheme, colon, rest = text.partition('://')
  if colon:
    if scheme.lower() not in _SCHEMES:
      raise ValueError(
        f'{terminal.visible_name(text)}: expected one of '
        f'{", ".join(_SCHEMES)} before ://'
      )
    # Users and passwords of the address are nobody's business.
    return Found('address', text, f'{scheme}://{rest.rpartition("@")[2]}')
  camera = re.fullmatch(r'camera:(\d+)', text)
  if camera or text.startswith(_DEVICE):
    device = f'{_DEVICE}{camera[1]}' if camera else text
    if sys.platform.startswith('linux') and not os.path.exists(device):
      raise FileNotFoundError(f'no camera {text}: {_cameras()}')
    return Found('camera', camera[1] if camera else text, text)
  if not os.path.exists(text):
    raise FileNotFoundError(
      f'{terminal.visible_name(text)} does not exist; expected camera:0, '
      '/dev/video0, - for a pipe, an address or a file'
    )
  if os.path.isdir(text):
    raise ValueError(f'{terminal.visible_name(text)} is a folder')
  is_pipe = stat.S_ISFIFO(os.stat(text).st_mode)
  return Found('pipe' if is_pipe else 'file', text, text)


def _cameras() -> str:
  """Says which cameras Linux knows."""
  numbers = [
    name.removeprefix('video')
    for name in sorted(os.listdir('/dev'))
    if re.fullmatch(r'video\d+', name)
  ]
  named = ', '.join(f'camera:{number}' for number in numbers)
  return f'there are {named}' if named else 'this machine has none'


class Source:
  """A source that a child process reads."""

  def __init__(self, found: Found, patience: float | None = None):
    """Takes a source; nothing is opened yet.

    Args:
      found: from `find`.
      patience: seconds without a frame after which a camera or an address is
        given up, and without growth after which a file is whole. By default 10
        and 5. A pipe ends when it is closed.
    """
    self.found, self._is_told_to_stop = found, False
    if patience is None:
      patience = _PATIENCE if found.is_live else _FILE_PATIENCE
    self._patience = patience
    # The child has a descriptor of its own.
    self._stdin = os.dup(0) if found == Found('pipe', '', found.name) else None
    fds = () if self._stdin is None else (self._stdin,)
    self._pool = isolated.Pool(1, pass_fds=fds)

  def __enter__(self) -> 'Source':
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def close(self) -> None:
    """Ends the child."""
    self._pool.close()
    if self._stdin is not None:
      os.close(self._stdin)
      self._stdin = None

  def stop(self) -> None:
    """Makes `frames` end soon, as if the source had ended. For any thread."""
    self._is_told_to_stop = True

  def open(self) -> None:
    """Opens the source.

    Raises:
      VideoError: it cannot be read. What takes longer to find out is raised by
        `frames`.
    """
    where = str(self._stdin) if self._stdin is not None else self.found.where
    kwargs = {
      'kind': self.found.kind,
      'where': where,
      'name': self.found.name,
      'drops': self.found.is_live,
      'patience': self._patience,
      'wait': _EARLY,
    }
    self._run(_OPEN_TASK, kwargs)

  def frames(
    self, prep: preprocessing.Preprocessing
  ) -> Iterator[tuple[float, np.ndarray]]:
    """Yields frames as they come.

    Args:
      prep: the preprocessing of the weights.

    Yields:
      Seconds, and the view, uint8 [size size 3].

    Raises:
      VideoError: the source is no video, changes its frame size, is damaged,
        or a camera or an address has given nothing for too long.
    """
    kwargs = {'prep': prep.to_json(), 'wait': _WAIT}
    shape = (-1, prep.size, prep.size, 3)
    silent_since = time.monotonic()
    while not self._is_told_to_stop:
      facts, buffers = self._run(_READ_TASK, kwargs)
      for content in buffers:
        views = np.frombuffer(content, np.uint8).reshape(shape)
        yield from zip(facts['times'], views, strict=True)
        silent_since = time.monotonic()
      if facts['ended']:
        return
      silent = time.monotonic() - silent_since
      if self.found.is_live and silent > self._patience:
        raise VideoError(
          self.found.name, f'has given no frame for {self._patience:g} s'
        )

  def _run(self, task: str, kwargs: dict):
    return self._pool.run(
      task, kwargs, name=self.found.name, deadline=_DEADLINE
    )
