"""Makes the mesh, with one table that says how every array lies on it.

Axes: `data` replicates parameters and splits the batch; `fsdp` splits both;
`tensor` splits parameters along their other dimension. On one device all
three have size one and the table changes nothing.
"""

from collections.abc import Callable, Mapping
import functools
import math
import re
from typing import Any

from absl import logging
import jax
from jax.experimental import mesh_utils
import numpy as np

P = jax.sharding.PartitionSpec

AXES = ('data', 'fsdp', 'tensor')
# The batch is split over both data axes.
BATCH_SPEC = P(('data', 'fsdp'))

# Parameter path (joined by '/') -> spec; the first match counts. A spec is for
# the last dimensions: the leading `layers` axis of a scanned stack stays whole.
# An axis that does not divide its dimension is left out.
_RULES: tuple[tuple[str, P], ...] = (
  # Word table: rows over fsdp, so that look-ups stay local in width.
  (r'/word$', P('fsdp', 'tensor')),
  # Attention: heads (output columns) over tensor, and back.
  (r'/(query|key|value)/kernel$', P('fsdp', 'tensor')),
  (r'/out/kernel$', P('tensor', 'fsdp')),
  # MLP: hidden units over tensor, and back.
  (r'/mlp/in/kernel$', P('fsdp', 'tensor')),
  (r'/mlp/out/kernel$', P('tensor', 'fsdp')),
  # Every other matrix: input rows over fsdp.
  (r'/kernel$', P('fsdp', None)),
  # Vectors, positions, centres, scales: on every device.
  (r'.*', P()),
)


PRESETS = ('dp', 'fsdp', 'fsdp_tp')
# To gather parameters over more devices than this costs more than it saves.
_MOST_FSDP = 16
# A TPU slice of this many chips cannot scatter gradients over all of them. XLA
# sums them whole instead, which sends twice the bytes.
_NO_WHOLE_SCATTER = 16
_TENSOR = 2


