"""Lists of ids and names: without duplicates, and in another list's order."""

from collections.abc import Sequence

import numpy as np

_SHOWN = 10


def some(names: Sequence[str]) -> str:
  """The first ten names and how many more there are, for a message."""
  more = len(names) - _SHOWN
  shown = ', '.join(names[:_SHOWN])
  return f'{shown} and {more} more' if more > 0 else shown


def unique(path: str, names: tuple[str, ...], what: str) -> tuple[str, ...]:
  """Checks a file's list of ids.

  Args:
    path: of the file, for the message.
    names: the ids.
    what: the kind of ids, for the message.

  Returns:
    The ids as they are.

  Raises:
    ValueError: no id, or an id more than once.
  """
  if not names:
    raise ValueError(f'{path}: no {what}')
  if len(set(names)) < len(names):
    twice = sorted({n for n in names if names.count(n) > 1})
    raise ValueError(f'{path}: {what} more than once: {some(twice)}')
  return names


def align(
  given: Sequence[str], wanted: Sequence[str], what: str, kind: str = 'videos'
) -> np.ndarray:
  """The position of each wanted id among the given ones.

  Args:
    given: ids, unique.
    wanted: ids, unique.
    what: name of the given list, for the message, such as a file's path.
    kind: what the ids belong to, for the message.

  Returns:
    int [wanted].

  Raises:
    ValueError: a wanted id is missing, or a given id is not wanted.
  """
  have, want = set(given), set(wanted)
  missing = [i for i in wanted if i not in have]
  if missing:
    raise ValueError(
      f'{what} lacks {len(missing)} of {len(wanted)} {kind}: {some(missing)}'
    )
  extra = [i for i in given if i not in want]
  if extra:
    raise ValueError(
      f'{what} has {len(extra)} {kind} that are not asked for: {some(extra)}'
    )
  place = {name: i for i, name in enumerate(given)}
  return np.array([place[name] for name in wanted], int)
