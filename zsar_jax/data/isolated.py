"""Decoding of untrusted files in child processes.

A video from anywhere may crash a decoder, hang it or eat all memory. Where
that must not end the program (preparing a dataset, predicting on a user's
file), the work is done by a child that is killed at a deadline, and whatever
becomes of the child becomes an error that names the video.

Children are programs of their own (`isolated_worker`), not forks: they
import neither JAX nor TensorFlow, start in a fraction of a second and die
with their parent. Prepared records need none of this: they were checked.

```python
with isolated.Pool(4) as pool:
  facts, content = pool.run('zsar_jax.data.transcode:store_video', {...},
                            name='walk.mp4', deadline=60.0)
```
"""

import atexit
import functools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import time
from typing import Any

from zsar_jax.data import decode

DEFAULT_MEMORY = 4 << 30
_CHUNK = 1 << 20


class _Timeout(Exception):
  """The child has not answered in time."""


class _Child:
  """A child process and its pipes."""

  def __init__(self, memory_bytes: int):
    self._process = subprocess.Popen(
      [
        sys.executable,
        '-m',
        'zsar_jax.data.isolated_worker',
        str(os.getpid()),
        str(memory_bytes),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      bufsize=0,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(_import_path())},
    )
    self._left = b''

  @property
  def pid(self) -> int:
    return self._process.pid

  def ask(
    self, task: str, kwargs: dict[str, Any], until: float
  ) -> tuple[dict[str, Any], list[bytearray]]:
    """Sends a task and reads the answer.

    Args:
      task: see `Pool.run`.
      kwargs: likewise.
      until: monotonic time of the deadline.

    Returns:
      The header of the answer and its buffers.

    Raises:
      _Timeout: no whole answer by then.
      EOFError: the child has died.
      OSError: likewise.
    """
    request = json.dumps({'task': task, 'kwargs': kwargs}).encode() + b'\n'
    self._process.stdin.write(request)
    while b'\n' not in self._left:
      self._left += self._some(until)
    line, _, self._left = self._left.partition(b'\n')
    header = json.loads(line)
    buffers = [self._exactly(size, until) for size in header['sizes']]
    return header, buffers

  def _some(self, until: float, at_most: int = _CHUNK) -> bytes:
    """At least one byte of what the child has written."""
    out = self._process.stdout
    wait = until - time.monotonic()
    if wait <= 0 or not select.select([out], [], [], wait)[0]:
      raise _Timeout
    data = os.read(out.fileno(), at_most)
    if not data:
      raise EOFError
    return data

  def _exactly(self, size: int, until: float) -> bytearray:
    buffer = bytearray(self._left[:size])
    self._left = self._left[size:]
    while len(buffer) < size:
      buffer += self._some(until, size - len(buffer))
    return buffer

  def how_it_died(self) -> str:
    """The reason given for a child that is gone."""
    try:
      code = self._process.wait(5)
    except subprocess.TimeoutExpired:
      code = 0
    if code < 0:
      return f'crashed the decoder ({signal.Signals(-code).name})'
    return f'crashed the decoder (exit {code})'

  def kill(self) -> None:
    """Ends the child at once; does nothing the second time."""
    self._process.kill()
    self._process.wait()
    self._process.stdin.close()
    self._process.stdout.close()


class Pool:
  """Some child processes, shared by any number of threads."""

  def __init__(self, num_workers: int, *, memory_bytes: int = DEFAULT_MEMORY):
    """Makes room for children; each starts when it is first needed.

    Args:
      num_workers: most children at once.
      memory_bytes: what a task may take on top of what the child has at its
        start; bounded on Linux alone.

    Raises:
      ValueError: no worker.
    """
    if num_workers < 1:
      raise ValueError(f'num_workers={num_workers}: at least one is needed')
    self._memory_bytes = memory_bytes
    self._free: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
    self._children: set[_Child] = set()
    self._closed = False
    for _ in range(num_workers):
      self._free.put(None)

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def close(self) -> None:
    """Ends all children, those at work too."""
    self._closed = True
    for child in tuple(self._children):
      self._discard(child)

  def _discard(self, child: _Child | None) -> None:
    """Kills a child; its place is taken by one that starts when needed."""
    if child is not None:
      self._children.discard(child)
      child.kill()

  def _started(self) -> _Child:
    if self._closed:
      raise RuntimeError('the pool of decoding processes is closed')
    child = _Child(self._memory_bytes)
    self._children.add(child)
    return child

  def run(
    self, task: str, kwargs: dict[str, Any], *, name: str, deadline: float
  ) -> tuple[dict[str, Any], list[bytearray]]:
    """Runs a function in a child, waiting for a free one.

    Args:
      task: 'zsar_jax.data.module:function'; the function takes JSON-able
        keyword arguments and returns a JSON-able dict and a list of bytes or
        contiguous arrays.
      kwargs: its arguments.
      name: what to call the video in an error.
      deadline: seconds that it may take.

    Returns:
      The dict, and the buffers as bytes.

    Raises:
      VideoError: the function raised it; or, with `transient` set, it took
        too long, took too much memory or crashed.
      RuntimeError: the function raised anything else: a bug, not a video.
    """
    child = self._free.get()
    try:
      child = child or self._started()
      header, buffers = child.ask(task, kwargs, time.monotonic() + deadline)
    except _Timeout:
      child = self._discard(child)
      reason = f'took longer than {deadline:g} s to decode and was given up'
      raise decode.VideoError(name, reason, transient=True) from None
    except (EOFError, OSError, ValueError):
      # Nothing more to read, a closed pipe, or half an answer.
      reason = child.how_it_died()
      child = self._discard(child)
      raise decode.VideoError(name, reason, transient=True) from None
    except BaseException:
      # Interrupted half way: what it would answer belongs to nobody.
      child = self._discard(child)
      raise
    finally:
      self._free.put(child)
    if 'video_error' in header:
      raise decode.VideoError(*header['video_error'])
    if 'out_of_memory' in header:
      limit = self._memory_bytes >> 20
      raise decode.VideoError(
        name, f'takes more than {limit} MiB to decode', transient=True
      )
    if 'error' in header:
      raise RuntimeError(f'{name}: {task} failed:\n{header["error"]}')
    return header['facts'], buffers


def _import_path() -> list[str]:
  """Where the child finds this package, installed or not."""
  package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  known = os.environ.get('PYTHONPATH', '').split(os.pathsep)
  return [os.path.dirname(package), *filter(None, known)]


@functools.cache
def _default_pool() -> Pool:
  pool = Pool(1)
  atexit.register(pool.close)
  return pool


def run(
  task: str, kwargs: dict[str, Any], *, name: str, deadline: float
) -> tuple[dict[str, Any], list[bytearray]]:
  """`Pool.run` on a child that is kept until the program ends."""
  return _default_pool().run(task, kwargs, name=name, deadline=deadline)
