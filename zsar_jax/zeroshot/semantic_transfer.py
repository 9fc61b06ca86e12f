"""Semantic transfer: unseen prototypes composited out of seen ones.

Pure functions on arrays, from any encoder:

  r = relatedness(unseen_text, seen_text)                   # [u s]
  w = softmax_weights(r, temperature=0.1)                   # [u s]
  unseen_prototypes = composite(w, seen_prototypes)         # [u d]

The paper composites unseen prototypes by semantic relatedness; it does not
publish the equation. The formulas here are our choice.
"""

import jax
import jax.numpy as jnp

_exact = jax.default_matmul_precision('highest')


def _unit(x: jax.Array) -> jax.Array:
  norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
  return x / jnp.maximum(norm, 1e-12)


@_exact
def relatedness(
  unseen_text: jax.Array, seen_text: jax.Array, centre: bool = True
) -> jax.Array:
  """r_us = n(t_u - m) . n(t_s - m), m the mean of the seen embeddings.

  Centring takes off what all names have in common, which otherwise makes
  every pair look related.

  Args:
    unseen_text: class embeddings [u d].
    seen_text: class embeddings [s d].
    centre: take the seen mean off first.

  Returns:
    [u s], in [-1, 1].
  """
  unseen_text = jnp.asarray(unseen_text, jnp.float32)
  seen_text = jnp.asarray(seen_text, jnp.float32)
  if centre:
    mean = seen_text.mean(axis=0)
    unseen_text, seen_text = unseen_text - mean, seen_text - mean
  return _unit(unseen_text) @ _unit(seen_text).T


def softmax_weights(
  related: jax.Array, temperature: float, top_k: int = 0
) -> jax.Array:
  """w_us in proportion to exp(r_us / tau) over the k most related.

  Args:
    related: [u s].
    temperature: tau > 0.
    top_k: how many seen classes an unseen one is made of; 0 means all.
      Ties go to the lower class index.

  Returns:
    [u s]; rows sum to one.

  Raises:
    ValueError: a temperature that is not positive, or a negative top_k.
  """
  if temperature <= 0:
    raise ValueError(f'temperature must be positive, got {temperature}')
  if top_k < 0:
    raise ValueError(f'top_k must not be negative, got {top_k}')
  logits = jnp.asarray(related, jnp.float32) / temperature
  if 0 < top_k < logits.shape[1]:
    order = jnp.argsort(-logits, axis=1, stable=True)
    rank = jnp.argsort(order, axis=1, stable=True)
    logits = jnp.where(rank < top_k, logits, -jnp.inf)
  return jax.nn.softmax(logits, axis=1)


@_exact
def composite(
  transfer_weights: jax.Array, seen_prototypes: jax.Array
) -> jax.Array:
  """p_u = n(sum_s w_us p_s).

  Without the renormalisation z . p_u could never exceed max_s z . p_s, and
  no unseen class could win against seen ones.

  Args:
    transfer_weights: [u s].
    seen_prototypes: [s d].

  Returns:
    [u d], unit vectors.
  """
  return _unit(jnp.asarray(transfer_weights) @ jnp.asarray(seen_prototypes))
