"""Reads a directory of weights; nothing in it is unpickled.

A directory holds `config.json` and `model.safetensors` (or the shards that
`model.safetensors.index.json` lists), and for text models a vocabulary. A
lone `.safetensors` or `.npz` file is taken too, with no config.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
import os
from typing import Any
import zipfile

import jax.numpy as jnp
import numpy as np
import safetensors

_PICKLED = ('.bin', '.pth', '.pt', '.ckpt', '.pkl')
_HOW_TO_CONVERT = (
  'is a pickle, which can run code when it is read; convert it once where '
  'you trust it: python -c "import torch, safetensors.torch as s; '
  "s.save_file({{k: v.contiguous() for k, v in torch.load('{path}', "
  "map_location='cpu', weights_only=True).items()}}, 'model.safetensors')\""
)
# Hugging Face's names -> ours.
_ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_fast': 'gelu_tanh',
  'gelu_new': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'quick_gelu': 'quick_gelu',
  'relu': 'relu',
}


@dataclasses.dataclass(frozen=True)
class Weights:
  """Named tensors and what belongs to them.

  Attributes:
    path: of the directory or file, for messages.
    config: content of config.json; {} for a lone file.
    preprocessor: content of preprocessor_config.json, or of the part of
      processor_config.json that stands for it; {} where both are missing.
    tensors: name -> array, as stored (half precision becomes float32).
    origin: name -> the file that holds the tensor, for messages.
  """

  path: str
  config: Mapping[str, Any]
  preprocessor: Mapping[str, Any]
  tensors: Mapping[str, np.ndarray]
  origin: Mapping[str, str]

  def file(self, name: str) -> str:
    """Returns the path of another file of the directory, e.g. `vocab.txt`.

    Raises:
      FileNotFoundError: the directory lacks it.
    """
    path = os.path.join(self.path, name)
    if not os.path.exists(path):
      raise FileNotFoundError(f'{self.path} has no {name}')
    return path


def read_json(path: str) -> dict[str, Any]:
  """Reads a JSON object; a damaged file is a ValueError that names it."""
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
    # numpy knows bfloat16 once jax is imported. The tensors stay off the
    # accelerator: which of its memories they belong in is not known here.
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


def _pickle_error(path: str) -> ValueError:
  return ValueError(f'{path} {_HOW_TO_CONVERT.format(path=path)}')


def _read_file(path: str) -> dict[str, np.ndarray]:
  if path.endswith('.safetensors'):
    return _read_safetensors(path)
  if path.endswith('.npz'):
    return _read_npz(path)
  if path.endswith(_PICKLED):
    raise _pickle_error(path)
  raise ValueError(f'{path}: expected a .safetensors or .npz file')


def _read_shards(index: str) -> dict[str, tuple[str, np.ndarray]]:
  """Tensor name -> (its file, the tensor), of all files of an index."""
  folder = os.path.dirname(index)
  weight_map = read_json(index).get('weight_map')
  if not weight_map:
    raise ValueError(f'{index} lists no tensors')
  shards = {}
  for name in sorted(set(weight_map.values())):
    # An index has no business outside its folder.
    file = os.path.join(folder, os.path.basename(name))
    if not os.path.exists(file):
      raise FileNotFoundError(f'{index} names a file that is missing: {file}')
    shards |= {k: (file, x) for k, x in _read_file(file).items()}
  missing = sorted(set(weight_map) - set(shards))
  if missing:
    raise ValueError(f'{index} names tensors that are missing: {missing[:10]}')
  return shards


def _read_folder(path: str) -> dict[str, tuple[str, np.ndarray]]:
  """As `_read_shards`, of a directory of weights."""
  index = os.path.join(path, 'model.safetensors.index.json')
  if os.path.exists(index):
    return _read_shards(index)
  single = os.path.join(path, 'model.safetensors')
  if os.path.exists(single):
    return {k: (single, x) for k, x in _read_file(single).items()}
  for name in sorted(os.listdir(path)):
    if name.endswith(_PICKLED):
      raise _pickle_error(os.path.join(path, name))
  raise FileNotFoundError(f'{path} has no model.safetensors')


def _read_preprocessor(path: str) -> dict[str, Any]:
  """Returns how images are prepared, {} where the directory does not say it."""
  # transformers 5 may put it into one file with other processors.
  file = os.path.join(path, 'processor_config.json')
  if os.path.exists(file):
    content = read_json(file)
    if 'image_processor' in content:
      return content['image_processor']
  file = os.path.join(path, 'preprocessor_config.json')
  return read_json(file) if os.path.exists(file) else {}


def read_weights(path: str) -> Weights:
  """Reads a directory of weights, or a lone file of tensors.

  Args:
    path: a directory in the layout of the module docstring, or a
      `.safetensors` or `.npz` file.

  Returns:
    The tensors and what belongs to them.

  Raises:
    FileNotFoundError: the path or a file of the directory is missing.
    ValueError: a damaged file, or a pickle; the message names it, and says
      how to convert a pickle.
  """
  path = os.path.expanduser(path)
  if not os.path.exists(path):
    raise FileNotFoundError(f'weights {path} do not exist')
  config, preprocessor = {}, {}
  if os.path.isdir(path):
    config_path = os.path.join(path, 'config.json')
    if not os.path.exists(config_path):
      raise FileNotFoundError(f'{path} has no config.json')
    config = read_json(config_path)
    preprocessor = _read_preprocessor(path)
    read = _read_folder(path)
  else:
    read = {k: (path, x) for k, x in _read_file(path).items()}
  return Weights(
    path,
    config,
    preprocessor,
    tensors={name: x for name, (_, x) in read.items()},
    origin={name: file for name, (file, _) in read.items()},
  )


def fingerprint(weights: Weights) -> str:
  """Returns eight hex digits that tell two sets of tensors apart."""
  digest = hashlib.sha256()
  for name in sorted(weights.tensors):
    digest.update(name.encode())
    digest.update(np.ascontiguousarray(weights.tensors[name]).tobytes())
  return digest.hexdigest()[:8]


def expect_model_type(weights: Weights, *known: str) -> str:
  """Checks the architecture that config.json names.

  Args:
    weights: from `read_weights`.
    *known: `model_type`s that the caller can load.

  Returns:
    The model type.

  Raises:
    ValueError: another one; the message names the directory and both.
  """
  found = weights.config.get('model_type')
  if found not in known:
    raise ValueError(
      f'{weights.path}/config.json: model_type is {found!r}, expected '
      f'{" or ".join(repr(k) for k in known)}'
    )
  return found


def setting(weights: Weights, key: str, default: Any = ...) -> Any:
  """Returns a value of config.json.

  Args:
    weights: from `read_weights`.
    key: its name.
    default: where the key is missing; without one it must be there.

  Returns:
    The value.

  Raises:
    ValueError: the key is missing; the message names the file.
  """
  if key not in weights.config and default is ...:
    raise ValueError(f'{weights.path}/config.json lacks {key!r}')
  return weights.config.get(key, default)


def activation(weights: Weights, name: str) -> str:
  """Returns our name of an activation.

  Args:
    weights: from `read_weights`, for the message.
    name: `hidden_act` of a Hugging Face config.

  Returns:
    A key of `models.layers.ACTIVATIONS`.

  Raises:
    ValueError: it is not one of those that are known.
  """
  if name not in _ACTIVATIONS:
    raise ValueError(
      f'{weights.path}/config.json: hidden_act {name!r} is not one of '
      f'{sorted(_ACTIVATIONS)}'
    )
  return _ACTIVATIONS[name]
