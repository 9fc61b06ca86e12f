"""Reads a directory of weights, without unpickling anything.

A directory holds `config.json` and `model.safetensors` (or the shards that
`model.safetensors.index.json` lists), and for text models a vocabulary. A
single `.safetensors` or `.npz` file, without config, is accepted too. An id of
the Hugging Face Hub names such a directory: see `hub`.
"""

from collections.abc import Callable, Mapping
import dataclasses
import hashlib
import math
import os
import re
from typing import Any

import numpy as np

from zsar_jax.pretrained import hub, tensor_files

# A name of weights, and no path of a machine.
_REPOSITORY = re.compile(r'\w[\w.-]*(/[\w.-]+)?', re.ASCII)
# Hugging Face's names -> ours.
_ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_fast': 'gelu_tanh',
  'gelu_new': 'gelu_tanh',
  'gelu_python': 'gelu',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'quick_gelu': 'quick_gelu',
  'relu': 'relu',
  'silu': 'silu',
}


@dataclasses.dataclass(frozen=True)
class Weights:
  """Named tensors with their configs.

  Attributes:
    path: path of the directory or file, for messages.
    config: content of config.json; {} for a single file.
    preprocessor: content of preprocessor_config.json,
      video_preprocessor_config.json, or the matching part of
      processor_config.json; {} if all are missing.
    tensors: name -> array, as stored (half precision becomes float32).
    origin: name -> the file that holds the tensor, for messages.
    source: id and commit of weights from the Hugging Face Hub,
      `hf:org/name@commit`; '' for local weights.
  """

  path: str
  config: Mapping[str, Any]
  preprocessor: Mapping[str, Any]
  tensors: Mapping[str, np.ndarray]
  origin: Mapping[str, str]
  source: str = ''

  def file(self, name: str) -> str:
    """Returns the path of another file of the directory, such as vocab.txt.

    Raises:
      FileNotFoundError: the directory has no such file.
    """
    path = os.path.join(self.path, name)
    if not os.path.exists(path):
      raise FileNotFoundError(f'{self.path} has no {name}')
    return path


def _read_folder(path: str) -> dict[str, tuple[str, np.ndarray]]:
  """Reads all tensors of a directory; returns them like `read_shards`."""
  index = os.path.join(path, tensor_files.INDEX_FILE)
  if os.path.exists(index):
    return tensor_files.read_shards(index)
  single = os.path.join(path, tensor_files.SINGLE_FILE)
  if os.path.exists(single):
    return {k: (single, x) for k, x in tensor_files.read_file(single).items()}
  for name in sorted(os.listdir(path)):
    if name.endswith(tensor_files.PICKLED):
      raise tensor_files.pickle_error(os.path.join(path, name))
  raise FileNotFoundError(f'{path} has no {tensor_files.SINGLE_FILE}')


def read_preprocessor(path: str) -> dict[str, Any]:
  """Reads the settings of the image processor.

  Args:
    path: path of a directory of weights.

  Returns:
    The content of `Weights.preprocessor`.

  Raises:
    ValueError: a damaged file.
  """
  # transformers 5 may write all processors into one file.
  file = os.path.join(path, 'processor_config.json')
  if os.path.exists(file):
    content = tensor_files.read_json(file)
    for part in ('image_processor', 'video_processor'):
      if part in content:
        return content[part]
  for name in ('preprocessor_config.json', 'video_preprocessor_config.json'):
    file = os.path.join(path, name)
    if os.path.exists(file):
      content = tensor_files.read_json(file)
      # Of a model that hears as well, it may be that of the sound.
      if 'sampling_rate' not in content:
        return content
  return {}


