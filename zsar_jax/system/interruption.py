"""Stops a run on request: it saves, and exits with a code for "start again"."""

from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def on_request(stop: Callable[[], None]) -> Iterator[None]:
  """Calls `stop` at the first Ctrl-C or SIGTERM; the next one acts as ever.

  Outside the main thread no handler can be set, so nothing is handled.

  Args:
    stop: makes what runs in the block come to its end.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  numbers = signal.SIGINT, signal.SIGTERM
  before = [signal.getsignal(number) for number in numbers]

  def restore():
    for number, handler in zip(numbers, before, strict=True):
      signal.signal(number, handler)

  def handle(*_):
    restore()
    stop()

  for number in numbers:
    signal.signal(number, handle)
  try:
    yield
  finally:
    restore()
