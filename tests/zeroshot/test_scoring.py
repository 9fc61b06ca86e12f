import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_views_are_averaged_in_float32():
  rng = np.random.default_rng(0)
  for shape in ((5, 3, 4), (5, 2, 4), (1, 3, 4), (5, 2, 1)):
    views = rng.normal(size=shape).astype(np.float32)
    means = scoring.view_means(views)
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, views.mean(axis=1), atol=1e-6)
  np.testing.assert_array_equal(
    scoring.view_means(views[:, 1:2].astype(np.float64)), views[:, 1]
  )


@pytest.mark.parametrize('n', [0, 1, 4, 8, 45])
def test_tiles_do_not_show(n, monkeypatch):
  monkeypatch.setattr(scoring, 'TILE', 4)
  rng = np.random.default_rng(n)
  z = rng.normal(size=(n, 6)).astype(np.float32)
  rows = rng.normal(size=(5, 6)).astype(np.float32)
  scores = scoring.score_videos(z, rows)
  assert scores.dtype == np.float32 and scores.shape == (n, 5)
  np.testing.assert_allclose(scores, z @ rows.T, atol=1e-5)


def test_the_best_classes_of_chunks_of_videos(monkeypatch):
  monkeypatch.setattr(scoring, 'TILE', 4)
  rng = np.random.default_rng(0)
  # Small whole numbers: ties, and no rounding.
  chunks = [rng.integers(-2, 3, size=(n, 6)).astype(float) for n in (3, 41, 0)]
  rows = rng.integers(-2, 3, size=(9, 6)).astype(float)
  for k in (1, 4, 9):
    found = list(scoring.stream_top_k(iter(chunks), rows, k))
    assert len(found) == 3
    for z, (values, classes) in zip(chunks, found, strict=True):
      scores = z @ rows.T
      order = np.argsort(-scores, axis=1, kind='stable')[:, :k]
      np.testing.assert_array_equal(classes, order)
      np.testing.assert_array_equal(
        values, np.take_along_axis(scores, order, axis=1)
      )
      assert (values.dtype, classes.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize('k', [-1, 0, 10])
def test_classes_that_are_not_there_cannot_be_named(k):
  with pytest.raises(ValueError, match=f'k={k} is not between 1 and the 9'):
    next(scoring.stream_top_k([np.ones((2, 6))], np.ones((9, 6)), k))
