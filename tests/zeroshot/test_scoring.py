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


@pytest.mark.parametrize('n', [0, 1, 3, 4, 5, 23, 100])
def test_tiles_give_every_video_its_own_scores(n, monkeypatch):
  # More tiles than devices, and a last one that is not full.
  monkeypatch.setattr(scoring, 'TILE', 4)
  rng = np.random.default_rng(n)
  embeddings = rng.normal(size=(n, 6)).astype(np.float32)
  rows = rng.normal(size=(5, 6)).astype(np.float32)
  found = scoring.score_videos(embeddings, rows)
  assert found.dtype == np.float32 and found.shape == (n, 5)
  np.testing.assert_allclose(found, embeddings @ rows.T, atol=1e-5)


def test_the_best_classes_of_streamed_videos(monkeypatch):
  monkeypatch.setattr(scoring, 'TILE', 4)
  rng = np.random.default_rng(2)
  chunks = [rng.normal(size=(n, 6)).astype(np.float32) for n in (9, 1, 40)]
  rows = rng.normal(size=(7, 6)).astype(np.float32)
  found = list(scoring.stream_top_k(chunks, rows, 3))
  assert len(found) == 3
  for chunk, (values, classes) in zip(chunks, found, strict=True):
    scores = chunk @ rows.T
    order = np.argsort(-scores, axis=1, kind='stable')[:, :3]
    np.testing.assert_array_equal(classes, order)
    best = np.take_along_axis(scores, order, axis=1)
    np.testing.assert_allclose(values, best, atol=1e-5)


@pytest.mark.parametrize('k', [-1, 0, 8])
def test_streaming_refuses_more_classes_than_there_are(k):
  rows = np.eye(7, dtype=np.float32)
  with pytest.raises(ValueError, match='between 1 and the 7 classes'):
    next(scoring.stream_top_k([rows], rows, k))
  values, classes = next(scoring.stream_top_k([rows], rows, 7))
  assert values.shape == classes.shape == (7, 7)


def test_a_mean_over_views_is_taken_in_float64():
  views = np.float32([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [1.0, -1.0]]])
  mean = scoring.view_means(views)
  assert mean.dtype == np.float32
  np.testing.assert_array_equal(mean, [[2, 4], [0.5, -0.5]])
  np.testing.assert_array_equal(scoring.view_means(views[:, 1:]), views[:, 1])
  # In float32, one after the other, the small ones would be lost.
  many = np.float32([[[1e8]] + [[1.0]] * 15])
  assert scoring.view_means(many)[0, 0] == np.float32((1e8 + 15) / 16)
