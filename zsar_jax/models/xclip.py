"""What X-CLIP adds to CLIP for videos (Ni et al. 2022).

Within the blocks of the image tower frames exchange messages: a token of each
frame, made of its class token, attends to those of the other frames and joins
its own frame for one block. At the end a small Transformer goes over the
frames' embeddings.
"""

from flax import linen as nn
import jax

from zsar_jax.models import layers


class Messages(nn.Module):
  """The messages of frames to each other, one token a frame.

  Attributes:
    num_heads: attention heads.
    norm_epsilon: added to the variance in the norm.
    dtype: computation dtype.
  """

  num_heads: int
  norm_epsilon: float
  dtype: layers.Dtype

  @nn.compact
  def __call__(self, cls: jax.Array) -> jax.Array:
    """Maps the frames' class tokens [b t d] to messages [b t d]."""
    x = nn.Dense(cls.shape[-1], dtype=self.dtype, name='dense')(cls)
    y = nn.LayerNorm(epsilon=self.norm_epsilon, dtype=self.dtype, name='norm')(
      x
    )
    attention = layers.Attention(self.num_heads, self.dtype, name='attention')
    return x + attention(y)


class FrameIntegration(nn.Module):
  """A Transformer over the embeddings of a clip's frames.

  Attributes:
    num_frames: of a clip.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    activation: of the MLPs, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    dtype: computation dtype.
  """

  num_frames: int
  depth: int
  num_heads: int
  mlp_dim: int
  activation: str
  norm_epsilon: float
  dtype: layers.Dtype

  @nn.compact
  def __call__(self, frames: jax.Array) -> jax.Array:
    """Maps embeddings of frames [b t d] to the clip's [b d].

    Raises:
      ValueError: a clip of another length.
    """
    _, t, d = frames.shape
    if t != self.num_frames:
      raise ValueError(
        f'a clip of {t} frames for an encoder of {self.num_frames}'
      )
    x = frames + layers.embedding_table(self, 'position', t, d)
    for i in range(self.depth):
      x = layers.PreNormBlock(
        self.num_heads,
        self.mlp_dim,
        activation=self.activation,
        norm_epsilon=self.norm_epsilon,
        dtype=self.dtype,
        name=f'block_{i}',
      )(x)
    return (x + frames).mean(axis=1)
