"""V-JEPA 2 with the pooler of its classifiers (Assran et al. 2025).

```python
model = VJepa2(width=1024, ..., positions='rotary', pool_depth=3)
out = model.apply({'params': params}, clip)  # tokens [b n d], pooled [b d]
```

The encoder is a `VideoEncoder` with rotary positions. The pooler is a small
Transformer over its tokens, and a learnt query that attends to the result.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers, video_encoder

# The pooler's MLPs are that much wider than its tokens.
_MLP_RATIO = 4


class AttentivePooler(nn.Module):
  """Pools tokens: blocks of self-attention, then a query that attends.

  Attributes:
    depth: blocks of self-attention.
    num_heads: attention heads.
    activation: of the MLPs, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    dtype: computation dtype.
  """

  depth: int
  num_heads: int
  activation: str = 'gelu'
  norm_epsilon: float = 1e-6
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps tokens [b n d] to their pooled vectors [b d]."""
    b, _, d = tokens.shape
    norm = lambda name: nn.LayerNorm(
      epsilon=self.norm_epsilon, dtype=self.dtype, name=name
    )
    for i in range(self.depth):
      tokens = layers.PreNormBlock(
        self.num_heads,
        _MLP_RATIO * d,
        activation=self.activation,
        norm_epsilon=self.norm_epsilon,
        dtype=self.dtype,
        name=f'block_{i}',
      )(tokens)
    query = layers.embedding_table(self, 'query', 1, d).astype(tokens.dtype)
    query = jnp.broadcast_to(query, (b, 1, d))
    # The query itself has no norm, and no dense layer follows the heads.
    x = query + layers.Attention(
      self.num_heads, self.dtype, project=False, name='cross_attention'
    )(query, norm('cross_attention_norm')(tokens))
    mlp = layers.Mlp(
      _MLP_RATIO * d, self.activation, dtype=self.dtype, name='mlp'
    )
    return (x + mlp(norm('mlp_norm')(x)))[:, 0]


class VJepa2(video_encoder.VideoEncoder, kw_only=True):
  """Encoder and pooler.

  Attributes: those of `VideoEncoder`, and
    pool_depth: blocks of the pooler.
  """

  pool_depth: int

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes clips.

    Args:
      video: normalised clip [b t h w 3].
      deterministic: False turns dropout on, in the encoder.

    Returns:
      `tokens` [b n d] after the encoder's last norm, and `pooled` [b d], what
      the classifier's last layer reads.
    """
    tokens = super().__call__(video, deterministic)['tokens']
    pooled = AttentivePooler(
      self.pool_depth,
      self.num_heads,
      self.activation,
      self.norm_epsilon,
      self.dtype,
      name='pooler',
    )(tokens)
    return {'tokens': tokens, 'pooled': pooled}
