"""What is to be prepared: a list of video files and what is known of them.

Each dataset is a function from where its files lie to a `Manifest`; checking,
transcoding and packing are the same for all (see `packed_videos`).
"""

from collections.abc import Mapping
from concurrent import futures
import dataclasses
import hashlib
import json
import os

# The split of a dataset that brings none. TFDS reserves the name 'all'.
SINGLE_SPLIT = 'videos'
# Enough to tell files of one name and size apart: staging reads them whole.
_HEAD_BYTES = 16 * 1024
# Files opened at once: on a network disk each takes long to answer.
_THREADS = 16


@dataclasses.dataclass(frozen=True)
class ManifestEntry:
  """One video that is to be packed: a file, or a stretch of one.

  Attributes:
    path: where the file lies.
    id: its name in the dataset, unique over all splits, with '/'.
    label: canonical class name.
    group: recording session; videos of one group never get split.
    source: where the class lives, '' if there is only one place.
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
    """Whether nothing is cut off."""
    return self.start == 0 and self.end is None


@dataclasses.dataclass(frozen=True)
class MissingVideo:
  """A video that the dataset's own lists name and that is not there."""

  id: str
  label: str
  split: str = SINGLE_SPLIT


@dataclasses.dataclass(frozen=True)
class Manifest:
  """Everything that is to be prepared under one dataset name.

  Attributes:
    dataset: name of the dataset, such as 'ucf101'.
    title: of this copy, as words; goes into its folder's name.
    entries: sorted by split and id.
    class_names: canonical, sorted; at least the labels of the entries.
    missing: expected but not there.
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
  """Names what a manifest lists, wherever it lies.

  Args:
    manifest: what is to be prepared.

  Returns:
    12 hex digits over its classes, splits and lists, and over each entry's
    id, label, group, source, split, stretch, file size and first 16 KiB.
    Times, paths and the title do not count, so that a copy of a folder has
    the fingerprint of the original.
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
  """Size of a file and the hash of its beginning."""
  try:
    with open(path, 'rb') as f:
      size = os.fstat(f.fileno()).st_size
      return size, hashlib.sha256(f.read(_HEAD_BYTES)).hexdigest()
  except OSError:
    return -1, ''  # Listed as unreadable later.
