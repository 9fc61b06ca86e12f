import numpy as np
import pytest

from zsar_jax import pixel_ops, preprocessing

MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)


def test_pixels_are_scaled_then_normalised_by_channel():
  clip = np.zeros((1, 2, 2, 3), np.uint8)
  clip[0, 0, 0] = 255, 255, 255
  x = np.asarray(pixel_ops.to_inputs(clip, MEAN, STD))
  assert x.dtype == np.float32
  np.testing.assert_allclose(x[0, 0, 0], [1, 3, 1], rtol=1e-6)
  np.testing.assert_allclose(x[0, 1, 1], [-1, -1, 0], rtol=1e-6)


def test_differences_are_of_a_frame_to_the_one_before():
  clip = np.zeros((3, 1, 1, 3), np.uint8)
  clip[:, 0, 0, 0] = 0, 255, 51
  x = np.asarray(
    pixel_ops.to_inputs(clip, (0,) * 3, (1,) * 3, 'rgb+difference')
  )
  np.testing.assert_allclose(x[:, 0, 0, 0], [0, 1, 0.2], rtol=1e-6)
  np.testing.assert_allclose(x[:, 0, 0, 3], [0, 1, -0.8], rtol=1e-6)
  np.testing.assert_array_equal(x[..., [1, 2, 4, 5]], 0)


def test_grey_is_the_luma_and_keeps_a_batch_dimension():
  clip = np.zeros((2, 2, 1, 1, 3), np.uint8)
  clip[1, 1, 0, 0] = 255, 0, 0
  clip[0, 0, 0, 0] = 0, 255, 0
  x = np.asarray(
    pixel_ops.to_inputs(clip, (0,) * 3, (1,) * 3, 'grey+difference')
  )
  assert x.shape == (2, 2, 1, 1, 2)
  np.testing.assert_allclose(x[1, :, 0, 0], [[0, 0], [0.299, 0.299]], rtol=1e-6)
  np.testing.assert_allclose(
    x[0, :, 0, 0], [[0.587, 0], [0, -0.587]], rtol=1e-6
  )


def test_luma_of_white_is_one():
  clip = np.full((1, 1, 1, 3), 255, np.uint8)
  x = pixel_ops.to_inputs(clip, (0,) * 3, (1,) * 3, 'grey+difference')
  np.testing.assert_allclose(x[..., 0], 1, rtol=1e-6)


@pytest.mark.parametrize('inputs', preprocessing.INPUTS)
def test_number_of_channels_is_the_promised_one(inputs):
  clip = np.zeros((2, 4, 4, 3), np.uint8)
  x = pixel_ops.to_inputs(clip, MEAN, STD, inputs)
  assert x.shape == (2, 4, 4, pixel_ops.num_channels(inputs))


def test_a_still_clip_has_no_differences():
  clip = np.random.default_rng(0).integers(256, size=(1, 4, 4, 3))
  still = np.repeat(clip.astype(np.uint8), 3, axis=0)
  x = pixel_ops.to_inputs(still, MEAN, STD, 'rgb+difference')
  np.testing.assert_array_equal(x[..., 3:], 0)
