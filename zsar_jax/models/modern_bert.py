"""ModernBERT text encoder (Warner et al. 2024).

Input: token ids [c l] int32 and mask [c l] bool, True where real. Output: a
dict with `tokens` [c l d] and `pooled` [c d], the first token.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.models import gated_blocks, layers, positions, text_encoder


class ModernBert(nn.Module):
  """Word embeddings, then pre-norm blocks with rotary positions.

  Attributes:
    vocabulary_size: number of tokens. The word table has
      `text_encoder.word_rows` of this many rows.
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    max_length: the longest text in tokens.
    everywhere: for each block, whether tokens attend to all others; else to
      those at most `reach` away.
    reach: tokens to either side.
    theta: of the rotary positions, of blocks that attend everywhere and of
      the others; see `positions.line_angles`.
    activation: of the MLPs, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    dtype: computation dtype.
  """

  vocabulary_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  max_length: int
  everywhere: tuple[bool, ...]
  reach: int
  theta: tuple[float, float]
  activation: str = 'gelu'
  norm_epsilon: float = 1e-5
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, ids: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Encodes texts; see the module docstring."""
    length = ids.shape[1]
    norm = lambda name: gated_blocks.norm(
      'layer', self.norm_epsilon, self.dtype, name
    )
    words = text_encoder.word_rows(self.vocabulary_size)
    x = layers.embedding_table(self, 'word', words, self.width)[ids]
    x = norm('embed_norm')(x)
    all_real = mask[:, None, None, :]
    apart = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    angles = [
      positions.line_angles(length, self.width // self.num_heads, theta)
      for theta in self.theta
    ]
    for i in range(self.depth):
      whole = self.everywhere[i]
      x = gated_blocks.GatedBlock(
        self.num_heads,
        self.mlp_dim,
        self.activation,
        'layer',
        self.norm_epsilon,
        # The embeddings were normalised just now.
        normalise_first=i > 0,
        dtype=self.dtype,
        name=f'block_{i}',
      )(
        x,
        all_real if whole else all_real & (apart <= self.reach),
        angles[0] if whole else angles[1],
      )
    x = norm('norm')(x)
    return {'tokens': x, 'pooled': x[:, 0]}
