"""Semantic transfer: unseen prototypes composited from seen ones.

Pure functions on arrays, from any encoder:

  r = relatedness(unseen_text, seen_text)                   # [u s]
  w = softmax_weights(r, temperature=0.1)                   # [u s]
  unseen_prototypes = composite(w, seen_prototypes)         # [u d]

The paper composites unseen prototypes by semantic relatedness; it does not
publish the equation. The formulas here are our choice. `softmax_weights`
compares one pair of names at a time. `ridge_weights` and `simplex_weights` find
the mixture of seen names nearest to the unseen name, so two seen classes with
one meaning do not count twice. `kernel_weights` does so among related names
alone; where hundreds of classes are seen, it finds the most classes
(docs/results/relatedness.md).

Functions that take JAX arrays return JAX arrays for these, and numpy arrays for
numpy arrays.
"""

import jax
import numpy as np

from zsar_jax.zeroshot import array_module, kept, simplex

WEIGHTINGS = ('softmax', 'ridge', 'simplex', 'kernel')
_exact = jax.default_matmul_precision('highest')
_Array = np.ndarray | jax.Array


def _unit(x: _Array) -> _Array:
  xp = array_module.of(x)
  norm = xp.linalg.norm(x, axis=-1, keepdims=True)
  return x / xp.maximum(norm, 1e-12)


def centred_rows(
  unseen_text: _Array, seen_text: _Array, centre: bool = True
) -> tuple[_Array, _Array]:
  """Computes n(t_u - m) and n(t_s - m), m the mean of the seen embeddings.

  Without centring, the part that all names share makes every pair look
  related. All weightings start from these rows.

  Args:
    unseen_text: class embeddings [u d].
    seen_text: class embeddings [s d].
    centre: subtract the mean of the seen embeddings first.

  Returns:
    Unit vectors [u d] and [s d], float32.

  Raises:
    ValueError: no seen class.
  """
  xp = array_module.of(unseen_text, seen_text)
  unseen_text = xp.asarray(unseen_text, np.float32)
  seen_text = xp.asarray(seen_text, np.float32)
  if not seen_text.shape[0]:
    raise ValueError('no seen class: nothing can be transferred from')
  rows_of = _seen_rows if xp is np else _mean_and_rows
  mean_and_rows = rows_of(seen_text, centre)
  return _unit(unseen_text - mean_and_rows[0]), mean_and_rows[1:]


def _mean_and_rows(seen_text: _Array, centre: bool) -> _Array:
  """The mean, or zeros, and below it the unit vectors: [1+s d]."""
  xp = array_module.of(seen_text)
  mean = seen_text.mean(axis=0, keepdims=True)
  if not centre:
    mean = xp.zeros_like(mean)
  return xp.concatenate([mean, _unit(seen_text - mean)])


_seen_rows = kept.recent(_mean_and_rows)


@kept.recent
def _doubled(rows: np.ndarray) -> np.ndarray:
  """The same in float64."""
  return np.asarray(rows, np.float64)


def _double_rows(
  unseen_text: np.ndarray, seen_text: np.ndarray, centre: bool
) -> tuple[np.ndarray, np.ndarray]:
  """`centred_rows` in float64; those of the seen names are made once."""
  unseen_rows, seen_rows = centred_rows(unseen_text, seen_text, centre)
  return np.asarray(unseen_rows, np.float64), _doubled(np.asarray(seen_rows))


@_exact
def relatedness(
  unseen_text: _Array, seen_text: _Array, centre: bool = True
) -> _Array:
  """Computes r_us = n(t_u - m) . n(t_s - m), m the mean seen embedding.

  Args:
    unseen_text: class embeddings [u d].
    seen_text: class embeddings [s d].
    centre: subtract the mean of the seen embeddings first.

  Returns:
    [u s], in [-1, 1].

  Raises:
    ValueError: no seen class.
  """
  unseen_rows, seen_rows = centred_rows(unseen_text, seen_text, centre)
  return unseen_rows @ seen_rows.T


