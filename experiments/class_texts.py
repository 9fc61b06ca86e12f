"""Embeds class names with text encoders, and with controls that only spell."""

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from zsar_jax.inference import class_texts, public_sides

# Controls: names are alike if they share words, or runs of 3 to 5 letters.
WORDS, LETTERS = 'words', 'letters'
CONTROLS = (WORDS, LETTERS)


def control(kind: str, names: Sequence[str]) -> np.ndarray:
  """Embeds names by their spelling, with larger weights for rare parts.

  Args:
    kind: one of `CONTROLS`.
    names: canonical class names, or longer texts of the classes.

  Returns:
    float32 [c e], unit vectors: the count of each part times log(classes /
    classes with that part).
  """

  def parts(name):
    if kind == WORDS:
      return name.split()
    text = f' {name} '
    return [
      text[i : i + n] for n in (3, 4, 5) for i in range(len(text) - n + 1)
    ]

  counts = [Counter(parts(name)) for name in names]
  known = sorted({part for count in counts for part in count})
  rows = np.array([[count[part] for part in known] for count in counts], float)
  rows *= np.log(len(names) / (rows > 0).sum(axis=0))
  norms = np.linalg.norm(rows, axis=1, keepdims=True)
  return (rows / np.maximum(norms, 1e-12)).astype(np.float32)


class Encoder:
  """A public text encoder, opened once for many prompts.

  Attributes:
    name: its name in tables.
    prompts: its default prompts.
  """

  def __init__(self, path: str):
    """Reads the weights of a folder or an id, as `--text` takes them."""
    self._side = public_sides.open_text(path)
    self.name = f'{_short(path)} {self._side.digest}'
    self.prompts = self._side.texts.templates

  def embed(
    self, names: Sequence[str], prompts: Sequence[str] = ()
  ) -> np.ndarray:
    """Embeds names.

    Args:
      names: canonical class names.
      prompts: prompts; () takes the default ones.

    Returns:
      [c e], unit vectors: the normalised mean over a class's prompts.
    """
    return self._side_of(prompts or self.prompts).embed_names(names)

  def embed_described(
    self,
    names: Sequence[str],
    descriptions: Mapping[str, Sequence[str]],
    weights: Sequence[float | None],
    prompts: Sequence[str] = (),
  ) -> list[np.ndarray]:
    """Embeds names with their descriptions, in several mixtures.

    Args:
      names: canonical class names.
      descriptions: canonical name -> sentences.
      weights: of the descriptions, see `inference.class_texts.ClassTexts`.
      prompts: prompts; () takes the default ones.

    Returns:
      [c e] for each weight, unit vectors.
    """
    side = self._side_of(prompts or self.prompts, descriptions)
    rows, mixed = side.embed_texts(names), []
    for weight in weights:
      side.texts.description_weight = weight
      mixed.append(side.texts.mean(names, rows))
    return mixed

  def _side_of(self, prompts, descriptions=None) -> public_sides.TextSide:
    texts = class_texts.ClassTexts(
      self._side.texts.pieces, self._side.token_length, prompts, descriptions
    )
    return dataclasses.replace(self._side, texts=texts)


def _short(path: str) -> str:
  """Returns the last part of a path that is a useful name."""
  parts = [part for part in path.split('/') if part not in ('', 'model', '.')]
  return parts[-1] if parts else path
