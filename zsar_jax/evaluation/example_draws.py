"""What a few example videos of unseen classes bring, drawn again and again.

A draw takes some videos of every class as its examples and tests on the others.
Videos of one recording session never stand on both sides.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from zsar_jax.evaluation import task
from zsar_jax.zeroshot import examples, scoring


@dataclasses.dataclass(frozen=True)
class Draw:
  """Which videos are examples, and which are tested.

  Attributes:
    pool: int [c m], rows of the example videos of each class; n examples are
      the first n, so that more examples contain the fewer.
    tested: int [t], rows of the tested videos.
  """

  pool: np.ndarray
  tested: np.ndarray


def draw(
  videos: task.TestVideos,
  names: Sequence[str],
  most: int,
  rng: np.random.Generator,
) -> Draw:
  """Draws examples, whole recording sessions at a time.

  Args:
    videos: of the classes.
    names: of the classes.
    most: m, examples of each class.
    rng: draws.

  Returns:
    The draw. What is left of the sessions of examples is not tested.

  Raises:
    ValueError: a class has too few videos, or no session to test on.
  """
  labels, groups = np.asarray(videos.labels), np.array(videos.groups)
  pool, used = [], set()
  for c in range(len(names)):
    rows = np.flatnonzero(labels == c)
    taken: list[int] = []
    for session in rng.permutation(np.unique(groups[rows])):
      if len(taken) < most:
        taken += rng.permutation(rows[groups[rows] == session]).tolist()
        used.add(session)
    pool.append(taken[:most])
  # A session may have videos of several classes.
  tested = np.flatnonzero(~np.isin(groups, [*used]))
  for c, name in enumerate(names):
    if len(pool[c]) < most or c not in labels[tested]:
      raise ValueError(
        f'{name!r} has {(labels == c).sum()} videos of '
        f'{len(set(groups[labels == c]))} recording sessions: too few for '
        f'{most} examples and a test'
      )
  return Draw(np.array(pool), tested)


def scores(
  drawn: Draw,
  embeddings: np.ndarray,
  directions: np.ndarray,
  composites: np.ndarray,
  counts: int | np.ndarray,
  prior: float,
) -> np.ndarray:
  """Scores the tested videos with prototypes that have examples.

  Args:
    drawn: the examples.
    embeddings: of all videos [n v d].
    directions: of all videos [n d]; see `examples.directions`.
    composites: of the classes [c d].
    counts: examples of each class [c], or of every class.
    prior: see `examples.mix`.

  Returns:
    float32 [t c].
  """
  counts = np.broadcast_to(counts, len(composites))
  sums = np.stack(
    [
      directions[rows[:n]].sum(axis=0)
      for rows, n in zip(drawn.pool, counts, strict=True)
    ]
  )
  z = scoring.view_means(embeddings[drawn.tested])
  return z @ examples.mix(composites, sums, prior).T


def per_class_accuracy(scored: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the accuracy of each class that has videos.

  Args:
    scored: [t c].
    labels: int [t].

  Returns:
    [c of the labels], in their order.
  """
  right = scored.argmax(axis=1) == labels
  return np.array([right[labels == c].mean() for c in np.unique(labels)])
