"""The page's limits, and the parser of the names that a visitor types."""

import dataclasses

from zsar_jax.data import class_names

_SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Limits:
  """The limits of the page. Megabytes are 10^6 bytes.

  Attributes:
    megabytes: maximum size of an upload.
    minutes: maximum length of a video.
    names: maximum number of class names.
    waiting: maximum number of waiting requests; more are refused.
    store_megabytes: maximum size of all uploads together.
    keep_minutes: age at which an upload that no open page uses is deleted.
    hold_minutes: age at which any upload is deleted.
  """

  megabytes: float = 100.0
  minutes: float = 10.0
  names: int = 200
  waiting: int = 8
  store_megabytes: float = 1000.0
  keep_minutes: float = 10.0
  hold_minutes: float = 120.0

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if not getattr(self, field.name) > 0:
        raise ValueError(
          f'{field.name}={getattr(self, field.name):g} must be above 0'
        )
    if self.store_megabytes < self.megabytes:
      raise ValueError(
        f'store_megabytes={self.store_megabytes:g} is less than one upload of '
        f'megabytes={self.megabytes:g}'
      )

  @property
  def upload_bytes(self) -> int:
    """Maximum size of an upload in bytes."""
    return int(self.megabytes * 1e6)

  @property
  def store_bytes(self) -> int:
    """Maximum size of all uploads together, in bytes."""
    return int(self.store_megabytes * 1e6)

  def describe(self) -> str:
    """Returns the limits of a video as text."""
    return f'up to {self.megabytes:g} MB and {self.minutes:g} min'


def parse_names(text: str, most: int) -> list[str]:
  """Parses class names, one per line.

  Args:
    text: the lines; empty lines are skipped.
    most: maximum number of names.

  Returns:
    Canonical names, in order.

  Raises:
    ValueError: there is no name, there are too many, a line is no name, or two
      lines are the same name. The message is a sentence for the visitor.
  """
  lines = [line.strip() for line in (text or '').splitlines()]
  lines = [line for line in lines if line]
  if not lines:
    raise ValueError('Type at least one name to choose from, one per line.')
  if len(lines) > most:
    raise ValueError(
      f'{len(lines)} names are too many: at most {most} are allowed.'
    )
  found: dict[str, str] = {}
  for line in lines:
    try:
      (name,) = class_names.canonical_names([line], 'names')
    except ValueError as e:
      raise ValueError(
        f'{_short(line)!r} is not a name: it needs a letter or a digit, and no '
        'control characters.'
      ) from e
    if name in found:
      first = found[name]
      raise ValueError(
        f'{_short(line)!r} is there twice.'
        if first == line
        else f'{_short(first)!r} and {_short(line)!r} are the same name.'
      )
    found[name] = line
  return list(found)


def _short(line: str) -> str:
  return line if len(line) <= _SHOWN else f'{line[: _SHOWN - 1]}…'


def check_size(size: int, limits: Limits) -> None:
  """Checks the size of an upload.

  Args:
    size: size in bytes.
    limits: limits of the page.

  Raises:
    ValueError: the upload is too large.
  """
  if size > limits.upload_bytes:
    raise ValueError(
      f'The video has {size / 1e6:.1f} MB; at most {limits.megabytes:g} MB are '
      'allowed.'
    )


def check_duration(seconds: float, limits: Limits) -> None:
  """Checks the length of a video.

  Args:
    seconds: length in seconds.
    limits: limits of the page.

  Raises:
    ValueError: the video is too long.
  """
  if seconds > 60 * limits.minutes:
    raise ValueError(
      f'The video lasts {seconds / 60:.1f} min; at most {limits.minutes:g} min '
      'are allowed.'
    )
