"""Baselines of semantic transfer, from the same embeddings.

Scores rank classes for one video. A factor or term that is the same for all
classes of a video changes no ranking. Functions leave it out where it would
cost time; their docstrings say so.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_exact = jax.default_matmul_precision('highest')


@functools.partial(jax.jit, static_argnames='top')
@_exact
def conse_weights(
  embeddings: jax.Array, centres: jax.Array, scale: float, top: int
) -> jax.Array:
  """Finds the classifier's most probable seen classes of each video.

  Args:
    embeddings: [n d], unit vectors.
    centres: of the seen classes [s d], unit vectors.
    scale: alpha_v, the factor on cosines before the softmax.
    top: T, the number of seen classes to keep; ties go to the lower class
      index.

  Returns:
    [n s], at most T positive entries a row, the probabilities of the T most
    probable seen classes.
  """
  probabilities = jax.nn.softmax(scale * (embeddings @ centres.T), axis=-1)
  if top >= centres.shape[0]:
    return probabilities
  values, at = jax.lax.top_k(probabilities, top)
  rows = jnp.arange(len(embeddings))[:, None]
  return jnp.zeros_like(probabilities).at[rows, at].set(values)


def conse_scores(
  embeddings: np.ndarray,
  centres: np.ndarray,
  scale: float,
  seen_text: np.ndarray,
  text: np.ndarray,
  top: int = 10,
) -> np.ndarray:
  """Computes ConSE (Norouzi et al. 2014): cos(f, t_u), f a mean of seen names.

  f = sum over the T most probable seen classes s of softmax_s(alpha_v z .
  w_s) t_s.

  Args:
    embeddings: [n d], unit vectors.
    centres: of the seen classes [s d], unit vectors.
    scale: alpha_v.
    seen_text: class embeddings [s e], unit vectors.
    text: class embeddings of the candidates [c e], unit vectors.
    top: T; cut to s.

  Returns:
    float32 [n c], in [-1, 1].
  """
  weights = conse_weights(embeddings, centres, scale, min(top, len(centres)))
  return np.asarray(_conse(weights, jnp.asarray(seen_text), jnp.asarray(text)))


@jax.jit
@_exact
def _conse(weights, seen_text, text):
  """Computes cos(W T_s, t) by way of the small Gram matrices of the names."""
  scores = weights @ (seen_text @ text.T)
  squared = jnp.einsum('ns,ns->n', weights @ (seen_text @ seen_text.T), weights)
  return scores / jnp.sqrt(jnp.maximum(squared, 1e-24))[:, None]


def ridge_to_text(
  gram: np.ndarray,
  class_sums: np.ndarray,
  counts: np.ndarray,
  seen_text: np.ndarray,
  ridge: float,
) -> np.ndarray:
  """Fits a closed-form regression from video to class embeddings, in float64.

  B = argmin mean_i |B' z_i - t_y(i)|^2 + lambda |B|^2. It needs only sums
  over the videos.

  Args:
    gram: sum over videos of z z' [d d].
    class_sums: sum of z over each class's videos [s d].
    counts: [s], videos of each class, or the sum of their weights where the
      sums are weighted.
    seen_text: class embeddings [s e].
    ridge: lambda > 0.

  Returns:
    B, float64 [d e].

  Raises:
    ValueError: lambda is not positive, or there is no video.
  """
  if ridge <= 0:
    raise ValueError(f'ridge must be positive, got {ridge}')
  n = float(np.sum(counts))
  if not n > 0:
    raise ValueError('no training video: nothing to regress from')
  left = np.asarray(gram, np.float64) / n
  left = left + ridge * np.eye(len(left))
  right = np.asarray(class_sums, np.float64).T @ np.asarray(
    seen_text, np.float64
  )
  return np.linalg.solve(left, right / n)


def regression_rows(regression: np.ndarray, text: np.ndarray) -> np.ndarray:
  """Returns vectors r_c: z . r_c ranks classes as cos(B' z, t_c) does.

  z . (B t_c) differs from the cosine by 1 / |B' z|, one factor for all
  classes of a video.

  Args:
    regression: B [d e].
    text: class embeddings of the candidates [c e], unit vectors.

  Returns:
    float32 [c d].
  """
  return (np.asarray(text, np.float64) @ regression.T).astype(np.float32)


def ensemble_scores(
  transfer: np.ndarray,
  match: np.ndarray,
  *,
  beta: float = 0.5,
  transfer_temperature: float = 0.1,
  match_temperature: float = 1.0,
) -> np.ndarray:
  """Adds (1 - beta) log softmax(transfer / T1) + beta log softmax(match / T2).

  The two normalisers are left out: they add one term to all classes of a
  video. So the scores hold for any set of candidates.

  Args:
    transfer: transfer scores [n c].
    match: match logits [n c].
    beta: weight of the match, in [0, 1].
    transfer_temperature: T1 > 0.
    match_temperature: T2 > 0.

  Returns:
    [n c].

  Raises:
    ValueError: beta is outside [0, 1], or a temperature is not positive.
  """
  if not 0 <= beta <= 1:
    raise ValueError(f'beta={beta} is not in [0, 1]')
  if min(transfer_temperature, match_temperature) <= 0:
    raise ValueError('the temperatures of the ensemble must be positive')
  return (1 - beta) / transfer_temperature * transfer + (
    beta / match_temperature
  ) * match
