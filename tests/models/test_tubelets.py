import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import tubelets


def test_tubelets_equal_a_strided_convolution():
  video = jax.random.normal(jax.random.key(0), (2, 4, 6, 8, 3))
  module = tubelets.TubeletEmbed(tubelet_size=(2, 3, 4), width=5)
  params = jax.jit(module.init)(jax.random.key(1), video)
  params['params']['projection']['bias'] = jnp.arange(5.0)
  kernel = params['params']['projection']['kernel']
  expected = jax.lax.conv_general_dilated(
    video,
    kernel.reshape(2, 3, 4, 3, 5),
    window_strides=(2, 3, 4),
    padding='VALID',
    dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
  ) + jnp.arange(5.0)
  out = jax.jit(module.apply)(params, video)
  assert out.shape == (2, 2, 2, 2, 5)
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_grid_counts_tubelets():
  assert tubelets.token_grid((8, 48, 64), (2, 8, 16)) == (4, 6, 4)


@pytest.mark.parametrize(
  'size, axis',
  [((3, 8, 8), 'frames'), ((2, 9, 8), 'height'), ((2, 8, 7), 'width')],
)
def test_tubelet_that_does_not_divide_raises_and_names_the_axis(size, axis):
  with pytest.raises(ValueError, match=f'does not divide .*{axis}'):
    tubelets.token_grid((8, 48, 48), size)
