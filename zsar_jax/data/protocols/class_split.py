"""Applies a protocol to prepared data: which videos to train and test on.

A `ProtocolSpec` says which classes are unseen and which videos count.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import os

from zsar_jax.data.protocols import (
  overlap,
  registry,
  specs,
  split_choice,
  split_file,
  video_sets,
)
from zsar_jax.data.protocols.prepared_dataset import PreparedDataset

_OWN_SPLIT = split_choice.SplitChoice()


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Everything that a zero-shot result depends on, except the model.

  Attributes:
    name: id that every result carries.
    hash: 12 hex digits over all that defines the measurement; results with
      different hashes are not comparable.
    dataset_dir: folder of the prepared dataset to train on.
    domain: kind of its pictures (`records.FILMED_DOMAIN`, ...).
    seen_classes: canonical names, sorted; their order is the label order.
    unseen_classes: canonical names, sorted; empty without a test.
    train: videos of seen classes to train on.
    validation: held-out videos of seen classes, to follow training.
    test: videos of unseen classes; None without a test.
    seen_test: further held-out videos of seen classes, only for GZSL; None
      if there are none.
    unreadable: {id, label, split, reason} of test files without a readable
      video.
    num_missing: number of test videos that the dataset's lists name but that
      are missing; they do not count.
    sources: class name -> source of the class.
    attributes: class name -> attributes; empty if unknown.
    spec_id: id of the protocol that this split belongs to.
    spec_hash: hash of that protocol.
    part: which split of how many this is, such as 'split 0 of 2'; '' if there
      is one.
    leaks: strict leaks that were allowed.
    dropped_classes: seen classes left out because they leaked.
  """

  name: str
  hash: str
  dataset_dir: str
  domain: str
  seen_classes: tuple[str, ...]
  unseen_classes: tuple[str, ...]
  train: video_sets.VideoSet
  validation: video_sets.VideoSet
  test: video_sets.VideoSet | None
  seen_test: video_sets.VideoSet | None = None
  unreadable: tuple[Mapping[str, str], ...] = ()
  num_missing: int = 0
  sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
  attributes: Mapping[str, Mapping[str, str]] = dataclasses.field(
    default_factory=dict
  )
  spec_id: str = ''
  spec_hash: str = ''
  part: str = ''
  leaks: tuple[overlap.Leak, ...] = ()
  dropped_classes: tuple[str, ...] = ()

  @property
  def unreadable_test_labels(self) -> tuple[int, ...]:
    """Labels of the unreadable test files."""
    return tuple(
      self.unseen_classes.index(video['label']) for video in self.unreadable
    )


@dataclasses.dataclass(frozen=True)
class Test:
  """The dataset, protocol and split to test on, and the split's videos."""

  dataset: PreparedDataset
  spec: specs.ProtocolSpec
  split: specs.SplitSpec
  videos: video_sets.VideoSet


def make_protocol(
  dataset_dir: str, choice: split_choice.SplitChoice = _OWN_SPLIT
) -> Protocol:
  """Applies the chosen split to prepared datasets.

  Args:
    dataset_dir: folder of the prepared dataset to train on.
    choice: which split, and which dataset to test on.

  Returns:
    The protocol.

  Raises:
    FileNotFoundError: a dataset or the split file does not exist.
    ValueError: a class has no videos, there is a leak, the split file is bad,
      or the protocol is unknown.
  """
  train_set = PreparedDataset(dataset_dir)
  same = _tests_on_training_dataset(dataset_dir, choice)
  test_set = train_set if same else PreparedDataset(choice.test_dataset_dir)
  what = choice.protocol or choice.class_split or dataset_dir
  test = None if choice.train_only else _find_test(test_set, choice, what)
  seen = _seen_classes(train_set, test, choice.seen_classes, what)
  train_set.check_classes(seen, what)

  audited = _audited_classes(train_set, test, choice.strict_for)
  leaks = overlap.strict(overlap.audit_names(seen, sorted(audited)))
  dropped = ()
  # A class cannot be dropped after a model was trained on it.
  if choice.drop_leaking and not choice.seen_classes:
    dropped = tuple(sorted({leak.seen for leak in leaks}))
    seen, leaks = tuple(n for n in seen if n not in dropped), ()
  train, held_out = train_set.training_videos(
    seen, choice.validation_fraction, choice.seed
  )
  if test is not None:
    train, shared = _without_shared(train_set, test, train, seen, choice)
    leaks = (*leaks, *shared)
  video_sets.check_classes(train, seen)
  validation, seen_test = video_sets.halve(held_out, choice.seed)
  if not choice.allow_leaks:
    overlap.refuse(leaks, what)

  protocol = Protocol(
    name=f'{train_set.name}:no test',
    hash='',
    dataset_dir=dataset_dir,
    domain=train_set.metadata['domain'],
    seen_classes=seen,
    unseen_classes=(),
    train=train,
    validation=validation,
    test=None,
    seen_test=seen_test if len(seen_test) else None,
    sources=_sources(train_set),
    attributes=train_set.metadata['class_attributes'],
    leaks=leaks,
    dropped_classes=dropped,
  )
  return protocol if test is None else with_test(protocol, train_set, test)


