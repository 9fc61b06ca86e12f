"""Class names: one canonical spelling, and what a name says of symmetry.

Datasets write one name in many ways (`HandstandPushups`, `shake_hands`,
`Arm wrestling`). Everything downstream (splits, prototypes, token ids) is
keyed by the canonical name, so that a class cannot hide behind a spelling.
"""

from collections.abc import Iterable, Sequence
import re
import unicodedata

from zsar_jax.system import terminal

_SIDE_WORDS = frozenset(
  'left right clockwise anticlockwise counterclockwise leftward rightward '
  'leftwards rightwards lefthanded righthanded'.split()
)


def canonical_name(name: str) -> str:
  """Returns the one spelling of a class name: lower case, words by spaces.

  Underscores and hyphens separate words; a name without any separator is
  split at its capitals (`ApplyEyeMakeup` -> `apply eye makeup`, `YoYo` ->
  `yo yo`, `TVShow` -> `tv show`) and before its digits (`Situp2` -> `situp
  2`). Canonical names are their own canonical names.

  Args:
    name: a class name in any of the usual spellings.

  Returns:
    The canonical name, possibly empty (see `canonical_names`).
  """
  name = unicodedata.normalize('NFKC', name).strip()
  if not re.search(r'[\s_\-]', name) and name.lower() != name:
    name = re.sub(r'(?<=[A-Z])(?=[A-Z][a-z])', ' ', name)
    name = re.sub(r'(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Z][a-z])', ' ', name)
  words = re.sub(r'[\s_\-]+', ' ', name).strip()
  return words.lower()


def canonical_names(names: Iterable[str], what: str = 'classes') -> list[str]:
  """Canonicalises names in order and refuses what cannot be one.

  Args:
    names: class names.
    what: where the names came from, for the error message.

  Returns:
    One canonical name per name, in order.

  Raises:
    ValueError: no name at all, an empty one, one with control characters, or
      two that are the same after canonicalisation; the message shows both
      spellings.
  """
  first_spelling: dict[str, str] = {}
  for name in names:
    canonical = canonical_name(name)
    if not re.search(r'\w', canonical):
      raise ValueError(f'{what}: empty class name {name!r}')
    if canonical != terminal.visible_name(canonical):
      raise ValueError(
        f'{what}: class name {name!r} has control characters; remove them'
      )
    if canonical in first_spelling:
      raise ValueError(
        f'{what}: duplicate class name: {first_spelling[canonical]!r} and '
        f'{name!r} are both {canonical!r}'
      )
    first_spelling[canonical] = name
  if not first_spelling:
    raise ValueError(f'{what}: no class names given')
  return list(first_spelling)


def has_side(name: str) -> bool:
  """Whether mirroring a video would change the truth of its class name."""
  words = re.sub(r'[^\w]+', ' ', canonical_name(name)).split()
  return not _SIDE_WORDS.isdisjoint(words)


def sided_classes(names: Sequence[str]) -> list[str]:
  """The names for which `has_side` holds, in order."""
  return [name for name in names if has_side(name)]
