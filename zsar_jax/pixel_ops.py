"""Pixel work done on the device: clips travel there as uint8."""

import jax
import jax.numpy as jnp

# ITU-R BT.601 luma.
_LUMA = (0.299, 0.587, 0.114)


def num_channels(inputs: str) -> int:
  """Channels of `to_inputs` for this kind of inputs."""
  return {'rgb': 3, 'rgb+difference': 6, 'grey+difference': 2}[inputs]


def to_inputs(
  clip: jax.Array,
  mean: tuple[float, float, float],
  std: tuple[float, float, float],
  inputs: str = 'rgb',
) -> jax.Array:
  """Normalises a clip and, if asked, adds frame differences as channels.

  A difference is a frame less the one before it; the first frame's is zero.
  It shows motion to a small model before attention has learnt to compare
  frames.

  Args:
    clip: uint8 [... t h w 3], values in [0, 255].
    mean: per channel, of pixels in [0, 1].
    std: per channel.
    inputs: 'rgb' (3 channels), 'rgb+difference' (6) or 'grey+difference'
      (2: luma of the normalised colours).

  Returns:
    float32 [... t h w c].
  """
  x = clip.astype(jnp.float32) / 255.0
  x = (x - jnp.asarray(mean)) / jnp.asarray(std)
  if inputs == 'rgb':
    return x
  if inputs == 'grey+difference':
    # A sum of products, not a matmul: exact on every accelerator.
    x = (x * jnp.asarray(_LUMA)).sum(-1, keepdims=True)
  difference = jnp.diff(x, axis=-4, prepend=x[..., :1, :, :, :])
  return jnp.concatenate([x, difference], axis=-1)
