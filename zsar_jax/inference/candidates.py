"""The classes to choose from, with their prototypes."""

from collections.abc import Sequence

import numpy as np

from zsar_jax.evaluation import methods, task
from zsar_jax.inference import encoders, prototype_bank

_TOP_SEEN = 3


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
    self._recognizer, self._bank = recognizer, bank
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

  def add(self, names: Sequence[str]) -> None:
    """Adds classes by their canonical names, which must be new."""
    self._add(names, self._recognizer.encode_class_names(names)['embedding'])

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