def _without_shared(
  train_set: PreparedDataset,
  test: Test,
  train: video_sets.VideoSet,
  seen: Sequence[str],
  choice: split_choice.SplitChoice,
) -> tuple[video_sets.VideoSet, Sequence[overlap.Leak]]:
  """Returns training videos, less test videos if asked for, and the leaks."""
  tested, unseen = _all_test_videos(train_set, test)
  if not choice.drop_leaking:
    return train, overlap.audit_videos(train, tested, seen, unseen)
  return overlap.without_videos(train, tested), []


def make_protocols(
  dataset_dir: str, choice: split_choice.SplitChoice
) -> list[Protocol]:
  """Makes all splits of a protocol that one model can be tested on.

  Args:
    dataset_dir: folder of the prepared dataset to train on.
    choice: see `make_protocol`.

  Returns:
    One protocol per split. Only the split `choice.class_split_index` if the
    splits train on different classes of one dataset, or there is only one.

  Raises:
    FileNotFoundError: see `make_protocol`.
    ValueError: see `make_protocol`.
  """
  splits = registry.get(choice.protocol).splits if choice.protocol else ()
  if len(splits) < 2 or _tests_on_training_dataset(dataset_dir, choice):
    return [make_protocol(dataset_dir, choice)]
  return [
    make_protocol(dataset_dir, dataclasses.replace(choice, class_split_index=i))
    for i in range(len(splits))
  ]


def _tests_on_training_dataset(
  dataset_dir: str, choice: split_choice.SplitChoice
) -> bool:
  return not choice.test_dataset_dir or (
    os.path.realpath(choice.test_dataset_dir) == os.path.realpath(dataset_dir)
  )


def _find_test(
  dataset: PreparedDataset, choice: split_choice.SplitChoice, what: str
) -> Test:
  spec, split = split_choice.find_spec(dataset, choice)
  if choice.class_split_index == split_file.ALL and len(spec.splits) > 1:
    raise ValueError(
      f'{what} has {len(spec.splits)} splits, each with its own seen classes, '
      'so a trained model is measured on one after the other: give an index, 0 '
      f'to {len(spec.splits) - 1}'
    )
  return make_test(dataset, spec, split, what)


def make_test(
  dataset: PreparedDataset,
  spec: specs.ProtocolSpec,
  split: specs.SplitSpec,
  what: str,
) -> Test:
  """The videos that a split tests on.

  Args:
    dataset: to test on.
    spec: the protocol.
    split: one of its splits.
    what: what asks for it, for messages.

  Returns:
    The dataset, protocol, split and videos.

  Raises:
    ValueError: a class without videos.
  """
  dataset.check_classes(split.unseen, what)
  videos = _test_videos(dataset, [split], split.unseen)
  video_sets.check_classes(videos, split.unseen)
  return Test(dataset, spec, split, videos)


def _seen_classes(
  dataset: PreparedDataset,
  test: Test | None,
  only: Sequence[str],
  what: str,
) -> tuple[str, ...]:
  """Returns the classes to train on: the split's, or all but the unseen."""
  if test is None:
    # A dataset may reserve classes for its own test.
    index = dataset.indices.get('train')
    seen = sorted(set(index.labels)) if index else dataset.classes()
  elif test.dataset is not dataset:
    # Between datasets equal names are leaks, which the audit reports.
    seen = dataset.classes()
  elif test.split.seen is not None:
    seen = test.split.seen
  else:
    seen = [n for n in dataset.classes() if n not in test.split.unseen]
  if only:
    seen = [name for name in seen if name in only]
  if not seen:
    raise ValueError(
      f'{what}: every class of {dataset.folder} is unseen, so none is left to '
      'train on; train on another dataset and test on this one '
      '(data.test_dataset_dir)'
    )
  return tuple(seen)


