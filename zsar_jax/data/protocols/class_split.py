"""A protocol on prepared data: whose videos are trained and tested on.

A `ProtocolSpec` says which classes are unseen and which videos count; here it
meets datasets. The spec comes from the registry, from a class split file, or
from the dataset itself where that brings its own split (stick_figures).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import os
from typing import Any

from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import (
  overlap,
  registry,
  specs,
  split_file,
  video_sets,
)


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Everything a zero-shot result depends on beside the model.

  Attributes:
    name: the id that every result carries.
    hash: 12 hex digits over all that defines what is measured; results of
      different hashes do not compare.
    dataset_dir: folder of the prepared dataset that is trained on.
    domain: what its pictures are (`records.FILMED_DOMAIN`, ...).
    seen_classes: canonical names, sorted; their order is the label order.
    unseen_classes: canonical names, sorted; empty without a test.
    train: videos of seen classes to train on.
    validation: held-out videos of seen classes.
    test: videos of unseen classes; None without a test.
    unreadable: {id, label, split, reason} of test files that gave no video.
    num_missing: test videos that the dataset's lists name and that are not
      there; they count for nothing.
    sources: where each class lives, by name.
    attributes: of each class, by name; empty where unknown.
    spec_id: of the protocol that this is a split of.
    spec_hash: likewise.
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
  unreadable: tuple[Mapping[str, str], ...] = ()
  num_missing: int = 0
  sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
  attributes: Mapping[str, Mapping[str, str]] = dataclasses.field(
    default_factory=dict
  )
  spec_id: str = ''
  spec_hash: str = ''
  leaks: tuple[overlap.Leak, ...] = ()
  dropped_classes: tuple[str, ...] = ()

  @property
  def unreadable_test_labels(self) -> tuple[int, ...]:
    """Labels of the test files that could not be read."""
    return tuple(
      self.unseen_classes.index(video['label']) for video in self.unreadable
    )


class _Dataset:
  """A prepared dataset's folder, metadata and indices."""

  def __init__(self, folder: str):
    self.folder = folder
    self.metadata = records.read_metadata(folder)
    self.indices = {
      split: records.VideoIndex.from_columns(columns)
      for split, columns in self.metadata['videos'].items()
    }
    # The last parts say which dataset, which videos and which version.
    self.name = '/'.join(os.path.normpath(folder).split(os.sep)[-3:])

  def classes(self) -> list[str]:
    """Names of the classes that have a video, sorted."""
    return sorted({n for i in self.indices.values() for n in i.labels})

  def select(self, split: str, classes: Sequence[str]) -> video_sets.VideoSet:
    """All videos of some classes in a split."""
    rows = {split: range(len(self.indices[split]))}
    return video_sets.select(self.folder, self.indices, rows, classes)


def find_spec(
  dataset_dir: str,
  *,
  class_split: str = '',
  class_split_index: int = 0,
  protocol: str = '',
) -> specs.ProtocolSpec | None:
  """What is to be measured on a prepared dataset.

  Args:
    dataset_dir: of the videos that are tested on.
    class_split: a class split file, or ''.
    class_split_index: which split of the file.
    protocol: an id of the registry, or ''.

  Returns:
    The registry's protocol; else that of the file, else the dataset's own;
    None where there is none of them.

  Raises:
    FileNotFoundError: no such dataset or file.
    ValueError: both a file and an id, an unknown id, one of another dataset,
      or a bad file.
  """
  dataset = _Dataset(dataset_dir)
  if protocol and class_split:
    raise ValueError(
      f'both a protocol ({protocol}) and a class split file ({class_split}) '
      'are given: only one can decide'
    )
  if protocol:
    spec = registry.get(protocol)
    if spec.dataset != dataset.metadata['dataset']:
      raise ValueError(
        f'protocol {protocol} tests on {spec.dataset}, and {dataset_dir} is '
        f'{dataset.metadata["dataset"]}'
      )
    return spec
  if class_split:
    seen, unseen = split_file.read_class_split(class_split, class_split_index)
    stem = os.path.splitext(os.path.basename(class_split))[0]
    name = f'{dataset.name}:{stem}/{class_split_index}'
  elif dataset.metadata['seen_classes']:
    seen = sorted(dataset.metadata['seen_classes'])
    unseen = sorted(dataset.metadata['unseen_classes'])
    split_file.check_disjoint(seen, unseen, dataset_dir)
    name = dataset.name
  else:
    return None
  split = specs.SplitSpec(name, tuple(seen), tuple(unseen))
  # The folder's name holds a fingerprint of the videos: part of the hash.
  return specs.ProtocolSpec(name, dataset.name, (split,), class_split or name)


