"""Stacks of Transformer blocks over space and time."""

from collections.abc import Callable, Mapping
import functools
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers
from zsar_jax.parallel import sharding

# What the backward pass keeps of a block; it computes the rest again.
_REMAT_POLICIES = {
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
REMATS = ('none', *_REMAT_POLICIES)


class DividedBlock(nn.Module):
  """Divided space-time attention (TimeSformer, Bertasius et al. 2021).

  Every patch first attends to its own place in all frames, then to the other
  places in its own frame. A class token takes no part in the first. In the
  second each frame has a copy of it, and the copies' updates are averaged.

  Attributes:
    grid: tubelets along (t, h, w).
    num_heads: attention heads.
    mlp_dim: width of the hidden layer.
    dropout_rate: on every residual branch.
    activation: of the MLP, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    dtype: computation dtype.
    qkv_bias: see `layers.Attention`.
    implementation: see `attention.choose`.
  """

  grid: tuple[int, int, int]
  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.0
  activation: str = 'gelu_tanh'
  norm_epsilon: float = 1e-6
  dtype: layers.Dtype = jnp.float32
  qkv_bias: str = 'qkv'
  implementation: str = 'einsum'

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    deterministic: bool = True,
    drop_path: jax.typing.ArrayLike | None = None,
  ) -> jax.Array:
    """Maps tokens [b n d] to tokens [b n d].

    Args:
      x: tokens in the order of the grid; a class token may come first.
      deterministic: False turns dropout and stochastic depth on.
      drop_path: see `layers.stochastic_depth`; clips are skipped whole.

    Returns:
      Tokens of the same shape.
    """
    b, n, d = x.shape
    t, places = self.grid[0], math.prod(self.grid[1:])
    num_cls = n - t * places
    norm = functools.partial(
      nn.LayerNorm, epsilon=self.norm_epsilon, dtype=self.dtype
    )
    attention = functools.partial(
      layers.Attention,
      self.num_heads,
      self.dtype,
      self.qkv_bias,
      self.implementation,
    )
    dropout = nn.Dropout(self.dropout_rate)
    drop = lambda y: layers.stochastic_depth(
      self, dropout(y, deterministic), drop_path, deterministic
    )
    cls, patches = x[:, :num_cls], x[:, num_cls:]

    swap = lambda y, i, j: y.reshape(b, i, j, d).swapaxes(1, 2)
    y = swap(patches, t, places).reshape(b * places, t, d)
    y = attention(name='temporal_attention')(
      norm(name='temporal_attention_norm')(y)
    )
    y = swap(y, places, t).reshape(b, t * places, d)
    y = nn.Dense(d, dtype=self.dtype, name='temporal_projection')(y)
    patches = patches + drop(y)

    y = jnp.concatenate(
      [jnp.repeat(cls, t, axis=0), patches.reshape(b * t, places, d)], axis=1
    )
    y = attention(name='attention')(norm(name='attention_norm')(y))
    cls_y = y[:, :num_cls].reshape(b, t, num_cls, d).mean(axis=1)
    y = jnp.concatenate(
      [cls_y, y[:, num_cls:].reshape(b, t * places, d)], axis=1
    )
    x = jnp.concatenate([cls, patches], axis=1) + drop(y)

    mlp = layers.Mlp(
      self.mlp_dim, self.activation, self.dropout_rate, self.dtype, name='mlp'
    )
    return x + drop(mlp(norm(name='mlp_norm')(x), deterministic))


def apply_blocks(
  make_block: Callable[..., nn.Module],
  depth: int,
  x: jax.Array,
  *,
  prefix: str = '',
  stochastic_depth_rate: float = 0.0,
  remat: str = 'none',
  scan: bool = False,
  deterministic: bool = True,
) -> jax.Array:
  """Applies a stack of equal blocks; call it inside a compact method.

  Args:
    make_block: given `name`, makes a block that maps [b n d] to [b n d] and
      takes `deterministic` and `drop_path`.
    depth: number of blocks.
    x: tokens [b n d].
    prefix: of the parameters' names: `{prefix}block_{i}`. With `scan` they are
      `{prefix}blocks`, with a leading axis of layers.
    stochastic_depth_rate: of the last block. The rate grows linearly from 0 at
      the first block (Huang et al. 2016).
    remat: one of REMATS, for the backward pass. 'dots' keeps the matrix
      products with parameters, and 'full' keeps nothing. The rest is computed
      again.
    scan: compile one block and loop, instead of all blocks in a row.
    deterministic: False turns dropout and stochastic depth on.

  Returns:
    Tokens [b n d].

  Raises:
    ValueError: `remat` is unknown.
  """
  if remat not in REMATS:
    raise ValueError(f'remat {remat!r} is not one of {REMATS}')

  def step(block, x, rate):
    x = sharding.constrain_batch(x)
    x = block(x, deterministic=deterministic, drop_path=rate)
    return sharding.constrain_batch(x)

  if remat != 'none':
    # Inside a loop the compiler cannot merge the two computations.
    step = nn.remat(step, policy=_REMAT_POLICIES[remat], prevent_cse=not scan)
  rates = None
  if stochastic_depth_rate > 0:
    rates = jnp.linspace(0.0, stochastic_depth_rate, depth)
  if scan:
    loop = nn.scan(
      lambda block, x, rate: (step(block, x, rate), None),
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
      length=depth,
    )
    return loop(make_block(name=f'{prefix}blocks'), x, rates)[0]
  for i in range(depth):
    rate = None if rates is None else rates[i]
    x = step(make_block(name=f'{prefix}block_{i}'), x, rate)
  return x


def unrolled(params: Mapping[str, Any]) -> dict[str, Any]:
  """Gives the blocks of scanned stacks their names without a scan.

  Args:
    params: of an encoder; stacks are `blocks` or end in `_blocks`.

  Returns:
    The same with `{prefix}block_{i}` in place of `{prefix}blocks`.
  """
  found = {}
  for name, subtree in params.items():
    if name != 'blocks' and not name.endswith('_blocks'):
      found[name] = subtree
      continue
    for i in range(len(jax.tree.leaves(subtree)[0])):
      take = lambda x, i=i: x[i]
      found[f'{name.removesuffix("s")}_{i}'] = jax.tree.map(take, subtree)
  return found
