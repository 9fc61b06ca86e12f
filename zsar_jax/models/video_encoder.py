"""ViT over tubelets, with three kinds of space-time attention.

Input: a normalised clip [b t h w c]. Output: a dict with `tokens` [b n d]
(after the cls token if pooling is 'cls') and `pooled` [b d], not normalised.
Tokens are in the order (t', h', w'). 'factorised' attention has one per time
index, n = t'.

  encoder = VideoEncoder(**variant('B/16x2'), attention='divided')
  params = encoder.init(key, jnp.zeros((1, 8, 224, 224, 3)))
  out = encoder.apply(params, clip)
"""

import functools
import re
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers, positions, space_time, tubelets

# The allowed values of each choice; see VideoEncoder.
CHOICES = {
  'pooling': ('mean', 'cls', 'attention'),
  'attention': ('joint', 'factorised', 'divided'),
  'positions': ('separable', 'full', 'sincos', 'rotary'),
  'final_norm': ('tokens', 'pooled', 'none'),
  'remat': space_time.REMATS,
}
# Width, depth, heads: DeiT's Ti and S (Touvron et al. 2021), ViT's B and L
# (Dosovitskiy et al. 2021). The MLP is four times as wide.
_SIZES = {
  'Ti': (192, 12, 3),
  'S': (384, 12, 6),
  'B': (768, 12, 12),
  'L': (1024, 24, 16),
}
# VideoMAE's norm of the pooled vector is not built like its other norms.
_POOLED_NORM_EPSILON = 1e-5


def variant(name: str) -> dict[str, Any]:
  """Returns sizes by name: 'B/16x2' has patches of 16 x 16 over 2 frames.

  Args:
    name: one of Ti, S, B and L, '/', the patch's side in pixels, and 'x' with
      its length in frames (one frame if this part is missing).

  Returns:
    `width`, `depth`, `num_heads`, `mlp_dim` and `tubelet_size`, arguments of
    `VideoEncoder`.

  Raises:
    ValueError: there is no such name.
  """
  match = re.fullmatch(r'(\w+)/([1-9]\d*)(?:x([1-9]\d*))?', name)
  if not match or match[1] not in _SIZES:
    raise ValueError(
      f'video encoder variant {name!r} is not of the form SIZE/PATCHxFRAMES, '
      f"such as 'B/16x2', with a size of {list(_SIZES)}"
    )
  width, depth, num_heads = _SIZES[match[1]]
  patch = int(match[2])
  return dict(
    width=width,
    depth=depth,
    num_heads=num_heads,
    mlp_dim=4 * width,
    tubelet_size=(int(match[3] or 1), patch, patch),
  )