def make_protocol(
  dataset_dir: str,
  *,
  class_split: str = '',
  class_split_index: int = 0,
  protocol: str = '',
  test_dataset_dir: str = '',
  validation_fraction: float = 0.2,
  seed: int = 0,
  seen_classes: Sequence[str] = (),
  allow_leaks: bool = False,
  drop_leaking: bool = False,
  train_only: bool = False,
) -> Protocol:
  """Joins prepared datasets and a split of a protocol.

  Args:
    dataset_dir: folder of the prepared dataset to train on.
    class_split: JSON file, see `split_file`; '' where `protocol` or the
      dataset itself says what is unseen.
    class_split_index: which split of the file or the protocol.
    protocol: an id of the registry, or ''.
    test_dataset_dir: folder of the prepared dataset to test on; '' for the
      same.
    validation_fraction: share of groups held out per seen class, where the
      dataset does not bring a validation split.
    seed: of that choice.
    seen_classes: the only ones that count as seen, such as those that a
      model was trained on; none for all that the protocol leaves.
    allow_leaks: go on although a seen class leaks into the test.
    drop_leaking: leave leaking seen classes and videos out.
    train_only: no test: every class is seen.

  Returns:
    The protocol.

  Raises:
    FileNotFoundError: dataset or split file missing.
    ValueError: a class without videos, a leak, a bad split file or an
      unknown protocol.
  """
  train_set = _Dataset(dataset_dir)
  if train_only:
    return _without_test(train_set, validation_fraction, seed)
  same = not test_dataset_dir or _same(test_dataset_dir, dataset_dir)
  test_set = train_set if same else _Dataset(test_dataset_dir)
  spec = find_spec(
    test_set.folder,
    class_split=class_split,
    class_split_index=class_split_index,
    protocol=protocol,
  )
  if spec is None:
    raise ValueError(
      f'{test_set.folder} brings no class split: set data.protocol to an id '
      '(`python -m zsar_jax.protocols list`), data.class_split to a JSON file '
      'with the lists "seen" and "unseen", or data.train_only=True to train '
      'on every class and test elsewhere'
    )
  split = _split_of(spec, class_split_index if protocol else 0)
  what = protocol or class_split or dataset_dir
  unseen = split.unseen
  seen = _seen_classes(split, train_set, same, seen_classes, what)
  _check_classes(test_set, unseen, what)
  _check_classes(train_set, seen, what)
  test = video_sets.select(
    test_set.folder,
    test_set.indices,
    registry.select_videos(split, test_set.metadata),
    unseen,
  )
  _check_has_videos(test, unseen, test_set.folder)

  leaks = overlap.strict([] if same else overlap.audit_names(seen, unseen))
  dropped = ()
  if drop_leaking:
    dropped = tuple(sorted({leak.seen for leak in leaks}))
    seen, leaks = tuple(n for n in seen if n not in dropped), ()
  train, validation = _training_videos(
    train_set, seen, validation_fraction, seed
  )
  same_videos = overlap.audit_videos(train, test, seen, unseen)
  if drop_leaking and same_videos:
    tested = {*test.digests} | (set() if same else {*test.groups})
    keep = [
      d not in tested and g not in tested
      for d, g in zip(train.digests, train.groups, strict=True)
    ]
    train, same_videos = train.subset(keep), []
  _check_has_videos(train, seen, train_set.folder)
  leaks = (*leaks, *same_videos)
  if not allow_leaks:
    overlap.refuse(leaks, what)

  several = len(spec.splits) > 1
  counts = registry.video_rule(split, test_set.metadata)
  lost = {
    kind: [
      video
      for video in test_set.metadata[kind]
      if counts(video['split'], video['id'], video['label'])
    ]
    for kind in ('unreadable', 'missing')
  }
  return Protocol(
    name=f'{spec.id}[{split.name}]' if several else spec.id,
    hash=_hash(spec, split) if several else spec.hash,
    dataset_dir=dataset_dir,
    domain=train_set.metadata['domain'],
    seen_classes=seen,
    unseen_classes=unseen,
    train=train,
    validation=validation,
    test=test,
    unreadable=tuple(lost['unreadable']),
    num_missing=len(lost['missing']),
    sources=_sources(train_set, test_set),
    attributes={
      **train_set.metadata['class_attributes'],
      **test_set.metadata['class_attributes'],
    },
    spec_id=spec.id,
    spec_hash=spec.hash,
    leaks=leaks,
    dropped_classes=dropped,
  )


