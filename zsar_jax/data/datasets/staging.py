"""First stage of preparation: checks and transcodes every video, once.

The results lie in a cache, one file a video. Its name is a hash of the source's
bytes, the stretch and the storage's settings:

  <data_dir>/staging/<settings>/<ab>/<abcdef...>.safetensors

A file there is always whole: it is written under another name, synced and
renamed. So a run that was killed at any moment continues where it was. The same
bytes are never transcoded twice, wherever they lie.

Videos are untrusted. A child process with a deadline decodes each.
"""

from collections.abc import Iterator, Sequence
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import socket
import threading
from typing import Any

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy
import tqdm

from zsar_jax.data import decode, isolated, transcode
from zsar_jax.data.datasets import manifest as manifest_lib

# Part of every key. A new number remakes all entries; raise it if the content
# changes.
_VERSION = 1
_TASK = 'zsar_jax.data.transcode:store_video'
_CHUNK = 1 << 20
DEFAULT_DEADLINE = 600.0
_HOST = socket.gethostname().replace('.', '_')


@dataclasses.dataclass(frozen=True)
class Staged:
  """The result of staging one video.

  Attributes:
    entry: the video.
    digest: see `records.VideoIndex`; '' if the file could not be read.
    num_frames: of the source, in the stretch.
    seconds: of the stretch.
    reason: why it cannot be used; '' if it can.
    cache_path: file with its content; '' if the source's bytes are kept.
    is_reused: whether it was in the cache already.
  """

  entry: manifest_lib.ManifestEntry
  digest: str
  num_frames: int = 0
  seconds: float = 0.0
  reason: str = ''
  cache_path: str = ''
  is_reused: bool = False

  def read(self) -> dict[str, Any]:
    """Reads the content: `video`, or `jpegs` and `spans`.

    Returns:
      The content of a record of storage 'video', or of storage 'frames' before
      it is cut into records.

    Raises:
      ValueError: the source has changed since it was checked.
    """
    if not self.cache_path:
      with open(self.entry.path, 'rb') as f:
        video = f.read()
      if _digest_of(hashlib.sha256(video), self.entry) != self.digest:
        raise ValueError(
          f'{self.entry.path} has changed since it was checked: prepare again'
        )
      return {'video': video}
    _, tensors = _read_entry(self.cache_path)
    if 'spans' in tensors:
      return {
        'jpegs': tensors['content'].tobytes(),
        'spans': tensors['spans'],
      }
    return {'video': tensors['content'].tobytes()}


def staging_dir(data_dir: str, storage: transcode.Storage) -> str:
  """Returns the folder of the cache for some settings."""
  return os.path.join(data_dir, 'staging', f'{storage.hash}-{_VERSION}')


def stage(
  entries: Sequence[manifest_lib.ManifestEntry],
  data_dir: str,
  storage: transcode.Storage,
  *,
  workers: int = 0,
  deadline: float = DEFAULT_DEADLINE,
  show_progress: bool | None = None,
) -> list[Staged]:
  """Runs the first stage over some videos, on all cores.

  Args:
    entries: the videos.
    data_dir: folder of datasets and cache.
    storage: how to store the videos.
    workers: child processes; 0 for one per core.
    deadline: time limit of one video in seconds.
    show_progress: whether to draw a progress bar on stderr; None draws it on
      a terminal only.

  Returns:
    The result of each, in order. Videos that cannot be used have a reason. If
    one ran into the deadline or crashed its decoder, the next call tries again.

  Raises:
    OSError: the cache cannot be written, such as on a full disk. Finished
      entries are kept.
  """
  workers = workers or os.cpu_count() or 1
  folder = staging_dir(data_dir, storage)
  os.makedirs(folder, exist_ok=True)
  _remove_leftovers(folder)
  with (
    isolated.Pool(workers) as pool,
    concurrent.futures.ThreadPoolExecutor(workers) as threads,
    tqdm.tqdm(
      total=len(entries),
      desc='checking videos',
      unit='video',
      disable=None if show_progress is None else not show_progress,
    ) as bar,
  ):
    stage_one = functools.partial(
      stage_video, folder=folder, storage=storage, pool=pool, deadline=deadline
    )
    futures = [threads.submit(stage_one, entry) for entry in entries]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
        bar.update()
    except BaseException:
      threads.shutdown(wait=False, cancel_futures=True)
      pool.close()  # Otherwise the pool would wait for the videos under way.
      raise
    return [future.result() for future in futures]


