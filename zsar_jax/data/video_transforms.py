"""Crops, resizes and mirrors uint8 frames to the square that the model sees.

Frames come one by one, as they are decoded, so memory never holds a whole clip
of large frames. Nothing is padded: black bars would show the model the video's
shape, and the shape can reveal the class. Normalisation happens elsewhere:
clips stay uint8 until they are on the device.

```python
view = RandomView(np.random.default_rng(0), size=224, area=(0.5, 1.0),
                  mirror_allowed=not class_names.has_side(label))
clip = decode.decode_frames(video, indices, name, transform=view)
```
"""

import math

import numpy as np

from zsar_jax.data import preprocessing


def resize_frame(
  frame: np.ndarray, height: int, width: int, method: str = 'area'
) -> np.ndarray:
  """Resizes one frame.

  Args:
    frame: uint8 [h, w, 3].
    height: new height in pixels.
    width: new width in pixels.
    method: 'area' averages pixels when the frame shrinks; see
      `preprocessing.Preprocessing.resize` for the others.

  Returns:
    uint8 [height, width, 3]; the frame itself if the size is the same.
  """
  h, w = frame.shape[:2]
  if (h, w) == (height, width):
    return frame
  if method != 'area':
    from PIL import Image  # what most public weights were trained with

    resampling = Image.Resampling[method.upper()]
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((width, height), resampling))
  import cv2  # slow to load, and child processes do most of this

  # Linear interpolation samples 2x2 pixels and so skips most of a large
  # frame (aliasing); area averages them all, but is blocky when enlarging.
  shrinks = height <= h and width <= w
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  return cv2.resize(frame, (width, height), interpolation=method)


def resize_short_side(
  frame: np.ndarray, short_side: int, method: str = 'area'
) -> np.ndarray:
  """Resizes one frame so that its shorter side has `short_side` pixels.

  The aspect ratio is kept, up to a whole pixel of the longer side: the
  nearest one (a half goes up) for 'area', the one below for other methods, as
  image processors of public weights have it.

  Args:
    frame: uint8 [h, w, 3].
    short_side: pixels of the shorter side, at least 1.
    method: see `resize_frame`.

  Returns:
    uint8 [new_h, new_w, 3] with min(new_h, new_w) == short_side.

  Raises:
    ValueError: `short_side` is below 1.
  """
  if short_side < 1:
    raise ValueError(f'short_side must be at least 1 pixel, got {short_side}')
  h, w = frame.shape[:2]
  short, long = sorted((h, w))
  if method == 'area':
    long_side = math.floor(long * short_side / short + 0.5)
  else:
    long_side = int(short_side * long / short)
  if h <= w:
    return resize_frame(frame, short_side, long_side, method)
  return resize_frame(frame, long_side, short_side, method)


