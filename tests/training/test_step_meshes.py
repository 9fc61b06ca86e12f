"""Training steps on several devices do what they do on one."""

import functools

import jax
import numpy as np
import pytest

from tests.training.tiny_steps import (
  ALL_LOSSES,
  EVERYTHING,
  PREP,
  SLOW,
  batch_and_text,
  first_state,
  loss_metrics,
  make_mesh,
  model,
  run,
)
from zsar_jax.inference import model_builder
from zsar_jax.parallel import sharding
from zsar_jax.training import optim, train_state

MESHES = [
  (8, 1, 1),
  (1, 8, 1),
  pytest.param((2, 4, 1), marks=SLOW),
  (2, 2, 2),
]


@functools.cache
def three_steps(**kwargs):
  """Metrics of three steps, and the optimiser's moments after the first."""
  state, _ = run(1, **kwargs)
  # The learning rate of the first is zero, of the others it is not.
  _, history = run(3, **kwargs)
  return history, jax.device_get(jax.tree.leaves(state.opt_state))


def same_steps(ours, theirs):
  """Compares losses and gradients."""
  (history, moments), (expected, expected_moments) = ours, theirs
  for name in expected[0]:
    np.testing.assert_allclose(
      [h[name] for h in history],
      [h[name] for h in expected],
      rtol=2e-4,
      atol=2e-5,
      err_msg=name,
    )
    # Of the same parameters, to the last bit.
    assert history[0][name] == pytest.approx(expected[0][name], rel=1e-5), name
  # After one step Adam's are a tenth of the gradients, and their squares.
  for a, b in zip(moments, expected_moments, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize('mesh', MESHES)
def test_a_mesh_does_not_change_losses_or_gradients(mesh):
  same_steps(three_steps(mesh_sizes=mesh), three_steps())


@pytest.mark.parametrize('mesh', [(2, 2, 2)])
def test_the_fusion_in_chunks_is_the_same_fusion(mesh):
  in_chunks = three_steps(mesh_sizes=mesh, fusion_chunks=4)
  same_steps(in_chunks, three_steps(mesh_sizes=mesh))


@pytest.mark.parametrize('mesh', [(2, 2, 2)])
def test_a_mesh_does_not_change_the_first_state(mesh):
  optimizer = optim.make_optimizer(
    lambda step: 0.0, weight_decay=0.05, clip_norm=1.0
  )
  state = train_state.init_state(
    model(),
    optimizer,
    model_builder.input_shapes(PREP),
    jax.random.key(0),
    make_mesh(mesh),
    with_ema=True,
  )
  expected = first_state(with_ema=True)
  wanted = sharding.tree_shardings(state, make_mesh(mesh))
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  for (path, leaf), there, value in zip(
    jax.tree.leaves_with_path(state),
    jax.tree.leaves(wanted),
    jax.tree.leaves(expected),
    strict=True,
  ):
    name = jax.tree_util.keystr(path)
    assert leaf.sharding.is_equivalent_to(there, leaf.ndim), name
    np.testing.assert_allclose(leaf, value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('mesh', MESHES)
def test_every_array_of_the_state_lies_where_the_table_says(mesh):
  state, _ = run(1, mesh_sizes=mesh)
  expected = sharding.tree_shardings(state, make_mesh(mesh))
  split = 0
  for (path, leaf), wanted in zip(
    jax.tree.leaves_with_path(state), jax.tree.leaves(expected), strict=True
  ):
    name = jax.tree_util.keystr(path)
    assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), name
    if not wanted.is_fully_replicated:
      split += leaf.size * (1 if 'params' in name else 0)
      shard = leaf.addressable_shards[0].data
      assert shard.size < leaf.size, name
  if mesh != (8, 1, 1):
    # Most of the model is in matrices, and those are split.
    assert split > 0.8 * sum(x.size for x in jax.tree.leaves(state.params))


def test_fsdp_and_tensor_axes_really_split_parameters():
  state, _ = run(1, mesh_sizes=(2, 2, 2))
  kernel = state.params['video_encoder']['block_0']['mlp']['in']['kernel']
  assert kernel.sharding.spec == sharding.P('fsdp', 'tensor')
  assert kernel.addressable_shards[0].data.shape == (8, 16)
  # The optimiser's moments lie as their parameters do.
  moments = [
    leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
    if 'mlp' in jax.tree_util.keystr(path) and leaf.shape == kernel.shape
  ]
  assert moments
  for moment in moments:
    assert moment.sharding.spec == kernel.sharding.spec


def test_devices_do_not_change_an_augmented_loss():
  batch, text = batch_and_text()
  mesh = sharding.make_mesh({'data': 4, 'fsdp': 2, 'tensor': 1})
  split = sharding.put_batch(batch, mesh)
  on_all = jax.device_put(text, sharding.replicated(mesh))
  key = jax.random.key(0)
  function = loss_metrics(ALL_LOSSES, EVERYTHING)
  expected = function(batch, text, key)
  found = function(split, on_all, key)
  for name in expected:
    assert float(found[name]) == pytest.approx(
      float(expected[name]), rel=1e-4
    ), name
  plain = loss_metrics()(batch, text, key)
  assert abs(float(plain['loss'] - expected['loss'])) > 1e-3


def test_metrics_are_a_mean_over_the_global_batch():
  mesh = sharding.make_mesh({'data': 8, 'fsdp': 1, 'tensor': 1})
  batch, text = batch_and_text()
  key = jax.random.key(1)
  whole = loss_metrics()(batch, text, key)['loss']
  on_all = jax.device_put(text, sharding.replicated(mesh))
  halves = [{k: v[i : i + 8] for k, v in batch.items()} for i in (0, 8)]
  losses_of_halves = [
    loss_metrics()(sharding.put_batch(half, mesh), on_all, key)['loss']
    for half in halves
  ]
  assert np.mean(losses_of_halves) == pytest.approx(float(whole), rel=1e-4)
