"""Larger prototype banks: new classes, their example videos, banks joined."""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.inference import prototype_bank
from zsar_jax.inference.prototype_bank import PrototypeBank

# Two embeddings of a name by the same encoder differ only by rounding.
_TOLERANCE = 1e-5
# A classifier's column weighs as much as this many videos.
_COLUMN_VIDEOS = 10


def new_names(bank: PrototypeBank, names: Sequence[str]) -> list[str]:
  """Checks names of classes to add to a bank.

  Args:
    bank: bank to add to.
    names: class names in any spelling.

  Returns:
    The canonical names.

  Raises:
    ValueError: a name is empty, twice, or in the bank already.
  """
  names = list(class_names.canonical_names(names, 'classes'))
  trained = [name for name in names if name in bank.seen_classes]
  if trained:
    raise ValueError(f'{trained} are seen classes of the bank')
  known = [name for name in names if name in bank.added_classes]
  if known:
    raise ValueError(f'{known} are in the bank already')
  return names


def add_names(
  bank: PrototypeBank, names: Sequence[str], embeddings: np.ndarray
) -> PrototypeBank:
  """Adds unseen classes by name.

  Args:
    bank: bank to add to.
    names: class names in any spelling.
    embeddings: embeddings of these names [a e], unit vectors.

  Returns:
    The larger bank.

  Raises:
    ValueError: a name is empty, twice, or in the bank already.
  """
  names = new_names(bank, names)
  embeddings = np.asarray(embeddings, np.float32)
  if bank.added_embeddings is not None:
    embeddings = np.concatenate([bank.added_embeddings, embeddings])
  larger = dataclasses.replace(
    bank,
    added_classes=(*bank.added_classes, *names),
    added_embeddings=embeddings,
  )
  if bank.example_counts is None:
    return larger
  more = lambda x: np.pad(x, [(0, len(names))] + [(0, 0)] * (x.ndim - 1))
  return dataclasses.replace(
    larger,
    example_counts=more(bank.example_counts),
    example_sums=more(bank.example_sums),
  )


def add_examples(
  bank: PrototypeBank, name: str, directions: np.ndarray
) -> PrototypeBank:
  """Adds example videos of an added class to those that it has.

  Args:
    bank: bank to add to.
    name: canonical name of a class that was added.
    directions: float32 [n d], of the videos; see `examples.directions`.

  Returns:
    The bank with more examples.

  Raises:
    ValueError: the bank has no such added class.
  """
  if name not in bank.added_classes:
    raise ValueError(f'{name!r} is none of the added classes of the bank')
  given = {name: (len(directions), directions.sum(axis=0))}
  return _with_examples(bank, given)


def _with_examples(
  bank: PrototypeBank, given: Mapping[str, tuple[int, np.ndarray]]
) -> PrototypeBank:
  """Adds numbers and sums [d] of examples to those of added classes."""
  if not given:
    return bank
  shape = len(bank.added_classes), bank.seen_prototypes.shape[1]
  counts, sums = np.zeros(shape[0], np.int64), np.zeros(shape, np.float32)
  if bank.example_counts is not None:
    counts, sums = bank.example_counts.copy(), bank.example_sums.copy()
  for name, (number, total) in given.items():
    at = bank.added_classes.index(name)
    counts[at] += number
    sums[at] += total
  return dataclasses.replace(bank, example_counts=counts, example_sums=sums)


