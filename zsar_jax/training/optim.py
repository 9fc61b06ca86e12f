"""Optimiser and schedule."""

from collections.abc import Sequence
import re
from typing import Any

import jax
import numpy as np
import optax

_ENCODERS = ('video_encoder', 'text_encoder')
# Stacks of blocks within an encoder, in the order of the data: its own, its own
# over time (`time_block_i`), and parts that hold a stack.
_STACKS = ('', 'time_', 'space', 'time', 'both', 'stack', 'frames', 'clips')
_STACKS += ('integration', 'pooler', 'pool')
# Parts beside a stack that lie just before its blocks.
_BEFORE = {
  'space_norm': 'time_',
  'time_position': 'time_',
  'time_cls': 'time_',
  'projection': 'integration',
  'head_norm': 'pool',
}
# Parts after the blocks of their stack; all others lie before them.
_AFTER = {'norm', 'final_norm', 'head', 'out', 'query', 'mlp', 'mlp_norm'}
_AFTER |= {'pool', 'cross_attention', 'cross_attention_norm'}
# Parts that lie within a block: `messages_i` are made for block i (X-CLIP). The
# blocks of I3D count on from digits to letters, as hexadecimal numbers do.
_BLOCK = re.compile(r'(?:block|messages)_(\d+)|Mixed_(\d[a-f])_\w+')


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
  fine-tuning). An encoder may have several stacks of blocks, one after the
  other. What lies between two stacks learns as the last block before it.

  Args:
    params: tree of parameters; those that are masked have no factor.
    decay: in (0, 1].
    encoders: names of the subtrees with blocks: `block_<i>`, one scanned stack
      `blocks`, whose leading axis counts the blocks, or `Mixed_...` of I3D.

  Returns:
    A tree like `params` of floats, or of arrays that broadcast over a stack.
  """
  blocks = {name: _blocks(params[name]) for name in encoders}

  def scale(path, leaf):
    encoder, *names = (key.key for key in path)
    if encoder not in blocks:
      return 1.0
    power = lambda place: _power(place, blocks[encoder])
    stack, part = _stack_and_part(names)
    if part == 'blocks':
      powers = [power((stack, i)) for i in range(leaf.shape[0])]
      shape = (len(powers), *[1] * (leaf.ndim - 1))
      return (decay ** np.array(powers, float)).reshape(shape).astype('float32')
    return decay ** power(_place(stack, part, blocks[encoder]))

  return jax.tree_util.tree_map_with_path(scale, params)


def _stack_and_part(names: Sequence[str]) -> tuple[int, str]:
  """Returns a parameter's stack, a place in _STACKS, and its part there."""
  first = names[0]
  if first in _STACKS[2:]:
    return _STACKS.index(first), names[1]
  if first.startswith('time_block'):
    return 1, first.removeprefix('time_')
  return 0, first


def _number(part: str) -> int | None:
  """Returns the number of a part's block; None if it is in none."""
  block = _BLOCK.fullmatch(part)
  if block is None:
    return None
  return int(block[1]) if block[1] else int(block[2], 16)


def _blocks(encoder: Any) -> list[tuple[int, int]]:
  """Lists the blocks of an encoder in order: stack and number.

  A stack that is scanned and frozen as a whole is masked, and has no blocks:
  there is nothing to scale.
  """
  found = set()
  for name, content in encoder.items():
    inner = content if name in _STACKS[2:] else ('',)
    for stack, part in (_stack_and_part((name, x)) for x in inner):
      if part == 'blocks':
        leaves = jax.tree.leaves(content)
        numbers = range(leaves[0].shape[0] if leaves else 0)
      else:
        numbers = [n for n in (_number(part),) if n is not None]
      found.update((stack, number) for number in numbers)
  return sorted(found)


def _place(
  stack: int, part: str, blocks: Sequence[tuple[int, int]]
) -> tuple[int, float]:
  """Returns where a part lies, to compare with the places of blocks."""
  number = _number(part)
  if number is not None:
    return stack, number
  if stack == 0 and part in _BEFORE:
    before = _BEFORE[part]
    # Other attention has `time_position` before its only blocks.
    if before == 'time_' and not any(block[0] == 1 for block in blocks):
      before = ''
    return _STACKS.index(before), -1
  if part in _AFTER:
    return max(stack, 1), np.inf
  return stack, -1


def _power(place: tuple[int, float], blocks: Sequence[tuple[int, int]]) -> int:
  """Returns the power of the decay at a place."""
  later = sum(block > place for block in blocks)
  return later + 1 if later or place in blocks else 0


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
