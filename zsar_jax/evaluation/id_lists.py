"""Checks lists of ids for duplicates, and aligns one list with another."""

from collections.abc import Sequence

import numpy as np

_SHOWN = 10


def some(names: Sequence[str]) -> str:
  """Returns the first ten names and the number of others, for a message."""
  more = len(names) - _SHOWN
  shown = ', '.join(names[:_SHOWN])
  return f'{shown} and {more} more' if more > 0 else shown


def unique(path: str, names: tuple[str, ...], what: str) -> tuple[str, ...]:
  """Checks that a file's list of ids is not empty and has no duplicates.

  Args:
    path: path of the file, for the message.
    names: the ids.
    what: kind of the ids, for the message.

  Returns:
    The ids unchanged.

  Raises:
    ValueError: the list is empty, or an id is in it more than once.
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
  """Returns the position of each wanted id among the given ones.

  Args:
    given: unique ids.
    wanted: unique ids.
    what: name of the given list for the message, such as a file's path.
    kind: kind of the ids, for the message.

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
    raise ValueError(f'{what} has {len(extra)} {kind} too many: {some(extra)}')
  place = {name: i for i, name in enumerate(given)}
  return np.array([place[name] for name in wanted], int)
