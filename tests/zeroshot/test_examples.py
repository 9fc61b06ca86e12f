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


@pytest.mark.parametrize('prior', [0.0, -1.0, np.nan, np.inf])
def test_prior_that_is_not_positive_and_finite_raises(prior):
  with pytest.raises(
    ValueError, match=f'must be positive and finite, got {prior}'
  ):
    examples.mix(np.eye(2), np.eye(2), prior)


def test_examples_that_cancel_the_composite_out_are_refused():
  composites = np.stack([unit(1, 0, 0), unit(1, 2, 3)]).astype(np.float32)
  sums = np.stack([unit(0, 1, 0), -0.5 * unit(1, 2, 3)]).astype(np.float32)
  with pytest.raises(ValueError, match="videos of 'b' are opposite to the"):
    examples.mix(composites, sums, 0.5, ('a', 'b'))
  with pytest.raises(ValueError, match='videos of row 1 are opposite to the'):
    examples.mix(composites, sums, 0.5)
  # Opposite ones of another weight leave a direction.
  for prior, sign in ((0.4, -1), (0.6, 1)):
    mixed = examples.mix(composites, sums, prior)
    np.testing.assert_allclose(mixed[1], sign * unit(1, 2, 3), atol=1e-5)


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
  with pytest.raises(ValueError, match='centre of .* not all numbers are fin'):
    examples.directions(np.array([[[1.0, 0]]]), np.array([0, np.nan]))


def test_no_example_at_all_raises():
  with pytest.raises(ValueError, match='there are none, expected at least one'):
    examples.directions(np.zeros((0, 2, 3)))
