import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.zeroshot import scoring


def test_score_is_the_mean_over_views_of_the_cosines():
  embeddings = jnp.array([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [0.0, 1.0]]])
  prototypes = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
  np.testing.assert_allclose(
    scoring.similarity_scores(embeddings, prototypes),
    [[0.8, 0.4, -0.4], [0, 1, -1]],
    atol=1e-6,
  )


def test_scores_do_not_depend_on_the_batch():
  rng = np.random.default_rng(0)
  embeddings = rng.normal(size=(7, 2, 16)).astype(np.float32)
  prototypes = rng.normal(size=(3, 16)).astype(np.float32)
  whole = scoring.similarity_scores(embeddings, prototypes)
  for i in range(7):
    alone = scoring.similarity_scores(embeddings[i : i + 1], prototypes)
    np.testing.assert_allclose(alone[0], whole[i], atol=1e-6)


def test_numpy_gives_numpy_and_the_same_as_jax():
  rng = np.random.default_rng(1)
  embeddings = rng.normal(size=(4, 2, 16)).astype(np.float32)
  prototypes = rng.normal(size=(3, 16)).astype(np.float32)
  ours = scoring.similarity_scores(embeddings, prototypes)
  assert type(ours) is np.ndarray and ours.dtype == np.float32
  theirs = scoring.similarity_scores(jnp.asarray(embeddings), prototypes)
  assert isinstance(theirs, jax.Array)
  np.testing.assert_allclose(ours, theirs, atol=1e-5)
