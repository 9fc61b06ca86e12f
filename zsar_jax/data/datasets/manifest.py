"""The list of video files to prepare, with label, group and split of each.

Each dataset is a function from a folder to a `Manifest`. Checking, transcoding
and packing are the same for all (see `packed_videos`).
"""

from collections.abc import Mapping
from concurrent import futures
import dataclasses
import hashlib
import json
import os

# The split of a dataset that has none. TFDS reserves the name 'all'.
SINGLE_SPLIT = 'videos'
# Bytes that distinguish files of one name and size. Staging reads whole files.
_HEAD_BYTES = 16 * 1024
# Files opened at once, because a network disk answers slowly.
_THREADS = 16


@dataclasses.dataclass(frozen=True)
class ManifestEntry:
  """One video to pack: a file, or a stretch of one.

  Attributes:
    path: of the file.
    id: its name in the dataset, unique over all splits, with '/'.
    label: canonical class name.
    group: recording session; videos of one group are never split.
    source: place or camera of the class, '' if there is only one.
    split: the split it belongs to.
    start: seconds at which the stretch begins.
    end: seconds at which it ends; None for the end of the file.
  """

  path: str
  id: str
  label: str
  group: str
  source: str = ''
  split: str = SINGLE_SPLIT
  start: float = 0.0
  end: float | None = None

  @property
  def is_whole_file(self) -> bool:
    """Whether the entry is the whole file."""
    return self.start == 0 and self.end is None


@dataclasses.dataclass(frozen=True)
class MissingVideo:
  """A video that the dataset's own lists name and that does not exist."""

  id: str
  label: str
  split: str = SINGLE_SPLIT


@dataclasses.dataclass(frozen=True)
class Manifest:
  """All videos to prepare under one dataset name.

  Attributes:
    dataset: name of the dataset, such as 'ucf101'.
    title: of this copy, as words; goes into its folder's name.
    entries: sorted by split and id.
    class_names: canonical, sorted; at least the labels of the entries.
    missing: videos that were expected and do not exist.
    lists: official video lists (such as 'test1') -> ids.
    splits: names of the splits, in order.
  """

  dataset: str
  title: str
  entries: tuple[ManifestEntry, ...]
  class_names: tuple[str, ...]
  missing: tuple[MissingVideo, ...] = ()
  lists: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  splits: tuple[str, ...] = (SINGLE_SPLIT,)


def fingerprint(manifest: Manifest) -> str:
  """Hashes the content of a manifest, wherever its files lie.

  Args:
    manifest: the videos to prepare.

  Returns:
    12 hex digits over its classes, splits and lists, and over each entry's
    id, label, group, source, split, stretch, file size and first 16 KiB.
    Times, paths and the title do not count, so a copy of a folder has the
    fingerprint of the original.
  """
  known = (
    manifest.class_names,
    manifest.splits,
    sorted(manifest.lists.items()),
    [dataclasses.astuple(video) for video in manifest.missing],
  )
  digest = hashlib.sha256(json.dumps(known).encode())
  # Stretches of one file share its head.
  paths = list(dict.fromkeys(entry.path for entry in manifest.entries))
  with futures.ThreadPoolExecutor(_THREADS) as threads:
    heads = dict(zip(paths, threads.map(_head, paths), strict=True))
  for entry in manifest.entries:
    fields = dataclasses.astuple(entry)[1:]
    digest.update(json.dumps((*fields, *heads[entry.path])).encode())
  return digest.hexdigest()[:12]


def _head(path: str) -> tuple[int, str]:
  """Returns a file's size and the hash of its beginning."""
  try:
    with open(path, 'rb') as f:
      size = os.fstat(f.fileno()).st_size
      return size, hashlib.sha256(f.read(_HEAD_BYTES)).hexdigest()
  except OSError:
    return -1, ''  # Staging lists it as unreadable later.
