"""Selects videos of a prepared dataset, and holds out whole sessions."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from zsar_jax.data.datasets import records


@dataclasses.dataclass(frozen=True)
class VideoSet:
  """Some videos of a prepared dataset.

  Attributes:
    dataset_dir: folder of the dataset.
    splits: prepared split of each video.
    rows: int [n], position of each in its split.
    labels: int [n], index among the seen or the unseen classes.
    ids: names of the videos.
    groups: recording sessions.
    sources: place or camera of each video's class.
    digests: see `records.VideoIndex`.
  """

  dataset_dir: str
  splits: tuple[str, ...]
  rows: np.ndarray
  labels: np.ndarray
  ids: tuple[str, ...]
  groups: tuple[str, ...]
  sources: tuple[str, ...]
  digests: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.rows)

  def subset(self, keep: np.ndarray) -> 'VideoSet':
    """Returns the videos where `keep`, bool [n], is true, in order."""
    at = np.flatnonzero(keep)
    columns = ('splits', 'ids', 'groups', 'sources', 'digests')
    return dataclasses.replace(
      self,
      rows=self.rows[at],
      labels=self.labels[at],
      **{c: tuple(getattr(self, c)[i] for i in at) for c in columns},
    )


def check_classes(videos: VideoSet, classes: Sequence[str]) -> None:
  """Refuses a set that lacks a class.

  Args:
    videos: the set.
    classes: names in label order.

  Raises:
    ValueError: a class has no video; the message names all of them.
  """
  there = set(videos.labels.tolist())
  without = [name for i, name in enumerate(classes) if i not in there]
  if without:
    splits = sorted(set(videos.splits))
    raise ValueError(
      f'{videos.dataset_dir}: no video of {without} in the splits {splits}'
    )


def concatenate(parts: Sequence[VideoSet]) -> VideoSet:
  """Sets of one dataset one after the other."""
  columns = ('splits', 'ids', 'groups', 'sources', 'digests')
  return dataclasses.replace(
    parts[0],
    rows=np.concatenate([part.rows for part in parts]),
    labels=np.concatenate([part.labels for part in parts]),
    **{c: sum((getattr(part, c) for part in parts), ()) for c in columns},
  )


def select(
  dataset_dir: str,
  indices: Mapping[str, records.VideoIndex],
  rows: Mapping[str, Sequence[int]],
  classes: Sequence[str],
) -> VideoSet:
  """Selects the videos of some classes from chosen rows.

  Args:
    dataset_dir: folder of the dataset.
    indices: of its splits.
    rows: split -> rows to choose from, ascending.
    classes: names in label order; videos of other classes are left out.

  Returns:
    The videos, split by split.
  """
  label_of = {name: i for i, name in enumerate(classes)}
  chosen = [
    (split, row)
    for split in rows
    for row in rows[split]
    if indices[split].labels[row] in label_of
  ]
  of = lambda column: tuple(getattr(indices[s], column)[r] for s, r in chosen)
  return VideoSet(
    dataset_dir,
    tuple(split for split, _ in chosen),
    np.array([row for _, row in chosen], int),
    np.array([label_of[name] for name in of('labels')], np.int32),
    of('ids'),
    of('groups'),
    of('sources'),
    of('digests'),
  )


def hold_out(
  videos: VideoSet, fraction: float, seed: int
) -> tuple[VideoSet, VideoSet]:
  """Holds out whole groups for validation, of every class that has several.

  A group is on one side for all classes. So no recording session is in both
  training and validation.

  Args:
    videos: of the seen classes.
    fraction: share of each class's videos to hold out, in (0, 1). It is
      approximate, because groups are never cut.
    seed: of the choice.

  Returns:
    Training and validation videos; every class keeps a training video.

  Raises:
    ValueError: the fraction is outside (0, 1), or nothing can be held out.
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
  # First hold out sessions that fit every class's share. Then, for a class that
  # has none held out, the smallest session that leaves a training video.
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
  return videos.subset(~held), videos.subset(held)


def halve(videos: VideoSet, seed: int) -> tuple[VideoSet, VideoSet]:
  """Divides videos into halves that share no group.

  Each class is in both halves, if it has enough groups.

  Args:
    videos: the set.
    seed: of the choice.

  Returns:
    The halves; the second is empty if there is only one group.
  """
  groups = np.array(videos.groups)
  names = np.unique(groups)
  order = np.random.default_rng(seed).permutation(len(names))
  counts = np.zeros((2, 1 + int(videos.labels.max(initial=0))))
  second = np.zeros(len(videos), bool)
  for group in names[order]:
    members = groups == group
    labels = videos.labels[members]
    # To the side with fewer videos of this group's classes, or fewer at all.
    has = [(part[labels].sum(), part.sum()) for part in counts]
    side = int(has[1] < has[0])
    np.add.at(counts[side], labels, 1)
    second[members] = bool(side)
  return videos.subset(~second), videos.subset(second)
