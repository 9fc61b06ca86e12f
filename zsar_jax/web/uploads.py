"""Uploaded files: where they lie, who still needs them, when they go.

All lie in one folder of their own. The page's sessions hold what they show;
two visitors with the same video hold the same file. A file goes when its last
session ends or takes another, and where no session ever took it (an upload
that broke off), some minutes after it was last written to. None stays for long.
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
    folder: that they lie in.
  """

  def __init__(self, folder: str, limits: limits_lib.Limits):
    """Takes a folder that nothing else uses.

    Args:
      folder: an existing one.
      limits: of the page.
    """
    self.folder = os.path.realpath(folder)
    self._limits = limits
    self._lock = threading.Lock()
    self._held: dict[str, str] = {}
    self._coming = 0

  def resolve(self, path: str) -> str:
    """Returns the real path of an upload.

    Args:
      path: as the page sent it, so perhaps of any file.

    Raises:
      ValueError: it is no file in the folder of uploads; the message does not
        say whether there is such a file elsewhere.
    """
    real = os.path.realpath(path) if '\0' not in path else ''
    inside = real.startswith(self.folder + os.sep)
    if not inside or not os.path.isfile(real):
      raise ValueError(
        'This video is not here any more. Choose or record it again.'
      )
    return real

  def hold(self, session: str, path: str | None) -> None:
    """Keeps a file for a session, and lets go of the one it held before.

    Args:
      session: any text that names it.
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
    """Ends a session."""
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
    """Deletes files that are old, those that no session holds sooner."""
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
    """Returns the size of all files."""
    total = 0
    for path in self._files():
      with contextlib.suppress(OSError):
        total += path.stat().st_size
    return total

  @contextlib.contextmanager
  def room_for(self, size: int):
    """Reserves room for an upload while it comes in.

    Args:
      size: in bytes.

    Yields:
      Whether there is room.
    """
    with self._lock:
      # What has come in counts twice for a moment: on the safe side.
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
    """Starts it.

    Args:
      uploads: to sweep.
      seconds: from one sweep to the next.
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
