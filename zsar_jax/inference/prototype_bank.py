"""The prototype bank: the file that inference needs beside the encoders.

It is a safetensors file. Prototypes, class embeddings and video counts are
tensors. Names, domain, preprocessing, hashes, settings, calibration and licence
are JSON in the header. Nothing is unpickled.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from typing import Any

import numpy as np
import safetensors
from safetensors import SafetensorError

from zsar_jax.evaluation import tensor_files

# File name of the bank, in a run and in an exported model.
BANK_FILE = 'bank.safetensors'
_FORMAT = 'zsar_jax prototype bank 2'
_OLD_FORMATS = ('zsar_jax prototype bank 1',)
_ARRAYS = (
  'seen_prototypes',
  'class_embeddings',
  'counts',
  'added_embeddings',
  'example_counts',
  'example_sums',
  'centre',
)
_TEXTS = (
  'domain',
  'protocol',
  'protocol_hash',
  'preprocessing',
  'weights_hash',
  'licence',
)


@dataclasses.dataclass(frozen=True)
class PrototypeBank:
  """Seen prototypes, with their origin.

  Attributes:
    seen_classes: names, in the order of the arrays.
    seen_prototypes: float32 [s d], unit vectors.
    class_embeddings: float32 [s e], unit vectors.
    counts: int64 [s], number of videos of each prototype; 0 for a classifier's
      column.
    domain: describes the training videos.
    protocol: id of the protocol of the prototypes.
    preprocessing: `Preprocessing` as JSON, with the hash of the vocabulary.
    step: step of the checkpoint of the encoders.
    protocol_hash: hash of the protocol.
    weights_hash: hash of the encoders.
    licence: licence of the training videos; '' if not stated.
    settings: settings of the transfer; see `methods.TransferSettings`.
    calibration: see `calibration.Calibration.to_dict`; None without one.
    origin: the public weights behind the encoders, see `Recognizer.origin`; ''
      in banks of earlier versions.
    added_classes: names of classes that were added without training.
    added_embeddings: float32 [a e], unit vectors, of these names.
    example_counts: int64 [a], example videos of the added classes; None if no
      class has any.
    example_sums: float32 [a d], sums of their `examples.directions`.
    centre: float32 [d], what was subtracted from the videos of the prototypes;
      None if nothing was, or if it is not known.
    left_out: names of the classes that the encoder was trained on, and that
      have no prototype. They are no unseen classes. () in banks of earlier
      versions.
  """

  seen_classes: tuple[str, ...]
  seen_prototypes: np.ndarray
  class_embeddings: np.ndarray
  counts: np.ndarray
  domain: str
  protocol: str
  preprocessing: str
  step: int
  protocol_hash: str = ''
  weights_hash: str = ''
  licence: str = ''
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  calibration: Mapping[str, Any] | None = None
  origin: str = ''
  added_classes: tuple[str, ...] = ()
  added_embeddings: np.ndarray | None = None
  example_counts: np.ndarray | None = None
  example_sums: np.ndarray | None = None
  centre: np.ndarray | None = None
  left_out: tuple[str, ...] = ()


def preprocessing_hash(preprocessing: str) -> str:
  """Hashes a preprocessing's JSON text to 12 hex digits."""
  return hashlib.sha256(preprocessing.encode()).hexdigest()[:12]


def save_bank(bank: PrototypeBank, path: str) -> None:
  """Writes a bank whole or not at all."""
  tensors = {
    name: getattr(bank, name)
    for name in _ARRAYS
    if getattr(bank, name) is not None
  }
  header = {
    field.name: getattr(bank, field.name)
    for field in dataclasses.fields(bank)
    if field.name not in _ARRAYS
  }
  tensor_files.write(path, tensors, header, _FORMAT)


def load_bank(path: str) -> PrototypeBank:
  """Reads a bank.

  Args:
    path: path of a file that `save_bank` wrote.

  Returns:
    The bank.

  Raises:
    FileNotFoundError: no such file.
    IsADirectoryError: it is a folder.
    ValueError: the file is no bank, or damaged. The message names the file,
      and the class if one is wrong.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'{path} does not exist: a run writes it at the end of training'
    )
  if not os.path.isfile(path):
    raise IsADirectoryError(
      f'{path} is no file: the bank of a folder is its {BANK_FILE}'
    )
  try:
    with safetensors.safe_open(path, framework='numpy') as f:
      metadata = f.metadata() or {}
      if metadata.get('format') in _OLD_FORMATS:
        raise ValueError(
          f'{path} was written by an older version: build it again with '
          '`zsar bank build`'
        )
      if metadata.get('format') != _FORMAT:
        raise ValueError(f'{path} is not a {_FORMAT!r} file')
      header = json.loads(metadata.get('header', ''))
      tensors = {name: f.get_tensor(name) for name in f.keys()}
  except SafetensorError as e:
    raise ValueError(f'{path} is not a safetensors file: {e}') from e
  except json.JSONDecodeError as e:
    raise ValueError(f'{path}: its header is not JSON: {e}') from e
  _check_header(path, header)
  for key in ('seen_classes', 'added_classes', 'left_out'):
    header[key] = tuple(header.get(key, ()))
  try:
    bank = PrototypeBank(**header, **tensors)
  except TypeError as e:
    raise ValueError(f'{path} is damaged: {e}') from e
  _check_arrays(path, bank)
  return bank


def _check_header(path: str, header: Any) -> None:
  """Raises ValueError if a header's values have wrong types."""
  if not isinstance(header, dict):
    raise ValueError(f'{path}: its header is not a JSON object')
  wrong = [
    key
    for key, kind in (
      ('seen_classes', list),
      ('added_classes', list),
      ('settings', dict),
      ('calibration', dict | None),
      ('step', int),
      *((key, str) for key in _TEXTS),
      *(
        (key, kind)
        for key, kind in (('origin', str), ('left_out', list))
        if key in header
      ),
    )
    if not isinstance(header.get(key), kind)
  ]
  if wrong:
    raise ValueError(f'{path}: header keys {wrong} are damaged')
  names = (*header['seen_classes'], *header['added_classes'])
  texts = (*names, *header.get('left_out', ()))
  if not all(isinstance(name, str) for name in texts):
    raise ValueError(f'{path}: header keys with class names are damaged')
  if not header['seen_classes']:
    raise ValueError(f'{path} holds no seen class')
  if len(set(names)) < len(names):
    twice = sorted({n for n in names if names.count(n) > 1})
    raise ValueError(f'{path} holds {twice} more than once')


