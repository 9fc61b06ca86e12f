"""Reads and writes a trained model as plain files; finds shipped models.

`model.safetensors` holds the parameters. `model.json` holds the `meta` of a
checkpoint and the step. `bank.safetensors` is beside them. Predictions need
nothing else, and none of these files can run code.
"""

from collections.abc import Iterator, Mapping
import hashlib
import json
import os
import pathlib
from typing import Any

import safetensors
import safetensors.numpy

from zsar_jax.evaluation import tensor_files

PARAMS_FILE = 'model.safetensors'
META_FILE = 'model.json'
_KEYS = ('config', 'vocabulary', 'seen_classes', 'step')
# `write` adds this key; models of earlier versions lack it.
_DIGEST = 'digest'
_SHIPPED = pathlib.Path(__file__).parents[1] / 'shipped_models'
# A folder with one of these is a model, or a run that has begun.
_MARKS = (
  META_FILE,
  'bank.safetensors',
  'encoders.json',
  'checkpoints',
  'config.json',
)


def shipped() -> list[str]:
  """Returns the names of the models that come with the package."""
  return sorted(p.name for p in _SHIPPED.iterdir() if p.is_dir())


def examples() -> list[str]:
  """Returns the paths of the videos that come with the package."""
  return sorted(str(path) for path in _SHIPPED.glob('*/examples/*.mp4'))


def resolve(name: str) -> str:
  """Returns the folder of a shipped model; returns other paths unchanged.

  A file of that name comes first, and so does a folder with a model or a run.
  Any other folder of that name does not hide the model.
  """
  if name in shipped() and not os.path.isfile(name) and not _has_mark(name):
    return str(_SHIPPED / name)
  return name


def _has_mark(folder: str) -> bool:
  return any(os.path.exists(os.path.join(folder, mark)) for mark in _MARKS)


def is_model(folder: str) -> bool:
  """Returns whether a folder holds a model in this format."""
  return os.path.isfile(os.path.join(folder, META_FILE))


def write(folder: str, params: Any, meta: Mapping[str, Any]) -> None:
  """Writes a model.

  Args:
    folder: folder to write; made if missing.
    params: nested dicts of arrays.
    meta: JSON-able; `config`, `vocabulary`, `seen_classes`, `step` and more.
  """
  os.makedirs(folder, exist_ok=True)
  meta = {**meta, _DIGEST: _digest(params, meta)}
  flat = dict(flatten(params))
  tensor_files.save(os.path.join(folder, PARAMS_FILE), flat)
  # Written last: `is_model` looks for it.
  with open(os.path.join(folder, META_FILE), 'w') as f:
    json.dump(meta, f, indent=1)
    f.write('\n')


def read(folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads a model.

  Args:
    folder: folder of a model.

  Returns:
    Parameters as nested dicts of arrays, and meta.

  Raises:
    FileNotFoundError: the parameters are missing.
    ValueError: a file is damaged or not in this format.
  """
  path = os.path.join(folder, META_FILE)
  try:
    with open(path) as f:
      meta = json.load(f)
  except ValueError as e:
    raise ValueError(f'{path} is not JSON: {e}') from e
  missing = [key for key in _KEYS if key not in meta]
  if missing:
    raise ValueError(f'{path} lacks the keys {missing}')
  path = os.path.join(folder, PARAMS_FILE)
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path} is missing beside {META_FILE}')
  try:
    flat = safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as e:
    raise ValueError(f'{path} is damaged: {e}') from e
  params: dict[str, Any] = {}
  for name, array in flat.items():
    *parents, leaf = name.split('/')
    node = params
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = array
  return params, meta


def is_as_written(params: Any, meta: Mapping[str, Any]) -> bool:
  """Returns whether shapes and meta are those that `write` wrote.

  Args:
    params: from `read`.
    meta: from `read`.

  Returns:
    True if neither file was changed since, except for values of parameters.
    The parameters then fit the config. False if they may or may not fit.
  """
  return meta.get(_DIGEST) == _digest(params, meta)


def _digest(params: Any, meta: Mapping[str, Any]) -> str:
  """Hashes meta, and names, dtypes and shapes of parameters: 64 hex digits."""
  meta = {key: value for key, value in meta.items() if key != _DIGEST}
  shapes = {name: [str(x.dtype), *x.shape] for name, x in flatten(params)}
  # A round trip through JSON turns tuples into lists.
  plain = json.loads(json.dumps([meta, shapes]))
  return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def flatten(
  tree: Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  """Yields the leaves of nested dicts with their paths, joined by '/'."""
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from flatten(value, f'{prefix}{key}/')
    else:
      yield prefix + key, value
