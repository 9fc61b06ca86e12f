import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zsar_jax.parallel import sharding
from zsar_jax.training import train_state

P = jax.sharding.PartitionSpec


@pytest.fixture(scope='module')
def mesh():
  """4 x 2 over (fsdp, tensor)."""
  return sharding.make_mesh({'data': 1, 'fsdp': 4, 'tensor': 2})


def _shape(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(
  'sizes, expected',
  [
    ({'data': -1, 'fsdp': 1, 'tensor': 1}, (8, 1, 1)),
    ({'data': 2, 'fsdp': -1, 'tensor': 2}, (2, 2, 2)),
    ({'data': 1, 'fsdp': 4, 'tensor': 2}, (1, 4, 2)),
    ({'data': 8, 'fsdp': -1, 'tensor': 1}, (8, 1, 1)),
  ],
)
def test_mesh_has_the_sizes_asked_for(sizes, expected):
  mesh = sharding.make_mesh(sizes)
  assert tuple(mesh.shape.values()) == expected
  assert mesh.axis_names == sharding.AXES


def test_a_torus_that_fits_no_axis_is_split(monkeypatch):
  # A slice of 4 x 8 x 8 chips has no sides whose product is 16, and JAX says
  # so unless it may split one.
  class Chip:
    platform, device_kind, process_index, slice_index = 'tpu', 'TPU v5p', 0, 0
    core_on_chip = 0

    def __init__(self, number, coords):
      self.id, self.coords = number, coords

  chips = [Chip(n, coords) for n, coords in enumerate(np.ndindex(4, 8, 8))]
  with pytest.raises(NotImplementedError):
    jax.make_mesh((16, 16, 1), sharding.AXES, devices=chips)
  made = {}
  monkeypatch.setattr(
    jax.sharding,
    'Mesh',
    lambda array, axes, axis_types: made.update(array=array, types=axis_types),
  )
  sharding.make_mesh({'preset': 'fsdp'}, chips)
  assert made['array'].shape == (16, 16, 1)
  assert len({chip.id for chip in made['array'].flat}) == 256
  assert set(made['types']) == {jax.sharding.AxisType.Auto}


def test_mesh_axes_are_auto():
  mesh = sharding.make_mesh({'data': -1, 'fsdp': 1, 'tensor': 1})
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


def test_mesh_of_some_devices():
  mesh = sharding.make_mesh(
    {'data': -1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:3]
  )
  assert list(mesh.devices.flat) == jax.devices()[:3]


@pytest.mark.parametrize(
  'sizes',
  [
    {'data': 3, 'fsdp': 1, 'tensor': 1},
    {'data': 1, 'fsdp': 1, 'tensor': 1},
    {'data': -1, 'fsdp': 3, 'tensor': 1},
    {'data': -1, 'fsdp': -1, 'tensor': 1},
    {'data': 16, 'fsdp': -1, 'tensor': 1},
  ],
)
def test_sizes_that_do_not_fit_raise(sizes):
  with pytest.raises(ValueError, match='does not fit 8 devices'):
    sharding.make_mesh(sizes)


# Path -> shape and where it must lie on the 4 x 2 mesh.
SPECS = {
  'text_encoder/word': ((128, 16), P('fsdp', 'tensor')),
  'text_encoder/position': ((32, 16), P()),
  'video_encoder/block_0/attention/query/kernel': (
    (16, 16),
    P('fsdp', 'tensor'),
  ),
  'video_encoder/block_0/attention/query/bias': ((16,), P()),
  'video_encoder/block_0/attention/out/kernel': ((16, 16), P('tensor', 'fsdp')),
  'cross_modal/block_0/cross_attention/value/kernel': (
    (16, 16),
    P('fsdp', 'tensor'),
  ),
  'video_encoder/block_0/mlp/in/kernel': ((16, 64), P('fsdp', 'tensor')),
  'video_encoder/block_0/mlp/out/kernel': ((64, 16), P('tensor', 'fsdp')),
  'video_encoder/tubelet_embed/projection/kernel': ((384, 16), P('fsdp')),
  'class_centres': ((24, 16), P()),
  'visual_log_scale': ((), P()),
  # A scanned stack has the layers in front; they stay whole.
  'video_encoder/blocks/attention/query/kernel': (
    (4, 16, 16),
    P(None, 'fsdp', 'tensor'),
  ),
  'video_encoder/blocks/mlp/out/kernel': (
    (4, 64, 16),
    P(None, 'tensor', 'fsdp'),
  ),
  'video_encoder/blocks/mlp_norm/scale': ((4, 16), P()),
  # Six rows do not divide by four, nor five columns by two.
  'text_encoder/odd/query/kernel': ((6, 16), P(None, 'tensor')),
  'text_encoder/odder/query/kernel': ((8, 5), P('fsdp', None)),
}


def _tree(shapes):
  tree = {}
  for path, (shape, _) in shapes.items():
    *parents, leaf = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = _shape(*shape)
  return tree


def _by_path(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _same(sharding_, spec, mesh, ndim):
  other = jax.sharding.NamedSharding(mesh, spec)
  return sharding_.is_equivalent_to(other, ndim)


@pytest.mark.parametrize('path', SPECS)
def test_table_says_where_parameters_lie(path, mesh):
  shape, spec = SPECS[path]
  found = _by_path(sharding.tree_shardings(_tree(SPECS), mesh))[path]
  assert _same(found, spec, mesh, len(shape)), found.spec


def test_optimiser_moments_lie_where_their_parameters_lie(mesh):
  params = _tree(SPECS)
  create = lambda p: train_state.TrainState(
    jnp.int32(0), p, optax.adamw(1e-3).init(p)
  )
  state = jax.eval_shape(create, params)
  shardings = sharding.tree_shardings(state, mesh)
  expected = _by_path(shardings.params)
  moments = shardings.opt_state[0]
  assert _by_path(moments.mu) == expected
  assert _by_path(moments.nu) == expected
  assert shardings.step.is_fully_replicated
  assert moments.count.is_fully_replicated


def test_on_one_device_everything_is_whole():
  mesh = sharding.make_mesh(
    {'data': 1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:1]
  )
  shardings = jax.tree.leaves(sharding.tree_shardings(_tree(SPECS), mesh))
  assert all(s.is_fully_replicated for s in shardings)


def test_batch_is_split_over_both_data_axes():
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  assert sharding.num_batch_shards(mesh) == 4
  rows = np.arange(24).reshape(8, 3)
  batch = sharding.put_batch({'x': rows, 'ok': rows[:, 0] > 2}, mesh)
  np.testing.assert_array_equal(batch['x'], rows)
  # Two rows a shard, the same on both devices of the tensor axis.
  shards = [np.asarray(s.data) for s in batch['x'].addressable_shards]
  assert [s.shape for s in shards] == [(2, 3)] * 8
  assert sorted(s[0, 0] for s in shards) == [0, 0, 6, 6, 12, 12, 18, 18]
  assert batch['ok'].dtype == bool


def test_what_is_no_array_of_numbers_stays_behind(mesh):
  batch = sharding.put_batch(
    {'x': np.zeros(4), 'id': np.array(['a'] * 4), 'names': ['b'] * 4}, mesh
  )
  assert set(batch) == {'x'}


def test_replicated_puts_a_copy_everywhere(mesh):
  x = jax.device_put(np.arange(3), sharding.replicated(mesh))
  assert len(x.addressable_shards) == 8
  assert all(s.data.shape == (3,) for s in x.addressable_shards)


@pytest.mark.parametrize(
  'preset,devices,expected',
  [
    ('dp', 8, (8, 1, 1)),
    ('fsdp', 8, (1, 8, 1)),
    # Not over all 16: see docs/benchmarks.md.
    ('fsdp', 16, (2, 8, 1)),
    ('fsdp', 32, (2, 16, 1)),
    ('fsdp', 48, (3, 16, 1)),
    ('fsdp', 256, (16, 16, 1)),
    ('fsdp', 7, (1, 7, 1)),
    ('fsdp_tp', 8, (1, 4, 2)),
    ('fsdp_tp', 16, (1, 8, 2)),
    ('fsdp_tp', 32, (1, 16, 2)),
    ('fsdp_tp', 64, (2, 16, 2)),
    ('dp', 1, (1, 1, 1)),
  ],
)
def test_presets_fit_the_devices(preset, devices, expected):
  sizes = sharding.preset_sizes(preset, devices)
  assert tuple(sizes[axis] for axis in sharding.AXES) == expected


def test_a_preset_takes_the_place_of_sizes():
  mesh = sharding.make_mesh(
    {'preset': 'fsdp_tp', 'data': -1, 'fsdp': 1, 'tensor': 1}
  )
  assert tuple(mesh.shape.values()) == (1, 4, 2)
  with pytest.raises(ValueError, match="mesh.preset='ddp' is not one of"):
    sharding.make_mesh({'preset': 'ddp'})
  with pytest.raises(ValueError, match='even number of devices, got 3'):
    sharding.make_mesh({'preset': 'fsdp_tp'}, jax.devices()[:3])


def test_the_table_says_where_parameters_lie(mesh):
  tree = {
    'mlp': {'in': {'kernel': _shape(8, 6)}},
    'head': {'kernel': _shape(7, 4), 'bias': _shape(4)},
  }
  lines = sharding.describe(tree, mesh)
  of = {line.split()[0]: line for line in lines}
  assert "'fsdp', 'tensor'" in of['mlp/in/kernel']
  assert of['mlp/in/kernel'].endswith(' 1/8')
  # Seven rows do not divide over four devices: whole.
  assert of['head/kernel'].endswith(' 1/1  (does not divide)')
  assert of['head/bias'].endswith(' 1/1')
