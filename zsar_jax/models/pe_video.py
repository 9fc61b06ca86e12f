"""Perception Encoder video: a dual encoder of clips and texts.

The video side and the text side of PE-AV (Vyas et al. 2025) as transformers'
PeVideoModel runs them. The image tower of the Perception Encoder (Bolya et al.
2025) reads every frame. A Transformer over the frames and a class token pools
what it says. Texts are read by ModernBERT:

  model = PeVideo(video=dict(frames=dict(...), clips=dict(...)), text=dict(...))
  video = model.apply({'params': params}, clip, method='encode_video')
  text = model.apply({'params': params}, ids, mask, method='encode_text')
  logits = model.apply({'params': params}, video, text, method='logits')
"""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.models import (
  gated_blocks,
  layers,
  modern_bert,
  positions,
  tubelets,
)

# As transformers builds them.
_TOWER_EPSILON, _GROUP_EPSILON, _HEAD_EPSILON = 1e-5, 1e-5, 1e-6


class FrameEncoder(nn.Module):
  """The Perception Encoder's image tower: a ViT whose tokens are pooled.

  Attributes:
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    patch_size: side of a patch in pixels.
    grid: patches along height and width in the training.
    has_cls: whether a learnt token stands before the others. It has no
      rotary position, and places are then numbered from 1.
    pool_heads: attention heads of the pool.
    pool_mlp_dim: width of its hidden layer.
    features: dimension of what is said of a frame.
    dtype: computation dtype.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  patch_size: int
  grid: tuple[int, int]
  has_cls: bool
  pool_heads: int
  pool_mlp_dim: int
  features: int
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps frames [n h w 3] to their features [n f], not normalised."""
    norm = lambda name: nn.LayerNorm(
      epsilon=_TOWER_EPSILON, dtype=self.dtype, name=name
    )
    patch = (1, self.patch_size, self.patch_size)
    x = tubelets.TubeletEmbed(
      patch, self.width, self.dtype, use_bias=False, name='tubelet_embed'
    )(frames[:, None])
    n, _, *grid, d = x.shape
    x = x.reshape(n, -1, d)
    angles = positions.plane_angles(
      grid, d // self.num_heads, self.grid, offset=int(self.has_cls)
    )
    if self.has_cls:
      cls = layers.embedding_table(self, 'cls', 1, d).astype(x.dtype)
      x = jnp.concatenate([jnp.tile(cls[None], (n, 1, 1)), x], axis=1)
      angles = np.pad(angles, ((1, 0), (0, 0)))
    table = layers.embedding_table(self, 'position', x.shape[1], d)
    x = norm('embed_norm')(x + table.astype(x.dtype))
    for i in range(self.depth):
      x = layers.PreNormBlock(
        self.num_heads,
        self.mlp_dim,
        activation='gelu',
        norm_epsilon=_TOWER_EPSILON,
        dtype=self.dtype,
        name=f'block_{i}',
      )(x, angles=angles)
    pooled = layers.AttentionPool(
      self.pool_heads,
      self.pool_mlp_dim,
      self.dtype,
      'gelu',
      _TOWER_EPSILON,
      name='pool',
    )(norm('norm')(x))
    return nn.Dense(self.features, dtype=self.dtype, name='head')(pooled)


class _Mixer(nn.Module):
  """Twice: norm over all of a sequence, SiLU, convolution over neighbours."""

  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = x
    for i in range(2):
      y = nn.GroupNorm(
        num_groups=1, epsilon=_GROUP_EPSILON, dtype=self.dtype, name=f'norm_{i}'
      )(y)
      y = nn.Conv(x.shape[-1], (3,), dtype=self.dtype, name=f'conv_{i}')(
        nn.silu(y)
      )
    return x + y


class ClipEncoder(nn.Module):
  """A Transformer over what is said of the frames, and a class token.

  Attributes:
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    head_dim: channels of a head.
    mlp_dim: width of the hidden layers.
    theta: of the rotary positions; see `positions.line_angles`.
    activation: of the MLPs, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    dtype: computation dtype.
  """

  width: int
  depth: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  theta: float
  activation: str = 'silu'
  norm_epsilon: float = 1e-5
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array) -> dict[str, jax.Array]:
    """Maps features [b t f] to `tokens` [b t d] and `pooled` [b d]."""
    x = layers.l2_normalise(features).astype(self.dtype)
    x = nn.Dense(
      self.width, use_bias=False, dtype=self.dtype, name='projection'
    )(x)
    x = nn.Dense(self.width, dtype=self.dtype, name='data_projection')(x)
    cls = layers.embedding_table(self, 'cls', 1, self.width).astype(x.dtype)
    x = jnp.concatenate([jnp.tile(cls[None], (len(x), 1, 1)), x], axis=1)
    x = _Mixer(self.dtype, name='mixer')(x)
    angles = positions.line_angles(x.shape[1], self.head_dim, self.theta)
    for i in range(self.depth):
      x = gated_blocks.GatedBlock(
        self.num_heads,
        self.mlp_dim,
        self.activation,
        'rms',
        self.norm_epsilon,
        inner_width=self.num_heads * self.head_dim,
        normalise_qk=True,
        dtype=self.dtype,
        name=f'block_{i}',
      )(x, angles=angles)
    x = gated_blocks.norm('rms', self.norm_epsilon, self.dtype, 'norm')(x)
    x = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name='out')(x)
    return {'tokens': x[:, 1:], 'pooled': x[:, 0]}


