"""Being told to stop: save, and leave with a code that means "start again"."""

from collections.abc import Iterator
import contextlib
import signal
import threading

# EX_TEMPFAIL of sysexits.h: schedulers can be told to start such a job again.
EXIT_CODE = 75


class Interrupted(Exception):
  """A run was stopped from outside, and has saved what it had."""


class StopFlag:
  """Whether this process was told to stop.

  Outside `deferred` there is nothing to save first: being told raises
  `Interrupted` on the spot.
  """

  def __init__(self):
    self._told = self._deferred = False

  def __bool__(self) -> bool:
    return self._told

  def _raise(self) -> None:
    raise Interrupted('told to stop; the same command goes on from there')

  def handle(self, *_) -> None:
    """Handles the signal."""
    self._told = True
    if not self._deferred:
      self._raise()

  @contextlib.contextmanager
  def deferred(self) -> Iterator[None]:
    """Only notes a signal while steps run; the loop looks between two."""
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

  Outside the main thread, where no handler can be set, nothing is handled.

  Args:
    handle: False where somebody else listens for it: with several processes
      JAX does, and tells all of them.

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
