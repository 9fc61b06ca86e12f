"""Hubness: a few prototypes are nearest to most videos.

N_k(j) counts the videos with class j among their k best. Each video has the
weight 1 / (videos of its class). So a class with many videos does not look like
a hub, and a perfect classifier has N_1 = 1 for every class.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

# The skewness of fewer prototypes is unreliable.
_RELIABLE = 20
# Keeps lengths finite where prototypes are at right angles, or beyond.
_LEAST_ALIKE = 0.05


@dataclasses.dataclass(frozen=True)
class Hubness:
  """How unevenly the answers spread over the classes.

  Attributes:
    counts: N_k [u].
    skewness: of N_k; 0 if all are equal (Radovanovic et al. 2010).
    robin_hood: share of N_k that must move to make all equal, in [0, 1).
    largest_share: share of the largest N_k in the sum, in (0, 1].
    reliable: False under 20 prototypes, where the skewness is unreliable.
  """

  counts: np.ndarray
  skewness: float
  robin_hood: float
  largest_share: float
  reliable: bool


def default_ks(num_classes: int) -> tuple[int, ...]:
  """Returns the values of k to report: 1 and min(10, u // 2), each once."""
  return tuple(sorted({1, max(1, min(10, num_classes // 2))}))


def k_occurrence(
  scores: np.ndarray, k: int, weights: Sequence[float] | None = None
) -> np.ndarray:
  """Computes N_k(j), the weight of the videos with class j among their k best.

  Args:
    scores: [n u].
    k: 1 to u; ties go to the lower class index.
    weights: of each video; None for 1 each.

  Returns:
    float64 [u].

  Raises:
    ValueError: k is out of range, or a score is not a number.
  """
  n, u = scores.shape
  if not 0 < k <= u:
    raise ValueError(f'k={k} is not between 1 and the {u} classes')
  bad = np.isnan(scores).any(axis=1)
  if bad.any():
    rows = np.flatnonzero(bad)[:10].tolist()
    raise ValueError(f'scores of videos {rows} are not numbers')
  if k == 1:
    best = scores.argmax(axis=1)[:, None]
  else:
    best = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  weights = np.ones(n) if weights is None else np.asarray(weights, float)
  return np.bincount(best.reshape(-1), np.repeat(weights, k), minlength=u)


def skewness(counts: np.ndarray) -> float:
  """Computes sum (N - mean)^3 / (u sd^3) (Radovanovic et al. 2010).

  Args:
    counts: N [u].

  Returns:
    The skewness; 0 if all counts are equal.
  """
  away = counts - counts.mean()
  sd = np.sqrt((away**2).mean())
  if sd <= 1e-12 * max(abs(counts.mean()), 1e-300):
    return 0.0
  return float((away**3).mean() / sd**3)


def robin_hood(counts: np.ndarray) -> float:
  """Computes the share of counts that must move to make all equal.

  Args:
    counts: N [u], with a positive sum.

  Returns:
    Sum |N - mean| / (2 sum N), in [0, 1).
  """
  return float(np.abs(counts - counts.mean()).sum() / (2 * counts.sum()))


def measure(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> Hubness:
  """Measures the hubness of scores.

  Args:
    scores: [n u].
    labels: int [n]; they give the videos' weights.
    k: as `k_occurrence`.

  Returns:
    The figures.

  Raises:
    ValueError: as `k_occurrence`.
  """
  sizes = np.bincount(labels, minlength=scores.shape[1])
  counts = k_occurrence(scores, k, 1 / sizes[labels])
  return Hubness(
    counts,
    skewness(counts),
    robin_hood(counts),
    float(counts.max() / counts.sum()),
    scores.shape[1] >= _RELIABLE,
  )


def typical_likeness(
  left_out: np.ndarray, left_out_ids: np.ndarray, seen_prototypes: np.ndarray
) -> float:
  """Returns h of `shrink_hubs`, which depends on the seen classes alone.

  Args:
    left_out: composites of some seen classes from all others [t d], unit
      vectors, t > 0.
    left_out_ids: int [t], which seen classes.
    seen_prototypes: [s d], unit vectors.

  Returns:
    The mean similarity of these composites to their nearest seen prototypes;
    that of the class itself does not count.
  """
  seen = np.asarray(seen_prototypes, np.float32)
  alike = left_out @ seen.T
  alike[np.arange(len(left_out)), left_out_ids] = -np.inf
  largest = _mean_of_largest(alike, _num_near(len(seen)))
  return max(float(largest.mean()), _LEAST_ALIKE)


def _num_near(num_seen: int) -> int:
  """10 as in CSLS; fewer where 10 would be a good part of all."""
  return min(10, -(-num_seen // 20))


def shrink_hubs(
  composites: np.ndarray,
  seen_prototypes: np.ndarray,
  strength: float,
  typical: float,
) -> np.ndarray:
  """p_u (h / h_u)^beta: shorter prototypes where many seen classes are near.

  h_u is the mean similarity of p_u to its nearest seen prototypes. A composite
  near many seen classes would win videos of any of them; a shorter one wins
  fewer. h is the mean of the same over composites of seen classes, each made
  of the others: so composites are as long as seen prototypes on average. No
  video is looked at. After the local scaling of CSLS (Conneau et al. 2018),
  with seen classes in place of the queries; our choice to divide, so that it
  does not matter how alike videos and prototypes are.

  Args:
    composites: [u d], unit vectors.
    seen_prototypes: [s d], unit vectors.
    strength: beta >= 0; 0 changes nothing.
    typical: h, from `typical_likeness`.

  Returns:
    float32 [u d].

  Raises:
    ValueError: the strength is negative.
  """
  if strength < 0:
    raise ValueError(f'hub_correction must be 0 or more, got {strength}')
  if not strength:
    return np.asarray(composites, np.float32)
  seen = np.asarray(seen_prototypes, np.float32)
  of_unseen = _mean_of_largest(composites @ seen.T, _num_near(len(seen)))
  lengths = (typical / np.maximum(of_unseen, _LEAST_ALIKE)) ** strength
  return (composites * lengths[:, None]).astype(np.float32)


def _mean_of_largest(x: np.ndarray, k: int) -> np.ndarray:
  """Mean of the k largest values of each row."""
  return np.partition(x, -k, axis=1)[:, -k:].mean(axis=1)


def _check_temperature(temperature: float) -> None:
  if temperature <= 0:
    raise ValueError(f'temperature must be positive, got {temperature}')


def inverted_softmax(scores: np.ndarray, temperature: float) -> np.ndarray:
  """Divides by each class's fit to all test videos (Smith et al. 2017).

  Transductive: every score depends on all given videos.

  Args:
    scores: [n u].
    temperature: > 0.

  Returns:
    float64 [n u], rows sum to one.

  Raises:
    ValueError: the temperature is not positive.
  """
  from scipy import special

  _check_temperature(temperature)
  logits = np.asarray(scores, np.float64) / temperature
  return special.softmax(special.log_softmax(logits, axis=0), axis=1)


def sinkhorn(
  scores: np.ndarray,
  temperature: float,
  iterations: int = 1000,
  tolerance: float = 1e-8,
) -> np.ndarray:
  """Balances the classes over all test videos (Cuturi 2013).

  Transductive: every score depends on all given videos. We assume that all
  classes are equally frequent among them (our choice).

  Args:
    scores: [n u].
    temperature: > 0.
    iterations: the largest number of iterations.
    tolerance: relative error of the classes' shares at which to stop.

  Returns:
    float64 [n u]; rows sum to one, columns to n / u.

  Raises:
    ValueError: the temperature is not positive.
  """
  from scipy import special

  _check_temperature(temperature)
  plan = special.log_softmax(
    np.asarray(scores, np.float64) / temperature, axis=1
  )
  n, u = plan.shape
  for _ in range(iterations):
    column = special.logsumexp(plan, axis=0)
    if np.abs(np.exp(column) * u / n - 1).max() < tolerance:
      break
    plan = special.log_softmax(plan - column, axis=1)
  return np.exp(plan)
