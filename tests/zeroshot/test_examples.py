import numpy as np
import pytest

from zsar_jax.zeroshot import examples


def unit(*x):
  return np.array(x) / np.linalg.norm(x)


def test_the_name_counts_as_many_videos_as_the_prior_says():
  name, first, second = unit(1, 0, 0), unit(0, 1, 0), unit(0, 0.6, 0.8)
  mixed = examples.mix(np.stack([name]), np.stack([first + second]), 2.0)
  np.testing.assert_allclose(mixed[0], unit(2.0, 1.6, 0.8), rtol=1e-6)
  # A strong prior gives the name, a weak one the mean of the examples.
  strong = examples.mix(np.stack([name]), np.stack([first]), 1e6)
  np.testing.assert_allclose(strong[0], name, atol=1e-5)
  weak = examples.mix(np.stack([name]), np.stack([first + second]), 1e-6)
  np.testing.assert_allclose(weak[0], unit(0, 1.6, 0.8), atol=1e-5)


def test_a_class_without_examples_keeps_its_composite_to_the_bit():
  rng = np.random.default_rng(0)
  # Composites of kernel weights may be shorter than one.
  composites = rng.normal(size=(3, 4)).astype(np.float32)
  sums = np.zeros((3, 4), np.float32)
  sums[1] = rng.normal(size=4)
  mixed = examples.mix(composites, sums, 1.0)
  np.testing.assert_array_equal(mixed[[0, 2]], composites[[0, 2]])
  assert np.linalg.norm(mixed[1]) == pytest.approx(1, abs=1e-6)


def test_prior_that_is_not_positive_raises():
  with pytest.raises(ValueError, match='example_prior must be positive'):
    examples.mix(np.eye(2), np.eye(2), 0.0)


def test_share_is_the_weight_of_the_examples():
  np.testing.assert_allclose(
    examples.share(np.array([0, 1, 3]), 1.0), [0, 0.5, 0.75]
  )


def test_directions_are_unit_means_of_views():
  views = np.array([[unit(1, 0, 0), unit(0, 1, 0)], [unit(0, 0, 1)] * 2])
  found = examples.directions(views)
  np.testing.assert_allclose(found, [unit(1, 1, 0), unit(0, 0, 1)], atol=1e-6)
  assert found.dtype == np.float32


def test_what_all_videos_share_is_taken_off():
  shared, own = np.array([0.0, 0.0, 0.8]), np.array([0.6, 0.0, 0.0])
  video = (shared + own)[None, None]
  by_centre = examples.directions(video, centre=shared)
  np.testing.assert_allclose(by_centre[0], [1, 0, 0], atol=1e-6)
  # However much of it a video has, nothing of it stays.
  shorter = examples.directions(video, centre=1.2 * shared)
  np.testing.assert_allclose(shorter, by_centre, atol=1e-6)
  # Nothing is left of a video that is the mean.
  np.testing.assert_array_equal(
    examples.directions(shared[None, None] / 0.8, centre=shared / 0.8),
    [[0] * 3],
  )


def test_embeddings_that_are_not_finite_raise():
  with pytest.raises(ValueError, match='example videos: 1 of 2'):
    examples.directions(np.array([[[1.0, 0]], [[np.nan, 0]]]))
