"""What a few example videos of unseen classes bring, drawn again and again.

A draw takes some videos of every class as its examples and tests on the others.
Videos of one recording session never stand on both sides.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from zsar_jax.evaluation import task
from zsar_jax.zeroshot import examples, scoring

# Tries to draw sessions that leave every class one to test on.
_TRIES = 50


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

  A session with examples of one class gives examples of its other classes too,
  so that as many sessions as possible are left to test on.

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
  for _ in range(_TRIES):
    pool, tested = _try(labels, groups, len(names), most, rng)
    lacking = [
      c
      for c, rows in enumerate(pool)
      if len(rows) < most or c not in labels[tested]
    ]
    if not lacking:
      return Draw(np.array(pool), tested)
  c = lacking[0]
  raise ValueError(
    f'{names[c]!r} has {(labels == c).sum()} videos of '
    f'{len(set(groups[labels == c]))} recording sessions: too few for {most} '
    'examples and a test'
  )


def _try(
  labels: np.ndarray,
  groups: np.ndarray,
  num_classes: int,
  most: int,
  rng: np.random.Generator,
) -> tuple[list[list[int]], np.ndarray]:
  """Draws at most `most` rows of each class, and returns what may be tested."""
  pool, used = [], set()
  for c in range(num_classes):
    rows = np.flatnonzero(labels == c)
    order = rng.permutation(np.unique(groups[rows]))
    taken: list[int] = []
    for session in sorted(order, key=lambda name: name not in used):
      if len(taken) < most:
        taken += rng.permutation(rows[groups[rows] == session]).tolist()
        used.add(session)
    pool.append(taken[:most])
  return pool, np.flatnonzero(~np.isin(groups, [*used]))


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
