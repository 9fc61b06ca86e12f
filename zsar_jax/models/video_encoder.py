"""ViT over tubelets with joint space-time attention.

Input: a normalised clip [b t h w c]. Output: a dict with `tokens` [b n d]
(and the cls token in front of them where pooling is 'cls') and `pooled`
[b d], not normalised.

  encoder = VideoEncoder(width=128, depth=3, num_heads=4, mlp_dim=512,
                         tubelet_size=(2, 8, 8))
  params = encoder.init(key, jnp.zeros((1, 8, 48, 48, 3)))
  out = encoder.apply(params, clip)
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers, tubelets

POOLINGS = ('mean', 'cls')


class VideoEncoder(nn.Module):
  """Tubelet ViT; model 1 of ViViT (Arnab et al. 2021).

  Attributes:
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    tubelet_size: (t, h, w).
    pooling: 'mean' over tokens, or 'cls'.
    dropout_rate: on embeddings and every residual branch.
    dtype: computation dtype.
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  tubelet_size: tuple[int, int, int]
  pooling: str = 'mean'
  dropout_rate: float = 0.0
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes a clip; see the module docstring."""
    if self.pooling not in POOLINGS:
      raise ValueError(f'pooling {self.pooling!r} is not one of {POOLINGS}')
    x = tubelets.TubeletEmbed(
      self.tubelet_size, self.width, self.dtype, name='tubelet_embed'
    )(video)
    b, t, h, w, d = x.shape
    # Separable positions: h*w + t vectors instead of t*h*w, and each part
    # can be resampled to another resolution or length on its own.
    space = layers.embedding_table(self, 'space_position', h, w, d)
    time = layers.embedding_table(self, 'time_position', t, d)
    x = x + (space[None] + time[:, None, None]).astype(x.dtype)
    x = x.reshape(b, t * h * w, d)
    if self.pooling == 'cls':
      cls = layers.embedding_table(self, 'cls', 1, d).astype(x.dtype)
      x = jnp.concatenate([jnp.tile(cls[None], (b, 1, 1)), x], axis=1)
    x = nn.Dropout(self.dropout_rate)(x, deterministic)
    for i in range(self.depth):
      x = layers.PreNormBlock(
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        dtype=self.dtype,
        name=f'block_{i}',
      )(x, deterministic=deterministic)
    x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='norm')(x)
    pooled = x[:, 0] if self.pooling == 'cls' else x.mean(axis=1)
    return {'tokens': x, 'pooled': pooled}
