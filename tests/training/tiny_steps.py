"""A small model, a batch, and training steps that compile once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.data import preprocessing
from zsar_jax.models import pixel_ops, zsar_model
from zsar_jax.parallel import sharding
from zsar_jax.training import optim, step_loss, train_state, train_step

PREP = preprocessing.Preprocessing(
  size=16,
  short_side=16,
  mean=(0.5, 0.5, 0.5),
  std=(0.25, 0.25, 0.25),
  num_frames=4,
  sampling='dense',
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
    'ids': jnp.asarray(rng.integers(5, 20, (CLASSES, 6)).astype(np.int32)),
    'mask': jnp.ones((CLASSES, 6), bool),
  }
  return batch, text


@functools.cache
def init_params():
  """The model's parameters, on the host; dropout has none."""
  _, text = batch_and_text()
  video = jnp.zeros((1, 4, 16, 16, 2))
  init = jax.jit(model().init)
  variables = init(jax.random.key(0), video, text['ids'], text['mask'])
  return jax.device_get(variables['params'])


ALL_LOSSES = step_loss.LossWeights()


NONE = step_loss.NO_AUGMENTATION


EVERYTHING = step_loss.Augmentation(
  pixel_ops.ColourJitter(0.4, 0.4, 0.4, 0.1), pixel_ops.Mixing(0.8, 1.0)
)


def make_mesh(sizes):
  devices = jax.devices()[: int(np.prod(sizes))]
  return sharding.make_mesh(
    dict(zip(sharding.AXES, sizes, strict=True)), devices
  )


@functools.cache
def trainer(
  mesh_sizes=(1, 1, 1),
  dropout_rate=0.0,
  learning_rate=3e-3,
  frozen=(),
  weights=ALL_LOSSES,
  augmentation=NONE,
  fusion_chunks=1,
  accumulate=1,
  ema_decay=0.0,
):
  """(new state, step, mesh): compiled once for all tests that ask for it."""
  mesh = make_mesh(mesh_sizes)
  schedule = optim.make_schedule(
    learning_rate=learning_rate, warmup_steps=2, num_steps=100
  )
  optimizer = optim.make_optimizer(
    schedule, weight_decay=0.05, clip_norm=1.0, frozen=frozen
  )
  step = train_step.make_train_step(
    step_loss.Objective(
      model(dropout_rate), PREP, weights, augmentation, fusion_chunks
    ),
    optimizer,
    schedule,
    mesh,
    accumulate=accumulate,
    ema_decay=ema_decay,
    frozen=frozen,
  )
  start = first_state(frozen, ema_decay > 0)
  shardings = sharding.tree_shardings(start, mesh)
  # A copy: the step takes its argument's memory.
  copy = lambda: jax.tree.map(np.array, start)
  return lambda: jax.device_put(copy(), shardings), step, mesh


@functools.cache
def first_state(frozen=(), with_ema=False):
  """The state before the first step, on the host."""
  optimizer = optim.make_optimizer(
    lambda step: 0.0, weight_decay=0.05, clip_norm=1.0, frozen=frozen
  )
  params, zero = init_params(), np.zeros((), np.int32)
  opt_state = jax.device_get(jax.jit(optimizer.init)(params))
  ema = params if with_ema else {}
  return train_state.TrainState(zero, params, opt_state, ema, zero)


def run(steps, **kwargs):
  """The state after some steps on one batch, and the metrics of each."""
  new_state, step, mesh = trainer(**kwargs)
  state = new_state()
  batch, text = batch_and_text()
  batch = sharding.put_batch(batch, mesh)
  text = jax.device_put(text, sharding.replicated(mesh))
  history = []
  for _ in range(steps):
    state, metrics = step(state, batch, text)
    history.append({k: float(v) for k, v in metrics.items()})
  return state, history


@functools.cache
def loss_metrics(weights=ALL_LOSSES, augmentation=NONE):
  """(batch, text, key) -> metrics, without gradients."""
  objective = step_loss.Objective(model(), PREP, weights, augmentation)
  function = jax.jit(
    lambda params, *args: step_loss.compute_loss(params, objective, *args)[1]
  )
  return functools.partial(function, init_params())


SLOW = pytest.mark.slow
