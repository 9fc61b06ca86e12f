"""The child process of `isolated`: takes tasks on stdin, answers on stdout.

A message is a line of JSON, then the raw bytes of the buffers whose sizes the
line lists. Nothing is pickled: a hostile video may take over this process, so
its parent does not trust it.
"""

import contextlib
import ctypes
import errno
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any, BinaryIO

_PR_SET_PDEATHSIG = 1
_PACKAGE = 'zsar_jax.data.'


def write_message(
  file: BinaryIO, header: dict[str, Any], buffers: list[Any] = ()
) -> None:
  """Writes a message.

  Args:
    file: a pipe.
    header: JSON-able.
    buffers: bytes or contiguous arrays.
  """
  views = [memoryview(buffer).cast('B') for buffer in buffers]
  header = {**header, 'sizes': [view.nbytes for view in views]}
  file.write(json.dumps(header).encode() + b'\n')
  for view in views:
    file.write(view)
  file.flush()


def run_task(task: str, kwargs: dict[str, Any]) -> tuple[dict, list]:
  """Calls the function that a task names.

  Args:
    task: 'zsar_jax.data.module:function'.
    kwargs: its arguments.

  Returns:
    A message: what the function returned, or its error.
  """
  from zsar_jax.data import decode

  try:
    module, _, function = task.partition(':')
    if not module.startswith(_PACKAGE):
      raise ValueError(f'{task} is not in {_PACKAGE}')
    facts, buffers = getattr(importlib.import_module(module), function)(
      **kwargs
    )
  except decode.VideoError as e:
    return {'video_error': [e.name, e.reason, e.transient]}, []
  except MemoryError:
    return {'out_of_memory': True}, []
  except OSError as e:
    # FFmpeg's errors are OSErrors too.
    if e.errno == errno.ENOMEM:
      return {'out_of_memory': True}, []
    if e.errno is None or type(e).__module__ != 'builtins':
      return {'error': traceback.format_exc()}, []
    return {'os_error': [e.errno, e.strerror, e.filename]}, []
  except Exception:
    return {'error': traceback.format_exc()}, []
  return {'facts': facts}, buffers


def _limit_memory(num_bytes: int) -> None:
  """Bounds the memory that the process may use beyond what it has now."""
  try:
    import resource

    with open('/proc/self/statm') as f:
      now = int(f.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + num_bytes,) * 2)
  except (ImportError, OSError, ValueError):
    pass  # This system has no such limit; the deadline remains.


def _die_with_parent(parent: int) -> None:
  """Asks Linux for a SIGKILL when the parent dies, however it dies."""
  if sys.platform.startswith('linux'):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # The parent died before the call.
      os._exit(1)


def main(argv: list[str]) -> None:
  """Answers tasks until stdin is closed.

  Args:
    argv: program name, process number of the parent, bytes of memory.
  """
  _die_with_parent(int(argv[1]))
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent decides.
  # Answers go to a descriptor that no print and no C library uses.
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)
  tasks = sys.stdin.buffer
  # Before memory is bounded.
  import cv2  # noqa: F401

  from zsar_jax.data import transcode  # noqa: F401

  _limit_memory(int(argv[2]))
  for line in tasks:
    request = json.loads(line)
    # Paths are relative to the caller's folder, which may have changed.
    with contextlib.suppress(OSError):
      os.chdir(request.get('folder', ''))
    header, buffers = run_task(request['task'], request['kwargs'])
    write_message(answers, header, buffers)


if __name__ == '__main__':
  main(sys.argv)
