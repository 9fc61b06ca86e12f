import numpy as np
import pytest

from zsar_jax.models import positions


def test_sincos_by_hand():
  table = positions.sincos(3, 4)
  assert table.dtype == np.float32
  # Frequencies 1 and 1/100; sines and cosines alternate.
  np.testing.assert_allclose(
    table[2], [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)], rtol=1e-6
  )
  np.testing.assert_allclose(table[0], [0, 1, 0, 1])


def test_sincos_needs_an_even_width():
  with pytest.raises(ValueError, match='even width, got 5'):
    positions.sincos(3, 5)


@pytest.mark.parametrize('shape', [(4,), (3, 5), (2, 3, 4)])
def test_resampling_to_the_same_shape_changes_nothing(shape):
  table = np.random.default_rng(0).normal(size=(*shape, 6))
  assert positions.resample(table, shape) is table


@pytest.mark.parametrize(
  'shape, wanted', [((4,), (7,)), ((3, 5), (6, 4)), ((2, 3, 4), (4, 2, 4))]
)
def test_resampling_keeps_what_is_constant(shape, wanted):
  row = np.arange(6, dtype=np.float32)
  found = positions.resample(np.broadcast_to(row, (*shape, 6)), wanted)
  assert found.shape == (*wanted, 6)
  np.testing.assert_allclose(
    found, np.broadcast_to(row, found.shape), atol=1e-5
  )


def test_resampling_is_linear_between_pixel_centres():
  table = np.array([[0.0], [4.0]], np.float32)
  np.testing.assert_allclose(
    positions.resample(table, (4,))[:, 0], [0, 1, 3, 4], atol=1e-6
  )


def test_resampling_to_another_number_of_axes_raises():
  with pytest.raises(ValueError, match='cannot be resampled'):
    positions.resample(np.zeros((4, 6)), (2, 2))
