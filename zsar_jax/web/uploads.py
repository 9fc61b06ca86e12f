"""Keeps uploaded files, and deletes them when nobody needs them any more.

All files are in one folder. A session holds the file that it shows; two
visitors with the same video hold the same file. A file is deleted when the last
session that holds it ends or chooses another. A file that no session holds,
such as a broken upload, is deleted some minutes after its last change. No file
stays longer than `Limits.hold_minutes`.
"""

import contextlib
import os
import pathlib
import shutil
import threading
import time

from zsar_jax.web import limits as limits_lib


class Uploads:
  """The folder of uploads, and which session holds which file.

  Attributes:
    folder: the folder.
  """

  def __init__(self, folder: str, limits: limits_lib.Limits):
    """Takes over a folder.

    Args:
      folder: an existing folder that nothing else uses.
      limits: limits of the page.
    """
    self.folder = os.path.realpath(folder)
    self._limits = limits
    self._lock = threading.Lock()
    self._held: dict[str, str] = {}
    self._coming = 0

  def resolve(self, path: str) -> str:
    """Returns the real path of an upload.

    Args:
      path: path that the browser sent. It may be hostile.

    Raises:
      ValueError: it is no file in the folder of uploads. The message does not
        tell whether such a file exists elsewhere.
    """
    real = os.path.realpath(path) if '\0' not in path else ''
    inside = real.startswith(self.folder + os.sep)
    if not inside or not os.path.isfile(real):
      raise ValueError(
        'This video is not here any more. Choose or record it again.'
      )
    return real

  def hold(self, session: str, path: str | None) -> None:
    """Holds a file for a session, and releases the one that it held before.

    Args:
      session: id of the session.
      path: from `resolve`; None holds nothing.
    """
    with self._lock:
      before = self._held.pop(session, None)
      if path is not None:
        self._held[session] = path
      if before not in self._held.values():
        self._delete(before)

  def holds(self, session: str, path: str) -> bool:
    """Returns whether a session still holds a file."""
    with self._lock:
      return self._held.get(session) == path

  def release(self, session: str) -> None:
    """Releases the file of a session that has ended."""
    self.hold(session, None)

  def _delete(self, path: str | None) -> None:
    if path is None:
      return
    with contextlib.suppress(OSError):
      os.remove(path)
    with contextlib.suppress(OSError):  # the folder of this one file
      if os.path.dirname(path) != self.folder:
        os.rmdir(os.path.dirname(path))

  def sweep(self) -> None:
    """Deletes old files; files that no session holds are deleted sooner."""
    now = time.time()
    with self._lock:
      held = set(self._held.values())
      for path in self._files():
        is_held = str(path) in held
        limits = self._limits
        minutes = limits.hold_minutes if is_held else limits.keep_minutes
        with contextlib.suppress(OSError):
          if path.stat().st_mtime < now - 60 * minutes:
            self._delete(str(path))

  def _files(self) -> list[pathlib.Path]:
    return [p for p in pathlib.Path(self.folder).rglob('*') if p.is_file()]

  @property
  def num_bytes(self) -> int:
    """Size of all files, in bytes."""
    total = 0
    for path in self._files():
      with contextlib.suppress(OSError):
        total += path.stat().st_size
    return total

  @contextlib.contextmanager
  def room_for(self, size: int):
    """Context manager that reserves room for an upload while it arrives.

    Args:
      size: size in bytes.

    Yields:
      Whether there is room.
    """
    with self._lock:
      # Bytes that have arrived count twice, which errs on the safe side.
      fits = self.num_bytes + self._coming + size <= self._limits.store_bytes
      if fits:
        self._coming += size
    try:
      yield fits
    finally:
      if fits:
        with self._lock:
          self._coming -= size

  def empty(self) -> None:
    """Deletes all files."""
    with self._lock:
      self._held.clear()
      for entry in pathlib.Path(self.folder).iterdir():
        if entry.is_dir():
          shutil.rmtree(entry, ignore_errors=True)
        else:
          entry.unlink(missing_ok=True)


class Sweeper:
  """A thread that sweeps the uploads once a minute until it is closed."""

  def __init__(self, uploads: Uploads, seconds: float = 60.0):
    """Starts the thread.

    Args:
      uploads: uploads to sweep.
      seconds: time between two sweeps.
    """
    self._end = threading.Event()

    def work():
      while not self._end.wait(seconds):
        uploads.sweep()

    self._thread = threading.Thread(target=work, daemon=True)
    self._thread.start()

  def close(self) -> None:
    """Ends the thread."""
    self._end.set()
    self._thread.join()
