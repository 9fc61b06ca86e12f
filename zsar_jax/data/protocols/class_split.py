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

import numpy as np

from zsar_jax.data.protocols import (
  overlap,
  registry,
  specs,
  split_file,
  video_sets,
)
from zsar_jax.data.protocols.prepared_dataset import PreparedDataset


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
    validation: held-out videos of seen classes, to watch training by.
    seen_test: further held-out videos of seen classes, for GZSL alone; None
      where there are none.
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
  seen_test: video_sets.VideoSet | None = None
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
  dataset = PreparedDataset(dataset_dir)
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
  strict_for: Sequence[str] = (),
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
    seen_classes: that a model was trained on: no others count as seen. None
      for all that the protocol leaves.
    strict_for: ids of further protocols whose unseen classes must not leak.
    allow_leaks: go on although a seen class leaks into the test.
    drop_leaking: leave leaking seen classes and videos out of training.
    train_only: no test: every class is seen.

  Returns:
    The protocol.

  Raises:
    FileNotFoundError: dataset or split file missing.
    ValueError: a class without videos, a leak, a bad split file or an
      unknown protocol.
  """
  train_set = PreparedDataset(dataset_dir)
  same = not test_dataset_dir or _same(test_dataset_dir, dataset_dir)
  test_set = train_set if same else PreparedDataset(test_dataset_dir)
  what = protocol or class_split or dataset_dir
  spec, split, test = None, None, None
  if not train_only:
    spec = find_spec(
      test_set.folder,
      class_split=class_split,
      class_split_index=class_split_index,
      protocol=protocol,
    )
    if spec is None:
      raise ValueError(
        f'{test_set.folder} brings no class split: set data.protocol to an id '
        '(`python -m zsar_jax.protocols list`), data.class_split to a JSON '
        'file with the lists "seen" and "unseen", or data.train_only=True to '
        'train on every class and test elsewhere'
      )
    split = _split_of(spec, class_split_index if protocol else 0)
    test_set.check_classes(split.unseen, what)
    test = _test_videos(test_set, [split], split.unseen)
    video_sets.check_classes(test, split.unseen)
  seen = _seen_classes(split, train_set, same, seen_classes, what)
  train_set.check_classes(seen, what)

  # One model is tested on all splits of a protocol from another dataset, so
  # it may have seen nothing of any of them.
  tested = () if same or spec is None else spec.splits
  audited = {n for s in tested for n in s.unseen}
  audited |= {
    n for i in strict_for for s in registry.get(i).splits for n in s.unseen
  }
  leaks = overlap.strict(overlap.audit_names(seen, sorted(audited)))
  dropped = ()
  if drop_leaking and not seen_classes:
    dropped = tuple(sorted({leak.seen for leak in leaks}))
    seen, leaks = tuple(n for n in seen if n not in dropped), ()
  train, validation = train_set.training_videos(seen, validation_fraction, seed)
  if test is not None:
    unseen = tuple(sorted(audited)) if tested else split.unseen
    everything = _test_videos(test_set, tested or [split], unseen)
    shared = overlap.audit_videos(train, everything, seen, unseen)
    if drop_leaking:
      train, shared = overlap.without_videos(train, everything), []
    leaks = (*leaks, *shared)
  video_sets.check_classes(train, seen)
  validation, seen_test = video_sets.halve(validation, seed)
  if not allow_leaks:
    overlap.refuse(leaks, what)

  common = dict(
    dataset_dir=dataset_dir,
    domain=train_set.metadata['domain'],
    seen_classes=seen,
    train=train,
    validation=validation,
    seen_test=seen_test if len(seen_test) else None,
    dropped_classes=dropped,
  )
  if test is None:
    return Protocol(
      name=f'{train_set.name}:no test',
      hash='',
      unseen_classes=(),
      test=None,
      sources=_sources(train_set),
      attributes=train_set.metadata['class_attributes'],
      leaks=leaks,
      **common,
    )
  several = len(spec.splits) > 1
  lost = _lost_videos(test_set, split)
  return Protocol(
    name=f'{spec.id}[{split.name}]' if several else spec.id,
    hash=_hash(spec, split) if several else spec.hash,
    unseen_classes=split.unseen,
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
    leaks=tuple(leak for leak in leaks if leak.unseen in split.unseen),
    **common,
  )


def inner_draw(
  protocol: Protocol, draw: int, share: float, seed: int = 0
) -> Protocol:
  """A protocol whose unseen classes are some of another's seen ones.

  Settings are chosen on such draws, because the true unseen classes may not
  be looked at; the model has to be trained anew on what stays seen.

  Args:
    protocol: whose seen classes are divided.
    draw: number of the draw, from 0.
    share: of the classes of each source that play unseen, in (0, 1); at
      least one stays seen.
    seed: of the draws.

  Returns:
    The protocol; nothing of the other one's test is in it.

  Raises:
    ValueError: a share outside (0, 1), or no class can play unseen.
  """
  if not 0 < share < 1:
    raise ValueError(f'data.inner_share={share} is not in (0, 1)')
  rng = np.random.default_rng((seed, draw))
  of_source: dict[str, list[str]] = {}
  for name in protocol.seen_classes:
    of_source.setdefault(protocol.sources.get(name, ''), []).append(name)
  unseen = []
  for names in of_source.values():
    count = min(round(share * len(names)), len(names) - 1)
    unseen += rng.choice(names, count, replace=False).tolist()
  if not unseen:
    raise ValueError(
      f'{protocol.name}: no seen class can play unseen at '
      f'data.inner_share={share}'
    )
  unseen = tuple(sorted(unseen))
  seen = tuple(n for n in protocol.seen_classes if n not in unseen)
  name = f'{protocol.name}#inner{draw}'
  text = f'{protocol.hash} {draw} {unseen}'
  digest = hashlib.sha256(text.encode()).hexdigest()[:12]
  part = lambda videos, names: _renumbered(videos, protocol.seen_classes, names)
  return dataclasses.replace(
    protocol,
    name=name,
    hash=digest,
    spec_id=name,
    spec_hash=digest,
    seen_classes=seen,
    unseen_classes=unseen,
    train=part(protocol.train, seen),
    validation=part(protocol.validation, seen),
    seen_test=protocol.seen_test and part(protocol.seen_test, seen),
    test=part(protocol.train, unseen),
    unreadable=(),
    num_missing=0,
    leaks=(),
  )


def _renumbered(
  videos: video_sets.VideoSet, classes: Sequence[str], names: Sequence[str]
) -> video_sets.VideoSet:
  """The videos of some classes, labelled by their place among these."""
  place = np.array([names.index(c) if c in names else -1 for c in classes])
  kept = videos.subset(place[videos.labels] >= 0)
  return dataclasses.replace(
    kept, labels=place[kept.labels].astype(kept.labels.dtype)
  )


def _test_videos(
  dataset: PreparedDataset,
  splits: Sequence[specs.SplitSpec],
  unseen: Sequence[str],
) -> video_sets.VideoSet:
  """The videos that some splits test on, each once."""
  rows = {name: set() for name in dataset.indices}
  for split in splits:
    for name, chosen in registry.select_videos(split, dataset.metadata).items():
      rows[name].update(chosen)
  rows = {name: sorted(chosen) for name, chosen in rows.items()}
  return video_sets.select(dataset.folder, dataset.indices, rows, unseen)


def _lost_videos(
  dataset: PreparedDataset, split: specs.SplitSpec
) -> dict[str, list[Mapping[str, str]]]:
  """Test videos that are unreadable or missing."""
  counts = registry.video_rule(split, dataset.metadata)
  return {
    kind: [
      video
      for video in dataset.metadata[kind]
      if counts(video['split'], video['id'], video['label'])
    ]
    for kind in ('unreadable', 'missing')
  }


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
  split: specs.SplitSpec | None,
  dataset: PreparedDataset,
  same: bool,
  only: Sequence[str],
  what: str,
) -> tuple[str, ...]:
  """The classes to train on: the split's, or all that are not unseen."""
  if split is None:
    # A dataset may keep classes for its own test alone.
    index = dataset.indices.get('train')
    seen = sorted(set(index.labels)) if index else dataset.classes()
  elif split.seen is not None and same:
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


def _sources(*datasets: PreparedDataset) -> dict[str, str]:
  """Class -> where it lives."""
  return {
    name: source
    for dataset in datasets
    for index in dataset.indices.values()
    for name, source in zip(index.labels, index.sources, strict=True)
  }