def stage_video(
  entry: manifest_lib.ManifestEntry,
  folder: str,
  storage: transcode.Storage,
  pool: isolated.Pool,
  deadline: float = DEFAULT_DEADLINE,
) -> Staged:
  """Stages one video, or finds it staged.

  Args:
    entry: the video.
    folder: from `staging_dir`.
    storage: how to store it.
    pool: child processes.
    deadline: time limit in seconds.

  Returns:
    The result.

  Raises:
    OSError: the cache cannot be written.
  """
  try:
    digest = _digest_file(entry)
  except OSError as e:
    reason = f'cannot be read ({e.strerror})'
    if isinstance(e, FileNotFoundError):
      reason = 'does not exist'
    return Staged(entry, '', reason=reason)
  path = _entry_path(folder, digest)
  reused = os.path.exists(path)
  if not reused:
    facts, content = _store(entry, storage, pool, deadline)
    if facts.pop('is_transient', False):
      return Staged(entry, digest, **facts)
    _write_entry(path, facts, content)
  else:
    facts = _read_entry(path, facts_only=True)[0]
  has_content = not (facts.get('reason') or _keeps_bytes(entry, storage))
  return Staged(
    entry,
    digest,
    **facts,
    cache_path=path if has_content else '',
    is_reused=reused,
  )


def remove(
  staged: Sequence[Staged], data_dir: str, storage: transcode.Storage
) -> None:
  """Removes videos from the cache; those of other datasets stay.

  Args:
    staged: from `stage`.
    data_dir: as in `stage`.
    storage: as in `stage`.
  """
  folder = staging_dir(data_dir, storage)
  for video in staged:
    path = _entry_path(folder, video.digest)
    with contextlib.suppress(OSError):  # Listed twice, or never written.
      os.remove(path)
    with contextlib.suppress(OSError):  # The folder has other entries.
      os.rmdir(os.path.dirname(path))
  for empty in (folder, os.path.dirname(folder)):
    with contextlib.suppress(OSError):
      os.rmdir(empty)


def _entry_path(folder: str, digest: str) -> str:
  return os.path.join(folder, digest[:2], f'{digest}.safetensors')


def _keeps_bytes(entry, storage) -> bool:
  return storage.keeps_bytes(entry.is_whole_file)


def _store(entry, storage, pool, deadline):
  """Returns facts and content of a video; a `reason` if it cannot be used."""
  try:
    return pool.run(
      _TASK,
      {
        'path': entry.path,
        'name': entry.id,
        'start': entry.start,
        'end': entry.end,
        'storage': storage.to_dict(),
      },
      name=entry.id,
      deadline=deadline,
    )
  except decode.VideoError as e:
    return {'reason': e.reason, 'is_transient': e.transient}, []
  except OSError as e:
    if e.filename != entry.path:
      raise
    reason = f'cannot be read ({e.strerror})'
    return {'reason': reason, 'is_transient': True}, []


def _digest_file(entry: manifest_lib.ManifestEntry) -> str:
  digest = hashlib.sha256()
  with open(entry.path, 'rb') as f:
    while chunk := f.read(_CHUNK):
      digest.update(chunk)
  return _digest_of(digest, entry)


def _digest_of(digest, entry: manifest_lib.ManifestEntry) -> str:
  """Hashes a stretch of a file; see `records.VideoIndex`."""
  if not entry.is_whole_file:
    digest.update(json.dumps([entry.start, entry.end]).encode())
  return digest.hexdigest()[:32]


def _write_entry(path: str, facts: dict[str, Any], content: list) -> None:
  """Writes an entry whole or not at all."""
  tensors = {}
  if content:
    tensors['content'] = np.frombuffer(content[0], np.uint8)
  if len(content) > 1:
    spans = np.frombuffer(content[1], np.int64)
    tensors['spans'] = np.ascontiguousarray(spans.reshape(-1, 2))
  os.makedirs(os.path.dirname(path), exist_ok=True)
  # With the thread: a video may be listed twice.
  temporary = f'{path}.{_HOST}.{os.getpid()}.{threading.get_ident()}.tmp'
  try:
    with open(temporary, 'wb') as f:
      f.write(
        safetensors_numpy.save(tensors, metadata={'facts': json.dumps(facts)})
      )
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
  except OSError as e:
    with contextlib.suppress(OSError):
      os.remove(temporary)
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
      raise OSError(
        e.errno,
        f'no space left for {os.path.dirname(path)}; finished videos are '
        'kept: free some space and prepare again',
      ) from e
    raise


def _read_entry(path: str, facts_only: bool = False):
  """Reads the facts and tensors of an entry."""
  with safetensors.safe_open(path, framework='numpy') as f:
    facts = json.loads(f.metadata()['facts'])
    tensors = {} if facts_only else {k: f.get_tensor(k) for k in f.keys()}
  return facts, tensors


def _remove_leftovers(folder: str) -> None:
  """Removes unfinished files of dead runs on this machine."""
  for path in _temporary_files(folder):
    host, pid = path.rsplit('.', 4)[1:3]
    if host == _HOST and not _is_alive(pid):
      os.remove(path)


def _temporary_files(folder: str) -> Iterator[str]:
  for subfolder, _, files in os.walk(folder):
    for file in files:
      if file.endswith('.tmp'):
        yield os.path.join(subfolder, file)


def _is_alive(pid: str) -> bool:
  try:
    os.kill(int(pid), 0)
  except ProcessLookupError:
    return False
  except (PermissionError, ValueError):
    pass  # It is another user's, or not ours: leave it.
  return True
