"""Text from anywhere (names, paths, errors), made fit to print.

A terminal obeys control characters: a file's name may move the cursor, colour
or delete what was printed, or turn letters around.
"""

import re
import sys
from typing import TextIO
import unicodedata

# C0, DEL and C1; what ends a line by other means; what changes the direction
# of writing; halves of characters, as in names that are no UTF-8.
_CONTROL = (
  r'\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029'
  r'\u202a-\u202e\u2066-\u2069\ud800-\udfff'
)
_IN_TEXT = re.compile(f'[{_CONTROL}]')
_IN_NAME = re.compile(f'[{_CONTROL}\t\n]')


def _escape(match: re.Match[str]) -> str:
  return match[0].encode('unicode_escape').decode()


def visible(text: str) -> str:
  r"""Text of one or more lines: control characters become `\x1b` and such."""
  return _IN_TEXT.sub(_escape, text)


def visible_name(name: str) -> str:
  """A name or path for the inside of a line: no tab or end of line either."""
  return _IN_NAME.sub(_escape, name)


def is_wide(letter: str) -> bool:
  """Returns whether a letter is as wide as two, as in East Asian scripts."""
  return unicodedata.east_asian_width(letter) in 'WF'


def width(text: str) -> int:
  """Columns of a terminal that a line takes."""
  return sum(1 + is_wide(letter) for letter in text)


def printable(text: str, stream: TextIO | None = None) -> str:
  r"""Spells out (`\u8dd1`) the letters that a stream's encoding does not have.

  Args:
    text: anything.
    stream: to be printed to; None means stdout.
  """
  encoding = getattr(stream or sys.stdout, 'encoding', None) or 'utf-8'
  return text.encode(encoding, 'backslashreplace').decode(encoding)


def say(text: object, *, error: bool = False) -> None:
  """Prints lines at once, with `visible`; nothing in them is obeyed.

  Args:
    text: of one or more lines.
    error: print to stderr.

  Raises:
    BrokenPipeError: nobody reads any more.
  """
  stream = sys.stderr if error else sys.stdout
  print(printable(visible(str(text)), stream), file=stream, flush=True)
