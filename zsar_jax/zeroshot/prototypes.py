"""Seen prototypes: the mean visual embedding of each seen class."""

from collections.abc import Sequence

import numpy as np

# Number of videos with float64 copies in memory at once.
_CHUNK = 8192


def check_embeddings(embeddings: np.ndarray, what: str) -> None:
  """Raises unless all embeddings are finite.

  Args:
    embeddings: [n ... d].
    what: name of the embeddings, for the message.

  Raises:
    ValueError: an embedding is not finite; the message lists the rows.
  """
  bad = ~np.isfinite(embeddings).reshape(len(embeddings), -1).all(axis=1)
  if bad.any():
    rows = np.flatnonzero(bad)
    raise ValueError(
      f'{what}: {len(rows)} of {len(bad)} embeddings are not finite numbers '
      f'(rows {rows[:10].tolist()})'
    )


class PrototypeSums:
  """Streams embeddings into per-class sums, in float64.

  The order and the batches of the videos do not change the result beyond
  float64 rounding.

  Attributes:
    sums: sum of each class's embeddings [s d].
    counts: number of videos of each class, int [s].
    gram: sum of z z' over all videos [d d]; None without `with_gram`.
  """

  def __init__(self, num_classes: int, dim: int, with_gram: bool = False):
    """Starts with empty sums.

    Args:
      num_classes: s.
      dim: d.
      with_gram: also sum z z', for regression.

    Raises:
      ValueError: `num_classes` is below 1.
    """
    if num_classes < 1:
      raise ValueError('no seen class: nothing to make prototypes of')
    self.sums = np.zeros((num_classes, dim), np.float64)
    self.counts = np.zeros(num_classes, np.int64)
    self.gram = np.zeros((dim, dim), np.float64) if with_gram else None

  def add(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
    """Adds videos.

    Args:
      embeddings: [n d], unit vectors.
      labels: int [n], each below `num_classes`.

    Raises:
      ValueError: an embedding is not finite.
    """
    check_embeddings(embeddings, 'training videos')
    np.add.at(self.counts, labels, 1)
    for first in range(0, len(labels), _CHUNK):
      part = np.asarray(embeddings[first : first + _CHUNK], np.float64)
      np.add.at(self.sums, labels[first : first + _CHUNK], part)
      if self.gram is not None:
        self.gram += part.T @ part

  def empty_classes(self, names: Sequence[str]) -> list[str]:
    """Returns the names of classes without a video so far.

    Args:
      names: of all classes, in class order.

    Returns:
      Those without a video.
    """
    return [names[i] for i in np.flatnonzero(self.counts == 0)]

  def prototypes(self) -> np.ndarray:
    """Computes p_s = n(mean of z_i over the videos of s), float32 [s d].

    Raises:
      ValueError: a class has no video.
    """
    empty = np.flatnonzero(self.counts == 0)
    if empty.size:
      raise ValueError(
        f'no video for classes {empty.tolist()}: no prototype can be made'
      )
    # The mean and the sum have the same direction.
    norms = np.linalg.norm(self.sums, axis=1, keepdims=True)
    return (self.sums / np.maximum(norms, 1e-12)).astype(np.float32)


def class_prototypes(
  embeddings: np.ndarray, labels: np.ndarray, num_classes: int
) -> np.ndarray:
  """Computes prototypes from all videos at once.

  Args:
    embeddings: [n d], unit vectors.
    labels: int [n].
    num_classes: s.

  Returns:
    float32 [s d], unit vectors.

  Raises:
    ValueError: a class has no video, or an embedding is not finite.
  """
  sums = PrototypeSums(num_classes, embeddings.shape[1])
  sums.add(embeddings, labels)
  return sums.prototypes()
