"""Scores of videos against prototypes or class embeddings.

Videos are scored in tiles of a fixed size. Every tile runs the same program,
so a score does not depend on the number of videos or devices.
"""

from collections.abc import Iterable, Iterator
import functools

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.zeroshot import array_module

TILE = 1024
_exact = jax.default_matmul_precision('highest')


@_exact
def similarity_scores(
  embeddings: np.ndarray | jax.Array, prototypes: np.ndarray | jax.Array
) -> np.ndarray | jax.Array:
  """Computes the mean over a video's views of z . p.

  Args:
    embeddings: unit vectors [b v d], v views of each video.
    prototypes: unit vectors [u d]: composites, or class embeddings for
      nearest-name scores.

  Returns:
    Scores [b u], in [-1, 1]; a numpy array if both arguments are.
  """
  xp = array_module.of(embeddings, prototypes)
  return xp.matmul(embeddings, prototypes.T).mean(axis=1)


def view_means(embeddings: np.ndarray) -> np.ndarray:
  """Averages views; the product with p is the mean of the views' products.

  Args:
    embeddings: [n v d].

  Returns:
    float32 [n d]; the norm is below one if views differ.
  """
  if embeddings.shape[1] == 1:
    return np.asarray(embeddings[:, 0], np.float32)
  return embeddings.mean(axis=1, dtype=np.float64).astype(np.float32)


def _devices() -> list:
  return jax.local_devices()


@jax.jit
@_exact
def _tile_scores(tile, rows):
  return tile @ rows.T


def score_videos(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
  """Scores every video with every row by z . r, on all devices.

  Args:
    embeddings: [n d], means over views.
    rows: [c d], such as prototypes.

  Returns:
    float32 [n c].
  """
  scores = np.empty((len(embeddings), len(rows)), np.float32)
  for first, last, part in _in_tiles(embeddings, (rows,), _tile_scores):
    scores[first:last] = part
  return scores


def _in_tiles(
  embeddings: np.ndarray, constants: tuple, function
) -> Iterator[tuple[int, int, np.ndarray]]:
  """Calls `function(tile, *constants)` for all tiles, several at a time."""
  devices = _devices()
  constants = [
    [jax.device_put(jnp.asarray(x), d) for x in constants] for d in devices
  ]
  under_way = []

  def finish():
    first, last, out = under_way.pop(0)
    out = jax.tree.map(lambda x: np.asarray(x)[: last - first], out)
    return first, last, out

  for i, first in enumerate(range(0, len(embeddings), TILE)):
    tile = np.asarray(embeddings[first : first + TILE], np.float32)
    last = first + len(tile)
    if len(tile) < TILE:
      tile = np.pad(tile, ((0, TILE - len(tile)), (0, 0)))
    d = i % len(devices)
    tile = jax.device_put(tile, devices[d])
    under_way.append((first, last, function(tile, *constants[d])))
    if len(under_way) > len(devices):
      yield finish()
  while under_way:
    yield finish()


@functools.partial(jax.jit, static_argnames='k')
@_exact
def _tile_top(tile, rows, k):
  return jax.lax.top_k(tile @ rows.T, k)


def stream_top_k(
  embeddings: Iterable[np.ndarray], rows: np.ndarray, k: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Finds the k best classes of a stream of videos; never holds all scores.

  Args:
    embeddings: chunks [n d] of videos.
    rows: [c d], such as prototypes.
    k: number of classes; ties go to the lower class index.

  Yields:
    For each chunk scores float32 [n k], best first, and classes int32 [n k].

  Raises:
    ValueError: k is not in 1 to c.
  """
  if not 0 < k <= len(rows):
    raise ValueError(f'k={k} is not between 1 and the {len(rows)} classes')
  top = functools.partial(_tile_top, k=k)
  for chunk in embeddings:
    values = np.empty((len(chunk), k), np.float32)
    classes = np.empty((len(chunk), k), np.int32)
    for first, last, (v, c) in _in_tiles(chunk, (rows,), top):
      values[first:last], classes[first:last] = v, c
    yield values, classes
