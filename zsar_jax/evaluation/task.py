"""A zero-shot task as arrays: seen and unseen classes, and test videos."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from zsar_jax.zeroshot import prototypes as prototypes_lib


@dataclasses.dataclass(frozen=True)
class Classes:
  """The seen or the unseen classes.

  Attributes:
    names: canonical names, in the order of every array's class axis.
    text: class embeddings [c d], unit vectors.
    sources: where each class lives ('' for a single source).
    attributes: of each class by name; empty dicts where unknown.
    initial_text: class embeddings before training [c e]; None if unknown.
  """

  names: tuple[str, ...]
  text: np.ndarray
  sources: tuple[str, ...] = ()
  attributes: tuple[Mapping[str, str], ...] = ()
  initial_text: np.ndarray | None = None

  @property
  def attribute_names(self) -> tuple[str, ...]:
    """Attributes that every class has, in order."""
    if not self.attributes:
      return ()
    return tuple(
      name
      for name in self.attributes[0]
      if all(name in of_class for of_class in self.attributes)
    )


@dataclasses.dataclass(frozen=True)
class Seen:
  """What is known of the seen classes.

  Attributes:
    classes: their names and embeddings.
    prototypes: means of their videos [s d], unit vectors.
    centres: learnt centres [s d], unit vectors; None where there is no
      classifier: prototypes take their place.
    scale: alpha_v, what the classifier's cosines are multiplied by.
    sums: over the training videos, for `ridge_to_text`; None leaves it out.
    metadata_prototypes: as `prototypes`, of `TestVideos.metadata`.
    joint: whether videos and names are embedded into one space; without it
      nothing compares the two.
  """

  classes: Classes
  prototypes: np.ndarray
  centres: np.ndarray | None = None
  scale: float = 20.0
  sums: prototypes_lib.PrototypeSums | None = None
  metadata_prototypes: np.ndarray | None = None
  joint: bool = True


@dataclasses.dataclass(frozen=True)
class Tested:
  """Which videos are tested on, among which classes.

  Attributes:
    labels: int [n], index among the classes; unreadable videos included.
    groups: recording session of each video.
    readable: bool [n]; a video that could not be read counts as wrong.
    candidates: bool [c s], of each of s splits.
    tested: bool [n s], whose videos count in which split.
  """

  labels: np.ndarray
  groups: tuple[str, ...]
  readable: np.ndarray
  candidates: np.ndarray
  tested: np.ndarray


@dataclasses.dataclass(frozen=True)
class TestVideos:
  """The unseen classes' videos.

  Attributes:
    embeddings: [n v d], v views of each video, unit vectors.
    match: fused match logits [n u], mean over views; None where unknown.
    labels: int [n], index among the unseen classes.
    groups: recording session of each video.
    changed_embeddings: what was made of the frames -> as `embeddings`, of
      the same videos so changed; one that is not there leaves its control
      out.
    unreadable_labels: labels of test videos that could not be read. They
      count as wrong.
    candidates: bool [u s], of each of s splits; None for one split of all.
    tested: bool [n + unreadable, s], whose videos count in which split, the
      unreadable ones last; None for all in one split.
    metadata: unit vectors [n m], made of numbers that say nothing of what is
      done in a video, such as its duration; None leaves that control out.
    pooled: what the encoder knew before the shared projection [n e]; None
      leaves information loss out.
  """

  embeddings: np.ndarray
  match: np.ndarray | None
  labels: np.ndarray
  groups: Sequence[str]
  changed_embeddings: Mapping[str, np.ndarray] = dataclasses.field(
    default_factory=dict
  )
  unreadable_labels: tuple[int, ...] = ()
  candidates: np.ndarray | None = None
  tested: np.ndarray | None = None
  metadata: np.ndarray | None = None
  pooled: np.ndarray | None = None

  # The field's word for held-out videos, not a pytest class.
  __test__ = False

  def as_tested(self, num_classes: int) -> Tested:
    """Readable and unreadable videos, the latter at the end."""
    lost = len(self.unreadable_labels)
    n = len(self.labels) + lost
    candidates, tested = self.candidates, self.tested
    if candidates is None:
      candidates = np.ones((num_classes, 1), bool)
    if tested is None:
      tested = np.ones((n, candidates.shape[1]), bool)
    return Tested(
      np.concatenate([self.labels, np.array(self.unreadable_labels, int)]),
      # An unreadable video is its own recording session.
      (*self.groups, *(f'unreadable {i}' for i in range(lost))),
      np.arange(n) < n - lost,
      candidates,
      tested,
    )

  def pad(self, scores: np.ndarray) -> np.ndarray:
    """Scores [n u] with rows for the unreadable videos."""
    lost = len(self.unreadable_labels)
    if not lost:
      return scores
    return np.concatenate([scores, np.zeros((lost, scores.shape[1]))])
