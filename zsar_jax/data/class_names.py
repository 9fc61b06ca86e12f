"""Class names: one canonical spelling, and whether a name has a side.

Datasets write one name in many ways (`HandstandPushups`, `shake_hands`,
`Arm wrestling`). Splits, prototypes and token ids all use the
canonical name, so two spellings never count as two classes.
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
  """Returns the canonical spelling of a class name: lower case, spaces.

  Underscores and hyphens separate words. A name without any separator is
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
  """Canonicalises names in order and refuses those that are no class name.

  Args:
    names: class names.
    what: source of the names, for the error message.

  Returns:
    One canonical name per name, in order.

  Raises:
    ValueError: `names` is a text alone or no sequence; there is no name; a name
      is no text, has no letters or digits, or has control characters; or two
      names have one canonical name. The message shows both spellings.
  """
  if isinstance(names, str):
    raise ValueError(
      f'{what}: expected a list of names, got the text {names!r}: write '
      f'[{names!r}]'
    )
  if not isinstance(names, Iterable):
    raise ValueError(f'{what}: expected a list of names, got {names!r}')
  first_spelling: dict[str, str] = {}
  for name in names:
    if not isinstance(name, str):
      raise ValueError(f'{what}: expected a name, got {name!r}')
    canonical = canonical_name(name)
    if not canonical:
      raise ValueError(f'{what}: empty class name {name!r}')
    if not re.search(r'\w', canonical):
      raise ValueError(
        f'{what}: class name {name!r} has no letters or digits: write it in '
        'words'
      )
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
  """Returns whether a mirrored video would need another class name."""
  words = re.sub(r'[^\w]+', ' ', canonical_name(name)).split()
  return not _SIDE_WORDS.isdisjoint(words)


def sided_classes(names: Sequence[str]) -> list[str]:
  """Returns the names for which `has_side` holds, in order."""
  return [name for name in names if has_side(name)]
