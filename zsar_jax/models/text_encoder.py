"""BERT-type text encoder (Devlin et al. 2019).

Input: token ids [c l] int32 and mask [c l] bool, True where real. Output: a
dict with `tokens` [c l d] and `pooled` [c d], not normalised.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers

POOLINGS = ('mean', 'cls')


def word_rows(vocabulary_size: int) -> int:
  """Returns rows of a word table: a multiple of 128, to divide over devices."""
  return -(-vocabulary_size // 128) * 128


class TextEncoder(nn.Module):
  """Word, position and type embeddings, then post-norm blocks.

  Attributes:
    vocabulary_size: number of tokens. The word table has `word_rows` of this
      many rows.
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    max_length: the longest name in tokens.
    pooling: 'mean' over real tokens, or 'cls'.
    activation: of the MLPs, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    dropout_rate: on embeddings and every residual branch.
    dtype: computation dtype.
  """

  vocabulary_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  max_length: int
  pooling: str = 'mean'
  activation: str = 'gelu'
  norm_epsilon: float = 1e-12
  dropout_rate: float = 0.0
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, ids: jax.Array, mask: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes class names; see the module docstring."""
    if self.pooling not in POOLINGS:
      raise ValueError(f'pooling {self.pooling!r} is not one of {POOLINGS}')
    table = lambda name, n: layers.embedding_table(self, name, n, self.width)
    x = table('word', word_rows(self.vocabulary_size))[ids]
    x = x + table('position', self.max_length)[: ids.shape[1]]
    # Names are single sentences, so the type is always 0. Its table stays,
    # because BERT weights have it.
    x = x + table('token_type', 2)[0]
    x = nn.LayerNorm(
      epsilon=self.norm_epsilon, dtype=self.dtype, name='embed_norm'
    )(x)
    x = nn.Dropout(self.dropout_rate)(x, deterministic)
    for i in range(self.depth):
      x = layers.PostNormBlock(
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        activation=self.activation,
        norm_epsilon=self.norm_epsilon,
        dtype=self.dtype,
        name=f'block_{i}',
      )(x, mask[:, None, None, :], deterministic)
    if self.pooling == 'cls':
      pooled = x[:, 0]
    else:
      pooled = layers.masked_mean(x, mask)
    return {'tokens': x, 'pooled': pooled}