def random_rectangle(
  height: int,
  width: int,
  rng: np.random.Generator,
  area: tuple[float, float] = (0.5, 1.0),
  aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
  """Draws the rectangle of a random resized crop.

  Args:
    height: of the frame, pixels.
    width: of the frame.
    rng: source of randomness.
    area: smallest and largest share of the frame's area, within (0, 1].
    aspect: smallest and largest width / height; drawn on a log scale, so
      that wide and tall are equally likely.

  Returns:
    Top, left, height and width; the middle square if ten draws find no such
    rectangle.

  Raises:
    ValueError: a range is empty or outside its bounds.
  """
  if not 0 < area[0] <= area[1] <= 1:
    raise ValueError(f'area must be 0 < low <= high <= 1, got {area}')
  if not 0 < aspect[0] <= aspect[1]:
    raise ValueError(f'aspect must be 0 < low <= high, got {aspect}')
  for _ in range(10):
    pixels = rng.uniform(*area) * height * width
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    crop_w = max(1, round(math.sqrt(pixels * ratio)))
    crop_h = max(1, round(math.sqrt(pixels / ratio)))
    if crop_h <= height and crop_w <= width:
      top = int(rng.integers(height - crop_h + 1))
      left = int(rng.integers(width - crop_w + 1))
      return top, left, crop_h, crop_w
  # A frame much wider than `aspect` has no such rectangle of that area.
  side = min(height, width)
  return (height - side) // 2, (width - side) // 2, side, side


class RandomView:
  """The random view of training, frame by frame as they are decoded.

  Every frame of a clip shows the same rectangle. A rectangle that moves would
  be camera shake, which hides the motion. It is drawn at the first frame, when
  the frame size is known.
  """

  def __init__(
    self,
    rng: np.random.Generator,
    *,
    size: int,
    area: tuple[float, float] = (0.5, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    mirror_allowed: bool,
    method: str = 'area',
  ):
    """Draws whether to mirror.

    Args:
      rng: source of randomness. The number of draws does not depend on
        `mirror_allowed`, so mirroring changes nothing else.
      size: pixels of each side of the result.
      area: see `random_rectangle`.
      aspect: see `random_rectangle`.
      mirror_allowed: False for a class whose name has a side (see
        `class_names.has_side`), or if mirroring is switched off.
      method: see `resize_frame`.
    """
    self._rng, self._size, self._method = rng, size, method
    self._area, self._aspect = area, aspect
    self._mirror = bool(rng.random() < 0.5) and mirror_allowed
    self._rectangle = None

  def __call__(self, frame: np.ndarray) -> np.ndarray:
    """Maps a frame uint8 [h, w, 3] to uint8 [size, size, 3]."""
    if self._rectangle is None:
      self._rectangle = random_rectangle(
        *frame.shape[:2], self._rng, self._area, self._aspect
      )
    top, left, height, width = self._rectangle
    frame = frame[top : top + height, left : left + width]
    frame = resize_frame(frame, self._size, self._size, self._method)
    return frame[:, ::-1] if self._mirror else frame


def shrink(frame: np.ndarray, prep: preprocessing.Preprocessing) -> np.ndarray:
  """Resizes one frame to the size from which views are cut.

  Args:
    frame: uint8 [h, w, 3].
    prep: what the weights want.

  Returns:
    uint8 with a short side of `prep.short_side`; the frame itself for
    `prep.crop` 'whole', because `eval_views` resizes that once.
  """
  if prep.crop == 'whole':
    return frame
  return resize_short_side(frame, prep.short_side, prep.resize)


def eval_views(
  frame: np.ndarray, prep: preprocessing.Preprocessing, num_crops: int = 1
) -> np.ndarray:
  """Cuts the fixed views of evaluation.

  Args:
    frame: uint8 [h, w, 3], from `shrink`.
    prep: what the weights want.
    num_crops: squares spread evenly along the longer side, both ends
      included; a single one is the middle. With `prep.crop` 'whole' they are
      all the same.

  Returns:
    uint8 [num_crops, size, size, 3].
  """
  size, method = prep.size, prep.resize
  if prep.crop == 'whole':
    view = resize_frame(frame, size, size, method)
    return np.stack([view] * num_crops)
  side = size if prep.crop == 'centre' else min(frame.shape[:2])
  squares = [square(frame, side, k, num_crops) for k in range(num_crops)]
  return np.stack([resize_frame(x, size, size, method) for x in squares])


def middle_view(
  frame: np.ndarray, prep: preprocessing.Preprocessing
) -> np.ndarray:
  """Cuts the one view of a frame that windows of long videos show.

  Args:
    frame: uint8 [h, w, 3], as it was decoded.
    prep: what the weights want.

  Returns:
    uint8 [size, size, 3].
  """
  return frame_views(frame, prep)[0]


def frame_views(
  frame: np.ndarray, prep: preprocessing.Preprocessing, num_crops: int = 1
) -> np.ndarray:
  """Cuts all views of a frame as it was decoded.

  Args:
    frame: uint8 [h, w, 3].
    prep: what the weights want.
    num_crops: see `eval_views`.

  Returns:
    uint8 [num_crops, size, size, 3].
  """
  return eval_views(shrink(frame, prep), prep, num_crops)


def square(
  frame: np.ndarray, side: int, crop: int = 0, num_crops: int = 1
) -> np.ndarray:
  """Cuts a square out of a frame.

  Args:
    frame: uint8 [h, w, 3].
    side: of the square in pixels, at most the shorter side of the frame.
    crop: which square, from 0 (left or top) to `num_crops` - 1.
    num_crops: squares spread evenly along the longer side, both ends
      included; a single one is the middle. All are in the middle of the
      shorter side.

  Returns:
    uint8 [side, side, 3].

  Raises:
    ValueError: `crop` is not below `num_crops`.
  """
  if not 0 <= crop < num_crops:
    raise ValueError(f'crop {crop} of {num_crops} does not exist')
  h, w = frame.shape[:2]
  where = crop / (num_crops - 1) if num_crops > 1 else 0.5
  down, right = (where, 0.5) if h > w else (0.5, where)
  top, left = int((h - side) * down), int((w - side) * right)
  return frame[top : top + side, left : left + side]
