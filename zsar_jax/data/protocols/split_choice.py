"""Finds the split that a user chose, and its protocol.

The protocol comes from the registry, from a class split file, or from the
dataset itself if it brings its own split (stick_figures).
"""

import dataclasses
import os

from zsar_jax.data.protocols import registry, specs, split_file
from zsar_jax.data.protocols.prepared_dataset import PreparedDataset


@dataclasses.dataclass(frozen=True)
class SplitChoice:
  """How to divide prepared datasets into seen and unseen, train and test.

  The attributes are the config's `data.*` keys of the same names.

  Attributes:
    class_split: JSON file with the lists "seen" and "unseen", see
      `split_file`; '' if `protocol` or the dataset decides.
    protocol: id of a registered protocol, or ''.
    class_split_index: number of the split within the file or the protocol;
      `split_file.ALL` for all of a file.
    test_dataset_dir: folder of the prepared dataset to test on; '' tests on
      the dataset that is trained on.
    validation_fraction: share of each seen class's videos to hold out, in
      (0, 1); a dataset with its own validation split does not use it.
    seed: of the videos that are held out.
    seen_classes: only these classes count as seen, because a model was trained
      on them; empty means all that the protocol allows.
    strict_for: ids of further protocols whose unseen classes must not leak.
    allow_leaks: continue although a seen class leaks into the test.
    drop_leaking: leave leaking seen classes and videos out of training.
    train_only: no test; every class is seen.
  """

  class_split: str = ''
  protocol: str = ''
  class_split_index: int = 0
  test_dataset_dir: str = ''
  validation_fraction: float = 0.2
  seed: int = 0
  seen_classes: tuple[str, ...] = ()
  strict_for: tuple[str, ...] = ()
  allow_leaks: bool = False
  drop_leaking: bool = False
  train_only: bool = False


def find_spec(
  dataset: PreparedDataset, choice: SplitChoice
) -> tuple[specs.ProtocolSpec, specs.SplitSpec]:
  """Finds the protocol that a choice names, and the chosen split of it.

  Args:
    dataset: the dataset to test on.
    choice: of the user.

  Returns:
    The registered protocol, else the file's, else the dataset's own. And one of
    its splits: the chosen one, or the first of all that a file has.

  Raises:
    FileNotFoundError: the split file does not exist.
    ValueError: both a file and an id are given, or neither. Or the id is
      unknown, the protocol is of another dataset, the file is bad, or there is
      no split of that number.
  """
  if choice.protocol and choice.class_split:
    raise ValueError(
      f'data.protocol={choice.protocol} and data.class_split='
      f'{choice.class_split} are both given: set only one of them'
    )
  if choice.protocol:
    spec = _registered(dataset, choice.protocol)
    return spec, _split_of(spec, choice.class_split_index)
  if choice.class_split:
    spec = _from_file(dataset, choice.class_split, choice.class_split_index)
  elif dataset.metadata['seen_classes']:
    spec = _own(dataset)
  else:
    raise ValueError(
      f'{dataset.folder} brings no class split: set data.protocol to an id '
      '(`zsar protocols list`), data.class_split to a JSON '
      'file with the lists "seen" and "unseen", or data.train_only=True to '
      'train on every class and test elsewhere'
    )
  return spec, spec.splits[0]


def _registered(dataset: PreparedDataset, name: str) -> specs.ProtocolSpec:
  spec = registry.get(name)
  if spec.dataset != dataset.metadata['dataset']:
    raise ValueError(
      f'protocol {name} tests on {spec.dataset}, but {dataset.folder} is '
      f'{dataset.metadata["dataset"]}'
    )
  return spec


def _from_file(
  dataset: PreparedDataset, path: str, index: int
) -> specs.ProtocolSpec:
  stem = os.path.splitext(os.path.basename(path))[0]
  name, count = f'{dataset.name}:{stem}', split_file.count_splits(path)
  if index == split_file.ALL and count > 1:
    every = registry.from_split_file(path, dataset=dataset.name)
    return dataclasses.replace(every, id=name, source=path)
  index = max(index, 0)
  seen, unseen = split_file.read_class_split(path, index)
  one = _one_split(dataset, f'{name}/{index}', seen, unseen, path)
  part = f'split {index} of {count}' if count > 1 else ''
  return dataclasses.replace(one, part=part)


def _own(dataset: PreparedDataset) -> specs.ProtocolSpec:
  seen = sorted(dataset.metadata['seen_classes'])
  unseen = sorted(dataset.metadata['unseen_classes'])
  split_file.check_disjoint(seen, unseen, dataset.folder)
  return _one_split(dataset, dataset.name, seen, unseen, dataset.name)


def _one_split(
  dataset: PreparedDataset,
  name: str,
  seen: list[str],
  unseen: list[str],
  source: str,
) -> specs.ProtocolSpec:
  split = specs.SplitSpec(name, tuple(seen), tuple(unseen))
  # The dataset's name holds a fingerprint of its videos: part of the hash.
  return specs.ProtocolSpec(name, dataset.name, (split,), source)


def _split_of(spec: specs.ProtocolSpec, index: int) -> specs.SplitSpec:
  if not 0 <= index < len(spec.splits):
    raise ValueError(
      f'protocol {spec.id} has splits 0 to {len(spec.splits) - 1}, not {index}'
    )
  return spec.splits[index]
