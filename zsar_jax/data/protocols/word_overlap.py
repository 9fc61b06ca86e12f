"""Finds classes named by the same words, in any order and form.

'climbing a rope' and 'RopeClimbing' are one action. Two classes overlap when
the bags of their normalised words are equal.

The rule `as_published` drops the Kinetics-700 classes that overlap UCF101 or
HMDB51 and leaves 664, the number of Brattoli et al. 2020 ("Rethinking Zero-shot
Video Classification"). They replace some names by words that word2vec knows,
then drop nearly equal names in word2vec space. Their list was never published.
Ours is a reconstruction, from their replacements and the lemmas of WordNet's
verbs. It depends on spelling: 'PullUps' is the word 'pullups', so 'pull ups'
stays. It keeps 'tai chi', 'pull ups', 'push up', 'riding a bike' and more,
which the plain rule finds.

```python
equal_bags(['climbing a rope', 'yoga'], ['RopeClimbing'])
# [('climbing a rope', 'RopeClimbing')]
```
"""

from collections.abc import Iterable, Sequence
import re

from zsar_jax.data import class_names

_EMPTY_WORDS = frozenset('a an and at do in of on or the using with'.split())
# The replacements of Brattoli et al. that change which classes are equal. Names
# are as their datasets spell them.
_PUBLISHED_RENAMES = {
  'CleanAndJerk': 'weight lift',
  'clean and jerk': 'weight lift',
  'PullUps': 'pullups',
  'PushUps': 'pushups',
  'TaiChi': 'taichi',
  'ThrowDiscus': 'throw disc',
  'Blow-drying hair': 'dry hair',
  'blowdrying hair': 'dry hair',
  'Carving jack-o-lanterns': 'carve pumpkin',
  'Playing rubik cube': 'play cube',
  'playing rubiks cube': 'play cube',
  'Polishing forniture': 'polish furniture',
  'Rock-paper-scissors': 'play rock paper scissors',
}
# Words that WordNet's verb lemmas do not unite: 'riding' becomes 'rid', and a
# plural stays if the noun is not also a verb.
_PUBLISHED_FORMS = frozenset({'riding', 'sandcastles'})
# Misspelt or foreign words in the class lists.
_CORRECTIONS = {
  'mooping': 'mopping',
  'forniture': 'furniture',
  'plataform': 'platform',
  'guitarra': 'guitar',
  'flauta': 'flute',
}


def normalised_words(name: str, as_published: bool = False) -> tuple[str, ...]:
  """Returns the bag of a class name's normalised words.

  Words without content are left out, and so are brackets that begin with
  'not'. Rules cut the endings of verbs and plurals off the other words. The
  rest need not be a word ('smok').

  Args:
    name: a class name in any spelling; for `as_published` in the spelling of
      its dataset.
    as_published: the rule of the 664 classes; see the module docstring.

  Returns:
    The normalised words, sorted, with repetitions; possibly none.
  """
  return _bag(_words(name, as_published), as_published)


def equal_bags(
  seen_names: Iterable[str],
  unseen_names: Iterable[str],
  as_published: bool = False,
) -> list[tuple[str, str]]:
  """Finds pairs of a seen and an unseen class named by the same words.

  Unless `as_published`, two words of one name may also be one word of the
  other ('shot put', 'Shotput').

  Args:
    seen_names: class names; see `normalised_words` for the spelling.
    unseen_names: class names.
    as_published: the rule of the 664 classes; see the module docstring.

  Returns:
    (seen name, unseen name) as given, in the order of `seen_names`.
  """
  unseen_of: dict[tuple[str, ...], list[str]] = {}
  for unseen in unseen_names:
    for bag in _bags(unseen, as_published):
      unseen_of.setdefault(bag, []).append(unseen)
  pairs: dict[tuple[str, str], None] = {}
  for seen in seen_names:
    for bag in _bags(seen, as_published):
      for unseen in unseen_of.get(bag, ()):
        pairs[seen, unseen] = None
  return list(pairs)


def _words(name: str, as_published: bool) -> list[str]:
  if as_published:
    # Not the canonical name: the rule depends on how names are spelt.
    name = _PUBLISHED_RENAMES.get(name, name)
    name = re.sub('(?<=[a-z])(?=[A-Z])', ' ', name).lower()
  else:
    name = class_names.canonical_name(name)
  name = re.sub(r'\(not\b[^)]*\)', ' ', name)
  words = re.sub(r"[^\w']+|_", ' ', name).split()
  if not as_published:
    words = [_CORRECTIONS.get(word, word) for word in words]
  return [word for word in words if word not in _EMPTY_WORDS]


def _bags(name: str, as_published: bool) -> list[tuple[str, ...]]:
  """Returns a name's bag, and the bags with two neighbouring words joined."""
  words = _words(name, as_published)
  spellings = [words]
  if not as_published:
    spellings += [
      [*words[:i], words[i] + words[i + 1], *words[i + 2 :]]
      for i in range(len(words) - 1)
    ]
  return [_bag(spelling, as_published) for spelling in spellings if spelling]


def _bag(words: Sequence[str], as_published: bool) -> tuple[str, ...]:
  return tuple(sorted(_stem(word, as_published) for word in words))


def _stem(word: str, as_published: bool) -> str:
  """Cuts off the ending of a verb or plural, and what it had changed."""
  if as_published and word in _PUBLISHED_FORMS:
    return word
  if word.endswith('ing') and re.search('[aeiouy]', word[:-3]):
    word = word[:-3]
  elif word.endswith('ies') and len(word) > 4:
    word = word[:-3] + 'y'
  elif re.search('(s|x|z|ch|sh)es$', word):
    word = word[:-2]
  elif re.search('[^sui]s$', word):
    word = word[:-1]
  word = re.sub(r'([^aeiou])\1$', r'\1', word)  # clapp -> clap, kiss -> kis
  if len(word) > 3 and word.endswith('e'):  # smoke as smok-ing
    word = word[:-1]
  return word
