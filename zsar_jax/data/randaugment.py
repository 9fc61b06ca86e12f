"""RandAugment for clips, after Cubuk et al. 2020.

Operations are drawn from a list with equal chance and applied one after the
other. All have the same magnitude, the one number to tune. All frames of a clip
get the same operations with the same strengths, because a change from frame to
frame would be motion.

Mirroring is not in the list (see `class_names.has_side`). Rotations are small,
because up and down mean something in a video.
"""

from collections.abc import Callable
import functools

import cv2
import numpy as np

MAX_MAGNITUDE = 10.0
# Colour of what an operation moves into the picture: mid grey.
_FILL = (128, 128, 128)


def randaugment(
  clip: np.ndarray,
  rng: np.random.Generator,
  layers: int,
  magnitude: float,
) -> np.ndarray:
  """Applies random operations to a clip.

  Args:
    clip: uint8 [t, h, w, 3].
    rng: source of randomness.
    layers: number of operations; 0 leaves the clip as it is.
    magnitude: strength, from 0 (none) to 10.

  Returns:
    uint8 [t, h, w, 3].

  Raises:
    ValueError: negative layers, or a magnitude outside [0, 10].
  """
  if layers < 0:
    raise ValueError(f'randaugment_layers={layers} is negative')
  if not 0 <= magnitude <= MAX_MAGNITUDE:
    raise ValueError(
      f'randaugment_magnitude={magnitude} is not in [0, {MAX_MAGNITUDE:g}]'
    )
  names = list(OPERATIONS)
  for _ in range(layers):
    operation = OPERATIONS[names[rng.integers(len(names))]]
    sign = 1 if rng.random() < 0.5 else -1
    clip = operation(clip, sign * magnitude / MAX_MAGNITUDE)
  return clip


def _lookup(clip: np.ndarray, table: np.ndarray) -> np.ndarray:
  """Maps every value by a table of 256."""
  return cv2.LUT(clip, np.clip(np.round(table), 0, 255).astype(np.uint8))


def _warp(clip: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Moves pixels by an affine map about the middle of the frame."""
  h, w = clip.shape[1:3]
  middle = np.array([(w - 1) / 2, (h - 1) / 2])
  matrix = np.asarray(matrix, float)
  matrix[:, 2] += middle - matrix[:, :2] @ middle
  warp = functools.partial(
    cv2.warpAffine,
    M=matrix,
    dsize=(w, h),
    flags=cv2.INTER_LINEAR,
    borderValue=_FILL,
  )
  return np.stack([warp(frame) for frame in clip])


def _rotate(clip: np.ndarray, strength: float) -> np.ndarray:
  angle = np.deg2rad(30 * strength)
  cos, sin = np.cos(angle), np.sin(angle)
  return _warp(clip, np.array([[cos, sin, 0.0], [-sin, cos, 0.0]]))


def _shear_x(clip: np.ndarray, strength: float) -> np.ndarray:
  return _warp(clip, np.array([[1.0, 0.3 * strength, 0.0], [0.0, 1.0, 0.0]]))


def _shear_y(clip: np.ndarray, strength: float) -> np.ndarray:
  return _warp(clip, np.array([[1.0, 0.0, 0.0], [0.3 * strength, 1.0, 0.0]]))


def _translate_x(clip: np.ndarray, strength: float) -> np.ndarray:
  by = 0.3 * strength * clip.shape[2]
  return _warp(clip, np.array([[1.0, 0.0, by], [0.0, 1.0, 0.0]]))


def _translate_y(clip: np.ndarray, strength: float) -> np.ndarray:
  by = 0.3 * strength * clip.shape[1]
  return _warp(clip, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, by]]))


def _brightness(clip: np.ndarray, strength: float) -> np.ndarray:
  return _lookup(clip, np.arange(256) * (1 + 0.9 * strength))


def _contrast(clip: np.ndarray, strength: float) -> np.ndarray:
  # About the mean of the clip, not of each frame, which would flicker.
  mean = clip.mean()
  return _lookup(clip, mean + (np.arange(256) - mean) * (1 + 0.9 * strength))


def _saturation(clip: np.ndarray, strength: float) -> np.ndarray:
  factor = 1 + 0.9 * strength
  out = np.empty_like(clip)
  for i, frame in enumerate(clip):
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None]
    grey = np.repeat(grey, 3, axis=2)
    cv2.addWeighted(frame, factor, grey, 1 - factor, 0, dst=out[i])
  return out


def _sharpness(clip: np.ndarray, strength: float) -> np.ndarray:
  factor = 1 + 0.9 * strength
  out = np.empty_like(clip)
  for i, frame in enumerate(clip):
    blurred = cv2.GaussianBlur(frame, (3, 3), 0)
    cv2.addWeighted(frame, factor, blurred, 1 - factor, 0, dst=out[i])
  return out


def _posterize(clip: np.ndarray, strength: float) -> np.ndarray:
  bits = 8 - round(4 * abs(strength))
  return _lookup(clip, np.arange(256) & (0xFF << (8 - bits)))


def _solarize(clip: np.ndarray, strength: float) -> np.ndarray:
  values = np.arange(256)
  threshold = 256 * (1 - abs(strength))
  return _lookup(clip, np.where(values < threshold, values, 255 - values))


def _autocontrast(clip: np.ndarray, strength: float) -> np.ndarray:
  del strength  # It has none.
  low, high = int(clip.min()), int(clip.max())
  if low == high:
    return clip
  return _lookup(clip, (np.arange(256) - low) * 255.0 / (high - low))


# Name -> operation of a clip and a strength in [-1, 1]; 0 changes nothing,
# but for autocontrast, which has no strength.
OPERATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
  'rotate': _rotate,
  'shear_x': _shear_x,
  'shear_y': _shear_y,
  'translate_x': _translate_x,
  'translate_y': _translate_y,
  'brightness': _brightness,
  'contrast': _contrast,
  'saturation': _saturation,
  'sharpness': _sharpness,
  'posterize': _posterize,
  'solarize': _solarize,
  'autocontrast': _autocontrast,
}
