"""Scores of videos against prototypes or class embeddings."""

import jax
import jax.numpy as jnp

_exact = jax.default_matmul_precision('highest')


@_exact
def similarity_scores(embeddings: jax.Array, prototypes: jax.Array):
  """Mean over a video's views of z . p.

  Args:
    embeddings: unit vectors [b v d], v views of each video.
    prototypes: unit vectors [u d]: composites, or class embeddings for
      nearest-name scores.

  Returns:
    Scores [b u], in [-1, 1].
  """
  scores = jnp.einsum('bvd,ud->bvu', embeddings, prototypes)
  return scores.mean(axis=1)


def restrict_candidates(scores: jax.Array, allowed: jax.Array) -> jax.Array:
  """Puts -inf where a class is no candidate.

  Args:
    scores: [b u].
    allowed: bool [b u]; every row needs a True.

  Returns:
    Scores [b u].
  """
  return jnp.where(allowed, scores, -jnp.inf)