def _splits_of_one_model(
  dataset: PreparedDataset, test: Test
) -> Sequence[specs.SplitSpec]:
  """Returns the splits on which one model is tested; elsewhere, all of them."""
  return [test.split] if test.dataset is dataset else test.spec.splits


def _audited_classes(
  dataset: PreparedDataset, test: Test | None, strict_for: Sequence[str]
) -> set[str]:
  """Returns the unseen classes that no seen class's name may match."""
  tested = []
  # Within one dataset the seen classes are those that are not unseen.
  if test is not None and test.dataset is not dataset:
    tested += _splits_of_one_model(dataset, test)
  for protocol_id in strict_for:
    tested += registry.get(protocol_id).splits
  return {name for split in tested for name in split.unseen}


def _all_test_videos(
  dataset: PreparedDataset, test: Test
) -> tuple[video_sets.VideoSet, tuple[str, ...]]:
  """Returns a model's test videos of all splits; classes in label order."""
  splits = _splits_of_one_model(dataset, test)
  unseen = tuple(sorted({name for split in splits for name in split.unseen}))
  return _test_videos(test.dataset, splits, unseen), unseen


def with_test(
  protocol: Protocol, train_set: PreparedDataset, test: Test
) -> Protocol:
  """Adds a test to a protocol that has none.

  Args:
    protocol: knows the seen classes and their videos.
    train_set: has these videos.
    test: of `make_test`.

  Returns:
    The protocol.
  """
  spec, split = test.spec, test.split
  several = len(spec.splits) > 1
  lost = _lost_videos(test.dataset, split)
  return dataclasses.replace(
    protocol,
    name=f'{spec.id}[{split.name}]' if several else spec.id,
    hash=_split_hash(spec, split) if several else spec.hash,
    unseen_classes=split.unseen,
    test=test.videos,
    unreadable=tuple(lost['unreadable']),
    num_missing=len(lost['missing']),
    sources=_sources(train_set, test.dataset),
    attributes={
      **train_set.metadata['class_attributes'],
      **test.dataset.metadata['class_attributes'],
    },
    spec_id=spec.id,
    spec_hash=spec.hash,
    part=f'split {spec.splits.index(split)} of {len(spec.splits)}'
    if several
    else spec.part,
    leaks=tuple(k for k in protocol.leaks if k.unseen in split.unseen),
  )


def _test_videos(
  dataset: PreparedDataset,
  splits: Sequence[specs.SplitSpec],
  unseen: Sequence[str],
) -> video_sets.VideoSet:
  """Returns the videos that the splits test on, each once."""
  rows = {name: set() for name in dataset.indices}
  for split in splits:
    for name, chosen in registry.select_videos(split, dataset.metadata).items():
      rows[name].update(chosen)
  rows = {name: sorted(chosen) for name, chosen in rows.items()}
  return video_sets.select(dataset.folder, dataset.indices, rows, unseen)


def _lost_videos(
  dataset: PreparedDataset, split: specs.SplitSpec
) -> dict[str, list[Mapping[str, str]]]:
  """Returns the test videos without a readable file: kind -> videos."""
  counts = registry.video_rule(split, dataset.metadata)
  return {
    kind: [
      video
      for video in dataset.metadata[kind]
      if counts(video['split'], video['id'], video['label'])
    ]
    for kind in ('unreadable', 'missing')
  }


def _split_hash(spec: specs.ProtocolSpec, split: specs.SplitSpec) -> str:
  """Hashes one split of several."""
  return hashlib.sha256(f'{spec.hash} {split.name}'.encode()).hexdigest()[:12]


def _sources(*datasets: PreparedDataset) -> dict[str, str]:
  """Maps each class name to the source of the class."""
  return {
    name: source
    for dataset in datasets
    for index in dataset.indices.values()
    for name, source in zip(index.labels, index.sources, strict=True)
  }
