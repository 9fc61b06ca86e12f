"""Turns class names into prompts and descriptions, and these into tokens."""

from collections.abc import Mapping, Sequence

import numpy as np

from zsar_jax.data import byte_pairs, prompts


class ClassTexts:
  """Turns class names into texts, and texts into token ids.

  Attributes:
    pieces: the vocabulary.
    templates: prompts, such as 'a video of {}'.
    descriptions: canonical class name -> sentences; see `data.prompts`.
  """

  def __init__(
    self,
    pieces: Sequence[str],
    token_length: int,
    templates: Sequence[str] = ('{}',),
    descriptions: Mapping[str, Sequence[str]] | None = None,
  ):
    self.pieces, self.templates = tuple(pieces), tuple(templates)
    self.descriptions = dict(descriptions or {})
    self._tokenizer = byte_pairs.open_tokenizer(pieces, token_length)

  def texts(self, names: Sequence[str]) -> list[list[str]]:
    """Returns each class's texts: its name in all prompts, descriptions."""
    return prompts.class_texts(names, self.templates, self.descriptions)

  def token_ids(self, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Returns the token ids of class names.

    Args:
      names: canonical class names.

    Returns:
      `ids` int [c l] and `mask` bool [c l], for each row of
      `prompts.text_grid`. Training takes the rows in turn.
    """
    rows = []
    for texts in prompts.text_grid(self.texts(names)):
      ids, mask = self._tokenizer(texts)
      rows.append({'ids': ids, 'mask': mask})
    return rows

  def mean(
    self, names: Sequence[str], embeddings: Sequence[np.ndarray]
  ) -> np.ndarray:
    """Averages the embeddings of each class's texts, each text once.

    Args:
      names: canonical class names.
      embeddings: unit vectors [c d], for each row of `token_ids`.

    Returns:
      [c d], unit vectors.
    """
    if len(embeddings) == 1:
      return np.asarray(embeddings[0])
    stacked = np.stack(embeddings)
    counts = np.array([len(texts) for texts in self.texts(names)])
    own = np.arange(len(stacked))[:, None] < counts  # [p c]
    total = (stacked * own[..., None]).sum(axis=0)
    return total / np.linalg.norm(total, axis=-1, keepdims=True)