def preset_sizes(preset: str, num_devices: int) -> dict[str, int]:
  """Returns axis sizes for the devices that are present.

  Args:
    preset: 'dp' splits only the batch. 'fsdp' also splits the parameters, over
      up to 16 devices, but over 8 if there are 16 in all: see
      docs/benchmarks.md. 'fsdp_tp' also splits their other dimension, over 2.
    num_devices: number of devices.

  Returns:
    Size of each axis of AXES; they multiply to the number of devices.

  Raises:
    ValueError: the preset is unknown, or 'fsdp_tp' gets an odd number of
      devices.
  """
  if preset not in PRESETS:
    raise ValueError(f'mesh.preset={preset!r} is not one of {PRESETS}')
  tensor = _TENSOR if preset == 'fsdp_tp' else 1
  if num_devices % tensor:
    raise ValueError(
      f'mesh.preset={preset!r} needs an even number of devices, got '
      f'{num_devices}'
    )
  left, fsdp = num_devices // tensor, 1
  if preset != 'dp':
    whole = num_devices == _NO_WHOLE_SCATTER
    most = num_devices // 2 if whole else _MOST_FSDP
    fsdp = max(n for n in range(1, most + 1) if left % n == 0)
  return {'data': left // fsdp, 'fsdp': fsdp, 'tensor': tensor}


def describe(tree: Any, mesh: jax.sharding.Mesh) -> list[str]:
  """Describes how a tree of parameters lies on a mesh, a line each.

  Args:
    tree: arrays or abstract arrays.
    mesh: from `make_mesh`.

  Returns:
    Path, shape, spec and share on each device; and whether the array is kept
    whole along an axis that does not divide it.
  """
  specs = tree_shardings(tree, mesh)
  lines = []
  for (path, leaf), sharding in zip(
    jax.tree.leaves_with_path(tree), jax.tree.leaves(specs), strict=True
  ):
    share = math.prod(sharding.shard_shape(leaf.shape)) / max(leaf.size, 1)
    name = '/'.join(_key_name(key) for key in path)
    # Axes of the table that the shape does not allow.
    odd = '' if _fits(f'/{name}', leaf, mesh) else '  (does not divide)'
    lines.append(
      f'{name:64} {str(leaf.shape):20} {str(tuple(sharding.spec)):28} 1/'
      f'{round(1 / max(share, 1e-12))}{odd}'
    )
  return lines


def make_mesh(
  axis_sizes: Mapping[str, Any], devices: list[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """Makes the (data, fsdp, tensor) mesh.

  Args:
    axis_sizes: size of each axis of AXES. One of them may be -1: it takes the
      remaining devices. A `preset` other than '' replaces the sizes.
    devices: all by default.

  Returns:
    The mesh, its axes of type Auto.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  preset = axis_sizes.get('preset', '')
  if preset:
    axis_sizes = preset_sizes(preset, len(devices))
  sizes = [axis_sizes[axis] for axis in AXES]
  known = math.prod(s for s in sizes if s != -1)
  if sizes.count(-1) == 1 and len(devices) % known == 0:
    sizes[sizes.index(-1)] = len(devices) // known
  if -1 in sizes or math.prod(sizes) != len(devices):
    raise ValueError(
      f'mesh {dict(axis_sizes)} does not fit {len(devices)} devices: the '
      'sizes must multiply to that number, and one of them may be -1'
    )
  types = (jax.sharding.AxisType.Auto,) * len(AXES)
  try:
    return jax.make_mesh(tuple(sizes), AXES, axis_types=types, devices=devices)
  except NotImplementedError:
    # An axis (16) that is no product of the torus's sides (4 x 8 x 8).
    array = mesh_utils.create_device_mesh(
      tuple(sizes), devices, allow_split_physical_axes=True
    )
    return jax.sharding.Mesh(array, AXES, axis_types=types)


def _align(spec: P, ndim: int) -> list[str | None]:
  """Returns a spec of the last dimensions as one entry for each dimension."""
  return [None] * (ndim - len(spec)) + list(spec)[max(0, len(spec) - ndim) :]


def _fit(spec: P, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> P:
  """Aligns a spec with the last axes, and drops axes that do not divide."""
  axes = _align(spec, len(shape))
  return P(
    *(
      axis if axis is None or size % mesh.shape[axis] == 0 else None
      for axis, size in zip(axes, shape, strict=True)
    )
  )


def tree_shardings(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns the shardings of a train state or parameters by the table.

  The path of an optimiser moment ends like that of its parameter, so one table
  serves both.

  Args:
    tree: arrays or abstract arrays.
    mesh: from `make_mesh`.

  Returns:
    A tree of `NamedSharding`, like `tree`.
  """
  replicated = []

  def leaf_sharding(path, leaf):
    name = '/' + '/'.join(_key_name(k) for k in path)
    if not _fits(name, leaf, mesh):
      replicated.append(f'{name} {leaf.shape}')
    return jax.sharding.NamedSharding(mesh, _fit(_rule(name), leaf.shape, mesh))

  shardings = jax.tree_util.tree_map_with_path(leaf_sharding, tree)
  if replicated:
    logging.info(
      'kept whole along an axis that does not divide them: %s',
      ', '.join(replicated),
    )
  return shardings


def _rule(name: str) -> P:
  """Returns the table's first spec for a path."""
  return next(spec for pattern, spec in _RULES if re.search(pattern, name))


def _fits(name: str, leaf: Any, mesh: jax.sharding.Mesh) -> bool:
  """Returns whether an array can lie as the table says."""
  spec = _rule(name)
  pairs = zip(
    _align(spec, leaf.ndim), _fit(spec, leaf.shape, mesh), strict=True
  )
  return not any(
    wanted is not None and got is None and mesh.shape[wanted] > 1
    for wanted, got in pairs
  )


def _key_name(key) -> str:
  for attribute in ('key', 'name', 'idx'):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  return str(key)


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """Returns the sharding of the batch over both data axes; the rest whole."""
  return jax.sharding.NamedSharding(mesh, BATCH_SPEC)


def current_batch_shards() -> int:
  """Returns the number of parts of the batch at the place of tracing.

  It is one outside our mesh, and inside `jax.shard_map`, which has split the
  batch already.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or tuple(mesh.axis_names) != AXES or mesh.manual_axes:
    return 1
  return num_batch_shards(mesh)


def constrain_batch(x: jax.Array) -> jax.Array:
  """Keeps activations split along the batch, and along nothing else.

  Without it the compiler may keep a kernel split and exchange activations
  instead. That is far more bytes than gathering the kernel.

  Args:
    x: [b ...].

  Returns:
    The same values. There is no constraint outside our mesh, or if the batch
    does not divide over it.
  """
  shards = current_batch_shards()
  if shards == 1 or x.shape[0] % shards:
    return x
  spec = P(*BATCH_SPEC, *(None,) * (x.ndim - 1))
  return jax.lax.with_sharding_constraint(x, spec)


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """Returns the sharding that puts the same array on every device."""
  return jax.sharding.NamedSharding(mesh, P())


def num_batch_shards(mesh: jax.sharding.Mesh) -> int:
  """Returns how many parts a batch is split into."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def check_processes(mesh: jax.sharding.Mesh) -> None:
  """Refuses a mesh on which processes would share rows of a batch.

  Every process reads its own rows. So the batch must have at least as many
  parts as there are processes.

  Args:
    mesh: from `make_mesh`.

  Raises:
    ValueError: two processes hold the same rows.
  """
  shards = num_batch_shards(mesh)
  rows = batch_sharding(mesh).addressable_devices_indices_map((shards,))
  own = {index[0].start or 0 for index in rows.values()}
  if len(own) * jax.process_count() != shards:
    raise ValueError(
      f'mesh {dict(mesh.shape)} splits a batch into {shards}, of which process '
      f'{jax.process_index()} of {jax.process_count()} would hold {len(own)}: '
      'every process must hold rows of its own, so keep the tensor axis '
      'within a host'
    )


def put_batch(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh):
  """Puts this process's rows of a batch on the mesh as global arrays.

  Args:
    batch: numpy arrays [b / processes, ...]. Other values are dropped.
    mesh: from `make_mesh`.

  Returns:
    Global `jax.Array`s [b ...], split along the batch.
  """
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, value)
    for name, value in batch.items()
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'
  }


def on_mesh(
  function: Callable[..., Any], mesh: jax.sharding.Mesh
) -> Callable[..., Any]:
  """Calls a jitted function with the mesh set.

  Kernels inside `jax.shard_map` (flash attention on TPU) need it.

  Args:
    function: jitted.
    mesh: from `make_mesh`.

  Returns:
    A function with the same arguments.
  """

  @functools.wraps(function)
  def call(*args):
    with jax.set_mesh(mesh):
      return function(*args)

  return call
