"""Turns video pixels into tokens: non-overlapping space-time patches.

A convolution whose stride equals its kernel is a reshape and one matrix
product. In this form it runs as fast, and its kernel is easy to inflate. The
idea is tubelet embedding in ViViT (Arnab et al. 2021).
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers
from zsar_jax.parallel import sharding


def token_grid(
  video_shape: tuple[int, int, int], tubelet_size: tuple[int, int, int]
) -> tuple[int, int, int]:
  """Returns the number of tubelets along (t, h, w).

  Args:
    video_shape: frames, height and width of a clip.
    tubelet_size: frames, height and width of a tubelet.

  Returns:
    Tubelets along each axis.

  Raises:
    ValueError: a size of the tubelet does not divide the clip's.
  """
  for axis, size, patch in zip(
    ('frames', 'height', 'width'), video_shape, tubelet_size, strict=True
  ):
    if size % patch:
      raise ValueError(
        f'tubelet_size {tuple(tubelet_size)} does not divide the clip '
        f'{tuple(video_shape)} (t, h, w): {axis} {size} % {patch} != 0'
      )
  return tuple(s // p for s, p in zip(video_shape, tubelet_size, strict=True))


class TubeletEmbed(nn.Module):
  """Embeds each tubelet of a clip.

  Attributes:
    tubelet_size: (t, h, w) of a tubelet.
    width: dimension of a token.
    dtype: computation dtype.
    use_bias: whether a learnt vector is added to every token.
  """

  tubelet_size: tuple[int, int, int]
  width: int
  dtype: layers.Dtype = jnp.float32
  use_bias: bool = True

  @nn.compact
  def __call__(self, video: jax.Array) -> jax.Array:
    """Maps a clip [b t h w c] to tokens on their grid [b t' h' w' d]."""
    b, t, h, w, c = video.shape
    pt, ph, pw = self.tubelet_size
    gt, gh, gw = token_grid((t, h, w), self.tubelet_size)
    x = video.reshape(b, gt, pt, gh, ph, gw, pw, c)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    x = sharding.constrain_batch(x.reshape(b, gt, gh, gw, pt * ph * pw * c))
    x = nn.Dense(
      self.width,
      use_bias=self.use_bias,
      dtype=self.dtype,
      kernel_init=nn.initializers.lecun_normal(),
      name='projection',
    )(x)
    return sharding.constrain_batch(x)
