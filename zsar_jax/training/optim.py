"""Optimiser and schedule."""

from collections.abc import Sequence
import re
from typing import Any

import jax
import numpy as np
import optax

_ENCODERS = ('video_encoder', 'text_encoder')
# Parts of an encoder after its blocks.
_AFTER_BLOCKS = ('norm', 'final_norm', 'pool')
# Parts that lie within block i: `messages_i` are made for it (X-CLIP).
_BLOCK = re.compile(r'(time_)?(?:block|messages)_(\d+)')
# Of factorised attention, between the blocks over space and those over time;
# other attention has `time_position` before its blocks.
_BETWEEN = ('space_norm', 'time_position', 'time_cls')


SCHEDULES = ('cosine', 'constant')


def make_schedule(
  *,
  learning_rate: float,
  warmup_steps: int,
  num_steps: int,
  name: str = 'cosine',
) -> optax.Schedule:
  """Returns a linear warm-up from zero, then cosine to zero or constant.

  If there are no steps after the warm-up, the schedule ends at the peak.

  Args:
    learning_rate: the peak.
    warmup_steps: steps until the peak; at most `num_steps`.
    num_steps: steps in all.
    name: one of `SCHEDULES`.

  Returns:
    step -> learning rate.

  Raises:
    ValueError: the warm-up is longer than the training, or the name is unknown.
  """
  if name not in SCHEDULES:
    raise ValueError(f'optim.schedule={name!r} is not one of {SCHEDULES}')
  if not 0 <= warmup_steps <= num_steps:
    raise ValueError(
      f'optim.warmup_steps={warmup_steps} is not within '
      f'train.num_steps={num_steps}'
    )
  if name == 'constant':
    return optax.join_schedules(
      [
        optax.linear_schedule(0.0, learning_rate, warmup_steps),
        optax.constant_schedule(learning_rate),
      ],
      [warmup_steps],
    )
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=learning_rate,
    warmup_steps=warmup_steps,
    decay_steps=max(num_steps, warmup_steps + 1),
  )


def decayed(params: Any) -> Any:
  """Marks the parameters with weight decay: matrices that multiply activations.

  Biases, norms, logit scales, positions and class centres do not decay. The
  loss depends only on a centre's direction. Decay is known to hurt the rest.
  """

  def is_decayed(path, leaf) -> bool:
    del leaf
    return path[-1].key == 'kernel'

  return jax.tree_util.tree_map_with_path(is_decayed, params)


def frozen_labels(params: Any, patterns: Sequence[str]) -> Any:
  """Labels the parameters that are trained and those that keep their values.

  Args:
    params: tree of parameters.
    patterns: a parameter is frozen if one of them matches its path, joined by
      '/' (`re.search`).

  Returns:
    A tree like `params` of 'trained' and 'frozen'.

  Raises:
    ValueError: a pattern matches no parameter.
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


def layer_scales(params: Any, decay: float, encoders: Sequence[str]) -> Any:
  """Returns the factor on each parameter's learning rate.

  It is decay^(blocks + 1) before the blocks of an encoder, decay^(blocks - i)
  for block i, and 1 after the blocks (Clark et al. 2020 use it for
  fine-tuning). The blocks over time of factorised attention come after those
  over space.

  Args:
    params: tree of parameters; those that are masked have no factor.
    decay: in (0, 1].
    encoders: names of the subtrees with blocks: `block_<i>`, or one scanned
      stack `blocks`, whose leading axis counts the blocks.

  Returns:
    A tree like `params` of floats, or of arrays that broadcast over a stack.
  """
  counts = {
    name: [_num_blocks(params[name], prefix) for prefix in ('', 'time_')]
    for name in encoders
  }

  def scale(path, leaf):
    encoder, *rest = (key.key for key in path)
    if encoder not in counts:
      return 1.0
    (space, time), part = counts[encoder], rest[0]
    n = space + time
    if part in ('blocks', 'time_blocks'):
      first = space if part == 'time_blocks' else 0
      last = n if part == 'time_blocks' else space
      powers = decay ** np.arange(n - first, n - last, -1.0)
      shape = (last - first, *[1] * (leaf.ndim - 1))
      return powers.reshape(shape).astype(np.float32)
    block = _BLOCK.fullmatch(part)
    if block:
      return decay ** (n - int(block[2]) - (space if block[1] else 0))
    if time and part in _BETWEEN:
      return decay ** (time + 1)
    return 1.0 if part in _AFTER_BLOCKS else decay ** (n + 1)

  return jax.tree_util.tree_map_with_path(scale, params)


def _num_blocks(encoder: Any, prefix: str) -> int:
  """Counts the blocks whose names start with a prefix."""
  if f'{prefix}blocks' in encoder:
    # A stack that is frozen as a whole is masked: there is nothing to scale.
    leaves = jax.tree.leaves(encoder[f'{prefix}blocks'])
    return leaves[0].shape[0] if leaves else 0
  return sum(name.startswith(f'{prefix}block_') for name in encoder)


def _scale_by_layer(
  decay: float, encoders: Sequence[str]
) -> optax.GradientTransformation:
  """Multiplies updates by `layer_scales`."""

  def update(updates, state, params):
    scales = layer_scales(params, decay, encoders)
    return jax.tree.map(lambda u, s: u * s, updates, scales), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizer(
  schedule: optax.Schedule,
  *,
  weight_decay: float,
  clip_norm: float,
  b2: float = 0.999,
  frozen: Sequence[str] = (),
  layer_decay: float = 1.0,
) -> optax.GradientTransformation:
  """Builds AdamW (Loshchilov and Hutter 2019) behind a global-norm clip.

  Args:
    schedule: step -> learning rate.
    weight_decay: of the parameters that `decayed` names.
    clip_norm: largest global norm of a gradient.
    b2: decay of the second moment.
    frozen: patterns of parameters that keep their values, see `frozen_labels`.
      These have no moments and do not count in the norm.
    layer_decay: decay of the learning rate from the last block of each encoder
      to its first; see `layer_scales`.

  Returns:
    The optimiser.
  """
  trained = optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.adamw(schedule, b2=b2, weight_decay=weight_decay, mask=decayed),
  )
  if layer_decay != 1:
    trained = optax.chain(trained, _scale_by_layer(layer_decay, _ENCODERS))
  if not frozen:
    return trained
  return optax.multi_transform(
    {'trained': trained, 'frozen': optax.set_to_zero()},
    lambda params: frozen_labels(params, frozen),
  )
