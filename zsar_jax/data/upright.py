"""Decoded frames set upright and turned into RGB."""

from collections.abc import Sequence

import av
import numpy as np


def _quarter_turns(frame: av.VideoFrame) -> int:
  """Counterclockwise quarter turns that set a frame upright."""
  return round(frame.rotation / 90) % 4


def displayed_size(frame: av.VideoFrame) -> tuple[int, int]:
  """Height and width of a frame set upright."""
  size = (frame.height, frame.width)
  return size if _quarter_turns(frame) % 2 == 0 else size[::-1]


def upright_rgb(
  frame: av.VideoFrame, converter: av.video.reformatter.VideoReformatter
) -> np.ndarray:
  """A decoded frame as uint8 RGB [h, w, 3]."""
  # Each pixel takes the colour of its block of the chroma planes. FFmpeg does
  # so by itself for 8 bits and even sizes; asked for, it does so for all.
  rgb = converter.reformat(frame, format='rgb24', interpolation='POINT')
  rgb = rgb.to_ndarray()
  turns = _quarter_turns(frame)
  return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def size_change(first: Sequence[int], other: Sequence[int]) -> str:
  """The reason given where frames are not all of one size."""
  return (
    f'changes its frame size from {first[1]}x{first[0]} to '
    f'{other[1]}x{other[0]}'
  )
