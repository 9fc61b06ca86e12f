"""Decodes untrusted files in child processes.

An untrusted video may crash a decoder, hang it or use all memory. That must
not end the program when it prepares a dataset or predicts on a user's file. So
a child process does the work, and is killed at a deadline. If the child fails,
the parent raises an error that names the video.

Children are programs of their own (`isolated_worker`), not forks. They import
neither JAX nor TensorFlow, start in a fraction of a second and die with their
parent. Prepared records need no child, because they were checked.

```python
with isolated.Pool(4) as pool:
  facts, content = pool.run('zsar_jax.data.transcode:store_video', {...},
                            name='walk.mp4', deadline=60.0)
```
"""

import atexit
import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
import concurrent.futures
import contextlib
import functools
import itertools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import time
from typing import Any, TypeVar

from zsar_jax.data import decode

_Result = TypeVar('_Result')
DEFAULT_MEMORY = 4 << 30
_MAX_HEADER = 64 << 20
_CHUNK = 1 << 16


class _Timeout(Exception):
  """The child has not answered in time."""


class _Child:
  """A child process and its pipes."""

  def __init__(self, memory_bytes: int, pass_fds: Sequence[int]):
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
      pass_fds=pass_fds,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(_import_path())},
    )
    os.set_blocking(self._process.stdin.fileno(), False)
    self._max_answer = memory_bytes
    self._left = b''

  def ask(
    self, task: str, kwargs: dict[str, Any], until: float
  ) -> tuple[dict[str, Any], list[bytearray]]:
    """Sends a task and reads the answer.

    Args:
      task: see `Pool.run`.
      kwargs: see `Pool.run`.
      until: monotonic time of the deadline.

    Returns:
      The header of the answer and its buffers.

    Raises:
      _Timeout: there is no whole answer by then.
      EOFError: the child has died.
      OSError: the child has died.
      ValueError: the answer has the wrong format.
    """
    request = {'task': task, 'kwargs': kwargs}
    with contextlib.suppress(OSError):  # the folder may be deleted
      request['folder'] = os.getcwd()
    self._send(json.dumps(request).encode(), until)
    while b'\n' not in self._left:
      if len(self._left) > _MAX_HEADER:
        raise ValueError('no header')
      self._left += self._some(until)
    line, _, self._left = self._left.partition(b'\n')
    header = json.loads(line)
    sizes = header.get('sizes') if isinstance(header, dict) else None
    if not isinstance(sizes, list) or sum(sizes) > self._max_answer:
      raise ValueError('not a header')
    buffers = [self._exactly(size, until) for size in sizes]
    return header, buffers

  def _send(self, request: bytes, until: float) -> None:
    pipe = self._process.stdin
    left = memoryview(request + b'\n')
    while left:
      wait = max(0.0, until - time.monotonic())
      if not select.select([], [pipe], [], wait)[1]:
        raise _Timeout
      left = left[os.write(pipe.fileno(), left[:_CHUNK]) :]

  def _some(self, until: float, at_most: int = _CHUNK) -> bytes:
    """Reads at least one byte of what the child has written."""
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
      buffer += self._some(until, min(size - len(buffer), _CHUNK))
    return buffer

  def how_it_died(self) -> str:
    """Says how a child died whose answer cannot be read."""
    try:
      code = self._process.wait(2)
    except subprocess.TimeoutExpired:
      return 'crashed the decoder (its answer is malformed)'
    if code < 0:
      return f'crashed the decoder ({signal.Signals(-code).name})'
    return f'crashed the decoder (exit {code})'

  def kill(self) -> None:
    """Ends the child at once; who waits for its answer gets EOFError."""
    self._process.kill()

  def remove(self) -> None:
    """Ends the child, and closes its pipes."""
    self._process.kill()
    self._process.wait()
    self._process.stdin.close()
    self._process.stdout.close()


