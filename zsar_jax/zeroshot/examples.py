"""A few example videos of a class sharpen its prototype.

The prototype that the class's name gives counts as much as kappa videos:

  p = n(kappa c + sum_i z_i)

with the composite c and the examples' embeddings z_i, all unit vectors. It is
the mode of the posterior of a von Mises-Fisher mean direction whose conjugate
prior has the direction c and the strength kappa (Mardia and El-Atoum 1976). The
paper has no examples; using the rule here is our choice.
"""

from collections.abc import Sequence

import numpy as np

from zsar_jax.zeroshot import prototypes

# Of a sum's parts, what is left by rounding alone, in float32.
_CANCELLED = 1e-6


def _unit(x: np.ndarray) -> np.ndarray:
  norms = np.linalg.norm(x, axis=-1, keepdims=True)
  return x / np.maximum(norms, 1e-12)


def directions(
  embeddings: np.ndarray,
  centre: np.ndarray | None = None,
) -> np.ndarray:
  """Brings videos into the space in which prototypes are made.

  With a centre c this is n(z - (z c') c'), c' = n(c). It is not n(z - c): c is
  a mean over class prototypes, which have length one. So it is longer than the
  part of it that a single video has, and z - c would point away from what all
  videos share. Such an example loses against composites, which do not
  (our choice, compared on seen classes of filmed clips).

  Args:
    embeddings: [n v d], v views of each video, unit vectors.
    centre: [d], what was taken off the videos behind the prototypes; None where
      nothing was. Its length does not matter.

  Returns:
    float32 [n d], unit vectors; a zero vector where nothing of a video is left.

  Raises:
    ValueError: there is no video, or an embedding or the centre is not finite.
  """
  if not len(embeddings):
    raise ValueError('example videos: there are none, expected at least one')
  prototypes.check_embeddings(embeddings, 'example videos')
  x = _unit(np.asarray(embeddings, np.float64).mean(axis=1))
  if centre is not None:
    if not np.isfinite(centre).all():
      raise ValueError(
        'centre of the example videos: not all numbers are finite'
      )
    shared = _unit(np.asarray(centre, np.float64))
    x = x - np.outer(x @ shared, shared)
  lengths = np.linalg.norm(x, axis=1, keepdims=True)
  return np.where(lengths > 1e-6, _unit(x), 0).astype(np.float32)


def mix(
  composites: np.ndarray,
  sums: np.ndarray,
  prior: float,
  names: Sequence[str] = (),
) -> np.ndarray:
  """Computes p_c = n(kappa c_c + sum_i z_ci).

  Args:
    composites: [c d], unit vectors; prototypes by name alone.
    sums: [c d], of the unit vectors of each class's examples; a row of zeros
      where there are none.
    prior: kappa, positive and finite; how many videos a composite counts as.
    names: of the classes, for messages; () names their rows.

  Returns:
    float32 [c d]: unit vectors, but the composite itself, of whatever length,
    where there are no examples.

  Raises:
    ValueError: kappa is not positive and finite; or composite and examples of a
      class cancel out, so that no direction is left.
  """
  if not 0 < prior < np.inf:
    raise ValueError(f'example_prior must be positive and finite, got {prior}')
  by_name = prior * np.asarray(composites, np.float64)
  total = by_name + sums
  length = lambda x: np.linalg.norm(x, axis=1)
  given = np.any(sums, axis=1)
  lost = length(total) <= _CANCELLED * (length(by_name) + length(sums))
  if np.any(given & lost):
    row = int(np.flatnonzero(given & lost)[0])
    of_class = repr(names[row]) if names else f'row {row}'
    raise ValueError(
      f'the example videos of {of_class} are opposite to the prototype by name '
      'and cancel it out: give other videos'
    )
  return np.where(given[:, None], _unit(total), composites).astype(np.float32)


def share(counts: np.ndarray, prior: float) -> np.ndarray:
  """Computes n / (kappa + n), the weight of n examples beside the name.

  Args:
    counts: int [c], examples of each class.
    prior: kappa > 0.

  Returns:
    [c], in [0, 1).
  """
  return counts / (prior + counts)
