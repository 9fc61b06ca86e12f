"""Which classes are seen and which unseen, and whose videos are whose.

A protocol is made of a prepared dataset's metadata and, where the dataset
does not bring its own split, a JSON file:

  {"seen": ["hugging", ...], "unseen": ["punching", ...]}

or a list of such under "splits", one of which is chosen by its index.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
from typing import Any

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.data.datasets import records


@dataclasses.dataclass(frozen=True)
class VideoSet:
  """Some videos of one prepared split.

  Attributes:
    split: name of the prepared split.
    rows: int [n], record numbers in it, ascending.
    labels: int [n], index among the seen or the unseen classes.
    ids: names of the videos.
    groups: recording sessions.
  """

  split: str
  rows: np.ndarray
  labels: np.ndarray
  ids: tuple[str, ...]
  groups: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.rows)


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Everything a zero-shot result depends on beside the model.

  Attributes:
    name: the id that every result carries.
    dataset_dir: folder of the prepared dataset.
    domain: what its pictures are (`records.FILMED_DOMAIN`, ...).
    seen_classes: canonical names, sorted; their order is the label order.
    unseen_classes: canonical names, sorted.
    train: videos of seen classes to train on.
    validation: held-out videos of seen classes.
    test: videos of unseen classes.
    unreadable: {id, label, reason} of files that gave no video.
    sources: where each class lives, by name.
    attributes: of each class, by name; empty where unknown.
  """

  name: str
  dataset_dir: str
  domain: str
  seen_classes: tuple[str, ...]
  unseen_classes: tuple[str, ...]
  train: VideoSet
  validation: VideoSet
  test: VideoSet
  unreadable: tuple[Mapping[str, str], ...]
  sources: Mapping[str, str]
  attributes: Mapping[str, Mapping[str, str]]

  @property
  def unreadable_test_labels(self) -> tuple[int, ...]:
    """Labels of the unseen classes' files that could not be read."""
    return tuple(
      self.unseen_classes.index(video['label'])
      for video in self.unreadable
      if video['label'] in self.unseen_classes
    )


