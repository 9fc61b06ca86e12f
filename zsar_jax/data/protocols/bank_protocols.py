"""Protocols of encoders that were not trained here, with prototype banks.

Videos of a prepared dataset may make prototypes, or calibrate. They are always
divided over all classes of its training split, whatever a bank leaves out. So
an evaluation finds the videos again that served neither.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from zsar_jax.data.protocols import (
  class_split,
  overlap,
  specs,
  split_choice,
  video_sets,
)
from zsar_jax.data.protocols.prepared_dataset import PreparedDataset

# Of the division; a dataset with a validation split of its own has another.
_HELD_OUT, _SEED = 0.2, 0


@dataclasses.dataclass(frozen=True)
class Seen:
  """What a protocol needs to know of a bank.

  Attributes:
    classes: canonical names of the classes with prototypes.
    domain: of the videos behind them.
    protocol: of the bank, which names the datasets behind it.
  """

  classes: tuple[str, ...]
  domain: str
  protocol: str = ''


def _name(dataset: PreparedDataset) -> str:
  return f'{dataset.name}:no test'


def _training_classes(dataset: PreparedDataset) -> list[str]:
  index = dataset.indices.get('train')
  return sorted(set(index.labels)) if index else dataset.classes()


def _divided(
  dataset: PreparedDataset,
) -> tuple[video_sets.VideoSet, video_sets.VideoSet]:
  """Training and held-out videos; labels index the training classes."""
  names = _training_classes(dataset)
  try:
    return dataset.training_videos(names, _HELD_OUT, _SEED)
  except ValueError:
    # A single recording session for each class: nothing can be held out.
    split = (
      'train' if 'train' in dataset.indices else next(iter(dataset.indices))
    )
    everything = dataset.select(split, names)
    return everything, everything.subset(np.zeros(len(everything), bool))


def _of_classes(
  videos: video_sets.VideoSet, names: Sequence[str], wanted: Sequence[str]
) -> video_sets.VideoSet:
  """The videos of some classes; labels index `wanted` instead of `names`."""
  place = {name: i for i, name in enumerate(wanted)}
  new = np.array([place.get(name, -1) for name in names], np.int32)
  labels = new[videos.labels]
  kept = dataclasses.replace(videos, labels=labels)
  return kept.subset(labels >= 0)


def make_own_protocol(
  dataset_dir: str, drop: Sequence[str] = ()
) -> class_split.Protocol:
  """A protocol without a test, of all classes of one's own videos.

  Args:
    dataset_dir: folder of the prepared dataset.
    drop: canonical names to leave out.

  Returns:
    The protocol. `validation` may calibrate; `seen_test` is for GZSL. Both
    are empty where every class has a single recording session.

  Raises:
    FileNotFoundError: no prepared dataset there.
    ValueError: no class is left.
  """
  dataset = PreparedDataset(dataset_dir)
  names = _training_classes(dataset)
  kept = tuple(name for name in names if name not in drop)
  if not kept:
    raise ValueError(f'{dataset_dir}: every class is left out')
  train, held_out = (
    _of_classes(part, names, kept) for part in _divided(dataset)
  )
  validation, seen_test = video_sets.halve(held_out, _SEED)
  return class_split.Protocol(
    name=_name(dataset),
    hash='',
    dataset_dir=dataset_dir,
    domain=dataset.metadata['domain'],
    seen_classes=kept,
    unseen_classes=(),
    train=train,
    validation=validation,
    test=None,
    seen_test=seen_test,
    attributes=dataset.metadata['class_attributes'],
    dropped_classes=tuple(name for name in names if name in drop),
  )


def make_bank_protocols(
  seen: Seen, choice: split_choice.SplitChoice
) -> list[class_split.Protocol]:
  """Makes the splits that encoders with a bank are tested on.

  Without training videos only names are audited. Videos of the bank's own
  classes are for GZSL, unless they are behind its prototypes or calibration.

  Args:
    seen: of the bank.
    choice: without protocol and class split all test classes are unseen.

  Returns:
    One protocol per split, without training videos.

  Raises:
    FileNotFoundError: the dataset or the split file does not exist.
    ValueError: a leak that is not allowed; or see `make_protocol`.
  """
  dataset = PreparedDataset(choice.test_dataset_dir)
  if choice.protocol or choice.class_split:
    spec, _ = split_choice.find_spec(dataset, choice)
    splits = spec.splits
  else:
    splits = (specs.SplitSpec('all', None, tuple(dataset.classes())),)
    name = f'{dataset.name}:all classes'
    spec = specs.ProtocolSpec(name, dataset.name, splits, dataset.name)
  tested = {name for split in splits for name in split.unseen}
  seen_test = _seen_test(dataset, seen, tested)
  protocols = []
  for split in splits:
    test = class_split.make_test(dataset, spec, split, spec.id)
    leaks = overlap.strict(overlap.audit_names(seen.classes, split.unseen))
    if not choice.allow_leaks:
      overlap.refuse(leaks, spec.id)
    nothing = test.videos.subset(np.zeros(len(test.videos), bool))
    without = class_split.Protocol(
      name='',
      hash='',
      dataset_dir='',
      domain=seen.domain,
      seen_classes=seen.classes,
      unseen_classes=(),
      train=nothing,
      validation=nothing,
      test=None,
      seen_test=seen_test,
      leaks=leaks,
    )
    protocols.append(class_split.with_test(without, dataset, test))
  return protocols


def _seen_test(
  dataset: PreparedDataset, seen: Seen, tested: set[str]
) -> video_sets.VideoSet | None:
  """Videos of a bank's classes that served nothing; None without any."""
  names = _training_classes(dataset)
  train, held_out = _divided(dataset)
  videos = video_sets.concatenate([train, held_out])
  if _name(dataset) in seen.protocol:
    _, videos = video_sets.halve(held_out, _SEED)
  # The names that are tested are no seen classes here.
  names = ['' if name in tested else name for name in names]
  videos = _of_classes(videos, names, seen.classes)
  return videos if len(videos) else None