class VideoEncoder(nn.Module):
  """Tubelet ViT.

  There are three kinds of attention:

  - 'joint': every token to every token (model 1 of ViViT, Arnab et al. 2021);
  - 'factorised': blocks within each time index, whose pooled outputs then go
    through `depth_time` blocks of their own (model 2 of ViViT);
  - 'divided': over time and then over space in every block (TimeSformer,
    Bertasius et al. 2021).

  Attributes:
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    tubelet_size: (t, h, w).
    pooling: 'mean' over tokens, 'cls', or 'attention' of a learnt query.
    dropout_rate: on embeddings and every residual branch.
    dtype: computation dtype; parameters, norms' statistics and softmax are
      float32.
    attention: 'joint', 'factorised' or 'divided'.
    depth_time: number of temporal blocks of factorised attention.
    positions: 'separable' learns h*w + t vectors, 'full' learns t*h*w,
      'sincos' is fixed (VideoMAE), 'rotary' turns queries and keys (V-JEPA 2).
    sincos_grid: tubelets (t, h, w) of the fixed positions, which are resampled
      to the clip's grid; () computes them for the clip's own grid.
    activation: of the MLPs, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    qkv_bias: which of query, key and value have a bias, by their initials.
    final_norm: of the 'tokens', before they are pooled; of the 'pooled'
      vector (VideoMAE); or 'none'.
    stochastic_depth_rate: of the last block, see `space_time.apply_blocks`.
    remat: see `space_time.apply_blocks`.
    scan_blocks: see `scan` of `space_time.apply_blocks`.
    attention_implementation: see `attention.choose`.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  tubelet_size: tuple[int, int, int]
  pooling: str = 'mean'
  dropout_rate: float = 0.0
  dtype: layers.Dtype = jnp.float32
  attention: str = 'joint'
  depth_time: int = 0
  positions: str = 'separable'
  sincos_grid: tuple[int, ...] = ()
  activation: str = 'gelu_tanh'
  norm_epsilon: float = 1e-6
  qkv_bias: str = 'qkv'
  final_norm: str = 'tokens'
  stochastic_depth_rate: float = 0.0
  remat: str = 'none'
  scan_blocks: bool = False
  attention_implementation: str = 'auto'

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes a clip; see the module docstring."""
    self._check()
    x = self.embed(video)
    encode = self._factorised if self.attention == 'factorised' else self._whole
    x = encode(x, deterministic)
    if self.final_norm == 'tokens':
      x = self._norm('norm')(x)
    if self.pooling == 'attention':
      pooled = layers.AttentionPool(
        self.num_heads, self.mlp_dim, self.dtype, name='pool'
      )(x)
    else:
      pooled = self._first_or_mean(x)
    if self.final_norm == 'pooled':
      pooled = nn.LayerNorm(
        epsilon=_POOLED_NORM_EPSILON, dtype=self.dtype, name='norm'
      )(pooled)
    return {'tokens': x, 'pooled': pooled}

  def embed(self, video: jax.Array) -> jax.Array:
    """Maps a clip to tokens on their grid [b t' h' w' d], no positions yet."""
    return tubelets.TubeletEmbed(
      tuple(self.tubelet_size), self.width, self.dtype, name='tubelet_embed'
    )(video)

  def _check(self):
    for key, known in CHOICES.items():
      if getattr(self, key) not in known:
        raise ValueError(f'{key} {getattr(self, key)!r} is not one of {known}')
    factorised = self.attention == 'factorised'
    if factorised != (self.depth_time > 0):
      raise ValueError(
        f'attention {self.attention!r} with depth_time={self.depth_time}: '
        'factorised attention has temporal blocks, and no other has'
      )
    if factorised and self.positions != 'separable':
      raise ValueError(
        'factorised attention adds the positions in space and those in time '
        f'at two places, so they cannot be {self.positions!r}'
      )
    if self.positions == 'rotary' and (
      self.attention != 'joint' or self.pooling == 'cls'
    ):
      raise ValueError(
        "'rotary' positions need joint attention of the tubelets alone, not "
        f'attention {self.attention!r} with pooling {self.pooling!r}'
      )

  def _whole(self, x: jax.Array, deterministic: bool) -> jax.Array:
    """Applies joint or divided attention: [b t h w d] -> [b n d]."""
    b, *grid, d = x.shape
    make_block = None
    if self.positions == 'rotary':
      make_block = functools.partial(
        layers.PreNormBlock, rotary_grid=tuple(grid)
      )
    else:
      x = self._add_positions(x)
    x = x.reshape(b, -1, d)
    if self.attention == 'divided':
      make_block = functools.partial(space_time.DividedBlock, tuple(grid))
    return self._blocks(
      self._prepend_cls(x, 'cls'), deterministic, make_block=make_block
    )

  def _factorised(self, x: jax.Array, deterministic: bool) -> jax.Array:
    """Attends over space per time index, then time: [b t h w d] -> [b t d]."""
    b, t, h, w, d = x.shape
    space = layers.embedding_table(self, 'space_position', h, w, d)
    time = layers.embedding_table(self, 'time_position', t, d)
    x = (x + space.astype(x.dtype)).reshape(b * t, h * w, d)
    x = self._blocks(self._prepend_cls(x, 'cls'), deterministic)
    x = self._first_or_mean(self._norm('space_norm')(x)).reshape(b, t, d)
    x = self._prepend_cls(x + time.astype(x.dtype), 'time_cls')
    return self._blocks(x, deterministic, self.depth_time, 'time_')

  def _blocks(
    self, x, deterministic, depth=None, prefix='', make_block=None
  ) -> jax.Array:
    """Applies dropout, then a stack of blocks; PreNormBlocks by default."""
    make_block = functools.partial(
      make_block or layers.PreNormBlock,
      num_heads=self.num_heads,
      mlp_dim=self.mlp_dim,
      dropout_rate=self.dropout_rate,
      activation=self.activation,
      norm_epsilon=self.norm_epsilon,
      dtype=self.dtype,
      qkv_bias=self.qkv_bias,
      implementation=self.attention_implementation,
    )
    return space_time.apply_blocks(
      make_block,
      depth or self.depth,
      nn.Dropout(self.dropout_rate)(x, deterministic),
      prefix=prefix,
      stochastic_depth_rate=self.stochastic_depth_rate,
      remat=self.remat,
      scan=self.scan_blocks,
      deterministic=deterministic,
    )

  def _add_positions(self, x: jax.Array) -> jax.Array:
    """Adds positions to tokens on their grid [b t h w d]."""
    _, t, h, w, d = x.shape
    if self.positions == 'separable':
      # Each part can be resampled to another resolution or length by itself.
      space = layers.embedding_table(self, 'space_position', h, w, d)
      time = layers.embedding_table(self, 'time_position', t, d)
      table = space[None] + time[:, None, None]
    elif self.positions == 'full':
      table = layers.embedding_table(self, 'position', t, h, w, d)
    else:
      grid = tuple(self.sincos_grid) or (t, h, w)
      table = positions.sincos(grid[0] * grid[1] * grid[2], d)
      table = positions.resample(table.reshape(*grid, d), (t, h, w))
    return x + table.astype(x.dtype)

  def _prepend_cls(self, x: jax.Array, name: str) -> jax.Array:
    """Puts a learnt token before the others, if pooling needs one."""
    if self.pooling != 'cls':
      return x
    b, _, d = x.shape
    cls = layers.embedding_table(self, name, 1, d).astype(x.dtype)
    return jnp.concatenate([jnp.tile(cls[None], (b, 1, 1)), x], axis=1)

  def _first_or_mean(self, x: jax.Array) -> jax.Array:
    """Returns the cls token, or the mean without one: [b n d] -> [b d]."""
    return x[:, 0] if self.pooling == 'cls' else x.mean(axis=1)

  def _norm(self, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=self.norm_epsilon, dtype=self.dtype, name=name)
