"""Starts child processes that always end with their test."""

from collections.abc import Iterator, Sequence
import contextlib
import os
import signal
import subprocess

# Default time limit of a program in seconds: several times what it needs, and
# less than the limit of a test on an idle machine.
# Busy machines take several times as long as idle ones.
DEADLINE = 150.0


def kill(process: subprocess.Popen) -> None:
  """Ends a process of `start` and all its child processes, and waits."""
  # The id of a process group stays in use while any process is in it.
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()


@contextlib.contextmanager
def start(argv: Sequence[str], **kwargs) -> Iterator[subprocess.Popen]:
  """Starts a program in a new session; ends it at the end of the block.

  Args:
    argv: the command line.
    **kwargs: of `subprocess.Popen`.

  Yields:
    The process.
  """
  process = subprocess.Popen(argv, start_new_session=True, **kwargs)
  try:
    yield process
  finally:
    kill(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
      if pipe is not None:
        pipe.close()


def run(
  argv: Sequence[str], *, timeout: float = DEADLINE, text=True, **kwargs
) -> subprocess.CompletedProcess:
  """Like `subprocess.run` with its output captured, but ends whole groups.

  `subprocess.run` kills the program alone at its deadline, and then waits for
  everybody who still holds its pipes.

  Args:
    argv: the command line.
    timeout: seconds until it is killed with all it has started.
    text: whether output is text.
    **kwargs: of `subprocess.Popen`.

  Returns:
    What it printed, and its exit code.

  Raises:
    AssertionError: it was not done in time; what it had printed is shown.
  """
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': text}
  with start(argv, **pipes, **kwargs) as process:
    try:
      out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
      kill(process)
      out, err = process.communicate()
      raise AssertionError(
        f'{argv[0]} was not done in {timeout:g} s; it printed:\n{out}\n{err}'
      ) from None
  return subprocess.CompletedProcess(argv, process.returncode, out, err)
