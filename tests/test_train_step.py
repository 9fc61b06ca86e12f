import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax import (
  model_builder,
  optim,
  preprocessing,
  sharding,
  train_step,
)
from zsar_jax.models import zsar_model

PREP = preprocessing.Preprocessing(
  size=16,
  short_side=16,
  mean=(0.5, 0.5, 0.5),
  std=(0.25, 0.25, 0.25),
  num_frames=4,
  sampling='uniform',
  frame_stride=1,
  sample_fps=8.0,
  inputs='grey+difference',
  token_length=6,
  vocabulary_hash='',
)
BATCH, CLASSES = 16, 5


def model(dropout_rate=0.0):
  block = dict(width=16, depth=1, num_heads=2, mlp_dim=32)
  drop = dict(dropout_rate=dropout_rate)
  return zsar_model.ZsarModel(
    video=dict(tubelet_size=(2, 8, 8), **block, **drop),
    text=dict(vocabulary_size=20, max_length=6, **block, **drop),
    fusion={**block, **drop},
    embedding_dim=16,
    num_classes=CLASSES,
  )


def batch_and_text():
  rng = np.random.default_rng(0)
  batch = {
    'video': rng.integers(0, 255, (BATCH, 4, 16, 16, 3), np.uint8),
    'label': (np.arange(BATCH) % CLASSES).astype(np.int32),
    'index': np.arange(BATCH, dtype=np.int32),
  }
  text = {
    'ids': rng.integers(5, 20, (CLASSES, 6)).astype(np.int32),
    'mask': np.ones((CLASSES, 6), bool),
  }
  return batch, text


ALL_LOSSES = train_step.LossWeights()


@functools.cache
def run(mesh_sizes, devices, steps, weights=ALL_LOSSES, dropout_rate=0.0):
  mesh = sharding.make_mesh(
    dict(zip(sharding.AXES, mesh_sizes, strict=True)),
    jax.devices()[:devices],
  )
  schedule = optim.make_schedule(
    learning_rate=3e-3, warmup_steps=2, num_steps=100
  )
  optimizer = optim.make_optimizer(schedule, weight_decay=0.05, clip_norm=1.0)
  the_model = model(dropout_rate)
  state = train_step.init_state(
    the_model,
    optimizer,
    model_builder.input_shapes(PREP),
    jax.random.key(0),
    mesh,
  )
  step = train_step.make_train_step(
    the_model, optimizer, schedule, weights, PREP, 0, mesh
  )
  batch, text = batch_and_text()
  batch = sharding.put_batch(batch, mesh)
  text = jax.device_put(text, sharding.replicated(mesh))
  history = []
  for _ in range(steps):
    state, metrics = step(state, batch, text)
    history.append({k: float(v) for k, v in metrics.items()})
  return state, history


@pytest.mark.parametrize('mesh', [(8, 1, 1), (4, 2, 1)])
def test_a_mesh_does_not_change_the_loss(mesh):
  # From the second step on the loss sees updated parameters too.
  _, history = run(mesh, 8, steps=3)
  _, expected = run((1, 1, 1), 1, steps=40)
  for name in expected[0]:
    np.testing.assert_allclose(
      [h[name] for h in history],
      [h[name] for h in expected[:3]],
      rtol=2e-4,
      atol=2e-5,
      err_msg=name,
    )


def test_fsdp_and_tensor_axes_really_split_parameters():
  state, _ = run((2, 2, 2), 8, steps=1)
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


def test_one_batch_can_be_learnt():
  _, history = run((1, 1, 1), 1, steps=40)
  assert history[-1]['loss'] < 0.5 * history[0]['loss']
  assert history[-1]['train_top1'] == 1


def test_the_old_state_is_donated():
  mesh = sharding.make_mesh(
    {'data': 1, 'fsdp': 1, 'tensor': 1}, jax.devices()[:1]
  )
  schedule = optim.make_schedule(
    learning_rate=1e-3, warmup_steps=0, num_steps=10
  )
  optimizer = optim.make_optimizer(schedule, weight_decay=0.0, clip_norm=1.0)
  state = train_step.init_state(
    model(),
    optimizer,
    model_builder.input_shapes(PREP),
    jax.random.key(0),
    mesh,
  )
  step = train_step.make_train_step(
    model(), optimizer, schedule, train_step.LossWeights(), PREP, 0, mesh
  )
  batch, text = batch_and_text()
  step(state, sharding.put_batch(batch, mesh), text)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_a_loss_of_weight_zero_is_left_out():
  weights = train_step.LossWeights(visual=1.0, contrast=0.0, match=0.0)
  _, history = run((1, 1, 1), 1, 1, weights)
  assert 'loss_visual' in history[0]
  assert 'loss_match' not in history[0]
  assert history[0]['loss'] == pytest.approx(history[0]['loss_visual'])


def test_loss_weights_that_train_nothing_are_refused():
  with pytest.raises(ValueError, match='nothing to train'):
    train_step.LossWeights(visual=0.0, contrast=0.0, match=0.0)
  with pytest.raises(ValueError, match='negative'):
    train_step.LossWeights(match=-1.0)


def test_dropout_depends_on_seed_and_step_alone():
  again = run.__wrapped__((1, 1, 1), 1, 2, dropout_rate=0.5)
  assert run((1, 1, 1), 1, 2, dropout_rate=0.5)[1] == again[1]


def test_metrics_are_a_mean_over_the_global_batch():
  the_model = model()
  mesh = sharding.make_mesh({'data': 8, 'fsdp': 1, 'tensor': 1})
  batch, text = batch_and_text()
  params = the_model.init(
    jax.random.key(0),
    jnp.zeros((1, 4, 16, 16, 2)),
    text['ids'],
    text['mask'],
  )['params']
  key = jax.random.key(1)

  text = jax.device_put(text, sharding.replicated(mesh))

  @jax.jit
  def loss(batch):
    return train_step.compute_loss(
      params, the_model, batch, text, key, ALL_LOSSES, PREP
    )[0]

  halves = [
    loss(sharding.put_batch({k: v[half] for k, v in batch.items()}, mesh))
    for half in (slice(0, 8), slice(8, 16))
  ]
  assert np.mean(halves) == pytest.approx(float(loss(batch)), rel=1e-4)
