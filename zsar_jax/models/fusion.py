"""Cross-modal Transformer: does this video show this class name?

The class name's tokens ask, the video's tokens answer: every block lets the
text tokens attend to each other and then to the video. The match logit is
read off the text side. The paper does not publish its fusion; the side that
queries and the read-out are our choice.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers


class CrossModalTransformer(nn.Module):
  """Scores (video, class name) pairs.

  Attributes:
    width: dimension of the fused tokens.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    dropout_rate: on every residual branch.
    dtype: computation dtype.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
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
    """Match logits of each video with each of its candidate names.

    Args:
      video_tokens: [b n d].
      text_tokens: [b c l e]: c candidate names for each video.
      text_mask: bool [b c l], True where a token is real.
      deterministic: False turns dropout on.

    Returns:
      Match logits [b c], float32.
    """
    b, c, length, _ = text_tokens.shape
    norm = lambda name: nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name)
    dense = lambda name: nn.Dense(self.width, dtype=self.dtype, name=name)
    video = norm('video_norm')(dense('video_projection')(video_tokens))
    x = dense('text_projection')(text_tokens).reshape(b * c, length, self.width)
    mask = text_mask.reshape(b * c, 1, 1, length)
    kwargs = dict(
      num_heads=self.num_heads,
      mlp_dim=self.mlp_dim,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
    )
    drop = nn.Dropout(self.dropout_rate)
    for i in range(self.depth):
      y = layers.Attention(
        self.num_heads, self.dtype, name=f'text_attention_{i}'
      )(norm(f'text_attention_norm_{i}')(x), mask=mask)
      x = x + drop(y, deterministic)
      # Cross-attention treats each query alone, so the names of one video
      # can stand side by side: its keys and values are computed once.
      x = x.reshape(b, c * length, self.width)
      x = layers.PreNormBlock(
        self_attention=False, name=f'block_{i}', **kwargs
      )(x, context=video, deterministic=deterministic)
      x = x.reshape(b * c, length, self.width)
    x = norm('norm')(x)
    pooled = layers.masked_mean(x, mask[:, 0, 0])
    logit = nn.Dense(1, dtype=jnp.float32, name='match')(
      pooled.astype(jnp.float32)
    )
    return logit.reshape(b, c)
