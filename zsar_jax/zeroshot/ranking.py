"""Ranks of the true classes under many candidate sets at once.

The number of candidates of a split before the true class is a matrix product:
classes before the true one [n c] times candidates of the split [c s]. So all
splits of a protocol cost one pass over the scores.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_TILE = 4096


@functools.partial(jax.jit, static_argnames='restricted')
def _tile_ranks(scores, labels, candidates, allowed, restricted):
  truth = jnp.take_along_axis(scores, labels[:, None], axis=1)
  before = jnp.arange(scores.shape[1])[None] < labels[:, None]
  ahead = (scores > truth) | ((scores == truth) & before)
  if restricted:
    ahead &= allowed[labels]
  # Small whole numbers: exact in bfloat16 inputs with float32 sums.
  count = jax.lax.dot(
    ahead.astype(jnp.float32),
    candidates.astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
  absent = ~candidates[labels] | jnp.isneginf(truth)
  return jnp.where(absent, scores.shape[1], count.astype(jnp.int32))


def ranks_in_splits(
  scores: np.ndarray,
  labels: np.ndarray,
  candidates: np.ndarray,
  allowed: np.ndarray | None = None,
) -> np.ndarray:
  """Counts the candidates before the true class; ties go to the lower index.

  Args:
    scores: [n c]; -inf marks a class that is not a candidate.
    labels: int [n], below c.
    candidates: bool [c s], the candidates of each split.
    allowed: bool [c c], the classes (columns) that are candidates for videos
      of a class (rows); None for all.

  Returns:
    int [n s]; 0 if the true class is the answer, c if it is not a candidate.

  Raises:
    ValueError: a score is NaN.
  """
  if np.isnan(scores).any():
    rows = np.flatnonzero(np.isnan(scores).any(axis=1))
    raise ValueError(f'scores of videos {rows[:10].tolist()} are not numbers')
  labels = np.asarray(labels, np.int32)
  restricted = allowed is not None
  if not restricted:
    allowed = np.ones((1, 1), bool)
  n, tile = len(labels), min(_TILE, max(1, len(labels)))
  out = np.empty((n, candidates.shape[1]), np.int32)
  for first in range(0, n, tile):
    # The last tile overlaps the one before, so all have one shape.
    first = min(first, n - tile)
    at = slice(first, first + tile)
    out[at] = _tile_ranks(
      scores[at], labels[at], candidates, allowed, restricted
    )
  return out


def answers(
  scores: np.ndarray, candidates: np.ndarray, allowed: np.ndarray | None = None
) -> np.ndarray:
  """Finds the best class of each video; ties go to the lower index.

  Args:
    scores: [n c].
    candidates: bool [c].
    allowed: bool [n c], the candidates of each video; None for all.

  Returns:
    int [n], below c.
  """
  keep = candidates[None] if allowed is None else candidates[None] & allowed
  return np.where(keep, scores, -np.inf).argmax(axis=1)
