"""Makes folders that appear whole or not at all."""

from collections.abc import Iterator
import contextlib
import os
import tempfile


def check_new(path: str) -> None:
  """Raises FileExistsError if there is something at a path."""
  if os.path.lexists(path):
    raise FileExistsError(f'{path} exists: name a new folder')


@contextlib.contextmanager
def making(path: str, resumes: bool = False) -> Iterator[str]:
  """Makes a new folder: it appears when the block has ended without error.

  Args:
    path: of the folder to make; its parents are made too.
    resumes: keep what a block that fails has written, in `PATH.unfinished`. The
      next block for this path finds it there.

  Yields:
    A folder beside it, to write into.

  Raises:
    FileExistsError: there is something at `path`.
    OSError: the folder cannot be made.
  """
  path = os.path.abspath(path)
  check_new(path)
  parent = os.path.dirname(path)
  os.makedirs(parent, exist_ok=True)
  with contextlib.ExitStack() as stack:
    if resumes:
      unfinished = f'{path}.unfinished'
      os.makedirs(unfinished, exist_ok=True)
    else:
      scratch = tempfile.TemporaryDirectory(dir=parent)
      # Below it, since only the owner may read a temporary folder.
      unfinished = os.path.join(stack.enter_context(scratch), 'unfinished')
      os.mkdir(unfinished)
    try:
      yield unfinished
    except BaseException:
      with contextlib.suppress(OSError):
        os.rmdir(unfinished)  # only if nothing is in it
      raise
    os.rename(unfinished, path)
