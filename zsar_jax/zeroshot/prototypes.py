"""Seen prototypes: the mean visual embedding of each seen class."""

import numpy as np


class PrototypeSums:
  """Streams embeddings into per-class sums, in float64.

  The order and the batches in which videos come do not show in the result
  beyond float64 rounding.
  """

  def __init__(self, num_classes: int, dim: int):
    self.sums = np.zeros((num_classes, dim), np.float64)
    self.counts = np.zeros(num_classes, np.int64)

  def add(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
    """Adds videos.

    Args:
      embeddings: [n d], unit vectors.
      labels: int [n], each below `num_classes`.
    """
    np.add.at(self.sums, labels, np.asarray(embeddings, np.float64))
    np.add.at(self.counts, labels, 1)

  def prototypes(self) -> np.ndarray:
    """p_s = n(mean of z_i over the videos of s), float32 [s d].

    Raises:
      ValueError: a class without any video.
    """
    empty = np.flatnonzero(self.counts == 0)
    if empty.size:
      raise ValueError(
        f'no video for classes {empty.tolist()}: no prototype can be made'
      )
    # The mean and the sum have one direction.
    norms = np.linalg.norm(self.sums, axis=1, keepdims=True)
    return (self.sums / np.maximum(norms, 1e-12)).astype(np.float32)


def class_prototypes(
  embeddings: np.ndarray, labels: np.ndarray, num_classes: int
) -> np.ndarray:
  """Prototypes of videos that are all at hand.

  Args:
    embeddings: [n d], unit vectors.
    labels: int [n].
    num_classes: s.

  Returns:
    float32 [s d], unit vectors.

  Raises:
    ValueError: a class without any video.
  """
  sums = PrototypeSums(num_classes, embeddings.shape[1])
  sums.add(embeddings, labels)
  return sums.prototypes()
