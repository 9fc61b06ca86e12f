"""VideoPrism with a text side: a dual encoder of whole clips.

The model LvT of Zhao et al. 2024 as transformers' VideoPrismClipModel runs it.
Attention sees the places of a frame, then the frames of a place, then all
tokens, and a learnt query pools them:

  model = VideoPrism(video=dict(...), text=dict(...))
  video = model.apply({'params': params}, clip, method='encode_video')
  text = model.apply({'params': params}, ids, mask, method='encode_text')
  cosines = video['embedding'] @ text['embedding'].T
"""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.models import layers, text_encoder, tubelets


class _Stack(nn.Module):
  """Pre-norm blocks whose attention logits are capped.

  Learnt positions come before them and a norm after them, if asked.
  """

  depth: int
  num_heads: int
  mlp_dim: int
  activation: str
  softcap: float
  norm: bool
  dtype: layers.Dtype
  position: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    if self.position:
      table = layers.embedding_table(self, 'position', *x.shape[1:])
      x = x + table.astype(x.dtype)
    for i in range(self.depth):
      x = layers.PreNormBlock(
        self.num_heads,
        self.mlp_dim,
        activation=self.activation,
        softcap=self.softcap,
        dtype=self.dtype,
        name=f'block_{i}',
      )(x, mask)
    return _norm(self.dtype, 'norm')(x) if self.norm else x


def _norm(dtype: layers.Dtype, name: str) -> nn.LayerNorm:
  return nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=name)


class _Pool(nn.Module):
  """A learnt query that attends to tokens, and a norm."""

  num_heads: int
  inner_width: int
  dtype: layers.Dtype

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps tokens [b n d] to [b d]."""
    b, _, d = tokens.shape
    query = layers.embedding_table(self, 'query', 1, d).astype(tokens.dtype)
    pooled = layers.Attention(
      self.num_heads,
      self.dtype,
      inner_width=self.inner_width,
      name='attention',
    )(jnp.broadcast_to(query, (b, 1, d)), tokens)
    return _norm(self.dtype, 'norm')(pooled)[:, 0]


class VideoPrismVideoEncoder(nn.Module):
  """Blocks over space, over time and over both, and a pool.

  Attributes:
    width: dimension of a token.
    depth: numbers of blocks over space, time and both.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers, and of the pool's heads together.
    tubelet_size: (t, h, w).
    softcap: see `attention.attend`; the pool has none.
    dtype: computation dtype.
  """

  width: int
  depth: tuple[int, int, int]
  num_heads: int
  mlp_dim: int
  tubelet_size: tuple[int, int, int]
  softcap: float
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Maps a clip [b t h w 3] to `tokens` [b n d] and `pooled` [b d]."""
    del deterministic  # nothing here is random

    def stack(name, depth, alone):
      return _Stack(
        depth,
        self.num_heads,
        self.mlp_dim,
        'gelu',
        self.softcap,
        alone,
        self.dtype,
        position=alone,
        name=name,
      )

    x = tubelets.TubeletEmbed(
      tuple(self.tubelet_size), self.width, self.dtype, name='tubelet_embed'
    )(video)
    b, t, h, w, d = x.shape
    n = h * w
    x = stack('space', self.depth[0], True)(x.reshape(b * t, n, d))
    x = x.reshape(b, t, n, d).swapaxes(1, 2).reshape(b * n, t, d)
    x = stack('time', self.depth[1], True)(x)
    x = x.reshape(b, n, t, d).swapaxes(1, 2).reshape(b, t * n, d)
    x = stack('both', self.depth[2], False)(x)
    pool = _Pool(self.num_heads, self.mlp_dim, self.dtype, name='pool')
    return {'tokens': x, 'pooled': pool(x)}


class VideoPrismTextEncoder(nn.Module):
  """Causal blocks over word pieces and a class token behind them.

  Attributes:
    vocabulary_size: rows of the word table that have a meaning; the table
      has `text_encoder.word_rows` of them.
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    max_length: the longest text in tokens.
    softcap: see `attention.attend`.
    dtype: computation dtype.
  """

  vocabulary_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  max_length: int
  softcap: float
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, ids: jax.Array, mask: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Maps ids and mask [c l] to `tokens` [c l d] and `pooled` [c d].

    The class token, which is pooled, is not among the tokens.
    """
    del deterministic  # nothing here is random
    rows = text_encoder.word_rows(self.vocabulary_size)
    words = layers.embedding_table(self, 'word', rows, self.width)[ids]
    cls = layers.embedding_table(self, 'cls', 1, self.width)
    cls = jnp.broadcast_to(cls, (len(ids), 1, self.width))
    scale = self.width**0.5
    x = words * scale + _positions(ids.shape[1], self.width)
    x = jnp.concatenate([x, cls * scale], axis=1).astype(self.dtype)
    mask = jnp.pad(mask, ((0, 0), (0, 1)), constant_values=True)
    causal = jnp.tril(jnp.ones((mask.shape[1],) * 2, bool))
    x = _Stack(
      self.depth,
      self.num_heads,
      self.mlp_dim,
      'relu',
      self.softcap,
      True,
      self.dtype,
      name='stack',
    )(x, causal[None, None] & mask[:, None, None, :])
    return {'tokens': x[:, :-1], 'pooled': x[:, -1]}


def _positions(length: int, width: int) -> np.ndarray:
  """The fixed table [l d] of Vaswani et al. 2017: all sines, all cosines."""
  frequency = 10000.0 ** (-np.arange(0, width, 2) / width)
  angle = np.arange(length)[:, None] * frequency
  table = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
  return table.astype(np.float32)


class VideoPrism(nn.Module):
  """Both encoders.

  Attributes:
    video: keyword arguments of `VideoPrismVideoEncoder`.
    text: keyword arguments of `VideoPrismTextEncoder`.
    dtype: computation dtype; parameters stay float32.
  """

  video: Mapping[str, Any]
  text: Mapping[str, Any]
  dtype: layers.Dtype = jnp.float32

  def setup(self):  # noqa: D102 (flax calls it)
    self.video_encoder = VideoPrismVideoEncoder(dtype=self.dtype, **self.video)
    self.text_encoder = VideoPrismTextEncoder(dtype=self.dtype, **self.text)

  def __call__(
    self, video: jax.Array, ids: jax.Array, mask: jax.Array
  ) -> dict[str, Any]:
    """Touches every parameter once; arguments as of the methods."""
    return {
      'video': self.encode_video(video),
      'text': self.encode_text(ids, mask),
    }

  def encode_video(self, video: jax.Array) -> dict[str, jax.Array]:
    """Encodes clips.

    Args:
      video: pixels in [0, 1] [b t h w 3], of the size of the training.

    Returns:
      The encoder's outputs and `embedding` [b d], unit vectors, float32.
    """
    out = self.video_encoder(video)
    return {**out, 'embedding': layers.l2_normalise(out['pooled'])}

  def encode_text(
    self, ids: jax.Array, mask: jax.Array
  ) -> dict[str, jax.Array]:
    """Encodes texts.

    Args:
      ids: token ids [c l].
      mask: [c l] bool.

    Returns:
      The encoder's outputs and `embedding` [c d], unit vectors, float32.
    """
    out = self.text_encoder(ids, mask)
    return {**out, 'embedding': layers.l2_normalise(out['pooled'])}