def merge(
  banks: Sequence[PrototypeBank], paths: Sequence[str] = ()
) -> PrototypeBank:
  """Merges banks of the same encoders.

  If several banks have a class, its prototype is the mean of theirs, weighted
  by their numbers of videos and normalised. This approximates the mean of all
  videos (our choice). A classifier's column weighs as much as 10 videos (our
  choice). The first bank's settings are kept. The calibrations are dropped,
  because they were measured with other seen classes. The examples of an added
  class are added up. If another bank has seen the class, they count as videos
  of it. What one bank left out stays left out, unless another bank has it.

  Args:
    banks: at least two.
    paths: of their files, for messages; () without files.

  Returns:
    The bank, with classes in alphabetical order.

  Raises:
    ValueError: the banks have different weights or preprocessing, or different
      embeddings of a name; or one is given twice, which would count its videos
      twice. The message names the files.
  """
  first = banks[0]
  paths = paths or [f'number {i + 1}' for i in range(len(banks))]
  for bank, path in zip(banks[1:], paths[1:], strict=True):
    prototype_bank.check_belongs(
      bank,
      first.weights_hash,
      first.preprocessing,
      f'{path}, to merge with {paths[0]},',
    )
  _refuse_twice(banks, paths)
  sums, counts, texts = _sums_of_seen(banks, paths)
  added, examples = _sums_of_added(banks)
  for name in examples.keys() & sums.keys():
    n, total = examples.pop(name)
    counts[name] += n
    sums[name] = sums[name] + total
  names = tuple(sorted(sums))
  added = {name: x for name, x in sorted(added.items()) if name not in sums}
  total = np.stack([sums[name] for name in names])
  total /= np.linalg.norm(total, axis=1, keepdims=True)
  joined = lambda values: ' + '.join(dict.fromkeys(filter(None, values)))
  centres = [bank.centre for bank in banks if bank.centre is not None]
  merged = dataclasses.replace(
    first,
    seen_classes=names,
    seen_prototypes=total.astype(np.float32),
    class_embeddings=np.stack([texts[name] for name in names]),
    counts=np.array([counts[name] for name in names]),
    domain=joined(bank.domain for bank in banks),
    protocol=joined(bank.protocol for bank in banks),
    protocol_hash='',
    licence=joined(bank.licence for bank in banks),
    calibration=None,
    added_classes=tuple(added),
    added_embeddings=np.stack([*added.values()]) if added else None,
    example_counts=None,
    example_sums=None,
    centre=centres[0] if centres else None,
    left_out=prototype_bank.without(
      dict.fromkeys(name for bank in banks for name in bank.left_out), names
    ),
  )
  return _with_examples(merged, examples)


def _refuse_twice(banks: Sequence[PrototypeBank], paths: Sequence[str]):
  """Refuses a bank with the content of one before it."""
  for i, j in itertools.combinations(range(len(banks)), 2):
    if _content(banks[i]) == _content(banks[j]):
      raise ValueError(
        f'banks {paths[i]} and {paths[j]} are the same, and their videos would '
        'count twice: give each bank once'
      )


def _content(bank: PrototypeBank) -> tuple:
  """Returns what a merge adds up, to compare."""
  arrays = (
    bank.seen_prototypes,
    bank.class_embeddings,
    bank.counts,
    bank.added_embeddings,
    bank.example_counts,
    bank.example_sums,
  )
  values = (None if x is None else x.tobytes() for x in arrays)
  return (bank.seen_classes, bank.added_classes, *values)


def _sums_of_seen(banks: Sequence[PrototypeBank], paths: Sequence[str]):
  """Sums of the seen classes' directions, their videos and embeddings."""
  sums: dict[str, np.ndarray] = {}
  counts: dict[str, int] = {}
  texts: dict[str, np.ndarray] = {}
  first: dict[str, str] = {}
  for bank, path in zip(banks, paths, strict=True):
    for i, name in enumerate(bank.seen_classes):
      count = int(bank.counts[i])
      weight = np.float64(count or _COLUMN_VIDEOS)
      sums[name] = sums.get(name, 0) + weight * bank.seen_prototypes[i]
      counts[name] = counts.get(name, 0) + count
      first.setdefault(name, path)
      text = texts.setdefault(name, bank.class_embeddings[i])
      if np.abs(text - bank.class_embeddings[i]).max() > _TOLERANCE:
        raise ValueError(
          f'banks {first[name]} and {path} have different class embeddings of '
          f'{name!r}'
        )
  return sums, counts, texts


def _sums_of_added(banks: Sequence[PrototypeBank]):
  """Embeddings of the added classes; number and sum of their examples."""
  added: dict[str, np.ndarray] = {}
  examples: dict[str, tuple[int, np.ndarray]] = {}
  for bank in banks:
    for i, (name, n) in enumerate(prototype_bank.examples_of(bank).items()):
      added[name] = bank.added_embeddings[i]
      if n:
        before, total = examples.get(name, (0, 0))
        examples[name] = before + n, total + bank.example_sums[i]
  return added, examples
