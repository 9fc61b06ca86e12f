"""Optimiser and schedule."""

from collections.abc import Sequence
import re
from typing import Any

import jax
import optax


def make_schedule(
  *, learning_rate: float, warmup_steps: int, num_steps: int
) -> optax.Schedule:
  """Linear warm-up from zero, then cosine down to zero at `num_steps`.

  Where the warm-up is all there is, the schedule ends at the peak.

  Args:
    learning_rate: the peak.
    warmup_steps: steps until the peak; at most `num_steps`.
    num_steps: steps in all.

  Returns:
    step -> learning rate.

  Raises:
    ValueError: a warm-up longer than the training.
  """
  if not 0 <= warmup_steps <= num_steps:
    raise ValueError(
      f'optim.warmup_steps={warmup_steps} is not within '
      f'train.num_steps={num_steps}'
    )
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=learning_rate,
    warmup_steps=warmup_steps,
    decay_steps=max(num_steps, warmup_steps + 1),
  )


def decayed(params: Any) -> Any:
  """Which parameters get weight decay: matrices that multiply activations.

  Not biases, norms, logit scales, positions or class centres: the loss sees
  a centre's direction only, and decaying the rest is known to hurt.
  """

  def is_decayed(path, leaf) -> bool:
    del leaf
    return path[-1].key == 'kernel'

  return jax.tree_util.tree_map_with_path(is_decayed, params)


def frozen_labels(params: Any, patterns: Sequence[str]) -> Any:
  """Which parameters are trained and which keep their values.

  Args:
    params: tree of parameters.
    patterns: a parameter whose path, joined by '/', has a match of one of
      them (`re.search`) is frozen.

  Returns:
    A tree like `params` of 'trained' and 'frozen'.

  Raises:
    ValueError: a pattern that matches no parameter.
  """
  unused = set(patterns)

  def label(path, leaf) -> str:
    del leaf
    name = '/'.join(key.key for key in path)
    matching = [p for p in patterns if re.search(p, name)]
    unused.difference_update(matching)
    return 'frozen' if matching else 'trained'

  labels = jax.tree_util.tree_map_with_path(label, params)
  if unused:
    raise ValueError(
      f'optim.frozen: no parameter matches {sorted(unused)}; the paths start '
      f'with {sorted(params)}'
    )
  return labels


def make_optimizer(
  schedule: optax.Schedule,
  *,
  weight_decay: float,
  clip_norm: float,
  b2: float = 0.999,
  frozen: Sequence[str] = (),
) -> optax.GradientTransformation:
  """AdamW (Loshchilov and Hutter 2019) behind a clip of the global norm.

  Args:
    schedule: step -> learning rate.
    weight_decay: of the parameters that `decayed` names.
    clip_norm: largest global norm of a gradient.
    b2: decay of the second moment.
    frozen: patterns of parameters that keep their values, see
      `frozen_labels`; they have no moments and do not count in the norm.

  Returns:
    The optimiser.
  """
  trained = optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.adamw(schedule, b2=b2, weight_decay=weight_decay, mask=decayed),
  )
  if not frozen:
    return trained
  return optax.multi_transform(
    {'trained': trained, 'frozen': optax.set_to_zero()},
    lambda params: frozen_labels(params, frozen),
  )
