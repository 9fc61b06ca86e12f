"""The names of the stick figure classes, their meaning, and their split.

A name is a verb, a place and a manner in plain English, such as `waving the
left arm slowly` or `hopping in place quickly`.
"""

from collections.abc import Iterable
import functools

import numpy as np

from zsar_jax.data.datasets import stick_figure_motion as motion

MAX_SEEN = 24

_PLACES = {
  **dict.fromkeys(motion.ARM_VERBS, tuple(motion.ARM_PLACES)),
  **dict.fromkeys(motion.LEG_VERBS, tuple(motion.LEG_PLACES)),
}
_VERBS = tuple(_PLACES)
_MANNERS = tuple(motion.PERIOD)


def _name(verb: str, place: str, manner: str) -> str:
  return f'{verb} {place} {manner}'


_ATTRIBUTES = {
  _name(verb, place, manner): {'verb': verb, 'place': place, 'manner': manner}
  for verb in _VERBS
  for place in _PLACES[verb]
  for manner in _MANNERS
}
CLASS_NAMES = tuple(sorted(_ATTRIBUTES))


def class_attributes(name: str) -> dict[str, str]:
  """Splits a class name into verb, place and manner.

  Args:
    name: one of `CLASS_NAMES`.

  Returns:
    Its `verb`, `place` and `manner`; joined by spaces they are the name.

  Raises:
    ValueError: not one of the 36 names.
  """
  if name not in _ATTRIBUTES:
    raise ValueError(f'{name!r} is not the name of a stick figure class')
  return dict(_ATTRIBUTES[name])


def covers_all_words(seen: Iterable[str]) -> bool:
  """Returns whether these names show what each word and attribute means.

  Each word, function words included, must occur in at least four of the
  names. Each word and each attribute value must occur with at least two
  values of each other attribute. If a word always came with one other, nobody
  could tell which of the two means what.

  Args:
    seen: class names.

  Returns:
    Whether both conditions hold for all words and values of the 36 names.
  """
  seen = [_ATTRIBUTES[name] for name in seen]
  for kind in ('verb', 'place', 'manner'):
    values = {attributes[kind] for attributes in _ATTRIBUTES.values()}
    words = {word for value in values for word in value.split()}
    for term in values | words:
      holders = [
        attributes
        for attributes in seen
        if term == attributes[kind] or term in attributes[kind].split()
      ]
      if term in words and len(holders) < 4:
        return False
      for other in {'verb', 'place', 'manner'} - {kind}:
        if len({attributes[other] for attributes in holders}) < 2:
          return False
  return True


def _draw_unseen(rng: np.random.Generator) -> set[str]:
  """Draws twelve names, two of each verb; does not check coverage.

  Three verbs lose one place altogether: the verb is never seen there. The
  other verbs lose two places in one manner each.
  """
  unseen = set()
  for i, verb in enumerate(rng.permutation(_VERBS)):
    first, second = rng.choice(_PLACES[verb], 2, replace=False)
    if i < len(_VERBS) // 2:
      unseen |= {_name(verb, first, manner) for manner in _MANNERS}
    else:
      unseen.add(_name(verb, first, rng.choice(_MANNERS)))
      unseen.add(_name(verb, second, rng.choice(_MANNERS)))
  return unseen


@functools.cache
def _full_split(split_seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Draws all 24 seen names in a random order, and the 12 unseen, sorted."""
  rng = np.random.default_rng(split_seed)
  # About one draw in a few hundred covers all words.
  while True:
    unseen = _draw_unseen(rng)
    seen = [name for name in CLASS_NAMES if name not in unseen]
    if covers_all_words(seen):
      break
  order = tuple(rng.permutation(seen).tolist())
  return order, tuple(sorted(unseen))


def class_split(
  split_seed: int = 0, num_seen: int = MAX_SEEN
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Divides the classes into seen (trained on) and unseen (only tested).

  Args:
    split_seed: draws the unseen classes, and the order in which seen classes
      are dropped if `num_seen` is below 24.
    num_seen: number of seen classes. The unseen classes do not depend on it.
      Every larger set of seen classes contains the smaller ones.

  Returns:
    (seen names, unseen names), sorted. With all 24 seen classes
    `covers_all_words` holds.

  Raises:
    ValueError: `num_seen` is outside [2, 24], or the seed is negative.
  """
  if not 2 <= num_seen <= MAX_SEEN:
    raise ValueError(f'num_seen {num_seen} is not in [2, {MAX_SEEN}]')
  if split_seed < 0:
    raise ValueError(f'split_seed {split_seed} is negative')
  order, unseen = _full_split(split_seed)
  return tuple(sorted(order[:num_seen])), unseen
