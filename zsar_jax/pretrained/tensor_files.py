"""Reads files of named tensors: safetensors, their shards, and npz.

Nothing is unpickled.
"""

from collections.abc import Mapping
import json
import os
from typing import Any
import zipfile

import jax.numpy as jnp
import numpy as np
import safetensors

SINGLE_FILE = 'model.safetensors'
INDEX_FILE = 'model.safetensors.index.json'
# File name endings of pickles, by torch and others.
PICKLED = ('.bin', '.pth', '.pt', '.ckpt', '.pkl')
_HOW_TO_CONVERT = (
  'is a pickle, which can run code when it is read; convert it once where '
  'you trust it: python -c "import torch, safetensors.torch as s; '
  "s.save_file({{k: v.contiguous() for k, v in torch.load('{path}', "
  "map_location='cpu', weights_only=True).items()}}, 'model.safetensors')\""
)


def read_json(path: str) -> dict[str, Any]:
  """Reads a JSON object; raises ValueError if the file is damaged."""
  try:
    with open(path, encoding='utf-8') as f:
      content = json.load(f)
  except ValueError as e:  # Bad JSON or bad UTF-8.
    raise ValueError(f'{path}: not JSON: {e}') from e
  if not isinstance(content, dict):
    raise ValueError(f'{path}: expected a JSON object')
  return content


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
  """Reads all tensors of a file; raises ValueError if it is damaged."""
  tensors = {}
  try:
    # Importing jax adds bfloat16 to numpy. The tensors stay on the host, since
    # their sharding is not known here.
    with safetensors.safe_open(path, framework='numpy') as f:
      for name in f.keys():
        array = f.get_tensor(name)
        half = array.dtype in (jnp.bfloat16, np.float16)
        tensors[name] = array.astype(np.float32) if half else array
  except (safetensors.SafetensorError, ValueError) as e:
    raise ValueError(f'{path}: damaged or not a safetensors file: {e}') from e
  return tensors


def _read_npz(path: str) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as f:
      return {name: f[name] for name in f.files}
  except (OSError, EOFError, ValueError, zipfile.BadZipFile) as e:
    raise ValueError(f'{path}: damaged or not an .npz file: {e}') from e


def pickle_error(path: str) -> ValueError:
  """Returns the error for a pickle; it says how to convert the file."""
  return ValueError(f'{path} {_HOW_TO_CONVERT.format(path=path)}')


def read_file(path: str) -> dict[str, np.ndarray]:
  """Reads all tensors of a `.safetensors` or `.npz` file.

  Args:
    path: path of the file.

  Returns:
    Name -> array. Half precision (float16, bfloat16) becomes float32, without
    loss. Other types stay as stored.

  Raises:
    ValueError: the file is damaged, a pickle, or of another kind. The message
      names it.
  """
  if path.endswith('.safetensors'):
    return _read_safetensors(path)
  if path.endswith('.npz'):
    return _read_npz(path)
  if path.endswith(PICKLED):
    raise pickle_error(path)
  raise ValueError(f'{path}: expected a .safetensors or .npz file')


def is_finite(x: np.ndarray) -> bool:
  """Returns whether an array of any type holds no NaN and no infinity."""
  if not jnp.issubdtype(x.dtype, jnp.inexact):
    return True
  # A finite sum tells it in one pass that needs no memory. The sum of large
  # numbers may overflow.
  with np.errstate(all='ignore'):
    return bool(np.isfinite(x.sum()) or np.isfinite(x).all())


def weight_map(index: str) -> dict[str, str]:
  """Reads the index of a set of shards.

  Args:
    index: path of `model.safetensors.index.json`.

  Returns:
    Tensor name -> file name. Every file name is a plain name that ends in
    `.safetensors`, so an index cannot point outside its folder or to a pickle.

  Raises:
    FileNotFoundError: the index is missing.
    ValueError: it is damaged, lists nothing, or lists another kind of file.
  """
  listed = read_json(index).get('weight_map')
  if not listed:
    raise ValueError(f'{index} lists no tensors')
  if not isinstance(listed, dict):
    raise ValueError(f'{index}: weight_map is not an object')
  for file in listed.values():
    if not isinstance(file, str) or not _is_plain_safetensors(file):
      raise ValueError(
        f'{index} names {file!r}: expected a .safetensors file of its folder'
      )
  return listed


def _is_plain_safetensors(name: str) -> bool:
  return name.endswith('.safetensors') and not set(name) & set('/\\\0')


def read_shards(index: str) -> dict[str, tuple[str, np.ndarray]]:
  """Reads all tensors of the shards that an index lists.

  Args:
    index: path of `model.safetensors.index.json`; the shards lie beside it.

  Returns:
    Tensor name -> (path of its shard, the tensor as `read_file` returns it).

  Raises:
    FileNotFoundError: the index or a shard is missing; the message names both.
    ValueError: `weight_map` refuses the index, a shard is damaged or lacks a
      tensor that the index lists, or a tensor is in two shards.
  """
  listed = weight_map(index)
  tensors: dict[str, tuple[str, np.ndarray]] = {}
  for name in sorted(set(listed.values())):
    file = os.path.join(os.path.dirname(index), name)
    if not os.path.exists(file):
      raise FileNotFoundError(f'{index} names a file that is missing: {file}')
    shard = read_file(file)
    _check_shard(index, listed, file, shard)
    for tensor, value in shard.items():
      if tensor in tensors:
        raise ValueError(
          f'tensor {tensor!r} is in two files: {tensors[tensor][0]} and {file}'
        )
      tensors[tensor] = file, value
  return tensors


def _check_shard(
  index: str,
  listed: Mapping[str, str],
  file: str,
  shard: Mapping[str, np.ndarray],
) -> None:
  """Raises ValueError if a shard lacks a tensor that the index lists."""
  name = os.path.basename(file)
  missing = sorted(
    k for k, at in listed.items() if at == name and k not in shard
  )
  if missing:
    raise ValueError(
      f'{index} names tensors that are missing from {file}: {missing[:10]}'
    )
