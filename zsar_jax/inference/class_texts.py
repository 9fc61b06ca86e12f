"""Turns class names into prompts and descriptions, and these into tokens."""

from collections.abc import Mapping, Sequence
import copy

import numpy as np

from zsar_jax.data import byte_pairs, prompts, tokenizer


class ClassTexts:
  """Turns class names into texts, and texts into token ids.

  Attributes:
    pieces: the vocabulary.
    templates: prompts, such as 'a video of {}'.
    descriptions: canonical class name -> sentences; see `data.prompts`.
    description_weight: of the mean sentence in a class embedding, from 0 to 1;
      the mean prompt has the rest. None gives every text the same weight.
  """

  def __init__(
    self,
    pieces: Sequence[str],
    token_length: int,
    templates: Sequence[str] = ('{}',),
    descriptions: Mapping[str, Sequence[str]] | None = None,
    description_weight: float | None = None,
  ):
    self.pieces, self.templates = tuple(pieces), tuple(templates)
    self.descriptions = dict(descriptions or {})
    self.description_weight = description_weight
    self._tokenizer = byte_pairs.open_tokenizer(pieces, token_length)

  def texts(self, names: Sequence[str]) -> list[list[str]]:
    """Returns each class's texts: its name in all prompts, descriptions."""
    return prompts.class_texts(names, self.templates, self.descriptions)

  def token_ids(
    self, names: Sequence[str], advice: str = 'set preprocessing.token_length'
  ) -> list[dict[str, np.ndarray]]:
    """Returns the token ids of class names.

    Args:
      names: canonical class names.
      advice: what to do about a text that is too long, for the message.

    Returns:
      `ids` int [c l] and `mask` bool [c l], for each row of
      `prompts.text_grid`. Training takes the rows in turn.

    Raises:
      ValueError: a text is too long; the message names its class.
    """
    rows = []
    for texts in prompts.text_grid(self.texts(names)):
      try:
        ids, mask = self._tokenizer(texts)
      except tokenizer.TextTooLong as e:
        name = tokenizer.shown(names[e.index])
        raise ValueError(f'class {name!r}: {e}; {advice}') from e
      rows.append({'ids': ids, 'mask': mask})
    return rows

  def described(
    self, descriptions: Mapping[str, Sequence[str]]
  ) -> 'ClassTexts':
    """Returns the same texts with further descriptions.

    Args:
      descriptions: canonical class name -> sentences, in place of those that
        the class has.
    """
    other = copy.copy(self)
    other.descriptions = {**self.descriptions, **descriptions}
    return other

  def mean(
    self, names: Sequence[str], embeddings: Sequence[np.ndarray]
  ) -> np.ndarray:
    """Averages the embeddings of each class's texts, each text once.

    With a `description_weight` w: n((1 - w) n(mean prompt) + w n(mean
    sentence)), where n normalises.

    Args:
      names: canonical class names.
      embeddings: unit vectors [c d], for each row of `token_ids`.

    Returns:
      [c d], unit vectors.
    """
    if len(embeddings) == 1:
      return np.asarray(embeddings[0])
    stacked = np.stack(embeddings)
    row = np.arange(len(stacked))[:, None]
    counts = np.array([len(texts) for texts in self.texts(names)])
    if self.description_weight is None:
      return _unit(_sum(stacked, row < counts))
    prompts_of = np.minimum(counts, len(self.templates))
    name = _unit(_sum(stacked, row < prompts_of))
    sentences = _unit(_sum(stacked, (row >= prompts_of) & (row < counts)))
    w = self.description_weight
    both = _unit((1 - w) * name + w * sentences)
    return np.where((counts > prompts_of)[:, None], both, name)


def _sum(stacked: np.ndarray, own: np.ndarray) -> np.ndarray:
  """Sums rows [p c d] where a mask [p c] says so."""
  return (stacked * own[..., None]).sum(axis=0)


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
