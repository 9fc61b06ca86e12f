"""Dataclasses of a zero-shot task: its classes and test videos, as arrays."""

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
    sources: source of each class's videos; () or '' with a single source.
    attributes: name -> value, for each class; empty if unknown.
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
  """The seen classes with their prototypes.

  Attributes:
    classes: their names and embeddings.
    prototypes: means of their videos [s d], unit vectors.
    centres: learnt centres [s d], unit vectors; None without a classifier.
      The prototypes then replace them.
    scale: alpha_v, the factor on the classifier's cosines.
    sums: sums of the training videos' embeddings, for `ridge_to_text`; None
      leaves out that method.
    metadata_prototypes: class means of the training videos' metadata [s m],
      unit vectors; None leaves out that control.
    joint: whether videos and names lie in one space, so that they can be
      compared.
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
  """The tested videos and their candidate classes.

  Attributes:
    labels: int [n], index among the classes; unreadable videos included.
    groups: recording session of each video.
    readable: bool [n]; an unreadable video counts as wrong.
    candidates: bool [c s], the candidate classes of each of s splits.
    tested: bool [n s], the videos that each split tests.
  """

  labels: np.ndarray
  groups: tuple[str, ...]
  readable: np.ndarray
  candidates: np.ndarray
  tested: np.ndarray


@dataclasses.dataclass(frozen=True)
class TestVideos:
  """The test videos: videos of the unseen classes.

  Attributes:
    embeddings: [n v d], v views of each video, unit vectors.
    match: fused match logits [n u], mean over views; None without them.
    labels: int [n], index among the unseen classes.
    groups: recording session of each video.
    changed_embeddings: change of the frames -> embeddings [n v d] of the
      videos with that change; a missing change leaves out its control.
    unreadable_labels: labels of unreadable test videos; they count as wrong.
    candidates: bool [u s], the candidate classes of each of s splits; None
      for one split with all classes.
    tested: bool [n + unreadable, s], the videos that each split tests, the
      unreadable ones last; None for one split with all videos.
    metadata: unit vectors [n m] of numbers that say nothing about the pixels:
      log aspect ratio and log duration; None leaves out that control.
    pooled: encoder output before the shared projection [n e]; None leaves out
      the information loss.
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

  # Tells pytest that this is no test class.
  __test__ = False

  def as_tested(self, num_classes: int) -> Tested:
    """Returns all test videos: first the readable, then the unreadable ones.

    Args:
      num_classes: u.

    Returns:
      The videos. If `candidates` or `tested` is None, all classes or videos
      are in one split.
    """
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
    """Adds rows of zeros for the unreadable videos.

    Args:
      scores: of the readable videos [n u].

    Returns:
      [n + unreadable, u].
    """
    lost = len(self.unreadable_labels)
    if not lost:
      return scores
    return np.concatenate([scores, np.zeros((lost, scores.shape[1]))])