def softmax_weights(
  related: _Array, temperature: float, top_k: int = 0
) -> _Array:
  """Computes w_us in proportion to exp(r_us / tau) over the k most related.

  Args:
    related: [u s].
    temperature: tau > 0.
    top_k: number of seen classes with a weight; 0 means all. Ties go to the
      lower class index.

  Returns:
    [u s]; rows sum to one.

  Raises:
    ValueError: the temperature is not positive, or top_k is negative or more
      than the seen classes.
  """
  if temperature <= 0:
    raise ValueError(f'temperature must be positive, got {temperature}')
  if not 0 <= top_k <= related.shape[1]:
    raise ValueError(
      f'top_k must be 0 (all) or at most the {related.shape[1]} seen classes, '
      f'got {top_k}'
    )
  xp = array_module.of(related)
  logits = xp.asarray(related, np.float32) / float(temperature)
  if 0 < top_k < logits.shape[1]:
    order = xp.argsort(-logits, axis=1, stable=True)
    rank = xp.argsort(order, axis=1, stable=True)
    logits = xp.where(rank < top_k, logits, -np.inf)
  shares = xp.exp(logits - logits.max(axis=1, keepdims=True))
  return shares / shares.sum(axis=1, keepdims=True)


def ridge_weights(
  unseen_text: np.ndarray,
  seen_text: np.ndarray,
  ridge: float,
  centre: bool = True,
) -> np.ndarray:
  """Solves W = T_u T_s' (T_s T_s' + lambda I)^-1 in float64.

  W P_s is the prediction for the unseen classes of a ridge regression from
  seen class embeddings to seen prototypes.

  Args:
    unseen_text: class embeddings [u d].
    seen_text: class embeddings [s d].
    ridge: lambda > 0.
    centre: subtract the mean of the seen embeddings first.

  Returns:
    float64 [u s]; signed, rows need not sum to one.

  Raises:
    ValueError: lambda is not positive, or there is no seen class.
  """
  if ridge <= 0:
    raise ValueError(f'ridge must be positive, got {ridge}')
  unseen_rows, seen_rows = _double_rows(unseen_text, seen_text, centre)
  return unseen_rows @ _ridge_map(seen_rows, ridge)


@kept.recent
def _ridge_map(seen_rows: np.ndarray, ridge: float) -> np.ndarray:
  """T_s' (T_s T_s' + lambda I)^-1 [d s]."""
  gram = seen_rows @ seen_rows.T
  np.fill_diagonal(gram, gram.diagonal() + ridge)
  return np.linalg.solve(gram, seen_rows).T


def kernel_weights(
  unseen_text: np.ndarray,
  seen_text: np.ndarray,
  gamma: float,
  ridge: float,
  centre: bool = True,
) -> np.ndarray:
  """W = K_us (K_ss + lambda I)^-1, K = exp(-gamma |a - b|^2), in float64.

  W P_s is the prediction for the unseen classes of a kernel ridge regression
  from seen class embeddings to seen prototypes.

  Args:
    unseen_text: class embeddings [u d].
    seen_text: class embeddings [s d].
    gamma: > 0; the larger, the fewer seen names are near.
    ridge: lambda > 0.
    centre: subtract the mean of the seen embeddings first.

  Returns:
    float64 [u s]; signed, rows need not sum to one.

  Raises:
    ValueError: gamma or lambda is not positive, or there is no seen class.
  """
  if gamma <= 0 or ridge <= 0:
    raise ValueError(
      f'gamma and ridge must be positive, got {gamma} and {ridge}'
    )
  unseen_rows, seen_rows = _double_rows(unseen_text, seen_text, centre)
  inverse = _kernel_inverse(seen_rows, gamma, ridge)
  return _kernel(unseen_rows, seen_rows, gamma) @ inverse


@kept.recent
def _kernel_inverse(
  seen_rows: np.ndarray, gamma: float, ridge: float
) -> np.ndarray:
  """(K_ss + lambda I)^-1 [s s], symmetric."""
  gram = _kernel(seen_rows, seen_rows, gamma)
  np.fill_diagonal(gram, gram.diagonal() + ridge)
  return np.linalg.inv(gram)


