"""Turns decoded frames upright and into RGB."""

from collections.abc import Sequence

import av
import numpy as np


def _quarter_turns(frame: av.VideoFrame) -> int:
  """Returns the counterclockwise quarter turns that set a frame upright."""
  return round(frame.rotation / 90) % 4


def displayed_size(frame: av.VideoFrame) -> tuple[int, int]:
  """Returns height and width of a frame set upright."""
  size = (frame.height, frame.width)
  return size if _quarter_turns(frame) % 2 == 0 else size[::-1]


def upright_rgb(
  frame: av.VideoFrame, converter: av.video.reformatter.VideoReformatter
) -> np.ndarray:
  """Converts a decoded frame to upright uint8 RGB [h, w, 3]."""
  # Each pixel takes the colour of its block of the chroma planes. By default
  # FFmpeg does this only for 8 bits and even sizes; POINT does it for all.
  rgb = converter.reformat(frame, format='rgb24', interpolation='POINT')
  rgb = rgb.to_ndarray()
  turns = _quarter_turns(frame)
  return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def size_change(first: Sequence[int], other: Sequence[int]) -> str:
  """Says how frame sizes differ within one video."""
  return (
    f'changes its frame size from {first[1]}x{first[0]} to '
    f'{other[1]}x{other[0]}'
  )
