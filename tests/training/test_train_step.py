"""Training steps on one device: what they learn, keep and leave out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.tiny_steps import (
  ALL_LOSSES,
  EVERYTHING,
  NONE,
  PREP,
  SLOW,
  batch_and_text,
  init_params,
  model,
  run,
  trainer,
)
from zsar_jax.models import pixel_ops
from zsar_jax.parallel import sharding
from zsar_jax.training import optim, step_loss, train_state, train_step


def test_one_batch_can_be_learnt():
  _, history = run(40)
  assert history[-1]['loss'] < 0.5 * history[0]['loss']
  assert history[-1]['train_top1'] == 1


def test_the_old_state_is_donated():
  new_state, step, mesh = trainer()
  state = new_state()
  batch, text = batch_and_text()
  step(state, sharding.put_batch(batch, mesh), text)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_dropout_depends_on_seed_and_step_alone():
  _, first = run(2, dropout_rate=0.5)
  _, again = run(2, dropout_rate=0.5)
  assert first == again
  assert first != run(2)[1]


def test_an_augmented_batch_can_be_learnt_from():
  augmentation = step_loss.Augmentation(mixing=pixel_ops.Mixing(0.8))
  _, history = run(30, augmentation=augmentation)
  assert history[-1]['loss'] < 0.9 * history[0]['loss']


def run_with(change=None, steps=1, mesh_sizes=(2, 1, 1), **kwargs):
  """States and metrics of some steps, and the state before them."""
  new_state, step, mesh = trainer(mesh_sizes, **kwargs)
  state = new_state()
  before = jax.device_get(state)
  batch, text = batch_and_text()
  batch = sharding.put_batch(batch, mesh)
  if change:
    state = change(state)
  states, metrics = [], []
  for _ in range(steps):
    state, values = step(state, batch, text)
    states.append(jax.device_get(state))
    metrics.append({k: float(v) for k, v in values.items()})
  return before, states, metrics


@pytest.mark.parametrize(
  'augmentation', [pytest.param(NONE, marks=SLOW), EVERYTHING]
)
def test_a_batch_in_parts_gives_the_same_step(augmentation):
  _, (whole,), (metrics,) = run_with(augmentation=augmentation)
  _, (parts,), (of_parts,) = run_with(augmentation=augmentation, accumulate=2)
  for name in ('loss', 'train_top1', 'gradient_norm'):
    assert of_parts[name] == pytest.approx(metrics[name], rel=1e-4)
  # Adam's first step is the sign of the gradient: compare its moments.
  moments = lambda s: jax.tree.leaves(s.opt_state)
  for a, b in zip(moments(whole), moments(parts), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-6)


def test_an_update_that_is_not_finite_is_left_out_and_counted():
  def spoil(state):
    # One class centre is infinite: the loss is not a number.
    params = dict(state.params)
    params['class_centres'] = params['class_centres'] * jnp.inf
    return train_state.TrainState(
      state.step, params, state.opt_state, state.ema, state.skipped
    )

  before, (first, second), metrics = run_with(spoil, steps=2, ema_decay=0.75)
  assert [m['skipped'] for m in metrics] == [1, 2]
  assert int(second.step) == 2 and int(second.skipped) == 2
  for name in before.params:
    if name != 'class_centres':
      jax.tree.map(
        np.testing.assert_array_equal, before.params[name], second.params[name]
      )
  jax.tree.map(np.testing.assert_array_equal, before.opt_state, first.opt_state)
  jax.tree.map(np.testing.assert_array_equal, before.ema, second.ema)
  # A healthy one counts nothing.
  _, (healthy,) = run(1)
  assert healthy['skipped'] == 0


def test_the_average_follows_the_parameters():
  before, states, _ = run_with(steps=3, ema_decay=0.75)
  wanted = before.params
  for state in states:
    wanted = jax.tree.map(
      lambda e, p: 0.75 * e + 0.25 * p, wanted, state.params
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    states[-1].ema,
    wanted,
  )
  assert states[-1].best_params is states[-1].ema
  plain, _ = run(1)
  assert plain.ema == {} and plain.best_params is plain.params


FROZEN = ('^text_encoder/', '^video_encoder/block_0')


def plain_text(params, text):
  del params
  return text


def known_text(params, text):
  encode = jax.jit(functools.partial(model().apply, method='encode_text'))
  out = encode({'params': params}, text['ids'], text['mask'])
  return {**text, 'tokens': out['tokens'], 'pooled': out['pooled']}


@functools.cache
def frozen_steps(text, accumulate):
  """The states before and after two steps with some frozen, and metrics."""
  new_state, step, mesh = trainer(
    (2, 1, 1), learning_rate=0.1, frozen=FROZEN, accumulate=accumulate
  )
  state = new_state()
  start = jax.device_get(state)
  batch, words = batch_and_text()
  batch = sharding.put_batch(batch, mesh)
  words = text(start.params, words)
  metrics = []
  for _ in range(2):
    state, values = step(state, batch, words)
    metrics.append(jax.device_get(values))
  return start, jax.device_get(state), metrics


# With the text encoder run in parts, and without running it.
FROZEN_WAYS = [(plain_text, 2), (known_text, 1)]


@pytest.mark.parametrize('way', FROZEN_WAYS)
def test_frozen_parameters_stay_and_do_not_count(way):
  before, after, metrics = frozen_steps(*way)
  start, end = before.params, after.params
  for side, part in (('text_encoder', 'word'), ('video_encoder', 'block_0')):
    jax.tree.map(
      np.testing.assert_array_equal, end[side][part], start[side][part]
    )
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), start, end)
  assert moved['text_projection']['kernel'] > 0
  assert moved['video_encoder']['norm']['scale'] > 0
  # The norm is of the others alone: that of the whole is larger.
  _, (of_all,) = run(1)
  assert 0 < metrics[0]['gradient_norm'] < of_all['gradient_norm']


def test_a_frozen_text_encoder_need_not_run():
  _, runs, metrics = frozen_steps(*FROZEN_WAYS[0])
  _, known, known_metrics = frozen_steps(*FROZEN_WAYS[1])
  for name in ('loss', 'gradient_norm'):
    for a, b in zip(metrics, known_metrics, strict=True):
      assert a[name] == pytest.approx(b[name], rel=1e-4), name
  # Adam makes a step of a gradient that is only rounding: compare its moments.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6),
    runs.opt_state,
    known.opt_state,
  )


def test_no_backward_pass_of_what_is_frozen():
  the_model, (batch, text) = model(), batch_and_text()
  params = init_params()
  mesh = sharding.make_mesh(dict(data=1, fsdp=1, tensor=1), jax.devices()[:1])
  optimizer = optim.make_optimizer(
    lambda step: 0.1, weight_decay=0, clip_norm=1.0, frozen=FROZEN[:1]
  )
  state = train_state.TrainState(
    jnp.zeros((), jnp.int32),
    params,
    optimizer.init(params),
    {},
    jnp.zeros((), jnp.int32),
  )

  def flops(frozen):
    step = train_step.make_train_step(
      step_loss.Objective(the_model, PREP, ALL_LOSSES),
      optimizer,
      lambda step: 0.1,
      mesh,
      frozen=frozen,
    )
    with jax.set_mesh(mesh):
      # Before compiling: a backward pass that is not asked for is not traced.
      return step.__wrapped__.lower(state, batch, text).cost_analysis()['flops']

  assert flops(FROZEN[:1]) < flops(())


@pytest.mark.parametrize('name', ['transfer', 'regression'])
def test_optional_losses_can_be_learnt(name):
  weights = step_loss.LossWeights(visual=0, contrast=0, match=0, **{name: 1.0})
  # The centres of `transfer` are learnt by it alone here.
  _, history = run(12, weights=weights)
  assert set(history[0]) & {'loss_visual', 'loss_contrast'} == set()
  assert history[-1][f'loss_{name}'] < 0.8 * history[0][f'loss_{name}']