def _kernel(a: np.ndarray, b: np.ndarray, gamma: float) -> np.ndarray:
  """Returns exp(-gamma |a - b|^2) of unit vectors [n d] and [m d], [n m]."""
  return np.exp(-2 * gamma * (1 - a @ b.T))


def left_out_kernel_weights(
  seen_text: np.ndarray,
  gamma: float,
  ridge: float,
  ids: np.ndarray,
  centre: bool = True,
) -> np.ndarray:
  """Weights of seen classes as if each were unseen, all others seen.

  In closed form: row i of the inverse of K_ss + lambda I, divided by minus its
  diagonal entry. The mean name is that of all seen classes.

  Args:
    seen_text: class embeddings [s d].
    gamma: see `kernel_weights`.
    ridge: lambda > 0.
    ids: int [t], which seen classes.
    centre: subtract the mean of the seen embeddings first.

  Returns:
    float64 [t s]; the own class's weight is 0.
  """
  _, rows = _double_rows(seen_text[:0], seen_text, centre)
  inverse = _kernel_inverse(rows, gamma, ridge)[ids]
  at = np.arange(len(ids)), ids
  weights = -inverse / inverse[at][:, None]
  weights[at] = 0
  return weights


def simplex_weights(
  unseen_text: np.ndarray, seen_text: np.ndarray, centre: bool = True
) -> np.ndarray:
  """Finds argmin over w >= 0, sum w = 1 of |t_u - T_s' w|^2, in float64.

  Args:
    unseen_text: class embeddings [u d].
    seen_text: class embeddings [s d].
    centre: subtract the mean of the seen embeddings first.

  Returns:
    float64 [u s]; rows sum to one, most entries are zero.

  Raises:
    ValueError: no seen class.
  """
  unseen_rows, seen_rows = _double_rows(unseen_text, seen_text, centre)
  return simplex.nearest_mixtures(unseen_rows, seen_rows)


def transfer_weights(
  unseen_text: np.ndarray,
  seen_text: np.ndarray,
  *,
  weighting: str = 'softmax',
  temperature: float = 0.1,
  top_k: int = 0,
  ridge: float = 0.1,
  gamma: float = 1.0,
  centre: bool = True,
) -> np.ndarray:
  """Computes the transfer weights by any of `WEIGHTINGS`.

  Args:
    unseen_text: class embeddings [u d].
    seen_text: class embeddings [s d].
    weighting: one of `WEIGHTINGS`.
    temperature: tau > 0, for softmax.
    top_k: number of seen classes with a weight, for softmax; 0 means all.
    ridge: lambda > 0, for ridge and kernel.
    gamma: > 0, for kernel.
    centre: subtract the mean of the seen embeddings first.

  Returns:
    float64 [u s].

  Raises:
    ValueError: the weighting is unknown, or its own function raises.
  """
  if weighting == 'softmax':
    related = relatedness(unseen_text, seen_text, centre)
    return np.asarray(softmax_weights(related, temperature, top_k), np.float64)
  if weighting == 'ridge':
    return ridge_weights(unseen_text, seen_text, ridge, centre)
  if weighting == 'kernel':
    return kernel_weights(unseen_text, seen_text, gamma, ridge, centre)
  if weighting == 'simplex':
    return simplex_weights(unseen_text, seen_text, centre)
  raise ValueError(f'weighting={weighting!r} is not one of {WEIGHTINGS}')


@_exact
def composite(weights: _Array, seen_prototypes: _Array) -> _Array:
  """Computes p_u = n(sum_s w_us p_s).

  Without the renormalisation z . p_u could never exceed max_s z . p_s, and
  no unseen class could win against seen ones.

  Args:
    weights: transfer weights [u s].
    seen_prototypes: [s d].

  Returns:
    [u d], unit vectors.
  """
  xp = array_module.of(weights, seen_prototypes)
  weights = xp.asarray(weights, np.float32)
  return _unit(weights @ xp.asarray(seen_prototypes, np.float32))
