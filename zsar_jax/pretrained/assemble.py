"""Turns named tensors into a model's parameters, completely or not at all.

A *plan* maps every parameter to the tensor that it comes from:

  plan = {'block_0/mlp/in/kernel': Source('layer.0.fc1.weight', transpose)}
  params = assemble(weights, plan, shapes, ignore=(r'^pooler',))

Every parameter of `shapes` must be in the plan. The plan must use every tensor
of the weights, except those that match an ignored pattern. All shapes must
agree.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re
from typing import Any

import jax
import numpy as np

from zsar_jax.pretrained import directory

Transform = Callable[[np.ndarray], np.ndarray]


def as_is(x: np.ndarray) -> np.ndarray:
  """Returns a tensor unchanged."""
  return x


def transpose(x: np.ndarray) -> np.ndarray:
  """Turns PyTorch's linear weight [out in] into a dense kernel [in out]."""
  return x.T


def conv2d_kernel(x: np.ndarray) -> np.ndarray:
  """Turns PyTorch's convolution [out in h w] into a kernel [h w in out]."""
  return x.transpose(2, 3, 1, 0)


@dataclasses.dataclass(frozen=True)
class Source:
  """The tensor that a parameter comes from.

  Attributes:
    name: name of the tensor in the file.
    transform: turns the tensor into the parameter.
  """

  name: str
  transform: Transform = as_is


def padded_rows(rows: int, total: int) -> Transform:
  """Returns a function that pads a table of `rows` rows with zeros to `total`.

  The function raises ValueError if the table has another number of rows.
  """

  def pad(x):
    if len(x) != rows:
      raise ValueError(f'expected {rows} rows, as config.json says')
    return np.pad(x, ((0, total - rows), (0, 0)))

  return pad


def dense(target: str, name: str) -> dict[str, Source]:
  """Returns the plan of a dense layer, from PyTorch's Linear `name`."""
  return {
    f'{target}/kernel': Source(f'{name}.weight', transpose),
    f'{target}/bias': Source(f'{name}.bias'),
  }


def norm(target: str, name: str) -> dict[str, Source]:
  """Returns the plan of a layer norm, from PyTorch's LayerNorm `name`."""
  return {
    f'{target}/scale': Source(f'{name}.weight'),
    f'{target}/bias': Source(f'{name}.bias'),
  }


# A list of sources is stacked along a new first axis, for a scanned stack of
# layers.
Plan = Mapping[str, Source | Sequence[Source]]


def _fetch(weights: directory.Weights, source: Source, target: str):
  if source.name not in weights.tensors:
    raise ValueError(
      f'{weights.path}: tensor {source.name!r} is missing (wanted for {target})'
    )
  try:
    return source.transform(weights.tensors[source.name])
  except (ValueError, IndexError) as e:
    raise ValueError(
      f'{weights.origin[source.name]}: tensor {source.name!r} of shape '
      f'{weights.tensors[source.name].shape} does not fit {target}: {e}'
    ) from e


def assemble(
  weights: directory.Weights,
  plan: Plan,
  shapes: Any,
  ignore: Sequence[str] = (),
) -> Any:
  """Builds parameters from tensors; refuses missing or extra tensors.

  Args:
    weights: from `directory.read_weights`.
    plan: parameter path, joined by '/', -> its source.
    shapes: tree of abstract parameters, as `jax.eval_shape` returns it.
    ignore: patterns (`re.search`) of tensors that the model does not need,
      such as the pre-training head.

  Returns:
    A tree like `shapes`, of float32 arrays.

  Raises:
    ValueError: a parameter has no source, a tensor is missing or left over,
      or a shape does not agree. The message names file, tensor and parameter.
  """
  leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
  wanted = {'/'.join(key.key for key in path): leaf for path, leaf in leaves}
  unplanned = sorted(set(wanted) - set(plan))
  if unplanned:
    raise ValueError(
      f'{weights.path}: this kind of weights has no tensor for the parameters '
      f'{unplanned[:10]}'
    )
  params, used = {}, set()
  for target, shape in wanted.items():
    sources = plan[target]
    stacked = not isinstance(sources, Source)
    sources = list(sources) if stacked else [sources]
    used.update(source.name for source in sources)
    expected = shape.shape[1:] if stacked else shape.shape
    parts = [_fit(weights, source, target, expected) for source in sources]
    if stacked and len(parts) != shape.shape[0]:
      raise ValueError(
        f'{weights.path}: {len(parts)} layers for {target} of shape '
        f'{shape.shape}'
      )
    array = np.stack(parts) if stacked else parts[0]
    # ascontiguousarray would turn a scalar into a vector.
    params[target] = np.asarray(array, np.float32, order='C')
  left = sorted(
    name
    for name in set(weights.tensors) - used
    if not any(re.search(pattern, name) for pattern in ignore)
  )
  if left:
    raise ValueError(
      f'{weights.path}: {len(left)} tensors do not belong to this model: '
      f'{left[:10]}; is it another architecture?'
    )
  return jax.tree.unflatten(structure, [params[name] for name in wanted])


def _fit(weights, source, target: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns a source's tensor; raises ValueError if its shape differs."""
  part = _fetch(weights, source, target)
  if part.shape != shape:
    raise ValueError(
      f'{weights.origin[source.name]}: tensor {source.name!r} has shape '
      f'{weights.tensors[source.name].shape}, which does not fit {target} '
      f'of shape {tuple(shape)}'
    )
  return part


def replace_subtree(params: Any, path: str, loaded: Any) -> Any:
  """Replaces a subtree of freshly initialised parameters by loaded ones.

  Args:
    params: the whole model's parameters; not changed.
    path: path of the subtree, joined by '/'.
    loaded: the loaded subtree, with the same structure and shapes.

  Returns:
    The parameters. The loaded ones take the dtypes and shardings of those they
    replace.

  Raises:
    ValueError: there is no such subtree, or structures or shapes differ.
  """

  def replace(tree, keys):
    if not keys:
      return _placed(tree, loaded, path)
    if not isinstance(tree, Mapping) or keys[0] not in tree:
      raise ValueError(f'the model has no parameters {path!r}')
    return {**tree, keys[0]: replace(tree[keys[0]], keys[1:])}

  return replace(params, path.split('/'))


def _placed(fresh: Any, loaded: Any, path: str) -> Any:
  """Returns `loaded` with the dtypes and shardings of `fresh`."""
  if jax.tree.structure(fresh) != jax.tree.structure(loaded):
    raise ValueError(f'the parameters {path!r} have another structure')

  def place(keys, old, new):
    if old.shape != np.shape(new):
      at = '/'.join([path, *(key.key for key in keys)])
      raise ValueError(
        f'{at}: loaded shape {np.shape(new)}, the model has {old.shape}'
      )
    return jax.device_put(np.asarray(new, old.dtype), old.sharding)

  return jax.tree_util.tree_map_with_path(place, fresh, loaded)
