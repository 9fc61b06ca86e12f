"""Stops a run on request: it saves, and exits with a code for "start again"."""

from collections.abc import Iterator
import contextlib
import signal
import threading

# EX_TEMPFAIL of sysexits.h. Schedulers can start a job with this code again.
EXIT_CODE = 75


class Interrupted(Exception):
  """A run was stopped from outside, and has saved its state."""


class StopFlag:
  """Whether this process was told to stop.

  Outside `deferred` there is nothing to save, so the signal raises
  `Interrupted` at once.
  """

  def __init__(self):
    self._told = self._deferred = False

  def __bool__(self) -> bool:
    return self._told

  def _raise(self) -> None:
    raise Interrupted('told to stop; the same command resumes from there')

  def handle(self, *_) -> None:
    """Handles the signal."""
    self._told = True
    if not self._deferred:
      self._raise()

  @contextlib.contextmanager
  def deferred(self) -> Iterator[None]:
    """Records a signal while steps run; the loop checks it between steps."""
    self._deferred = True
    try:
      yield
    finally:
      self._deferred = False
    if self._told:
      self._raise()


@contextlib.contextmanager
def on_termination(handle: bool = True) -> Iterator[StopFlag]:
  """Handles SIGTERM, the notice of preemption.

  Outside the main thread no handler can be set, so nothing is handled.

  Args:
    handle: False if something else handles the signal. With several processes
      JAX does, and informs all of them.

  Yields:
    The flag.
  """
  flag = StopFlag()
  in_main = threading.current_thread() is threading.main_thread()
  if not (handle and in_main):
    yield flag
    return
  before = signal.signal(signal.SIGTERM, flag.handle)
  try:
    yield flag
  finally:
    signal.signal(signal.SIGTERM, before)
