"""Draws the strip below a video: what happens now, and when what happens.

Letters come from a font that matplotlib brings along. It has Latin, Greek,
Cyrillic, Arabic and more; for others the fonts of the machine are looked
through.
"""

from collections.abc import Sequence
import importlib.util
import os
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Colours of the names, by turns; the last is for none of them.
_COLOURS = (
  (25, 118, 210),
  (217, 130, 43),
  (46, 139, 87),
  (142, 91, 192),
  (194, 64, 122),
  (74, 154, 168),
)
_NO_COLOUR = (138, 143, 152)
_PAPER, _INK = (24, 24, 28), (240, 240, 240)
# Brightness of what has not been shown yet.
_DIM = 0.4
_SMALLEST, _LARGEST = 14, 40
_MOST_LINES = 2
# A letter that no font has, so that it looks like every missing one.
_MISSING = '\U0010fffd'
_FONT_FOLDERS = (
  '/usr/share/fonts',
  '/usr/local/share/fonts',
  '~/.local/share/fonts',
  '~/.fonts',
  '/System/Library/Fonts',
  '/Library/Fonts',
  'C:/Windows/Fonts',
)
_MOST_FONTS = 500


class Strip:
  """The strip of one video.

  Attributes:
    height: pixels, even.
    lacking: letters that no font has.
  """

  def __init__(
    self,
    segments: Sequence[tuple[float, float, str, float]],
    duration: float,
    width: int,
    nameless: str,
  ):
    """Draws what does not change.

    Args:
      segments: start and end in seconds, name and probability; in order.
      duration: of the video in seconds.
      width: pixels.
      nameless: the name that stands for none.
    """
    self._segments, self._width = segments, width
    self._duration = max(duration, 1e-9)
    size = min(max(width // 24, _SMALLEST), _LARGEST)
    names = list(dict.fromkeys(name for _, _, name, _ in segments))
    path, self.lacking = _find_font(''.join(names))
    self._font = ImageFont.truetype(path, size)
    self._pad = size // 2
    ascent, descent = self._font.getmetrics()
    self._line = ascent + descent
    room = width - 4 * self._pad - int(self._font.getlength('100%'))
    self._lines = {
      name: wrap(name, self._font.getlength, room, _MOST_LINES)
      for name in names
    }
    others = [name for name in names if name != nameless]
    self._colours = {
      name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(others)
    }
    self._bar = self._draw_bar(max(6, size // 2))
    most = max(len(lines) for lines in self._lines.values())
    height = most * self._line + 2 * self._pad + len(self._bar)
    self.height = height + height % 2
    self._drawn: tuple[int, np.ndarray] | None = None

  def at(self, seconds: float) -> np.ndarray:
    """Returns the strip at a time of the video, uint8 RGB [height width 3]."""
    starts = [start for start, _, _, _ in self._segments]
    now = max(int(np.searchsorted(starts, seconds, 'right')) - 1, 0)
    if self._drawn is None or self._drawn[0] != now:
      self._drawn = now, self._draw_text(now)
    strip = self._drawn[1].copy()
    played = round(self._width * min(seconds / self._duration, 1.0))
    strip[-len(self._bar) :, :played] = self._bar[:, :played]
    strip[-len(self._bar) :, max(played - 2, 0) : played] = _INK
    return strip

  def _draw_bar(self, height: int) -> np.ndarray:
    bar = np.empty((height, self._width, 3), np.uint8)
    for start, end, name, _ in self._segments:
      edges = (round(self._width * x / self._duration) for x in (start, end))
      bar[:, slice(*edges)] = self._colours.get(name, _NO_COLOUR)
    return bar

  def _draw_text(self, which: int) -> np.ndarray:
    """The strip of a segment, with the whole bar still to come."""
    _, _, name, probability = self._segments[which]
    image = Image.new('RGB', (self._width, self.height), _PAPER)
    draw = ImageDraw.Draw(image)
    colour = self._colours.get(name, _NO_COLOUR)
    pad = self._pad
    lines = self._lines[name]
    draw.rectangle((0, pad, pad // 2, pad + len(lines) * self._line), colour)
    for i, line in enumerate(lines):
      draw.text((pad, pad + i * self._line), line, _INK, self._font)
    share = f'{probability:.0%}'
    left = self._width - pad - self._font.getlength(share)
    draw.text((left, pad), share, _INK, self._font)
    strip = np.array(image)
    strip[-len(self._bar) :] = self._bar * _DIM
    return strip


def wrap(text: str, length, room: float, most_lines: int) -> list[str]:
  """Breaks a text into lines, at spaces where there are any.

  Args:
    text: without line ends.
    length: returns how long a text is.
    room: most that a line may have.
    most_lines: what does not fit ends with an ellipsis.

  Returns:
    At least one line.
  """
  lines = []
  while length(text) > room and len(lines) < most_lines - 1:
    fits = _fitting(text, length, room)
    space = text.rfind(' ', 0, fits + 1)
    fits = space if space > 0 else fits
    lines.append(text[:fits].rstrip())
    text = text[fits:].lstrip()
  if length(text) > room:
    text = f'{text[: _fitting(text, length, room - length("…"))].rstrip()}…'
  return [*lines, text]


def _fitting(text: str, length, room: float) -> int:
  """How many letters fit, at least one."""
  fits = len(text)
  while fits > 1 and length(text[:fits]) > room:
    fits -= 1
  return fits


def _own_font() -> str:
  spec = importlib.util.find_spec('matplotlib')
  folder = pathlib.Path(spec.submodule_search_locations[0])
  return str(folder / 'mpl-data' / 'fonts' / 'ttf' / 'DejaVuSans.ttf')


def _find_font(letters: str) -> tuple[str, str]:
  """Path of the font that lacks fewest letters, and those that it lacks."""
  own = _own_font()
  best = own, _lacking(own, letters)
  if not best[1]:
    return best
  for path in _fonts_of_machine():
    lacking = _lacking(path, letters)
    if len(lacking) < len(best[1]):
      best = path, lacking
    if not lacking:
      break
  return best


def _fonts_of_machine() -> list[str]:
  found = []
  for folder in map(os.path.expanduser, _FONT_FOLDERS):
    for at, _, names in os.walk(folder):
      found += [
        os.path.join(at, name)
        for name in names
        if name.lower().endswith(('.ttf', '.ttc', '.otf'))
      ]
  return sorted(found)[:_MOST_FONTS]


def _lacking(path: str, letters: str) -> str:
  """Returns the letters that a font lacks; all if it cannot be read."""
  try:
    font = ImageFont.truetype(path, 16)
    missing = bytes(font.getmask(_MISSING))
    return ''.join(
      letter
      for letter in dict.fromkeys(letters)
      if not letter.isspace() and bytes(font.getmask(letter)) == missing
    )
  except OSError:
    return letters
