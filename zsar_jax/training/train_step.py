"""One training step as a pure function.

`make_train_step` returns a jitted, donating function on global arrays. Their
shardings say where they lie; see `parallel.sharding`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from zsar_jax.parallel import sharding
from zsar_jax.training import optim, step_loss, train_state


def make_train_step(
  objective: step_loss.Objective,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  mesh: jax.sharding.Mesh,
  *,
  seed: int = 0,
  accumulate: int = 1,
  ema_decay: float = 0.0,
  frozen: Sequence[str] = (),
) -> Callable[..., tuple[train_state.TrainState, dict[str, jax.Array]]]:
  """Builds the jitted training step.

  The step skips an update if its loss or gradient is not finite, and counts it
  in `skipped`. The host could not skip it: the state is donated, so its
  parameters are gone when the host sees the loss.

  Args:
    objective: what to minimise.
    optimizer: from `optim.make_optimizer`.
    schedule: the learning rate, for the metrics.
    mesh: from `sharding.make_mesh`.
    seed: of the randomness inside the step. With the step number it gives the
      step's key, so that a resumed run draws the same numbers.
    accumulate: number of parts of the batch. They run one after the other, in
      less memory. Without dropout the gradients equal those of the whole batch
      up to rounding: no loss compares examples, and clips are mixed before.
      (A model with batch statistics would have those of a part.)
    ema_decay: of the parameters' moving average, in [0, 1); 0 for none.
    frozen: patterns of parameters that the optimiser does not change; see
      `optim.frozen_labels`. They get no gradient, and `gradient_norm` does not
      count them.

  Returns:
    (state, batch, text) -> (state, metrics). The state is donated. For batch
    and text see `step_loss.compute_loss`.
  """

  def step(state, batch, text):
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    grads, metrics = _gradients(
      objective, (accumulate, frozen), state.params, batch, text, key
    )
    metrics['gradient_norm'] = norm = optax.global_norm(grads)
    metrics['learning_rate'] = schedule(state.step)
    finite = jnp.isfinite(metrics['loss']) & jnp.isfinite(norm)
    new = _update(state, grads, finite, optimizer, ema_decay)
    metrics['skipped'] = new.skipped
    shardings = sharding.tree_shardings(new, mesh)
    return jax.lax.with_sharding_constraint(new, shardings), metrics

  return sharding.on_mesh(jax.jit(step, donate_argnums=0), mesh)


def _update(
  state, grads, finite, optimizer, ema_decay
) -> train_state.TrainState:
  """Returns the next state; the same parameters where `finite` is False."""
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  keep = lambda new, old: jnp.where(finite, new, old)
  params = jax.tree.map(keep, params, state.params)
  opt_state = jax.tree.map(keep, opt_state, state.opt_state)
  ema = state.ema
  if ema_decay:
    average = lambda e, p: ema_decay * e + (1 - ema_decay) * p
    ema = jax.tree.map(keep, jax.tree.map(average, ema, params), ema)
  return train_state.TrainState(
    state.step + 1, params, opt_state, ema, state.skipped + ~finite
  )


def _gradients(objective, how, params, batch, text, key) -> tuple[Any, dict]:
  """Returns gradients and metrics of a batch; `how` is (accumulate, frozen)."""
  accumulate, frozen = how
  # Frozen parameters are constants, so the backward pass stops at them.
  held = optim.frozen_labels(params, frozen)
  hold = lambda params: jax.tree.map(
    lambda x, label: jax.lax.stop_gradient(x) if label == 'frozen' else x,
    params,
    held,
  )
  if accumulate == 1:
    whole_loss = lambda params, *rest: step_loss.compute_loss(
      hold(params), *rest
    )
    differentiate = jax.grad(whole_loss, has_aux=True)
    return differentiate(params, objective, batch, text, key)
  step_loss.check_classes(objective, text)
  whole = step_loss.prepare_clips(objective, batch, key)
  part_loss = lambda params, *rest: step_loss.loss_of_clips(hold(params), *rest)
  differentiate = jax.grad(part_loss, has_aux=True)
  # One key for all parts: wrong classes are drawn by the global index.
  part = lambda clips: differentiate(params, objective, clips, text, key)
  parts = jax.tree.map(lambda x: step_loss.split_batch(x, accumulate), whole)

  def add(total, clips):
    return jax.tree.map(jnp.add, total, part(clips)), None

  shapes = jax.eval_shape(part, jax.tree.map(lambda x: x[0], parts))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  total, _ = jax.lax.scan(add, zeros, parts)
  return jax.tree.map(lambda x: x / accumulate, total)