def make_protocols(
  dataset_dir: str, *, protocol: str, **kwargs: Any
) -> list[Protocol]:
  """All splits of a protocol that one model can be tested on.

  Args:
    dataset_dir: see `make_protocol`.
    protocol: likewise.
    **kwargs: likewise.

  Returns:
    One protocol per split; the one of `class_split_index` alone where the
    splits train on different classes of one dataset, or there is only one.

  Raises:
    ValueError: see `make_protocol`.
  """
  test_dir = kwargs.get('test_dataset_dir') or dataset_dir
  splits = registry.get(protocol).splits if protocol else ()
  if len(splits) < 2 or _same(test_dir, dataset_dir):
    return [make_protocol(dataset_dir, protocol=protocol, **kwargs)]
  kwargs.pop('class_split_index', None)
  return [
    make_protocol(dataset_dir, protocol=protocol, class_split_index=i, **kwargs)
    for i in range(len(splits))
  ]


def _same(a: str, b: str) -> bool:
  return os.path.realpath(a) == os.path.realpath(b)


def _split_of(spec: specs.ProtocolSpec, index: int) -> specs.SplitSpec:
  if not 0 <= index < len(spec.splits):
    raise ValueError(
      f'protocol {spec.id} has splits 0 to {len(spec.splits) - 1}, not {index}'
    )
  return spec.splits[index]


def _hash(spec: specs.ProtocolSpec, split: specs.SplitSpec) -> str:
  """Names one split of several."""
  return hashlib.sha256(f'{spec.hash} {split.name}'.encode()).hexdigest()[:12]


def _seen_classes(
  split: specs.SplitSpec,
  dataset: _Dataset,
  same: bool,
  only: Sequence[str],
  what: str,
) -> tuple[str, ...]:
  """The classes to train on: the split's, or all that are not unseen."""
  if split.seen is not None and same:
    seen = split.seen
  elif same:
    seen = [name for name in dataset.classes() if name not in split.unseen]
  else:
    # Between datasets equal names are leaks, which the audit reports.
    seen = dataset.classes()
  if only:
    seen = [name for name in seen if name in only]
  if not seen:
    raise ValueError(
      f'{what}: every class of {dataset.folder} is unseen, so none is left to '
      'train on; train on another dataset and test on this one '
      '(data.test_dataset_dir)'
    )
  return tuple(seen)


def _check_classes(dataset: _Dataset, names: Sequence[str], what: str) -> None:
  present = dataset.classes()
  missing = [name for name in names if name not in present]
  if missing:
    raise ValueError(
      f'{what}: no readable video of {missing} in {dataset.folder}; it has '
      f'{present}'
    )


def _check_has_videos(
  videos: video_sets.VideoSet, classes: Sequence[str], folder: str
) -> None:
  there = set(videos.labels.tolist())
  without = [name for i, name in enumerate(classes) if i not in there]
  if without:
    splits = sorted(set(videos.splits))
    raise ValueError(f'{folder}: no video of {without} in the splits {splits}')


def _training_videos(
  dataset: _Dataset, seen: Sequence[str], fraction: float, seed: int
) -> tuple[video_sets.VideoSet, video_sets.VideoSet]:
  """Training and validation videos: the dataset's splits, or a choice."""
  if 'validation' in dataset.indices:
    return (
      dataset.select('train', seen),
      dataset.select('validation', seen),
    )
  split = 'train' if 'train' in dataset.indices else next(iter(dataset.indices))
  return video_sets.hold_out(dataset.select(split, seen), fraction, seed)


def _without_test(dataset: _Dataset, fraction: float, seed: int) -> Protocol:
  """Everything is seen: to train now and evaluate elsewhere."""
  train_split = dataset.indices.get('train')
  seen = tuple(
    sorted(set(train_split.labels)) if train_split else dataset.classes()
  )
  train, validation = _training_videos(dataset, seen, fraction, seed)
  return Protocol(
    name=f'{dataset.name}:no test',
    hash='',
    dataset_dir=dataset.folder,
    domain=dataset.metadata['domain'],
    seen_classes=seen,
    unseen_classes=(),
    train=train,
    validation=validation,
    test=None,
    sources=_sources(dataset),
    attributes=dataset.metadata['class_attributes'],
  )


def _sources(*datasets: _Dataset) -> dict[str, str]:
  """Class -> where it lives."""
  return {
    name: source
    for dataset in datasets
    for index in dataset.indices.values()
    for name, source in zip(index.labels, index.sources, strict=True)
  }