def read_weights(path: str) -> Weights:
  """Reads a directory of weights, or a single file of tensors.

  Args:
    path: a directory in the layout of the module docstring, a
      `.safetensors` or `.npz` file, or an id `hf:org/name[@revision]`.

  Returns:
    The tensors with their configs.

  Raises:
    FileNotFoundError: the path or a file of the directory is missing.
    ValueError: a file is damaged or a pickle, a tensor holds NaN or infinity,
      or the id is malformed. The message names the file and the tensor, and
      says how to convert a pickle.
    OSError: see `hub.resolve`.
  """
  located = hub.resolve(path)
  path = located.folder
  if not os.path.exists(path):
    raise FileNotFoundError(f'weights {path} do not exist')
  config, preprocessor = {}, {}
  if os.path.isdir(path):
    config_path = os.path.join(path, 'config.json')
    if not os.path.exists(config_path):
      raise FileNotFoundError(f'{path} has no config.json')
    config = tensor_files.read_json(config_path)
    preprocessor = read_preprocessor(path)
    read = _read_folder(path)
  else:
    read = {k: (path, x) for k, x in tensor_files.read_file(path).items()}
  for name, (file, x) in read.items():
    if not tensor_files.is_finite(x):
      raise ValueError(
        f'{file}: tensor {name!r} holds NaN or infinity, expected finite '
        'numbers; the file is damaged, or a training that diverged wrote it'
      )
  return Weights(
    path,
    config,
    preprocessor,
    tensors={name: x for name, (_, x) in read.items()},
    origin={name: file for name, (file, _) in read.items()},
    source=located.pinned,
  )


def described(weights: Weights) -> str:
  """Says what the config of weights says of them; '' if it says nothing.

  `_name_or_path` may be the model that training started from, so it is quoted
  and not taken for the name. A path of somebody's machine is left out.
  """
  kind = weights.config.get('model_type')
  called = weights.config.get('_name_or_path')
  said = [f'model_type {kind}'] if isinstance(kind, str) and kind else []
  if isinstance(called, str) and _REPOSITORY.fullmatch(called):
    said.append(f'_name_or_path {called}')
  return ', '.join(said)


def fingerprint(tensors: Mapping[str, np.ndarray]) -> str:
  """Hashes names and values of tensors to eight hex digits."""
  digest = hashlib.sha256()
  for name in sorted(tensors):
    digest.update(name.encode())
    digest.update(np.ascontiguousarray(tensors[name]).tobytes())
  return digest.hexdigest()[:8]


def expect_model_type(weights: Weights, *known: str) -> str:
  """Checks the architecture that config.json names.

  Args:
    weights: from `read_weights`.
    *known: model types that the caller can load.

  Returns:
    The model type.

  Raises:
    ValueError: it is another one. The message names the file, the model type
      and the expected ones.
  """
  found = weights.config.get('model_type')
  if found not in known:
    raise ValueError(
      f'{weights.path}/config.json: model_type is {found!r}, expected '
      f'{" or ".join(repr(k) for k in known)}'
    )
  return found


def _is_whole(x: Any, least: int) -> bool:
  return isinstance(x, int) and not isinstance(x, bool) and x >= least


def is_positive(x: Any) -> bool:
  """Returns whether a value of a JSON file is a finite number above 0."""
  number = isinstance(x, int | float) and not isinstance(x, bool)
  return number and 0 < x < math.inf


def _are_sizes(x: Any) -> bool:
  return isinstance(x, list | tuple) and all(_is_whole(i, 1) for i in x)


# Kind of a setting -> what is expected, and whether a value is of the kind.
_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
  'size': ('a positive whole number', lambda x: _is_whole(x, 1)),
  'count': ('a whole number, 0 or more', lambda x: _is_whole(x, 0)),
  'number': ('a positive number', is_positive),
  'flag': ('true or false', lambda x: isinstance(x, bool)),
  'text': ('text', lambda x: isinstance(x, str)),
  'sizes': ('a list of positive whole numbers', _are_sizes),
  'three sizes': (
    'a list of three positive whole numbers',
    lambda x: _are_sizes(x) and len(x) == 3,
  ),
  'pair': (
    'a positive whole number, or a list of two',
    lambda x: _is_whole(x, 1) or (_are_sizes(x) and len(x) == 2),
  ),
}