def _check_arrays(path: str, bank: PrototypeBank) -> None:
  """Raises ValueError if arrays do not fit the names or are no unit vectors."""
  s, a = len(bank.seen_classes), len(bank.added_classes)
  for name, names, rows in (
    ('seen_prototypes', bank.seen_classes, s),
    ('class_embeddings', bank.seen_classes, s),
    ('added_embeddings', bank.added_classes, a),
  ):
    x = getattr(bank, name)
    if x is None and not rows:
      continue
    if x is None or x.ndim != 2 or len(x) != rows:
      raise ValueError(
        f'{path}: {name} is {None if x is None else x.shape}, expected a row '
        f'for each of {rows} classes'
      )
    norms = np.linalg.norm(x, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1) < 1e-3))
    if bad.size:
      raise ValueError(
        f'{path}: {name} of {[names[i] for i in bad[:10]]} are no unit vectors'
      )
  d = bank.seen_prototypes.shape[1]
  for name, shape, needed in (
    ('counts', (s,), True),
    ('example_counts', (a,), bank.example_sums is not None),
    ('example_sums', (a, d), bank.example_counts is not None),
    ('centre', (d,), False),
  ):
    x = getattr(bank, name)
    if x is None and not needed:
      continue
    if x is None or x.shape != shape or not np.isfinite(x).all():
      raise ValueError(
        f'{path}: {name} is {None if x is None else x.shape}, expected '
        f'{shape} finite numbers'
      )


def check_belongs(
  bank: PrototypeBank, weights_hash: str, preprocessing: str, path: str = ''
) -> None:
  """Checks that a bank belongs to some encoders.

  Args:
    bank: bank to check.
    weights_hash: hash of the encoders.
    preprocessing: their preprocessing, as JSON text.
    path: path of the bank, for the message.

  Raises:
    ValueError: the bank belongs to other encoders. The message has both hashes.
  """
  for what, theirs, ours in (
    ('weights', bank.weights_hash, weights_hash),
    (
      'preprocessing',
      preprocessing_hash(bank.preprocessing),
      preprocessing_hash(preprocessing),
    ),
  ):
    if theirs != ours:
      raise ValueError(
        f'{f"bank {path}" if path else "the bank"} belongs to other {what} '
        f'({theirs}, here {ours}): build it again with `zsar bank build`'
      )


def without(names: Sequence[str], seen: Sequence[str]) -> tuple[str, ...]:
  """Returns the names that are no seen classes, in order."""
  return tuple(name for name in names if name not in seen)


def examples_of(bank: PrototypeBank) -> dict[str, int]:
  """Returns how many example videos each added class has."""
  counts = bank.example_counts
  if counts is None:
    counts = np.zeros(len(bank.added_classes), np.int64)
  return dict(zip(bank.added_classes, counts.tolist(), strict=True))


def describe(bank: PrototypeBank) -> str:
  """Returns the text that `show` prints: facts, then a line per class."""
  calibration = bank.calibration or {}
  facts = {
    'seen classes': len(bank.seen_classes),
    'training videos': int(bank.counts.sum()),
    'dimensions': bank.seen_prototypes.shape[1],
    'trained on': bank.domain,
    'protocol': f'{bank.protocol} {bank.protocol_hash}'.rstrip(),
    'weights': f'{bank.weights_hash}, step {bank.step}',
    'public weights': bank.origin or 'not stated',
    'preprocessing': preprocessing_hash(bank.preprocessing),
    'tokenizer': json.loads(bank.preprocessing).get('vocabulary_hash', ''),
    'licence': bank.licence or 'not stated',
    'settings': json.dumps(dict(bank.settings)),
    'calibrated on': calibration.get('measured_on', 'nothing'),
  }
  if bank.left_out:
    facts['left out'] = (
      f'{len(bank.left_out)} classes that the encoder was trained on: they are '
      'no unseen classes'
    )
  width = max(map(len, facts))
  lines = [f'{key.ljust(width)}  {value}' for key, value in facts.items()]
  lines.append('')
  lines += [
    f'{int(count):6d} videos  {name}' if count else f'       column  {name}'
    for name, count in zip(bank.seen_classes, bank.counts, strict=True)
  ]
  lines += [
    f'{n:4d} examples  {name}' if n else f'  by name alone  {name}'
    for name, n in examples_of(bank).items()
  ]
  lines += [f'     left out  {name}' for name in bank.left_out]
  return '\n'.join(lines)
