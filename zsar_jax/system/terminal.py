"""Makes untrusted text (names, paths, errors) safe to print.

A terminal obeys control characters. So a file's name could move the cursor,
colour or delete printed text, or reverse letters.
"""

import re
import shutil
import sys
from typing import TextIO
import unicodedata

# C0, DEL and C1; other line separators; marks that change the direction of
# writing; surrogates, as in names that are not UTF-8.
_CONTROL = (
  r'\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029'
  r'\u202a-\u202e\u2066-\u2069\ud800-\udfff'
)
_IN_TEXT = re.compile(f'[{_CONTROL}]')
_IN_NAME = re.compile(f'[{_CONTROL}\t\n]')


def _escape(match: re.Match[str]) -> str:
  return match[0].encode('unicode_escape').decode()


def visible(text: str) -> str:
  r"""Escapes control characters in text, as `\x1b`; line ends stay."""
  return _IN_TEXT.sub(_escape, text)


def visible_name(name: str) -> str:
  """Escapes a name or path to print within a line: tabs and line ends too."""
  return _IN_NAME.sub(_escape, name)


def is_wide(letter: str) -> bool:
  """Returns whether a character has double width, as in East Asian scripts."""
  return unicodedata.east_asian_width(letter) in 'WF'


def width(text: str) -> int:
  """Returns how many columns of a terminal a line takes."""
  return sum(1 + is_wide(letter) for letter in text)


def printable(text: str, stream: TextIO | None = None) -> str:
  r"""Escapes (`\u8dd1`) the characters that a stream's encoding lacks.

  Args:
    text: any text.
    stream: to print to; None means stdout.
  """
  encoding = getattr(stream or sys.stdout, 'encoding', None) or 'utf-8'
  return text.encode(encoding, 'backslashreplace').decode(encoding)


def say(text: object, *, error: bool = False) -> None:
  """Prints lines at once and flushes; `visible` escapes control characters.

  Args:
    text: of one or more lines.
    error: print to stderr.

  Raises:
    BrokenPipeError: the reader has closed the pipe.
  """
  stream = sys.stderr if error else sys.stdout
  print(printable(visible(str(text)), stream), file=stream, flush=True)


def say_over(line: str) -> None:
  """Writes a line to stderr over the one that was written so before.

  Where stderr is no terminal nothing is written.

  Args:
    line: '' takes the one before away; what does not fit is cut off.
  """
  if sys.stderr.isatty():
    line = printable(visible_name(line), sys.stderr)
    # A line that is broken in two could not be written over.
    while width(line) >= shutil.get_terminal_size().columns:
      line = line[:-1]
    sys.stderr.write(f'\r\x1b[K{line}')
    sys.stderr.flush()
