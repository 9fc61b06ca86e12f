import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import i3d

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
  'shape, window, strides',
  [
    ((5, 9, 8), (3, 3, 3), (1, 1, 1)),
    ((8, 9, 7), (7, 7, 7), (2, 2, 2)),
    ((7, 6, 6), (7, 7, 7), (2, 2, 2)),
    ((4, 5, 5), (1, 1, 1), (1, 1, 1)),
    ((6, 8, 9), (3, 3, 3), (2, 1, 2)),
  ],
)
def test_taps_are_a_three_dimensional_convolution(shape, window, strides):
  x = RNG.normal(size=(2, *shape, 3)).astype(np.float32)
  kernel = RNG.normal(size=(*window, 3, 4)).astype(np.float32)
  expected = jax.lax.conv_general_dilated(
    x, kernel, strides, 'SAME', dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC')
  )
  found = i3d.convolve_by_taps(x, kernel, strides)
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_odd_rest_of_the_padding_is_at_the_end():
  # Frames 0 to 3 and stride 2: one frame of padding, after them.
  x = jnp.arange(4.0).reshape(1, 4, 1, 1, 1)
  kernel = jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1, 1)
  found = i3d.convolve_by_taps(x, kernel, (2, 1, 1))
  assert found.ravel().tolist() == [0 + 10 + 200, 2 + 30 + 0]


def test_shapes_of_the_published_network():
  model, clip = i3d.I3D(), jnp.zeros((2, 16, 224, 224, 3))
  shapes = jax.eval_shape(model.init, jax.random.key(0), clip)['params']
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 12_704_544
  out = jax.eval_shape(lambda p, x: model.apply({'params': p}, x), shapes, clip)
  assert out['pooled'].shape == (2, 1024)
  assert out['logits'].shape == (2, 400)


def test_narrow_networks_agree_and_logits_are_linear_in_features():
  clip = RNG.uniform(-1, 1, (1, 16, 224, 224, 3)).astype(np.float32)
  taps = i3d.I3D(num_classes=5, width=1 / 32)
  params = jax.jit(taps.init)(jax.random.key(0), clip)
  outs = [
    jax.jit(i3d.I3D(5, 1 / 32, convolution).apply)(params, clip)
    for convolution in i3d.CONVOLUTIONS
  ]
  np.testing.assert_allclose(outs[0]['pooled'], outs[1]['pooled'], atol=1e-5)
  head = params['params']['logits']
  np.testing.assert_allclose(
    outs[0]['pooled'] @ head['kernel'] + head['bias'],
    outs[0]['logits'],
    atol=1e-5,
  )


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="convolution='fft'"):
    i3d.I3D(convolution='fft').init(jax.random.key(0), jnp.zeros(1))
  small = jnp.zeros((1, 16, 96, 96, 3))
  with pytest.raises(ValueError, match='last pool needs'):
    jax.eval_shape(i3d.I3D(width=1 / 32).init, jax.random.key(0), small)
