"""Decodes single JPEG pictures, such as those of a camera in a browser.

They are untrusted, so a child process decodes them; see `isolated`.
"""

import base64
import binascii
from typing import Any

import numpy as np

from zsar_jax.data import isolated, preprocessing, video_transforms
from zsar_jax.data.video_limits import DEFAULT_LIMITS, Guard, VideoError

_TASK = 'zsar_jax.data.pictures:view_task'
_DEADLINE = 20.0


def read_view(
  pool: isolated.Pool, jpeg: str, name: str, prep: preprocessing.Preprocessing
) -> tuple[np.ndarray, tuple[int, int]]:
  """Decodes a picture, and cuts out what the model sees.

  Args:
    pool: decodes it.
    jpeg: the file in base64.
    name: what to call it in an error.
    prep: the preprocessing of the weights.

  Returns:
    The view, uint8 RGB [size size 3]; height and width of the picture.

  Raises:
    VideoError: it is no JPEG, or it is too large.
  """
  facts, (content,) = pool.run(
    _TASK,
    {'jpeg': jpeg, 'name': name, 'prep': prep.to_json()},
    name=name,
    deadline=_DEADLINE,
  )
  view = np.frombuffer(content, np.uint8).reshape(prep.size, prep.size, 3)
  return view, tuple(facts['size'])


def view_task(
  jpeg: str, name: str, prep: str
) -> tuple[dict[str, Any], list[np.ndarray]]:
  """Does the work of `read_view` in the child; `prep` is JSON."""
  import simplejpeg

  try:
    content = base64.b64decode(jpeg, validate=True)
    height, width, *_ = simplejpeg.decode_jpeg_header(content)
    Guard(name, DEFAULT_LIMITS).check_size(height, width)
    rgb = simplejpeg.decode_jpeg(content, 'RGB')
  except VideoError:
    raise
  except (binascii.Error, ValueError) as e:
    raise VideoError(name, 'is no JPEG, or it is damaged') from e
  prep = preprocessing.Preprocessing.from_json(prep)
  view = video_transforms.middle_view(rgb, prep)
  return {'size': (height, width)}, [np.ascontiguousarray(view)]