def _kind_of(key: str, default: Any) -> str:
  """Returns the kind of a setting with a default; '' if it may be anything."""
  if isinstance(default, bool):
    return 'flag'
  if isinstance(default, int):
    # A model without one kind of layers, and the token 0, are possible.
    return 'count' if key.endswith(('_layers', '_id')) else 'size'
  if isinstance(default, float):
    return 'number'
  if isinstance(default, str):
    return 'text'
  return 'sizes' if isinstance(default, list | tuple) else ''


def _check(where: str, value: Any, kind: str) -> None:
  """Raises ValueError if a setting is not of its kind."""
  if kind and not _KINDS[kind][1](value):
    raise ValueError(f'{where} is {value!r}, expected {_KINDS[kind][0]}')


def setting(
  weights: Weights, key: str, default: Any = ..., kind: str = ''
) -> Any:
  """Returns a value of config.json.

  Args:
    weights: from `read_weights`.
    key: key of the value.
    default: value if the key is missing. Without a default, the key is
      required.
    kind: a key of `_KINDS`; '' takes the kind of the default.

  Returns:
    The value.

  Raises:
    ValueError: the key is missing, or the value is of another kind; the message
      names the file.
  """
  path = f'{weights.path}/config.json'
  if key not in weights.config:
    if default is ...:
      raise ValueError(f'{path} lacks {key!r}')
    return default
  value = weights.config[key]
  _check(f'{path}: {key}', value, kind or _kind_of(key, default))
  return value


def sizes(weights: Weights, **keys: str) -> dict[str, int]:
  """Returns positive whole numbers of config.json.

  Args:
    weights: from `read_weights`.
    **keys: name in the result = key.

  Returns:
    Name -> number.

  Raises:
    ValueError: see `setting`.
  """
  return {
    name: setting(weights, key, kind='size') for name, key in keys.items()
  }


def part_settings(
  weights: Weights, name: str, defaults: Mapping[str, Any], given: Any
) -> dict[str, Any]:
  """Returns a part of config.json, with defaults for what it omits.

  Args:
    weights: from `read_weights`, for messages.
    name: of the part.
    defaults: key -> value of the same kind. A default of None may be anything.
    given: the part; None or {} if it is missing.

  Returns:
    The defaults, updated by the part.

  Raises:
    ValueError: the part is no object, or a value is of another kind than its
      default. The message names the file and the key.
  """
  where = f'{weights.path}/config.json: {name}'
  if given and not isinstance(given, Mapping):
    raise ValueError(f'{where} is {given!r}, expected a JSON object')
  part = {**defaults, **(given or {})}
  for key, default in defaults.items():
    _check(f'{where}.{key}', part[key], _kind_of(key, default))
  return part


def check_heads(weights: Weights, width: int, heads: int) -> None:
  """Checks that attention heads divide the width of an encoder.

  Args:
    weights: from `read_weights`, for the message.
    width: `hidden_size` of a Hugging Face config.
    heads: its `num_attention_heads`.

  Raises:
    ValueError: they do not.
  """
  if width % heads:
    raise ValueError(
      f'{weights.path}/config.json: num_attention_heads is {heads}, which does '
      f'not divide the hidden_size {width}'
    )


def activation(weights: Weights, name: str) -> str:
  """Returns this project's name of an activation.

  Args:
    weights: from `read_weights`, for the message.
    name: `hidden_act` of a Hugging Face config.

  Returns:
    A key of `models.layers.ACTIVATIONS`.

  Raises:
    ValueError: the activation is not supported.
  """
  if not isinstance(name, str) or name not in _ACTIVATIONS:
    raise ValueError(
      f'{weights.path}/config.json: hidden_act {name!r} is not one of '
      f'{sorted(_ACTIVATIONS)}'
    )
  return _ACTIVATIONS[name]
