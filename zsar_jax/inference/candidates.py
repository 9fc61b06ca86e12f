"""The classes to choose from, with their prototypes."""

from collections.abc import Mapping, Sequence

import numpy as np

from zsar_jax.data import class_descriptions
from zsar_jax.evaluation import methods, task
from zsar_jax.inference import encoders, prototype_bank

_TOP_SEEN = 3


def describe(
  recognizer: encoders.Recognizer,
  names: Sequence[str],
  descriptions: Mapping[str, Sequence[str]] | None,
) -> encoders.Recognizer:
  """Gives encoders the descriptions of some classes.

  Args:
    recognizer: the encoders.
    names: canonical names of the classes.
    descriptions: name in any spelling -> sentences; of other classes they are
      left out.

  Returns:
    The encoders; the same where there is nothing to add.

  Raises:
    ValueError: see `class_descriptions.checked`.
  """
  if not descriptions:
    return recognizer
  found = class_descriptions.checked(descriptions, 'descriptions')
  own = {name: found[name] for name in names if name in found}
  return recognizer.with_descriptions(own) if own else recognizer


class Candidates:
  """The classes to choose from.

  Attributes:
    names: canonical class names [c].
    text: class embeddings [c e], unit vectors; None without classes.
    prototypes: [c d], unit vectors; None without a bank.
    weights: transfer weights of the prototypes [c s]; [c 0] without a bank.
  """

  def __init__(
    self,
    recognizer: encoders.Recognizer,
    bank: prototype_bank.PrototypeBank | None,
  ):
    """Starts with the added classes of a bank.

    Args:
      recognizer: encoders, which embed names.
      bank: bank of these encoders; None makes no prototypes.
    """
    self._bank = bank
    self.names: tuple[str, ...] = ()
    self.text = self.prototypes = None
    self.weights = np.zeros((0, 0))
    if bank is None:
      return
    settings = dict(bank.settings)
    self._settings = (
      methods.TransferSettings(**settings)
      if settings
      else recognizer.transfer_settings
    )
    initial = recognizer.initial_embeddings()
    if self._settings.relatedness_source != 'initial':
      initial = None
    self._initial = initial
    self._seen = task.Classes(
      bank.seen_classes,
      bank.class_embeddings,
      initial_text=initial(bank.seen_classes) if initial else None,
    )
    self.clear()
    if bank.added_classes:
      self._add(bank.added_classes, bank.added_embeddings)

  def clear(self) -> None:
    """Removes all classes."""
    self.names, self.text = (), None
    if self._bank is not None:
      self.prototypes = self._bank.seen_prototypes[:0]
      self.weights = np.zeros((0, len(self._bank.seen_classes)))

  def add(self, names: Sequence[str], recognizer: encoders.Recognizer) -> None:
    """Adds classes that are not there yet.

    Args:
      names: canonical.
      recognizer: the encoders, with what describes these classes.
    """
    if self._bank is not None and self._initial:
      self._initial = recognizer.initial_embeddings()
    self._add(names, recognizer.encode_class_names(names)['embedding'])

  def _add(self, names, text) -> None:
    """Adds classes by their embeddings, and composites their prototypes."""
    self.names += tuple(names)
    before = [] if self.text is None else [self.text]
    self.text = np.concatenate([*before, text])
    if self._bank is None:
      self.weights = np.zeros((len(self.names), 0))
      return
    prototypes, weights = self._composites(names, text)
    self.prototypes = np.concatenate([self.prototypes, prototypes])
    self.weights = np.concatenate([self.weights, weights])

  def _composites(self, names, text) -> tuple[np.ndarray, np.ndarray]:
    """Returns prototypes [c d] and weights [c s]; a seen class has its own."""
    bank = self._bank
    new = task.Classes(
      tuple(names),
      text,
      initial_text=self._initial(names) if self._initial else None,
    )
    prototypes, weights = methods.unseen_prototypes(
      self._seen, bank.seen_prototypes, new, self._settings
    )
    for row, name in enumerate(names):
      if name in bank.seen_classes:
        at = bank.seen_classes.index(name)
        prototypes[row] = bank.seen_prototypes[at]
        weights[row] = np.arange(weights.shape[1]) == at
    return prototypes, weights

  def explain(self) -> dict[str, tuple[tuple[str, float], ...]]:
    """Returns up to 3 (seen class, positive weight) pairs behind each name."""
    found = {}
    for name, weights in zip(self.names, self.weights, strict=True):
      largest = np.argsort(-weights, kind='stable')[:_TOP_SEEN]
      found[name] = tuple(
        (self._bank.seen_classes[s], float(weights[s]))
        for s in largest
        if weights[s] > 0
      )
    return found
