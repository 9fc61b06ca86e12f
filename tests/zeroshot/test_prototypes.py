import numpy as np
import pytest

from zsar_jax.zeroshot import prototypes


def unit_rows(rng, n, d):
  x = rng.normal(size=(n, d))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_prototype_is_the_normalised_mean_of_its_class():
  embeddings = np.array([[1, 0], [0, 1], [0, -1]], np.float32)
  made = prototypes.class_prototypes(embeddings, np.array([0, 0, 1]), 2)
  root = 0.5**0.5
  np.testing.assert_allclose(made, [[root, root], [0, -1]], rtol=1e-6)
  assert made.dtype == np.float32


def test_order_and_batches_of_videos_do_not_show():
  rng = np.random.default_rng(0)
  embeddings, labels = unit_rows(rng, 60, 8), np.arange(60) % 5
  whole = prototypes.class_prototypes(embeddings, labels, 5)
  sums = prototypes.PrototypeSums(5, 8)
  for part in np.split(rng.permutation(60), [1, 7, 40]):
    sums.add(embeddings[part], labels[part])
  np.testing.assert_allclose(sums.prototypes(), whole, atol=1e-7)
  assert sums.counts.tolist() == [12] * 5


def test_sums_are_kept_in_float64():
  # In float32 1 + 1e-9 is 1, however often.
  sums = prototypes.PrototypeSums(1, 1)
  sums.add(np.float32([[1.0]]), np.array([0]))
  sums.add(np.full((1000, 1), 1e-9, np.float32), np.zeros(1000, int))
  np.testing.assert_allclose(sums.sums[0, 0] - 1, 1e-6, rtol=1e-6)


def test_class_without_videos_raises_and_is_named():
  with pytest.raises(ValueError, match=r'classes \[1\]'):
    prototypes.class_prototypes(np.eye(3), np.array([0, 2, 2]), 3)


def test_embeddings_that_are_no_numbers_raise_and_the_rows_are_named():
  sums = prototypes.PrototypeSums(2, 3)
  bad = np.zeros((4, 3), np.float32)
  bad[1, 2], bad[3, 0] = np.nan, np.inf
  message = r'2 of 4 embeddings are not finite numbers \(rows \[1, 3\]\)'
  with pytest.raises(ValueError, match=message):
    sums.add(bad, np.zeros(4, int))
  assert not sums.counts.any()
  # Views of videos, too.
  with pytest.raises(ValueError, match='1 of 2'):
    prototypes.check_embeddings(np.array([[[0.0], [np.nan]], [[0], [0]]]), 'x')
  prototypes.check_embeddings(np.zeros((2, 3)), 'x')


def test_no_class_raises_and_one_is_enough():
  with pytest.raises(ValueError, match='no seen class'):
    prototypes.PrototypeSums(0, 3)
  made = prototypes.class_prototypes(
    np.array([[3.0, 4.0]]), np.zeros(1, int), 1
  )
  np.testing.assert_allclose(made, [[0.6, 0.8]])


def test_classes_without_videos_so_far_have_their_names():
  sums = prototypes.PrototypeSums(3, 2)
  assert sums.empty_classes(['a', 'b', 'c']) == ['a', 'b', 'c']
  sums.add(np.eye(2), np.array([1, 1]))
  assert sums.empty_classes(['a', 'b', 'c']) == ['a', 'c']


def test_videos_that_cancel_have_no_direction():
  made = prototypes.class_prototypes(
    np.array([[1.0, 0.0], [-1.0, 0.0]]), np.zeros(2, int), 1
  )
  np.testing.assert_array_equal(made, [[0, 0]])


def test_the_gram_matrix_is_over_all_videos(monkeypatch):
  monkeypatch.setattr(prototypes, '_CHUNK', 4)
  rng = np.random.default_rng(0)
  embeddings, labels = unit_rows(rng, 11, 3), np.arange(11) % 2
  sums = prototypes.PrototypeSums(2, 3, with_gram=True)
  sums.add(embeddings[:10], labels[:10])
  sums.add(embeddings[10:], labels[10:])
  exact = embeddings.astype(np.float64)
  np.testing.assert_allclose(sums.gram, exact.T @ exact)
  for c in range(2):
    np.testing.assert_allclose(sums.sums[c], exact[labels == c].sum(axis=0))
  assert prototypes.PrototypeSums(2, 3).gram is None
