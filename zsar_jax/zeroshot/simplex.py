"""The convex mixture of given points that is nearest to another point.

Least squares over the simplex, for many points at once. Projected gradient
steps first find roughly the points with a weight. An active set method (as
Lawson and Hanson's for non-negative least squares, with the sum fixed to one)
then finds the exact mixture.
"""

import numpy as np

from zsar_jax.zeroshot import kept

_STEPS = 30
_TOLERANCE = 1e-10


def project(x: np.ndarray) -> np.ndarray:
  """Finds the nearest point of the simplex to each row (Duchi et al. 2008).

  Args:
    x: [u s].

  Returns:
    [u s], not negative; rows sum to one.
  """
  ordered = -np.sort(-x, axis=1)
  excess = np.cumsum(ordered, axis=1) - 1
  counts = np.arange(1, x.shape[1] + 1)
  last = (ordered * counts > excess).sum(axis=1) - 1
  shift = excess[np.arange(len(x)), last] / (last + 1)
  return np.maximum(x - shift[:, None], 0)


def nearest_mixtures(targets: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Finds argmin over w >= 0, sum w = 1 of |t - P' w|^2 for every target.

  Args:
    targets: [u d].
    points: [s d], s > 0.

  Returns:
    float64 [u s]; one mixture where several are equally near.
  """
  points = np.asarray(points, np.float64)
  gram = _gram(points)
  related = np.asarray(targets, np.float64) @ points.T
  rough = _projected_gradient(gram, related)
  return np.stack(
    [_polish(gram, r, w) for r, w in zip(related, rough, strict=True)]
  )


@kept.recent
def _gram(points: np.ndarray) -> np.ndarray:
  """Products of all pairs of points [s s]."""
  return points @ points.T


@kept.recent
def _largest_eigenvalue(gram):
  """Estimates it for a positive semidefinite matrix, rather too large."""
  v = np.sqrt(gram.diagonal())
  for _ in range(15):
    v = gram @ (v / max(np.linalg.norm(v), 1e-300))
  return np.array(1.1 * np.linalg.norm(v))


def _projected_gradient(gram, related):
  """Finds rough mixtures by Nesterov's accelerated steps from the even one."""
  step = 1 / max(_largest_eigenvalue(gram), 1e-12)
  w = ahead = np.full(related.shape, 1 / related.shape[1])
  t = 1.0
  for _ in range(_STEPS):
    moved = project(ahead - step * (ahead @ gram - related))
    t, previous = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
    ahead = moved + (previous - 1) / t * (moved - w)
    w = moved
  return w


def _solve(gram, related, chosen):
  """Finds the best weights of the chosen points, of any sign, of sum one."""
  n = len(chosen)
  system = np.ones((n + 1, n + 1))
  system[:n, :n] = gram[np.ix_(chosen, chosen)]
  system[n, n] = 0
  right = np.append(related[chosen], 1.0)
  try:
    return np.linalg.solve(system, right)[:n]
  except np.linalg.LinAlgError:  # two points coincide
    return np.linalg.lstsq(system, right, rcond=None)[0][:n]


def _polish(gram, related, w):
  """Turns the rough mixture of one target into the exact one."""
  s = len(related)
  w = np.where(w > 1e-3 * w.max(), w, 0)
  w /= w.sum()
  best, best_value = w, np.inf
  for _ in range(10 * s):
    # Inside: move to the best mixture of the chosen points, dropping those
    # that reach zero on the way.
    while True:
      chosen = np.flatnonzero(w > 0)
      goal = _solve(gram, related, chosen)
      if (goal > 0).all():
        w = np.zeros(s)
        w[chosen] = goal / goal.sum()
        break
      now = w[chosen]
      falls = goal <= 0
      reach = now[falls] / np.maximum(now[falls] - goal[falls], 1e-300)
      moved = now + reach.min() * (goal - now)
      moved[np.flatnonzero(falls)[reach == reach.min()]] = 0
      w = np.zeros(s)
      w[chosen] = np.maximum(moved, 0)
      w /= w.sum()
    slope = gram @ w - related
    value = w @ (slope - related)  # the squared distance, less |t|^2
    if value >= best_value - 1e-15:
      return best  # no point improves it any more, up to rounding
    best, best_value = w, value
    # Outside: the point whose share would lower the distance the fastest.
    gain = slope @ w - slope
    j = int(gain.argmax())
    if gain[j] <= _TOLERANCE:
      return w
    w = w.copy()
    w[j] = 1e-12
    w /= w.sum()
  return best
