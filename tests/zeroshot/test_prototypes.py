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


def test_classes_without_videos_so_far_are_named():
  sums = prototypes.PrototypeSums(3, 2)
  sums.add(np.float32([[1, 0], [0, 1]]), np.array([1, 1]))
  assert sums.empty_classes(['a', 'b', 'c']) == ['a', 'c']
  sums.add(np.float32([[1, 0], [0, 1]]), np.array([0, 2]))
  assert sums.empty_classes(['a', 'b', 'c']) == []
