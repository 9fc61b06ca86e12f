import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zsar_jax import config_utils
from zsar_jax.inference import saved_checkpoints
from zsar_jax.parallel import sharding
from zsar_jax.training import checkpointing, train_state

META = {'config': {'seed': 0}, 'vocabulary': ['[PAD]'], 'seen_classes': ['a']}


def make_mesh(data, fsdp, tensor):
  return sharding.make_mesh({'data': data, 'fsdp': fsdp, 'tensor': tensor})


def make_state(mesh, step=0, seed=0):
  """A state with random numbers in every array, moments included."""

  def create(key):
    k = jax.random.split(key, 3)
    params = {
      'mlp': {'in': {'kernel': jax.random.normal(k[0], (8, 4))}},
      'log_scale': jax.random.normal(k[1], ()),
    }
    opt_state = optax.adamw(1e-3).init(params)
    opt_state = jax.tree.map(
      lambda x: x + jax.random.normal(k[2], x.shape).astype(x.dtype), opt_state
    )
    return train_state.TrainState(jnp.int32(step), params, opt_state)

  key = jax.random.key(seed)
  shardings = sharding.tree_shardings(jax.eval_shape(create, key), mesh)
  return jax.jit(create, out_shardings=shardings)(key)


def assert_bit_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A workdir with a checkpoint of step 3, and the state in it."""
  workdir = str(tmp_path_factory.mktemp('run'))
  state = make_state(make_mesh(8, 1, 1), step=3)
  with checkpointing.Checkpoints(workdir) as checkpoints:
    checkpoints.save(state, META)
  return workdir, state


@pytest.mark.parametrize('sizes', [(8, 1, 1), (1, 4, 2)])
def test_state_is_restored_bit_equal_onto_any_mesh(saved, sizes):
  workdir, state = saved
  like = make_state(make_mesh(*sizes), seed=1)
  with checkpointing.Checkpoints(workdir) as checkpoints:
    restored = checkpoints.restore(like)
  assert int(restored.step) == 3
  assert_bit_equal(restored, state)
  kernel = restored.params['mlp']['in']['kernel']
  assert kernel.sharding == like.params['mlp']['in']['kernel'].sharding


def test_parameters_alone_are_restored_onto_a_mesh(saved):
  workdir, state = saved
  mesh = make_mesh(1, 4, 2)
  with saved_checkpoints.open_existing(workdir) as checkpoints:
    shapes = jax.eval_shape(lambda: state.params)
    params = checkpoints.restore_params(shapes, mesh)
    assert checkpoints.restore_meta() == META
  assert_bit_equal(params, state.params)
  spec = params['mlp']['in']['kernel'].sharding.spec
  assert spec == jax.sharding.PartitionSpec('fsdp', 'tensor')


def test_parameters_of_another_shape_are_refused(tmp_path):
  # A single parameter: orbax would leave other reads to fail by themselves.
  params = {'kernel': jnp.ones((8, 4))}
  with checkpointing.Checkpoints(str(tmp_path)) as checkpoints:
    checkpoints.save(train_state.TrainState(jnp.int32(1), params, {}), META)
    checkpoints.wait()
    wrong = {'kernel': jax.ShapeDtypeStruct((8, 5), jnp.float32)}
    with pytest.raises(
      ValueError, match=r'kernel: \(8, 4\) there, \(8, 5\) here'
    ):
      checkpoints.restore_params(wrong, make_mesh(8, 1, 1))


def test_newest_checkpoints_are_kept(tmp_path):
  mesh = make_mesh(8, 1, 1)
  with checkpointing.Checkpoints(str(tmp_path), keep=2) as checkpoints:
    assert checkpoints.latest_step() is None
    for step in (1, 2, 3):
      checkpoints.save(make_state(mesh, step), META)
    checkpoints.wait()
    assert checkpoints.latest_step() == 3
    older = checkpoints.restore(make_state(mesh), step=2)
    assert int(older.step) == 2
  folders = {p.name for p in (tmp_path / 'checkpoints').iterdir()}
  assert folders == {'2', '3'}


def test_workdir_without_checkpoints_raises(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no checkpoint; train'):
    saved_checkpoints.open_existing(str(tmp_path))
  (tmp_path / 'checkpoints').mkdir()
  with pytest.raises(FileNotFoundError, match='no finished checkpoint'):
    saved_checkpoints.open_existing(str(tmp_path))


def plain_config(**changes):
  config = config_utils.default_config()
  config.update_from_flattened_dict(changes)
  return config_utils.to_dict(config)


def claim(workdir, config):
  checkpointing.check_workdir(str(workdir), config, config_utils.differences)
  checkpointing.claim_workdir(str(workdir), config)


def test_workdir_keeps_its_config(tmp_path):
  workdir = tmp_path / 'new' / 'run'
  claim(workdir, plain_config())
  with open(workdir / 'config.json') as f:
    assert json.load(f) == plain_config()
  claim(workdir, plain_config())  # the same run goes on
  assert [p.name for p in pathlib.Path(workdir).iterdir()] == ['config.json']


def test_workdir_of_another_config_is_refused_and_the_key_named(tmp_path):
  claim(tmp_path, plain_config())
  changed = plain_config(**{'optim.learning_rate': 0.5})
  with pytest.raises(ValueError, match=r'optim.learning_rate: 0.001 -> 0.5'):
    claim(tmp_path, changed)
  with open(tmp_path / 'config.json') as f:
    assert json.load(f) == plain_config()


def test_workdir_accepts_what_changes_no_number(tmp_path):
  claim(tmp_path, plain_config())
  claim(tmp_path, plain_config(**{'train.log_every': 1}))


def test_another_architecture_is_refused_with_what_differs(saved):
  workdir, state = saved
  params = {
    'mlp': {'in': {'kernel': jnp.zeros((8, 6)), 'bias': jnp.zeros(6)}},
    'log_scale': jnp.zeros(()),
  }
  like = train_state.TrainState(
    jnp.int32(0), params, optax.adamw(1e-3).init(params)
  )
  with (
    checkpointing.Checkpoints(workdir) as checkpoints,
    pytest.raises(ValueError, match='of another architecture') as error,
  ):
    checkpoints.restore(like)
  assert 'mlp/in/kernel: (8, 4) there, (8, 6) here' in str(error.value)
  assert 'mlp/in/bias: none there, (6,) here' in str(error.value)
  assert 'log_scale' not in str(error.value)
  shapes = jax.eval_shape(lambda: params)
  with (
    checkpointing.Checkpoints(workdir) as checkpoints,
    pytest.raises(ValueError, match='of another architecture'),
  ):
    checkpoints.restore_params(shapes, make_mesh(8, 1, 1))
