"""Crops, sizes and mirrors: uint8 clips to the square the model sees.

Every function takes a clip, uint8 [t, h, w, 3], and returns one; nothing is
padded, because the black bars of a padded frame would tell the model the
video's shape, and shape can give a class away. Normalisation is not done
here: clips stay uint8 until they are on the device.

```python
rng = np.random.default_rng(0)
clip = train_transform(frames, rng, size=224, area=(0.5, 1.0),
                       mirror_allowed=not class_names.has_side(label))
```
"""

import math

import cv2
import numpy as np


def resize_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
  """Resizes one frame, averaging pixels when it shrinks.

  Args:
    frame: uint8 [h, w, 3].
    height: new height in pixels.
    width: new width in pixels.

  Returns:
    uint8 [height, width, 3]; the frame itself where the size is the same.
  """
  h, w = frame.shape[:2]
  if (h, w) == (height, width):
    return frame
  # Linear interpolation samples 2x2 pixels and so skips most of a large
  # frame (aliasing); area averages them all, but is blocky when enlarging.
  shrinks = height <= h and width <= w
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  return cv2.resize(frame, (width, height), interpolation=method)


def resize_short_side(frame: np.ndarray, short_side: int) -> np.ndarray:
  """Resizes one frame so that its shorter side has `short_side` pixels.

  The aspect ratio is kept, up to rounding the longer side to the nearest
  whole pixel (a half goes up).

  Args:
    frame: uint8 [h, w, 3].
    short_side: pixels of the shorter side, at least 1.

  Returns:
    uint8 [new_h, new_w, 3] with min(new_h, new_w) == short_side.

  Raises:
    ValueError: `short_side` is below 1.
  """
  if short_side < 1:
    raise ValueError(f'short_side must be at least 1 pixel, got {short_side}')
  h, w = frame.shape[:2]
  short, long = sorted((h, w))
  long_side = math.floor(long * short_side / short + 0.5)
  if h <= w:
    return resize_frame(frame, short_side, long_side)
  return resize_frame(frame, long_side, short_side)


def resize(frames: np.ndarray, size: int) -> np.ndarray:
  """Resizes every frame to a square; the aspect ratio is not kept.

  Args:
    frames: uint8 [t, h, w, 3].
    size: pixels of each side.

  Returns:
    uint8 [t, size, size, 3], a new contiguous array.
  """
  out = np.empty((len(frames), size, size, 3), np.uint8)
  for i, frame in enumerate(frames):
    out[i] = resize_frame(frame, size, size)
  return out


def centre_crop(frames: np.ndarray, size: int) -> np.ndarray:
  """Cuts the square of `size` pixels out of the middle of every frame.

  Args:
    frames: uint8 [t, h, w, 3].
    size: pixels of each side, at most min(h, w).

  Returns:
    uint8 [t, size, size, 3], a view of `frames`.

  Raises:
    ValueError: the frames are smaller than the crop.
  """
  h, w = frames.shape[1:3]
  if size > min(h, w):
    raise ValueError(f'cannot crop {size} pixels out of {h}x{w}; resize first')
  top, left = (h - size) // 2, (w - size) // 2
  return frames[:, top : top + size, left : left + size]


def random_resized_crop(
  frames: np.ndarray,
  size: int,
  rng: np.random.Generator,
  area: tuple[float, float] = (0.5, 1.0),
  aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
  """Cuts one random rectangle out of all frames, resized to a square.

  All frames share the rectangle: a crop that moved from frame to frame would
  be camera shake, which hides the motion.

  Args:
    frames: uint8 [t, h, w, 3].
    size: pixels of each side of the result.
    rng: source of randomness.
    area: smallest and largest share of the frame's area, within (0, 1].
    aspect: smallest and largest width / height; drawn on a log scale, so
      that wide and tall are equally likely.

  Returns:
    uint8 [t, size, size, 3].

  Raises:
    ValueError: a range is empty or outside its bounds.
  """
  if not 0 < area[0] <= area[1] <= 1:
    raise ValueError(f'area must be 0 < low <= high <= 1, got {area}')
  if not 0 < aspect[0] <= aspect[1]:
    raise ValueError(f'aspect must be 0 < low <= high, got {aspect}')
  h, w = frames.shape[1:3]
  for _ in range(10):
    pixels = rng.uniform(*area) * h * w
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    crop_w = max(1, round(math.sqrt(pixels * ratio)))
    crop_h = max(1, round(math.sqrt(pixels / ratio)))
    if crop_h <= h and crop_w <= w:
      top = int(rng.integers(h - crop_h + 1))
      left = int(rng.integers(w - crop_w + 1))
      crop = frames[:, top : top + crop_h, left : left + crop_w]
      return resize(crop, size)
  # A frame much wider than `aspect` has no such rectangle of that area.
  return resize(centre_crop(frames, min(h, w)), size)


def mirror(frames: np.ndarray) -> np.ndarray:
  """Swaps left and right.

  Args:
    frames: uint8 [t, h, w, 3].

  Returns:
    uint8 [t, h, w, 3], a view of `frames`.
  """
  return frames[:, :, ::-1]


def train_transform(
  frames: np.ndarray,
  rng: np.random.Generator,
  *,
  size: int,
  area: tuple[float, float] = (0.5, 1.0),
  aspect: tuple[float, float] = (3 / 4, 4 / 3),
  mirror_allowed: bool,
) -> np.ndarray:
  """The random view of training: a resized crop, mirrored half of the time.

  Args:
    frames: uint8 [t, h, w, 3].
    rng: source of randomness; the same number of draws is taken whether or
      not the clip may be mirrored, so that the switch changes nothing else.
    size: pixels of each side of the result.
    area: see `random_resized_crop`.
    aspect: see `random_resized_crop`.
    mirror_allowed: False for a class whose name has a side (see
      `class_names.has_side`), or where mirroring is switched off.

  Returns:
    uint8 [t, size, size, 3], contiguous.
  """
  mirrored = rng.random() < 0.5
  clip = random_resized_crop(frames, size, rng, area, aspect)
  return (
    np.ascontiguousarray(mirror(clip))
    if (mirrored and mirror_allowed)
    else clip
  )


def eval_transform(
  frames: np.ndarray, size: int, *, crop: int = 0, num_crops: int = 1
) -> np.ndarray:
  """The fixed view of evaluation: the largest square, resized.

  Args:
    frames: uint8 [t, h, w, 3].
    size: pixels of each side of the result.
    crop: which square, from 0 (left or top) to `num_crops` - 1.
    num_crops: squares spread evenly along the longer side, both ends
      included; a single one is the middle.

  Returns:
    uint8 [t, size, size, 3].

  Raises:
    ValueError: `crop` is not below `num_crops`.
  """
  if not 0 <= crop < num_crops:
    raise ValueError(f'crop {crop} of {num_crops} does not exist')
  h, w = frames.shape[1:3]
  short = min(h, w)
  where = crop / (num_crops - 1) if num_crops > 1 else 0.5
  top, left = int((h - short) * where), int((w - short) * where)
  square = frames[:, top : top + short, left : left + short]
  return resize(square, size)
