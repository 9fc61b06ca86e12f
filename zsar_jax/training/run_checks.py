"""Checks a run before it starts, and prints its data."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import ml_collections

from zsar_jax.data import (
  class_descriptions,
  class_names,
  name_linter,
  preprocessing,
  prompts,
)
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import class_split
from zsar_jax.pretrained import initialisation


def check_parts(c: ml_collections.ConfigDict, shards: int) -> None:
  """Refuses a batch that does not divide over devices and parts.

  Args:
    c: the config's section `train`.
    shards: parts that the mesh splits a batch into.

  Raises:
    ValueError: the batch does not divide; the message has the sizes.
  """
  left, by = c.batch_size, 1
  for key, parts in (
    ('batch shards of the mesh', shards),
    ('train.accumulate', c.accumulate),
    ('train.fusion_chunks', c.fusion_chunks),
  ):
    if left % (by * parts):
      raise ValueError(
        f'train.batch_size={c.batch_size} does not divide over {shards} batch '
        f'shards of the mesh, train.accumulate={c.accumulate} parts and '
        f'train.fusion_chunks={c.fusion_chunks}: it fails at {key}'
      )
    by *= parts


def check_seen(protocol: class_split.Protocol, least: int) -> None:
  """Refuses a protocol with fewer seen classes than training needs.

  Args:
    protocol: of the run.
    least: number of classes; see `step_loss.least_classes`.

  Raises:
    ValueError: there are too few seen classes.
  """
  seen = protocol.seen_classes
  if len(seen) < least:
    wanted = 'two' if least == 2 else 'three, since clips are mixed'
    raise ValueError(
      f'{protocol.name} has only the seen classes {list(seen)}; training needs '
      f'at least {wanted}'
    )


def read_descriptions(
  config: ml_collections.ConfigDict,
  protocol: class_split.Protocol,
  say: Callable[[str], Any],
) -> dict[str, tuple[str, ...]]:
  """Reads the descriptions that the config asks for.

  Args:
    config: of the run; `names.descriptions` is a file, 'shipped', or ''.
    protocol: has the classes.
    say: prints a line about classes without a description.

  Returns:
    Class name -> sentences; {} where none are asked for. They are of all
    classes that there are any for, so that they also serve names that are added
    after training.

  Raises:
    ValueError: a prompt has no place for the name, the file is damaged, or
      none of the protocol's classes has a description.
    FileNotFoundError: the file does not exist.
  """
  prompts.check_templates(tuple(config.names.prompts))
  source = config.names.descriptions
  if not source:
    return {}
  names = (*protocol.seen_classes, *protocol.unseen_classes)
  described = class_descriptions.find(source, _dataset(protocol.dataset_dir))
  if source == class_descriptions.SHIPPED and protocol.test is not None:
    tested = class_descriptions.shipped(_dataset(protocol.test.dataset_dir))
    unseen = [name for name in protocol.unseen_classes if name in tested]
    described |= {name: tested[name] for name in unseen}
  lacking = class_descriptions.check_some(described, names, source)
  if lacking:
    say(lacking)
  return described


def _dataset(folder: str) -> str:
  return records.read_metadata(folder)['dataset']


def keep_preprocessing(
  config: ml_collections.ConfigDict,
  wanted: preprocessing.Preprocessing,
  begun: preprocessing.Preprocessing,
  say: Callable[[str], Any],
) -> ml_collections.ConfigDict:
  """Lets a run go on with the preprocessing that it began with.

  Public weights bring their preprocessing. Earlier versions read less of it,
  and the weights' files may have changed since.

  Args:
    config: of the run, with what its public weights ask for today.
    wanted: the same as a `Preprocessing`.
    begun: of the run's checkpoints.
    say: gets a line with what differs.

  Returns:
    The config with the preprocessing of the checkpoints.

  Raises:
    ValueError: the vocabulary is another one, so that the trained parameters
      mean nothing any more.
  """
  old, new = dataclasses.asdict(begun), dataclasses.asdict(wanted)
  if old.pop('vocabulary_hash') != new.pop('vocabulary_hash'):
    source = config.init.text or initialisation.dual_source(config)
    raise ValueError(
      'the run began with another vocabulary: bring back the one of '
      f'{source or config.vocabulary or "then"}, or begin again in another '
      '--workdir'
    )
  changed = [
    f'{key}={old[key]!r} (today {new[key]!r})'
    for key in old
    if old[key] != new[key]
  ]
  say(
    'going on with the preprocessing that the run began with: '
    f'{", ".join(changed)}; to train with the other, begin in another --workdir'
  )
  config = config.copy_and_resolve_references()
  config.preprocessing.update(old)
  return config


def _warn_of_coarse_storage(
  protocol: class_split.Protocol, prep: ml_collections.ConfigDict, say
) -> None:
  """Warns if clips need more frames a second than are stored."""
  storage = records.read_metadata(protocol.dataset_dir)['storage']
  step = prep.frame_stride / prep.sample_fps
  if (
    storage['kind'] == 'frames'
    and prep.sampling == 'dense'
    and step * storage['fps'] < 1
  ):
    say(
      f'{protocol.dataset_dir} stores a frame every {1 / storage["fps"]:.3g} s '
      f'and clips take one every {step:.3g} s: frames are repeated'
    )


def describe(
  protocol: class_split.Protocol,
  config: ml_collections.ConfigDict,
  pieces: Sequence[str],
  say: Callable[[str], Any],
) -> None:
  """Prints what the run trains on, and what is left out.

  Args:
    protocol: of the run.
    config: of the run.
    pieces: the vocabulary, for warnings about names.
    say: prints a line.
  """
  if protocol.test is None:
    unseen = 'no unseen classes, so nothing zero-shot is measured'
  else:
    unseen = (
      f'{len(protocol.unseen_classes)} unseen classes, {len(protocol.test)} '
      'test videos'
    )
  name = ', '.join(filter(None, (protocol.name, protocol.part)))
  say(
    f'{name}: {len(protocol.seen_classes)} seen classes, '
    f'{len(protocol.train)} training and {len(protocol.validation)} '
    f'validation videos; {unseen}'
  )
  if protocol.unreadable:
    say(f'{len(protocol.unreadable)} test videos are unreadable')
  if protocol.num_missing:
    say(f'{protocol.num_missing} test videos are missing from the dataset')
  if protocol.dropped_classes:
    say(f'left out, because they leak: {list(protocol.dropped_classes)}')
  if protocol.leaks:
    say(f'{len(protocol.leaks)} leaks into the test are allowed')
  _warn_of_coarse_storage(protocol, config.preprocessing, say)
  doubtful = name_linter.lint(
    (*protocol.seen_classes, *protocol.unseen_classes),
    # A byte-pair vocabulary has one definition, and spells any word.
    pieces if len(pieces) > 1 else None,
  )
  if doubtful:
    say(
      f'{len(doubtful)} warnings about class names: '
      f'zsar protocols lint {protocol.dataset_dir}'
    )
  sided = class_names.sided_classes(protocol.seen_classes)
  if config.augmentation.mirror and sided:
    say(f'never mirrored, because their names have a side: {sided}')
