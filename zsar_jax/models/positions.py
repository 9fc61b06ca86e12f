"""Position tables: fixed ones, and resampling to other lengths."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def sincos(length: int, width: int) -> np.ndarray:
  """Returns the fixed sine and cosine table of Vaswani et al. 2017.

  Sines and cosines alternate along the width. Tubelets count as one sequence.
  These are VideoMAE's positions (Tong et al. 2022).

  Args:
    length: number of positions.
    width: dimension of a token, even.

  Returns:
    float32 [length width].

  Raises:
    ValueError: the width is odd.
  """
  if width % 2:
    raise ValueError(f'sin-cos positions need an even width, got {width}')
  frequency = 10000.0 ** (-np.arange(0, width, 2) / width)
  angle = np.arange(length)[:, None] * frequency
  table = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
  return table.reshape(length, width).astype(np.float32)


def resample(
  table: jax.typing.ArrayLike, shape: Sequence[int]
) -> jax.typing.ArrayLike:
  """Resamples a grid of positions to another length or resolution.

  It is linear along each axis, and smooths if an axis shrinks
  (`jax.image.resize`). A table that has the shape already does not change.

  Args:
    table: [... d], such as [h w d] or [t d].
    shape: the wanted axes before d.

  Returns:
    [*shape d].

  Raises:
    ValueError: the number of axes differs.
  """
  wanted = (*shape, table.shape[-1])
  if len(wanted) != table.ndim:
    raise ValueError(
      f'positions of shape {table.shape} cannot be resampled to {tuple(shape)}'
    )
  if table.shape == wanted:
    return table
  return jax.image.resize(jnp.asarray(table), wanted, method='linear')


def rotary_angles(grid: Sequence[int], width: int) -> np.ndarray:
  """Returns the angles of rotary positions along time, height and width.

  V-JEPA 2's (Assran et al. 2025): a third of a head's channels turn with each
  axis (RoPE, Su et al. 2021), and what a third leaves over does not turn. The
  frequencies follow each other twice along a third, while neighbouring
  channels make a pair, as the published weights were trained.

  Args:
    grid: tubelets along (t, h, w).
    width: channels of a head.

  Returns:
    float32 [t*h*w width], in radians.
  """
  part = width // len(grid) // 2 * 2
  frequency = 10000.0 ** (-np.arange(part // 2) / (part / 2))
  frequency = np.tile(frequency, 2)
  places = np.indices(grid).reshape(len(grid), -1)
  angles = [place[:, None] * frequency for place in places]
  still = np.zeros((places.shape[1], width - len(grid) * part))
  return np.concatenate([*angles, still], axis=1).astype(np.float32)


def line_angles(length: int, width: int, theta: float) -> np.ndarray:
  """Returns the angles of rotary positions along a sequence (Su et al. 2021).

  Args:
    length: tokens.
    width: channels of a head, even. Neighbouring channels make a pair.
    theta: pair i turns by theta^(-2i / width) from one token to the next.

  Returns:
    float32 [length width], in radians.
  """
  frequency = np.repeat(theta ** (-np.arange(0, width, 2) / width), 2)
  return (np.arange(length)[:, None] * frequency).astype(np.float32)


def plane_angles(
  grid: Sequence[int], width: int, reference: Sequence[int], offset: int
) -> np.ndarray:
  """Returns the angles of rotary positions along width and height.

  Those of the Perception Encoder (Bolya et al. 2025): the first half of a
  head's channels turns with the column, the second with the row.

  Args:
    grid: patches along (h, w).
    width: channels of a head, a multiple of 4.
    reference: the grid of the training; places are scaled to it.
    offset: number of the first place.

  Returns:
    float32 [h*w width], in radians.
  """
  frequency = np.repeat(
    10000.0 ** (-np.arange(0, width // 2, 2) * 2 / width), 2
  )
  scaled = [
    (np.arange(n) + offset) / n * r
    for n, r in zip(grid, reference, strict=True)
  ]
  rows, columns = np.meshgrid(*scaled, indexing='ij')
  halves = [x.reshape(-1, 1) * frequency for x in (columns, rows)]
  return np.concatenate(halves, axis=1).astype(np.float32)


def rotate(x: jax.Array, angles: jax.typing.ArrayLike) -> jax.Array:
  """Turns pairs of channels.

  Args:
    x: queries or keys [b n h k].
    angles: from `rotary_angles` [n k].

  Returns:
    [b n h k].
  """
  cos, sin = (f(angles)[:, None].astype(x.dtype) for f in (np.cos, np.sin))
  pairs = x.reshape(*x.shape[:-1], -1, 2)
  turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1)
  return x * cos + turned.reshape(x.shape) * sin