class PeVideoEncoder(nn.Module):
  """The video side: what is said of the frames, and a Transformer over it.

  Attributes:
    frames: keyword arguments of `FrameEncoder`.
    clips: keyword arguments of `ClipEncoder`.
    dtype: computation dtype.
  """

  frames: Mapping[str, Any]
  clips: Mapping[str, Any]
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Maps clips [b t h w 3] to `tokens` [b t d] and `pooled` [b d].

    The norm of the head into the joint space is part of `pooled`.
    """
    del deterministic  # nothing here is random
    b, t, *rest = video.shape
    features = FrameEncoder(dtype=self.dtype, name='frames', **self.frames)(
      video.reshape(b * t, *rest)
    )
    out = ClipEncoder(dtype=self.dtype, name='clips', **self.clips)(
      features.reshape(b, t, -1)
    )
    return {**out, 'pooled': _head_norm(self.dtype)(out['pooled'])}


class PeTextEncoder(modern_bert.ModernBert):
  """The text side.

  Attributes: those of `ModernBert`.
  """

  @nn.compact
  def __call__(
    self, ids: jax.Array, mask: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Maps ids and mask [c l] to `tokens` [c l d] and `pooled` [c d].

    The norm of the head into the joint space is part of `pooled`.
    """
    del deterministic  # nothing here is random
    out = super().__call__(ids, mask)
    return {**out, 'pooled': _head_norm(self.dtype)(out['pooled'])}


def _head_norm(dtype: layers.Dtype) -> nn.LayerNorm:
  return nn.LayerNorm(epsilon=_HEAD_EPSILON, dtype=dtype, name='head_norm')


class PeVideo(nn.Module):
  """Both sides, and the learnt scale and bias of their products.

  Attributes:
    video: keyword arguments of `PeVideoEncoder`.
    text: keyword arguments of `PeTextEncoder`; its width is the dimension of
      the joint space.
    dtype: computation dtype; parameters stay float32.
  """

  video: Mapping[str, Any]
  text: Mapping[str, Any]
  dtype: layers.Dtype = jnp.float32

  def setup(self):  # noqa: D102 (flax calls it)
    self.video_encoder = PeVideoEncoder(dtype=self.dtype, **self.video)
    self.text_encoder = PeTextEncoder(dtype=self.dtype, **self.text)
    project = lambda: nn.Dense(
      self.text['width'], use_bias=False, dtype=self.dtype
    )
    self.video_projection = project()
    self.text_projection = project()
    self.logit_scale = self.param('logit_scale', nn.initializers.ones, ())
    self.logit_bias = self.param('logit_bias', nn.initializers.zeros, ())

  def __call__(
    self, video: jax.Array, ids: jax.Array, mask: jax.Array
  ) -> jax.Array:
    """Returns logits [b c]; arguments as of the methods."""
    return self.logits(self.encode_video(video), self.encode_text(ids, mask))

  def encode_video(self, video: jax.Array) -> dict[str, jax.Array]:
    """Encodes clips.

    Args:
      video: normalised clip [b t h w 3].

    Returns:
      `tokens` [b t d] of frames, `vector` [b e], and `embedding` [b e], the
      unit vector of its direction, float32.
    """
    return _in_joint_space(self.video_encoder(video), self.video_projection)

  def encode_text(
    self, ids: jax.Array, mask: jax.Array
  ) -> dict[str, jax.Array]:
    """Encodes texts.

    Args:
      ids: token ids [c l].
      mask: [c l] bool, True where real.

    Returns:
      `tokens` [c l d], `vector` [c e], and `embedding` [c e], the unit vector
      of its direction, float32.
    """
    out = self.text_encoder(ids, mask)
    return _in_joint_space(out, self.text_projection)

  def logits(
    self, video: Mapping[str, jax.Array], text: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Returns logits [b c]: products of the vectors, of whatever length."""
    products = video['vector'] @ text['vector'].T
    return products * self.logit_scale + self.logit_bias


def _in_joint_space(out, projection) -> dict[str, jax.Array]:
  """Adds what the projection makes of an encoder's outputs."""
  vector = projection(out['pooled']).astype(jnp.float32)
  embedding = layers.l2_normalise(vector)
  return {'tokens': out['tokens'], 'vector': vector, 'embedding': embedding}
