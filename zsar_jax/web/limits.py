"""What the page takes: names as they are typed, and how much of anything."""

import dataclasses

from zsar_jax.data import class_names

_SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Limits:
  """The most that a visitor may ask for.

  Attributes:
    megabytes: of an upload (10^6 bytes).
    minutes: of a video.
    names: to choose from.
    waiting: requests that wait for their turn; further ones are refused.
    store_megabytes: of all uploads that are kept at a time.
    keep_minutes: until an upload that no open page holds is deleted.
    hold_minutes: until any upload is deleted, whoever holds it.
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
          f'{field.name}={getattr(self, field.name):g}: must be above 0'
        )
    if self.store_megabytes < self.megabytes:
      raise ValueError(
        f'store_megabytes={self.store_megabytes:g} has no room for one upload '
        f'of megabytes={self.megabytes:g}'
      )

  @property
  def upload_bytes(self) -> int:
    """Of one upload."""
    return int(self.megabytes * 1e6)

  @property
  def store_bytes(self) -> int:
    """Of all uploads."""
    return int(self.store_megabytes * 1e6)

  def describe(self) -> str:
    """Says the limits of a video in words."""
    return f'up to {self.megabytes:g} MB and {self.minutes:g} min'


def parse_names(text: str, most: int) -> list[str]:
  """Names as they are typed, one a line.

  Args:
    text: of any number of lines; empty lines do not count.
    most: names that are allowed.

  Returns:
    Canonical names, in order.

  Raises:
    ValueError: no name, too many, a line that is no name, or two lines with
      the same name; says which, in words for whoever typed them.
  """
  lines = [line.strip() for line in (text or '').splitlines()]
  lines = [line for line in lines if line]
  if not lines:
    raise ValueError('Type at least one name to choose from, one a line.')
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
        f'{_short(line)!r} is no name: it needs a letter or a digit, and may '
        'have no control characters.'
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
  """Refuses an upload that is too large.

  Args:
    size: in bytes.
    limits: of the page.

  Raises:
    ValueError: it is larger.
  """
  if size > limits.upload_bytes:
    raise ValueError(
      f'The video has {size / 1e6:.1f} MB; at most {limits.megabytes:g} MB are '
      'allowed.'
    )


def check_duration(seconds: float, limits: Limits) -> None:
  """Refuses a video that is too long.

  Args:
    seconds: that it lasts.
    limits: of the page.

  Raises:
    ValueError: it is longer.
  """
  if seconds > 60 * limits.minutes:
    raise ValueError(
      f'The video lasts {seconds / 60:.1f} min; at most {limits.minutes:g} min '
      'are allowed.'
    )
