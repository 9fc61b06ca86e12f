"""Finds files and names classes, for the layouts of all public datasets."""

import collections
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import difflib
import os
import re

from absl import logging

from zsar_jax.data import class_names
from zsar_jax.data.datasets import manifest
from zsar_jax.data.protocols import known_classes

VIDEO_SUFFIXES = frozenset(
  '.mp4 .avi .mkv .webm .mov .m4v .mpg .mpeg .wmv .flv .3gp .ts .ogv'.split()
)
_NUM_NAMED = 5


@dataclasses.dataclass(frozen=True)
class FoundFile:
  """A file under a source folder.

  Attributes:
    path: of the file.
    parts: its path from the source, as text: folders, then the name.
  """

  path: str
  parts: tuple[str, ...]

  @property
  def stem(self) -> str:
    """Its name without the suffix."""
    return os.path.splitext(self.parts[-1])[0]

  @property
  def suffix(self) -> str:
    """The suffix in small letters, with the dot."""
    return os.path.splitext(self.parts[-1])[1].lower()

  @property
  def folders(self) -> tuple[str, ...]:
    """The folders from the source to the file."""
    return self.parts[:-1]


def find_files(source: str, layout: str) -> list[FoundFile]:
  """Lists all files of a folder tree that are not hidden.

  Links are followed, because large datasets are often joined by links; a
  folder that is reached twice counts once.

  Args:
    source: a folder.
    layout: the expected layout, for the error message.

  Returns:
    The files, sorted by their parts.

  Raises:
    FileNotFoundError: the folder does not exist.
    ValueError: `source` is not a folder.
    PermissionError: a folder may not be read.
  """
  if not os.path.exists(source):
    raise FileNotFoundError(f'{source}: no such folder; expected {layout}')
  if not os.path.isdir(source):
    raise ValueError(f'{source} is not a folder; expected {layout}')
  found, visited = [], set()
  for folder, subfolders, files in os.walk(
    source, onerror=_raise, followlinks=True
  ):
    real = os.path.realpath(folder)
    if real in visited:
      subfolders.clear()
      continue
    visited.add(real)
    subfolders[:] = sorted(f for f in subfolders if not f.startswith('.'))
    relative = os.path.relpath(folder, source)
    folders = () if relative == '.' else tuple(as_text(relative).split('/'))
    found += [
      FoundFile(os.path.join(folder, file), (*folders, as_text(file)))
      for file in files
      if not file.startswith('.')
    ]
  return sorted(found, key=lambda file: file.parts)


def videos_of(files: Iterable[FoundFile]) -> list[FoundFile]:
  """Returns the files that are named as videos."""
  return [file for file in files if file.suffix in VIDEO_SUFFIXES]


def as_text(path: str) -> str:
  """Writes a path as text with '/', escaped where its bytes are not UTF-8."""
  text = os.fsencode(path).decode('utf-8', 'backslashreplace')
  return text.replace(os.sep, '/')


class ClassList:
  """The classes of a dataset, found in any spelling.

  Spaces, underscores, capitals and signs do not count, because file systems
  and tools change them.

  Attributes:
    names: canonical names, sorted.
  """

  def __init__(self, list_name: str):
    """Takes a list of `known_classes.list_names()`."""
    self._list_name = list_name
    self._by_key = {
      _key(name): name for name in known_classes.canonical(list_name)
    }
    self.names = known_classes.canonical(list_name)

  def find(self, spelling: str) -> str | None:
    """Returns the canonical name of a class; None if it is not in the list."""
    return self._by_key.get(_key(spelling))

  def get(self, spelling: str, where: str) -> str:
    """Returns the canonical name of a class.

    Args:
      spelling: of a user or a list.
      where: place of the spelling, for the error message.

    Returns:
      The canonical name.

    Raises:
      ValueError: there is no such class; the message has the nearest.
    """
    name = self.find(spelling)
    if name is None:
      near = difflib.get_close_matches(
        class_names.canonical_name(spelling), self.names, n=3, cutoff=0.4
      )
      raise ValueError(
        f'{where}: {spelling!r} is not a class of {self._list_name}'
        + (f'; nearest are {", ".join(map(repr, near))}' if near else '')
      )
    return name


