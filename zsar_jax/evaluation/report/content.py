"""The arrays and images that a report shows besides results.json."""

from collections.abc import Mapping
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ReportContent:
  """Arrays of one method in one split. None leaves out the figure.

  Attributes:
    title: title of the page.
    method: name of the method of `scores`.
    unseen: names of the candidates [u].
    seen: names of the seen classes [s].
    video_ids: [n].
    labels: int [n], index among the candidates.
    scores: [n u].
    embeddings: [n d].
    unseen_prototypes: composites [u d].
    true_means: mean embedding of each candidate's videos [u d].
    seen_prototypes: [s d].
    transfer_weights: [u s].
    gzsl_curve: accuracies on seen and unseen classes [p 2], and AUSUC.
    hubness_counts: method -> N_1 of each candidate [u].
    probabilities: calibrated probabilities [n u].
    calibration_note: the videos and classes of the calibration, in words.
    thumbnails: video id -> JPEG bytes.
    notes: remarks for the reader, such as which split is shown.
    dataset: name of the evaluated dataset or file; '' if unknown.
  """

  title: str
  method: str
  unseen: tuple[str, ...]
  seen: tuple[str, ...]
  video_ids: tuple[str, ...]
  labels: np.ndarray
  scores: np.ndarray
  embeddings: np.ndarray | None = None
  unseen_prototypes: np.ndarray | None = None
  true_means: np.ndarray | None = None
  seen_prototypes: np.ndarray | None = None
  transfer_weights: np.ndarray | None = None
  gzsl_curve: tuple[np.ndarray, float] | None = None
  hubness_counts: Mapping[str, np.ndarray] = dataclasses.field(
    default_factory=dict
  )
  probabilities: np.ndarray | None = None
  calibration_note: str = ''
  thumbnails: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()
  dataset: str = ''

  @property
  def answers(self) -> np.ndarray:
    """The best candidate of each video, int [n]."""
    return self.scores.argmax(axis=1)

  @property
  def confidence(self) -> np.ndarray:
    """Probability of the answer, else its lead over the next score, [n]."""
    if self.probabilities is not None:
      return self.probabilities.max(axis=1)
    if self.scores.shape[1] < 2:
      return self.scores[:, 0]
    best = np.partition(self.scores, -2, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0]


def confident_mistakes(content: ReportContent, count: int = 12) -> np.ndarray:
  """Returns positions of the `count` most confident wrong answers."""
  wrong = np.flatnonzero(content.answers != content.labels)
  order = np.argsort(-content.confidence[wrong], kind='stable')
  return wrong[order[:count]]
