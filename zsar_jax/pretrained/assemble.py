"""Puts named tensors where a model wants them, completely or not at all.

A *plan* says for every parameter which tensor it comes from:

  plan = {'block_0/mlp/in/kernel': Source('layer.0.fc1.weight', transpose)}
  params = assemble(weights, plan, shapes, ignore=(r'^pooler',))

Every parameter of `shapes` must be in the plan, every tensor of the weights
must be used by it or match an ignored pattern, and every shape must agree.
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
  """Leaves a tensor as it is."""
  return x


def transpose(x: np.ndarray) -> np.ndarray:
  """PyTorch's linear weight [out in] to a dense kernel [in out]."""
  return x.T


def conv2d_kernel(x: np.ndarray) -> np.ndarray:
  """PyTorch's convolution weight [out in h w] to a kernel [h w in out]."""
  return x.transpose(2, 3, 1, 0)


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a parameter comes from.

  Attributes:
    name: of the tensor in the file.
    transform: makes the parameter out of it.
  """

  name: str
  transform: Transform = as_is


def padded_rows(rows: int, total: int) -> Transform:
  """Returns a table of exactly `rows` rows, with zero rows up to `total`."""

  def pad(x):
    if len(x) != rows:
      raise ValueError(f'expected {rows} rows, as config.json says')
    return np.pad(x, ((0, total - rows), (0, 0)))

  return pad


def dense(target: str, name: str) -> dict[str, Source]:
  """Returns the plan of a dense layer from PyTorch's Linear of that name."""
  return {
    f'{target}/kernel': Source(f'{name}.weight', transpose),
    f'{target}/bias': Source(f'{name}.bias'),
  }


def norm(target: str, name: str) -> dict[str, Source]:
  """Returns the plan of a layer norm from PyTorch's of that name."""
  return {
    f'{target}/scale': Source(f'{name}.weight'),
    f'{target}/bias': Source(f'{name}.bias'),
  }


# A list is stacked along a new leading axis: the layers of a scanned stack.
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
  """Builds parameters out of tensors, strictly.

  Args:
    weights: from `directory.read_weights`.
    plan: parameter path, joined by '/', to its source.
    shapes: tree of abstract parameters, as `jax.eval_shape` gives it.
    ignore: patterns (`re.search`) of tensors that are rightly unused, such
      as the pre-training head.

  Returns:
    A tree like `shapes` of float32 arrays.

  Raises:
    ValueError: a parameter without a source, a missing tensor, one left
      over, or a shape that does not agree; the message names file, tensor
      and parameter.
  """
  leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
  wanted = {'/'.join(key.key for key in path): leaf for path, leaf in leaves}
  unplanned = sorted(set(wanted) - set(plan))
  if unplanned:
    raise ValueError(
      f'{weights.path}: this kind of weights has nothing for the parameters '
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
    # Not ascontiguousarray, which makes a vector of a scalar.
    params[target] = np.asarray(array, np.float32, order='C')
  left = sorted(
    name
    for name in set(weights.tensors) - used
    if not any(re.search(pattern, name) for pattern in ignore)
  )
  if left:
    raise ValueError(
      f'{weights.path}: {len(left)} tensors have no place in this model: '
      f'{left[:10]}; another architecture?'
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
  """Puts loaded parameters over freshly initialised ones.

  Args:
    params: the whole model's parameters; not changed.
    path: of the subtree, joined by '/'.
    loaded: the subtree, of the same structure and shapes.

  Returns:
    The parameters; `loaded` takes dtype and sharding of what it replaces.

  Raises:
    ValueError: no such subtree, another structure, or another shape.
  """

  def replace(tree, keys):
    if not keys:
      return _placed(tree, loaded, path)
    if not isinstance(tree, Mapping) or keys[0] not in tree:
      raise ValueError(f'the model has no parameters {path!r}')
    return {**tree, keys[0]: replace(tree[keys[0]], keys[1:])}

  return replace(params, path.split('/'))


def _placed(fresh: Any, loaded: Any, path: str) -> Any:
  """`loaded` with the dtypes and shardings of `fresh`."""
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
