"""Cross-modal Transformer: does this video show this class name?

The tokens of one side are queries, and those of the other are keys and values.
By default the class name queries: in every block its tokens attend to each
other and then to the video. If the video queries, its tokens attend to the name
alone. They attended to each other in the encoder, and to do so again for every
name would cost n^2 a pair. The match logit is read from the query side, or from
both sides together. The paper does not publish its fusion; sides, projections
and read-out are our choice.

A call needs memory for all its (video, name) pairs: b*c*l*d tokens if the text
queries, and b*c*n*d if the video does. Callers with hundreds of names pass them
in chunks, which changes no logit.
"""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers
from zsar_jax.parallel import sharding

QUERY_SIDES = ('text', 'video', 'both')


class CrossBlock(nn.Module):
  """Pre-norm block of cross-attention and MLP.

  Attributes:
    num_heads: attention heads.
    mlp_dim: width of the hidden layer.
    dropout_rate: on every residual branch.
    dtype: computation dtype.
  """

  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.0
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    context: jax.Array,
    context_mask: jax.Array | None = None,
    deterministic: bool = True,
  ) -> jax.Array:
    """Maps tokens [b n d] to tokens [b n d].

    Args:
      x: query tokens.
      context: tokens [b m e] to attend to.
      context_mask: bool [b m], True where real; None if all are.
      deterministic: False turns dropout on.

    Returns:
      Tokens of the same shape.
    """
    norm = functools.partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
    drop = nn.Dropout(self.dropout_rate)
    mask = None if context_mask is None else context_mask[:, None, None]
    y = layers.Attention(self.num_heads, self.dtype, name='cross_attention')(
      norm(name='cross_attention_norm')(x), context, mask=mask
    )
    x = x + drop(y, deterministic)
    mlp = layers.Mlp(
      self.mlp_dim,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      name='mlp',
    )
    y = mlp(norm(name='mlp_norm')(x), deterministic)
    return x + drop(y, deterministic)


class CrossModalTransformer(nn.Module):
  """Scores (video, class name) pairs.

  Attributes:
    width: dimension of the fused tokens.
    depth: number of blocks of each query side.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    query_side: the side that queries, one of QUERY_SIDES. 'both' runs two
      stacks, each on the other side's projected tokens, and joins their
      read-outs.
    shared_projection: whether both sides share one projection into the fused
      width. Their tokens must then be equally wide.
    dropout_rate: on every residual branch.
    dtype: computation dtype.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  query_side: str = 'text'
  shared_projection: bool = False
  dropout_rate: float = 0.0
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    video_tokens: jax.Array,
    text_tokens: jax.Array,
    text_mask: jax.Array,
    deterministic: bool = True,
  ) -> jax.Array:
    """Computes match logits of each video with each of its candidate names.

    Args:
      video_tokens: [b n d].
      text_tokens: [b c l e]: c candidate names for each video.
      text_mask: bool [b c l], True where a token is real.
      deterministic: False turns dropout on.

    Returns:
      Match logits [b c], float32.

    Raises:
      ValueError: the query side is unknown, or a projection is shared between
        tokens of different widths.
    """
    if self.query_side not in QUERY_SIDES:
      raise ValueError(
        f'query_side {self.query_side!r} is not one of {QUERY_SIDES}'
      )
    b, c = text_mask.shape[:2]
    video, text = self._project(
      sharding.constrain_batch(video_tokens),
      sharding.constrain_batch(text_tokens),
    )
    read = []
    if self.query_side != 'video':
      read.append(self._text_asks(video, text, text_mask, deterministic))
    if self.query_side != 'text':
      read.append(self._video_asks(video, text, text_mask, deterministic))
    read = jnp.concatenate(read, axis=-1).astype(jnp.float32)
    logit = nn.Dense(1, dtype=jnp.float32, name='match')(read)
    return logit.reshape(b, c)

  def _project(self, video: jax.Array, text: jax.Array):
    """Projects both sides to the fused width: [b n width] and [b c l width]."""
    dense = lambda name: nn.Dense(self.width, dtype=self.dtype, name=name)
    if not self.shared_projection:
      return dense('video_projection')(video), dense('text_projection')(text)
    if video.shape[-1] != text.shape[-1]:
      raise ValueError(
        f'shared_projection needs tokens of one width, got video '
        f'{video.shape[-1]} and text {text.shape[-1]}'
      )
    shared = dense('projection')
    return shared(video), shared(text)

  def _norm(self, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name)

  def _block(self, name: str) -> CrossBlock:
    return CrossBlock(
      self.num_heads, self.mlp_dim, self.dropout_rate, self.dtype, name=name
    )

  def _text_asks(self, video, text, text_mask, deterministic) -> jax.Array:
    """Reads out the names' tokens, [b*c width]."""
    b, c, length, _ = text.shape
    video = self._norm('video_norm')(video)
    x = text.reshape(b * c, length, self.width)
    mask = text_mask.reshape(b * c, length)
    drop = nn.Dropout(self.dropout_rate)
    for i in range(self.depth):
      y = layers.Attention(
        self.num_heads, self.dtype, name=f'text_attention_{i}'
      )(self._norm(f'text_attention_norm_{i}')(x), mask=mask[:, None, None])
      x = x + drop(y, deterministic)
      # Cross-attention treats each query alone. So the names of one video
      # stand side by side, and its keys and values are computed once.
      x = sharding.constrain_batch(x.reshape(b, c * length, self.width))
      x = self._block(f'block_{i}')(x, video, deterministic=deterministic)
      x = sharding.constrain_batch(x).reshape(b * c, length, self.width)
    return layers.masked_mean(self._norm('norm')(x), mask)

  def _video_asks(self, video, text, text_mask, deterministic) -> jax.Array:
    """Reads out the video's tokens, [b*c width]."""
    b, c, length, _ = text.shape
    text = self._norm('text_norm')(text).reshape(b * c, length, self.width)
    mask = text_mask.reshape(b * c, length)
    x = jnp.repeat(video, c, axis=0)  # each pair's own copy
    for i in range(self.depth):
      x = self._block(f'video_block_{i}')(x, text, mask, deterministic)
    return self._norm('video_read_norm')(x).mean(axis=1)
