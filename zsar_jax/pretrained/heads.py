"""Reads the last layer of a public video classifier and its class names.

Inference makes a prototype from each class's weight vector, its *column*; see
`inference.classifier_bank`.
"""

import re

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.pretrained import directory

_TENSOR = 'classifier.weight'
# transformers writes such names if the classes have none.
_NO_NAME = re.compile(r'LABEL_\d+')


def has_head(weights: directory.Weights) -> bool:
  """Returns whether weights hold a classifier's last layer."""
  return _TENSOR in weights.tensors


def read_labels(weights: directory.Weights) -> tuple[str, ...]:
  """Reads the class names of a classifier.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Canonical names, in the order of the columns.

  Raises:
    ValueError: config.json has no names, a name that is no text, names like
      LABEL_0, or a name twice.
  """
  path = f'{weights.path}/config.json'
  given = weights.config.get('id2label')
  if not isinstance(given, dict) or not given:
    raise ValueError(
      f'{path} has no id2label, which names the classes of a classifier'
    )
  for key, value in given.items():
    if not isinstance(value, str):
      raise ValueError(
        f'{path}: id2label[{key!r}] is {value!r}, expected a name of a class'
      )
  try:
    by_id = {int(key): value for key, value in given.items()}
  except ValueError as e:
    raise ValueError(f'{path}: id2label has a key that is no number') from e
  if sorted(by_id) != list(range(len(by_id))):
    raise ValueError(
      f'{path}: id2label must number the classes from 0 to {len(by_id) - 1}'
    )
  names = [by_id[i] for i in range(len(by_id))]
  unnamed = [name for name in names if _NO_NAME.fullmatch(name)]
  if unnamed:
    raise ValueError(
      f'{path}: the classes are called {unnamed[:3]}; write their true names '
      'into id2label'
    )
  return tuple(class_names.canonical_names(names, path))


def read_columns(weights: directory.Weights, width: int) -> np.ndarray:
  """Reads the columns of a classifier's last layer.

  Args:
    weights: from `directory.read_weights`.
    width: of the encoder's embeddings.

  Returns:
    float32 [s d], one row per class, as stored; d is `width`.

  Raises:
    ValueError: there is no such layer, its number of rows is not the number
      of class names, or its rows have another width.
  """
  if not has_head(weights):
    raise ValueError(
      f'{weights.path} has no {_TENSOR}: it is not a classifier with a linear '
      'last layer'
    )
  columns = np.asarray(weights.tensors[_TENSOR], np.float32)
  names = read_labels(weights)
  if columns.ndim != 2 or len(columns) != len(names):
    raise ValueError(
      f'{weights.origin[_TENSOR]}: {_TENSOR} has shape {columns.shape}, '
      f'{weights.path}/config.json names {len(names)} classes'
    )
  if columns.shape[1] != width:
    raise ValueError(
      f'{weights.origin[_TENSOR]}: {_TENSOR} has shape {columns.shape}, '
      f'expected {(len(names), width)}: the encoder is {width} wide'
    )
  return columns
