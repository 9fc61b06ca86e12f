"""Reads the pixel preprocessing of public weights: preprocessor_config.json.

A setting that the file omits takes the default of transformers' image
processor for that model.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any

import numpy as np

from zsar_jax.pretrained import directory

# PIL's numbers of resampling filters.
_BILINEAR, _BICUBIC = 2, 3
_METHODS = {_BILINEAR: 'bilinear', _BICUBIC: 'bicubic'}
# Model type -> default filter, and whether a centre crop follows.
_UNTOLD = {
  'clip': (_BICUBIC, True),
  'metaclip_2': (_BICUBIC, True),
  'pe_audio_video': (_BILINEAR, False),
  'pe_video': (_BILINEAR, False),
  'siglip': (_BICUBIC, False),
  'timesformer': (_BILINEAR, True),
  'videoprism': (_BICUBIC, False),
  'videomae': (_BILINEAR, True),
  'vjepa2': (_BILINEAR, True),
  'vit': (_BILINEAR, False),
  'vivit': (_BILINEAR, True),
  'xclip': (_BILINEAR, True),
}


def _file(weights: directory.Weights) -> str:
  return f'{weights.path}/preprocessor_config.json'


def normalisation(weights: directory.Weights) -> dict[str, Any]:
  """Reads mean and standard deviation of the pixels.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    `mean` and `std` (three numbers each), for pixels in [0, 1].

  Raises:
    ValueError: the file is missing or lacks one of them, or a value is damaged.
  """
  found = weights.preprocessor
  mean, std = np.zeros(3), np.ones(3)
  if found.get('do_normalize', True):
    for key in ('image_mean', 'image_std'):
      if key not in found:
        raise ValueError(
          f'{_file(weights)} is missing or lacks {key!r}: pixels cannot be '
          'normalised as in training'
        )
    mean = _of_colours(weights, 'image_mean', _is_finite, 'numbers')
    std = _of_colours(
      weights, 'image_std', directory.is_positive, 'positive numbers'
    )
  # The processor maps pixels in [0, 1] to (x * scale - offset - mean) / std.
  factor = found.get('rescale_factor', 1 / 255)
  if not directory.is_positive(factor):
    raise ValueError(
      f'{_file(weights)}: rescale_factor is {factor!r}, expected a positive '
      'number'
    )
  scale = 255 * factor
  if not found.get('do_rescale', True):
    scale = 255.0
  offset = 1.0 if found.get('offset', False) else 0.0
  return {
    'mean': tuple(((mean + offset) / scale).tolist()),
    'std': tuple((std / scale).tolist()),
  }


def _is_finite(x: Any) -> bool:
  number = isinstance(x, int | float) and not isinstance(x, bool)
  return number and math.isfinite(x)


def _of_colours(
  weights: directory.Weights, key: str, fits: Callable[[Any], bool], what: str
) -> np.ndarray:
  """Returns a value that the file has for red, green and blue: [3]."""
  value = weights.preprocessor[key]
  if not (
    isinstance(value, list) and len(value) == 3 and all(map(fits, value))
  ):
    raise ValueError(
      f'{_file(weights)}: {key} is {value!r}, expected a list of three {what}'
    )
  return np.array(value)


def _sides(weights: directory.Weights, key: str, value: Any) -> int:
  """Parses a size in pixels, in any form that the file may have."""
  side = value
  if isinstance(value, Mapping):
    given = {k: v for k, v in value.items() if v is not None}
    if set(given) in ({'shortest_edge'}, {'height', 'width'}):
      first, *rest = given.values()
      side = first if all(x == first for x in rest) else value
  if isinstance(side, bool) or not isinstance(side, int) or side < 1:
    raise ValueError(
      f'{_file(weights)}: {key}={value!r} is not supported: expected one '
      'number of pixels'
    )
  return side


def _is_whole(size: Any, crops: bool) -> bool:
  """Returns whether `size` is the height and width of the resized frame.

  Otherwise it is the shorter side. A single number is the shorter side for
  processors that crop.
  """
  return 'height' in size if isinstance(size, Mapping) else not crops


def read(weights: directory.Weights, image_size: int) -> dict[str, Any]:
  """Reads size, crop, resizing filter and normalisation.

  Args:
    weights: from `directory.read_weights`, of one of the model types above.
    image_size: height and width of the model's frames, in pixels.

  Returns:
    `size`, `short_side`, `resize`, `crop`, `mean` and `std` of
    `data.preprocessing.Preprocessing`.

  Raises:
    FileNotFoundError: the file is missing. Its settings are never guessed.
    ValueError: a setting is missing, not supported, or does not fit the model.
  """
  path, found = _file(weights), weights.preprocessor
  if not found:
    raise FileNotFoundError(
      f'{path} is missing: size and normalisation belong to the weights'
    )
  if 'size' not in found:
    raise ValueError(f"{path} lacks 'size'")
  if not found.get('do_resize', True):
    raise ValueError(f'{path}: do_resize is false, which is not supported')
  resample, crops = _UNTOLD[weights.config['model_type']]
  crops = found.get('do_center_crop', crops)
  resize = _method(path, found.get('resample', resample))
  whole = _is_whole(found['size'], crops)
  short_side = _sides(weights, 'size', found['size'])
  size = short_side
  if crops:
    # Without a crop_size, the processors crop to the model's size.
    size = _sides(weights, 'crop_size', found.get('crop_size', image_size))
  if size != image_size:
    key = 'crop_size' if crops else 'size'
    raise ValueError(
      f'{path}: {key} {size} is not the image_size {image_size} of '
      f'{weights.path}/config.json'
    )
  if whole and short_side != size:
    raise ValueError(
      f'{path}: size={found["size"]!r} and a crop of {size}: a centre crop '
      'after changing the aspect ratio is not supported'
    )
  if not whole and not crops:
    raise ValueError(
      f'{path}: size={found["size"]!r} and no crop: frames would not be square'
    )
  return {
    'size': size,
    'short_side': short_side,
    'resize': resize,
    'crop': 'whole' if whole else 'centre',
    **normalisation(weights),
  }


def _method(path: str, resample: int) -> str:
  """Returns the name of a PIL filter from its number."""
  if not isinstance(resample, int) or resample not in _METHODS:
    raise ValueError(
      f"{path}: resample={resample!r} is not one of {sorted(_METHODS)}, PIL's "
      f'numbers of {list(_METHODS.values())}'
    )
  return _METHODS[resample]
