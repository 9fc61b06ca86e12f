"""BERT-type text encoder (Devlin et al. 2019), and MPNet (Song et al. 2020).

Input: token ids [c l] int32 and mask [c l] bool, True where real. Output: a
dict with `tokens` [c l d] and `pooled` [c d], not normalised.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.models import layers

POOLINGS = ('mean', 'cls')


def word_rows(vocabulary_size: int) -> int:
  """Returns rows of a word table: a multiple of 128, to divide over devices."""
  return -(-vocabulary_size // 128) * 128


def relative_buckets(length: int, buckets: int) -> np.ndarray:
  """Numbers how far tokens are apart, as T5 does (Raffel et al. 2020).

  Half of the numbers are for tokens behind, half for those ahead. Of each half
  the first are single distances, the others ranges that grow up to 128.

  Args:
    length: tokens.
    buckets: different numbers, a multiple of 4.

  Returns:
    int32 [query key], below `buckets`.
  """
  ahead = np.arange(length)[None, :] - np.arange(length)[:, None]
  half, exact = buckets // 2, buckets // 4
  far = np.abs(ahead)
  ranges = np.log(np.maximum(far, 1) / exact) / np.log(128 / exact)
  ranges = exact + (ranges * (half - exact)).astype(np.int32)
  number = np.where(far < exact, far, np.minimum(ranges, half - 1))
  return (number + half * (ahead > 0)).astype(np.int32)


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
    relative: numbers of `relative_buckets`, each with a learnt bias for every
      head that all blocks share, as MPNet has it in place of a type table; 0
      for none, as BERT.
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
  relative: int = 0
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
    bias = None
    if self.relative:
      numbers = relative_buckets(ids.shape[1], self.relative)
      biases = layers.embedding_table(
        self, 'relative', self.relative, self.num_heads
      )
      bias = biases[numbers].transpose(2, 0, 1)[None]
    else:
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
      )(x, mask[:, None, None, :], deterministic, bias)
    if self.pooling == 'cls':
      pooled = x[:, 0]
    else:
      pooled = layers.masked_mean(x, mask)
    return {'tokens': x, 'pooled': pooled}