class Tally:
  """Counts videos that are left out, by reason, for one line of the log."""

  def __init__(self):
    self._examples = collections.defaultdict(list)

  def add(self, reason: str, example: str) -> None:
    """Counts one thing that is left out."""
    self._examples[reason].append(example)

  def counts(self) -> Mapping[str, int]:
    """Returns how many were left out for each reason."""
    return {reason: len(found) for reason, found in self._examples.items()}

  def log(self, source: str) -> None:
    """Writes a warning with counts and the first few of each reason."""
    for reason, found in sorted(self._examples.items()):
      named = ', '.join(sorted(found)[:_NUM_NAMED])
      more = ', ...' if len(found) > _NUM_NAMED else ''
      logging.warning(
        '%s: left out %d %s: %s%s', source, len(found), reason, named, more
      )


def read_lines(path: str) -> list[tuple[int, str]]:
  """Reads the lines that are not empty: (number from 1, text)."""
  with open(path, encoding='utf-8', errors='replace') as f:
    lines = [(number, line.strip()) for number, line in enumerate(f, 1)]
  return [(number, line) for number, line in lines if line]


def compare(
  entries: Sequence[manifest.ManifestEntry],
  named: Mapping[str, str],
  classes: ClassList,
  tally: Tally,
  is_complete: bool = True,
) -> tuple[list[manifest.ManifestEntry], list[manifest.MissingVideo]]:
  """Compares the videos found with those that the official lists name.

  Args:
    entries: the videos found, of one split.
    named: id -> label of the expected videos; empty if unknown.
    classes: of the dataset.
    tally: counts the videos that are left out.
    is_complete: whether `named` has all videos of each of its classes. If not,
      nothing is left out.

  Returns:
    The videos that the lists name (all videos of a class without a list), and
    the missing ones. A class without any video in lists or files is missing as
    '<class>/*'.
  """
  known = set(named.values()) if is_complete else set()
  kept = []
  for entry in entries:
    if entry.label in known and entry.id not in named:
      tally.add('videos that no official list names', entry.id)
    else:
      kept.append(entry)
  present = {entry.id for entry in kept}
  missing = [
    manifest.MissingVideo(video_id, label)
    for video_id, label in named.items()
    if video_id not in present
  ]
  labels = {*named.values(), *(entry.label for entry in kept)}
  missing += absent_classes(classes, labels, manifest.SINGLE_SPLIT)
  return kept, missing


def absent_classes(
  classes: ClassList, labels: Iterable[str], split: str
) -> list[manifest.MissingVideo]:
  """Makes an entry '<class>/*' for each class that has no video at all."""
  present = set(labels)
  return [
    manifest.MissingVideo(f'{name}/*', name, split)
    for name in classes.names
    if name not in present
  ]


def make_manifest(
  dataset: str,
  source: str,
  entries: Iterable[manifest.ManifestEntry],
  classes: ClassList,
  *,
  layout: str,
  missing: Iterable[manifest.MissingVideo] = (),
  lists: Mapping[str, Sequence[str]] | None = None,
  splits: Sequence[str] = (manifest.SINGLE_SPLIT,),
) -> manifest.Manifest:
  """Sorts videos into a manifest.

  Args:
    dataset: name of the dataset.
    source: the folder.
    entries: the videos found; at least one.
    classes: of the dataset.
    layout: the expected layout of the folder, for the error message.
    missing: videos that do not exist.
    lists: official video lists.
    splits: in order; splits without a video are left out.

  Returns:
    The manifest.

  Raises:
    ValueError: there is no video, or two videos have one id.
  """
  entries = sorted(entries, key=lambda entry: (entry.split, entry.id))
  if not entries:
    raise ValueError(
      f'{source}: no video of {dataset} found; expected {layout}'
    )
  path_of = {}
  for entry in entries:
    if entry.id in path_of:
      raise ValueError(
        f'{path_of[entry.id]} and {entry.path} are both the video '
        f'{entry.id!r} of {dataset}: keep one'
      )
    path_of[entry.id] = entry.path
  used = {entry.split for entry in entries}
  stem = os.path.basename(os.path.abspath(source))
  return manifest.Manifest(
    dataset=dataset,
    title=as_text(stem),
    entries=tuple(entries),
    class_names=tuple(classes.names),
    missing=tuple(sorted(missing, key=lambda video: (video.split, video.id))),
    lists={name: tuple(ids) for name, ids in (lists or {}).items()},
    splits=tuple(split for split in splits if split in used),
  )


def _key(spelling: str) -> str:
  return re.sub(r'[\W_]', '', class_names.canonical_name(spelling))


def _raise(error: OSError) -> None:
  raise error
