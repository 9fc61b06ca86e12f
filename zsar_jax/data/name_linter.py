"""Warns of class names that a text encoder, or a reader, may misunderstand."""

from collections.abc import Sequence
import dataclasses
import itertools
import re

from rapidfuzz import process
from rapidfuzz.distance import Indel

from zsar_jax.data import class_names
from zsar_jax.data.protocols import word_overlap

# Names with this much in common are about one typing mistake apart. The measure
# is twice the longest common subsequence over both lengths.
_NEAR = 0.9


@dataclasses.dataclass(frozen=True)
class NameWarning:
  """Something doubtful about one or two class names.

  Attributes:
    kind: 'empty', 'duplicate', 'near-duplicate', 'one word' or 'unknown word'.
    names: as given.
    text: the problem, for a reader.
  """

  kind: str
  names: tuple[str, ...]
  text: str

  def __str__(self) -> str:
    return f'{self.kind}: {self.text}'


def lint(
  names: Sequence[str], pieces: Sequence[str] | None = None
) -> list[NameWarning]:
  """Looks for names that may not mean what they should.

  Args:
    names: class names in any spelling.
    pieces: the text encoder's vocabulary; None skips the check.

  Returns:
    Warnings. This refuses no name (see `class_names.canonical_names`).
  """
  canonical = [class_names.canonical_name(name) for name in names]
  found = [
    NameWarning('empty', (name,), f'{name!r} has no letters')
    for name, words in zip(names, canonical, strict=True)
    if not re.search(r'\w', words)
  ]
  found += _alike(names, canonical)
  for name, words in zip(names, canonical, strict=True):
    parts = _words(words)
    if len(parts) == 1:
      # Of all words, single verbs have the most senses in dictionaries.
      found.append(
        NameWarning(
          'one word',
          (name,),
          f'{name!r} is one word and may have several meanings: add an object '
          'or a person',
        )
      )
  if pieces is not None:
    found += _unknown(names, canonical, frozenset(pieces))
  return found


def _words(canonical: str) -> list[str]:
  return re.findall(r"[\w']+", canonical)


def _alike(names, canonical) -> list[NameWarning]:
  bags = [word_overlap.normalised_words(words) for words in canonical]
  near = process.cdist(
    canonical, canonical, scorer=Indel.normalized_similarity, score_cutoff=_NEAR
  )
  found = []
  for i, j in itertools.combinations(range(len(names)), 2):
    pair = names[i], names[j]
    both = f'{names[i]!r} and {names[j]!r}'
    if canonical[i] == canonical[j]:
      found.append(
        NameWarning('duplicate', pair, f'{both} are both {canonical[i]!r}')
      )
    elif bags[i] and bags[i] == bags[j]:
      found.append(
        NameWarning('near-duplicate', pair, f'{both} have the same words')
      )
    elif near[i, j] >= _NEAR:
      found.append(
        NameWarning('near-duplicate', pair, f'{both} differ by a few letters')
      )
  return found


def _unknown(names, canonical, pieces) -> list[NameWarning]:
  """Warns of words that the vocabulary spells in pieces."""
  # CLIP's vocabulary marks the end of a word.
  known = lambda word: word in pieces or f'{word}</w>' in pieces
  return [
    NameWarning(
      'unknown word',
      (name,),
      f'{name!r}: the vocabulary has no {word!r} and spells it in pieces',
    )
    for name, words in zip(names, canonical, strict=True)
    for word in re.findall(r'[^\W_]+', words)
    if not known(word)
  ]