def read_class_split(path: str, index: int = 0) -> tuple[list[str], list[str]]:
  """Reads seen and unseen class names; the module docstring has the format.

  Args:
    path: a JSON file.
    index: which split, where the file has several.

  Returns:
    Seen and unseen canonical names, sorted.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not the format, an empty or duplicate name, or a class that
      is both seen and unseen.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f'class split file {path} does not exist')
  with open(path, encoding='utf-8') as f:
    try:
      content = json.load(f)
    except json.JSONDecodeError as e:
      raise ValueError(f'{path}: not JSON: {e}') from e
  if isinstance(content, dict) and 'splits' in content:
    splits = content['splits']
    if not isinstance(splits, list):
      raise ValueError(f'{path}: "splits" is not a list')
    if not 0 <= index < len(splits):
      raise ValueError(f'{path} has splits 0 to {len(splits) - 1}, not {index}')
    content = splits[index]
  if not isinstance(content, dict) or not {'seen', 'unseen'} <= set(content):
    raise ValueError(
      f'{path}: expected an object with the lists "seen" and "unseen" '
      '(or a list "splits" of such objects)'
    )
  for key in ('seen', 'unseen'):
    # A text would pass as a list of its letters.
    if not isinstance(content[key], list) or not all(
      isinstance(name, str) for name in content[key]
    ):
      raise ValueError(f'{path}: "{key}" is not a list of class names')
  seen = class_names.canonical_names(content['seen'], f'{path}: seen')
  unseen = class_names.canonical_names(content['unseen'], f'{path}: unseen')
  _check_disjoint(seen, unseen, path)
  return sorted(seen), sorted(unseen)


def _check_disjoint(
  seen: Sequence[str], unseen: Sequence[str], what: str
) -> None:
  both = sorted(set(seen) & set(unseen))
  if both:
    raise ValueError(
      f'{what}: classes both seen and unseen: {both}; a model trained on a '
      'class is not zero-shot on it'
    )


def _select(
  index: records.VideoIndex, split: str, classes: Sequence[str]
) -> VideoSet:
  label_of = {name: i for i, name in enumerate(classes)}
  rows = np.array(
    [i for i, name in enumerate(index.labels) if name in label_of], int
  )
  return VideoSet(
    split,
    rows,
    np.array([label_of[index.labels[i]] for i in rows], np.int32),
    tuple(index.ids[i] for i in rows),
    tuple(index.groups[i] for i in rows),
  )


def _subset(videos: VideoSet, keep: np.ndarray) -> VideoSet:
  at = np.flatnonzero(keep)
  return VideoSet(
    videos.split,
    videos.rows[at],
    videos.labels[at],
    tuple(videos.ids[i] for i in at),
    tuple(videos.groups[i] for i in at),
  )


def hold_out(
  videos: VideoSet, fraction: float, seed: int
) -> tuple[VideoSet, VideoSet]:
  """Holds out whole groups for validation, of every class that has several.

  A group is on one side for all classes, so that no recording session is
  both trained on and validated on.

  Args:
    videos: of the seen classes.
    fraction: share of each class's videos to hold out, in (0, 1); about,
      because a group is never cut.
    seed: of the choice.

  Returns:
    Training and validation videos; every class keeps a training video.

  Raises:
    ValueError: a fraction outside (0, 1), or nothing could be held out.
  """
  if not 0 < fraction < 1:
    raise ValueError(f'data.validation_fraction={fraction} is not in (0, 1)')
  groups = np.array(videos.groups)
  held = np.zeros(len(videos), bool)
  room = {
    c: max(1, round(fraction * n))
    for c, n in zip(*np.unique(videos.labels, return_counts=True), strict=True)
  }
  lacking = set(room)
  names, sizes = np.unique(groups, return_counts=True)
  order = np.random.default_rng(seed).permutation(len(names))
  # First what fits every class's share; then, for a class that still has
  # none held out, the smallest session that leaves something to train on.
  for must_fit in (True, False):
    if not must_fit:
      order = order[np.argsort(sizes[order], kind='stable')]
    for group in names[order]:
      members = groups == group
      classes, counts = np.unique(videos.labels[members], return_counts=True)
      fits = all(n <= room[c] for c, n in zip(classes, counts, strict=True))
      wanted = fits if must_fit else not lacking.isdisjoint(classes)
      training_left = all(
        (~held & ~members & (videos.labels == c)).any() for c in classes
      )
      if wanted and training_left and not held[members].any():
        held |= members
        lacking -= set(classes)
        for c, n in zip(classes, counts, strict=True):
          room[c] -= n
  if not held.any():
    raise ValueError(
      'no recording session can be held out for validation: every class '
      'needs videos of at least two'
    )
  return _subset(videos, ~held), _subset(videos, held)


def _check_classes(
  metadata: Mapping[str, Any],
  seen: Sequence[str],
  unseen: Sequence[str],
  what: str,
) -> None:
  present = {
    name for columns in metadata['videos'].values() for name in columns['label']
  }
  missing = [name for name in (*seen, *unseen) if name not in present]
  if missing:
    raise ValueError(
      f'{what}: no readable video of {missing}; the dataset has '
      f'{sorted(present)}'
    )


def make_protocol(
  dataset_dir: str,
  *,
  class_split: str = '',
  class_split_index: int = 0,
  validation_fraction: float = 0.2,
  seed: int = 0,
) -> Protocol:
  """Joins a prepared dataset and a class split.

  Args:
    dataset_dir: folder of the prepared dataset.
    class_split: JSON file; '' where the dataset brings its own split.
    class_split_index: which split of the file.
    validation_fraction: share of groups held out per seen class, where the
      dataset does not bring a validation split.
    seed: of that choice.

  Returns:
    The protocol.

  Raises:
    FileNotFoundError: dataset or split file missing.
    ValueError: no split, a class without videos, or a bad split file.
  """
  metadata = records.read_metadata(dataset_dir)
  dataset = '/'.join(os.path.normpath(dataset_dir).split(os.sep)[-3:])
  if class_split:
    seen, unseen = read_class_split(class_split, class_split_index)
    stem = os.path.splitext(os.path.basename(class_split))[0]
    name = f'{dataset}:{stem}/{class_split_index}'
  elif metadata['seen_classes']:
    seen = sorted(metadata['seen_classes'])
    unseen = sorted(metadata['unseen_classes'])
    name = dataset
  else:
    raise ValueError(
      f'{dataset_dir} brings no class split: set data.class_split to a JSON '
      'file with the lists "seen" and "unseen"'
    )
  _check_disjoint(seen, unseen, dataset_dir)
  _check_classes(metadata, seen, unseen, class_split or dataset_dir)

  index_of = {
    split: records.VideoIndex.from_columns(columns)
    for split, columns in metadata['videos'].items()
  }
  if 'train' in index_of:
    train = _select(index_of['train'], 'train', seen)
    validation = _select(index_of['validation'], 'validation', seen)
    test = _select(index_of['test'], 'test', unseen)
  else:
    (split,) = index_of
    train, validation = hold_out(
      _select(index_of[split], split, seen), validation_fraction, seed
    )
    test = _select(index_of[split], split, unseen)

  for videos, classes in ((train, seen), (test, unseen)):
    without = [c for i, c in enumerate(classes) if i not in videos.labels]
    if without:
      raise ValueError(
        f'{dataset_dir}: no video of {without} in the split {videos.split!r}'
      )

  sources = {}
  for index in index_of.values():
    sources.update(zip(index.labels, index.sources, strict=True))
  return Protocol(
    name=name,
    dataset_dir=dataset_dir,
    domain=metadata['domain'],
    seen_classes=tuple(seen),
    unseen_classes=tuple(unseen),
    train=train,
    validation=validation,
    test=test,
    unreadable=tuple(metadata['unreadable']),
    sources=sources,
    attributes=metadata['class_attributes'],
  )
