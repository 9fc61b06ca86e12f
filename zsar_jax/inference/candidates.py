"""The classes to choose from, with their prototypes."""

from collections.abc import Mapping, Sequence

import numpy as np

from zsar_jax.data import class_descriptions
from zsar_jax.evaluation import methods, task
from zsar_jax.inference import encoders, predictions, prototype_bank
from zsar_jax.zeroshot import examples

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
    descriptions: name in any spelling -> sentences.

  Returns:
    The encoders; the same where there is nothing to add.

  Raises:
    ValueError: a description of no class of `names`; see also
      `class_descriptions.checked`.
  """
  if not descriptions:
    return recognizer
  found = class_descriptions.checked(descriptions, 'descriptions')
  class_descriptions.check_all(found, names, 'descriptions')
  return recognizer.with_descriptions(found)


class Candidates:
  """The classes to choose from.

  Attributes:
    names: canonical class names [c].
    text: class embeddings [c e], unit vectors; None without classes.
    prototypes: [c d], unit vectors; None without a bank.
    weights: transfer weights of the prototypes [c s]; [c 0] without a bank.
    counts: int [c], example videos of each name.
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
    self.weights, self.counts = np.zeros((0, 0)), np.zeros(0, np.int64)
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

  def check(self) -> None:
    """Raises ValueError if there are no names."""
    if not self.names:
      raise ValueError(
        'no classes to choose from: call add_classes first (--classes=NAMES)'
      )

  def clear(self) -> None:
    """Removes all classes."""
    self.names, self.text = (), None
    self.counts = np.zeros(0, np.int64)
    if self._bank is not None:
      self.prototypes = self._bank.seen_prototypes[:0]
      self._composites = self._sums = self.prototypes
      self.weights = np.zeros((0, len(self._bank.seen_classes)))

  def add(
    self,
    names: Sequence[str],
    recognizer: encoders.Recognizer,
    videos: Mapping[str, np.ndarray] | None = None,
  ) -> None:
    """Adds classes by their canonical names, which must be new.

    Args:
      names: canonical names. Classes that were added to the bank have the
        examples that it remembers.
      recognizer: the encoders, with the descriptions of these classes.
      videos: name -> directions [n d] of further examples, see
        `examples.directions`. No seen class may have any.

    Raises:
      ValueError: a name or sentence is too long, or examples cancel the
        composite of their class out. Nothing is added then.
    """
    before = dict(vars(self))
    try:
      self._add_whole(names, recognizer, videos or {})
    except ValueError:
      vars(self).update(before)
      raise

  def _add_whole(self, names, recognizer, videos) -> None:
    """Adds classes with their examples; an error may leave a part."""
    if self._bank is not None and self._initial:
      self._initial = recognizer.initial_embeddings()
    self._add(names, recognizer.encode_class_names(names)['embedding'])
    for name, directions in videos.items():
      at = self.names.index(name)
      self.counts[at] += len(directions)
      self._sums[at] += directions.sum(axis=0)
    if videos:
      self._mix()

  def _add(self, names, text) -> None:
    """Adds classes by their embeddings, and composites their prototypes."""
    self.names += tuple(names)
    before = [] if self.text is None else [self.text]
    self.text = np.concatenate([*before, text])
    counts, sums = self._remembered(names)
    self.counts = np.concatenate([self.counts, counts])
    if self._bank is None:
      self.weights = np.zeros((len(self.names), 0))
      return
    composites, weights = self._composite(names, text)
    self._composites = np.concatenate([self._composites, composites])
    self._sums = np.concatenate([self._sums, sums])
    self.weights = np.concatenate([self.weights, weights])
    self._mix()

  def _mix(self) -> None:
    """Makes the prototypes of composites and examples."""
    self.prototypes = examples.mix(
      self._composites, self._sums, self._settings.example_prior, self.names
    )

  def _remembered(self, names) -> tuple[np.ndarray, np.ndarray | None]:
    """Number [c] and sums [c d] of the examples that the bank has of names."""
    counts = np.zeros(len(names), np.int64)
    if self._bank is None:
      return counts, None
    sums = np.zeros((len(names), self._bank.seen_prototypes.shape[1]))
    if self._bank.example_counts is not None:
      for row, name in enumerate(names):
        if name in self._bank.added_classes:
          at = self._bank.added_classes.index(name)
          counts[row] = self._bank.example_counts[at]
          sums[row] = self._bank.example_sums[at]
    return counts, sums

  def _composite(self, names, text) -> tuple[np.ndarray, np.ndarray]:
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

  @property
  def example_shares(self) -> np.ndarray:
    """The weight [c] of the examples behind each prototype; 0 without any."""
    if self._bank is None:
      return np.zeros(len(self.names))
    return examples.share(self.counts, self._settings.example_prior)

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

  def warnings(self, recognizer: encoders.Recognizer) -> list[str]:
    """Returns warnings about the names; none without a bank."""
    if self._bank is None:
      return []
    of_names = predictions.class_warnings(
      self.names,
      self._bank.seen_classes,
      recognizer.read_elsewhere,
      recognizer.trained_on,
    )
    return of_names + predictions.example_warnings(self.names, self.counts)

  def describe_parts(self, names: Sequence[str]) -> list[str]:
    """Says in a line for each of some names what its prototype is made of."""
    explained = self.explain()
    return [
      f'{name}  <- {predictions.describe_parts(explained[name], int(n), share)}'
      for name, n, share in zip(
        self.names, self.counts, self.example_shares, strict=True
      )
      if name in names
    ]