class Pool:
  """Some child processes, shared by any number of threads."""

  def __init__(
    self,
    num_workers: int,
    *,
    memory_bytes: int = DEFAULT_MEMORY,
    pass_fds: Sequence[int] = (),
  ):
    """Makes an empty pool; each child starts when it is first needed.

    Args:
      num_workers: most children at once.
      memory_bytes: memory that a task may use beyond the child's own at its
        start (bounded on Linux alone), and the largest answer.
      pass_fds: open files of this process that its children shall have, too.

    Raises:
      ValueError: `num_workers` is below 1.
    """
    if num_workers < 1:
      raise ValueError(f'num_workers={num_workers}: at least one is needed')
    self._num_workers = num_workers
    self._memory_bytes = memory_bytes
    self._pass_fds = pass_fds
    # Linux ends a child together with the thread that started it. The threads
    # that bring tasks may end, so one thread that stays starts all children.
    self._starter = concurrent.futures.ThreadPoolExecutor(1)
    self._children: set[_Child] = set()
    self._closed = False
    # One entry a worker: an idle child, or None if one has yet to start.
    # Last in, first out: a caller with one task at a time keeps one child.
    self._free: queue.LifoQueue[_Child | None] = queue.LifoQueue()
    for _ in range(num_workers):
      self._free.put(None)

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *exception) -> None:
    self.close()

  def close(self) -> None:
    """Ends all children. Tasks under way fail."""
    if self._closed:
      return
    self._closed = True
    self._starter.shutdown()
    for child in tuple(self._children):
      child.kill()
    for child in [self._free.get() for _ in range(self._num_workers)]:
      self._remove(child)
      self._free.put(None)

  def _start(self) -> _Child:
    child = _Child(self._memory_bytes, self._pass_fds)
    self._children.add(child)
    return child

  def start(self) -> None:
    """Starts a child in advance, while the caller gets ready.

    Raises:
      OSError: the system cannot start another process.
    """
    child = self._free.get()
    try:
      child = child or self._starter.submit(self._start).result()
    finally:
      self._free.put(child)

  def _remove(self, child: _Child | None) -> None:
    if child is not None:
      self._children.discard(child)
      child.remove()

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
      VideoError: the function raised it. Or, with `transient` set, it took too
        long, took too much memory or crashed.
      OSError: the function raised it (disk full, no permission).
      RuntimeError: the function raised anything else (a bug), or the pool is
        closed.
    """
    child = self._free.get()
    try:
      if self._closed:
        raise RuntimeError('the pool of decoding processes is closed')
      if child is None:
        child = self._starter.submit(self._start).result()
      header, buffers = child.ask(task, kwargs, time.monotonic() + deadline)
    except BaseException as e:
      # Nobody would read its late answer, so this child is not used again.
      # Another takes its place when needed.
      is_gone = isinstance(e, (EOFError, OSError, ValueError))
      reason = child.how_it_died() if child and is_gone else ''
      self._remove(child)
      child = None
      if isinstance(e, _Timeout):
        reason = f'took longer than {deadline:g} s to decode and was given up'
      if reason:
        raise decode.VideoError(name, reason, transient=True) from None
      raise
    finally:
      self._free.put(child)
    if 'facts' in header:
      return header['facts'], buffers
    if 'video_error' in header:
      raise decode.VideoError(*header['video_error'])
    if 'out_of_memory' in header:
      limit = self._memory_bytes >> 20
      raise decode.VideoError(
        name, f'takes more than {limit} MiB to decode', transient=True
      )
    if 'os_error' in header:
      raise OSError(*header['os_error'])
    raise RuntimeError(f'{name}: {task} failed:\n{header.get("error")}')


def _import_path() -> list[str]:
  """Returns the paths where the child finds this package, installed or not."""
  package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  known = os.environ.get('PYTHONPATH', '').split(os.pathsep)
  return [os.path.dirname(package), *filter(None, known)]


def default_workers() -> int:
  """Returns the most children that `run` keeps: one a core, at most 8."""
  return min(os.cpu_count() or 1, 8)


@functools.cache
def _default_pool(pid: int) -> Pool:
  """Returns the pool of this process; a forked process makes its own."""
  pool = Pool(default_workers())
  atexit.register(pool.close)
  return pool


def read_ahead(
  jobs: Iterable[Callable[[], _Result]], workers: int = 0, ahead: int = 0
) -> Iterator[_Result]:
  """Runs jobs in threads and yields their results in order.

  Made for jobs that wait for a child. An error of a job is raised in its turn,
  and ends the other jobs.

  Args:
    jobs: taken one by one, as there is room.
    workers: threads; 0 takes `default_workers`.
    ahead: most results that wait to be taken; 0 means twice as many as there
      are threads.

  Yields:
    What each job returns.
  """
  workers = workers or default_workers()
  ahead = ahead or 2 * workers
  jobs = iter(jobs)
  waiting: collections.deque[concurrent.futures.Future] = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(workers) as executor:
    try:
      for job in itertools.islice(jobs, ahead):
        waiting.append(executor.submit(job))
      while waiting:
        result = waiting.popleft().result()
        for job in itertools.islice(jobs, 1):
          waiting.append(executor.submit(job))
        yield result
    finally:
      # Nobody takes what is left.
      for future in waiting:
        future.cancel()


def start() -> None:
  """Starts the child that `run` uses; see `Pool.start`."""
  _default_pool(os.getpid()).start()


def run(
  task: str, kwargs: dict[str, Any], *, name: str, deadline: float
) -> tuple[dict[str, Any], list[bytearray]]:
  """Runs `Pool.run` on a child that is kept until the program ends."""
  pool = _default_pool(os.getpid())
  return pool.run(task, kwargs, name=name, deadline=deadline)
