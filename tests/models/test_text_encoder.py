import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import text_encoder

KWARGS = dict(
  vocabulary_size=130, width=16, depth=2, num_heads=2, mlp_dim=32, max_length=9
)
# Two names of three and five tokens; id 0 is padding.
IDS = jnp.array([[2, 50, 3, 0, 0, 0], [2, 60, 61, 62, 3, 0]])
MASK = IDS > 0


def initialised(encoder):
  return jax.jit(encoder.init)(jax.random.key(0), IDS, MASK)


@pytest.mark.parametrize('pooling', text_encoder.POOLINGS)
def test_padding_does_not_change_the_embedding(pooling):
  encoder = text_encoder.TextEncoder(**KWARGS, pooling=pooling)
  params = initialised(encoder)
  apply = jax.jit(encoder.apply)
  out = apply(params, IDS, MASK)
  longer = jnp.pad(IDS, ((0, 0), (0, 3)))
  padded = apply(params, longer, longer > 0)
  np.testing.assert_allclose(padded['pooled'], out['pooled'], atol=1e-6)
  shorter = apply(params, IDS[:1, :3], MASK[:1, :3])
  np.testing.assert_allclose(shorter['pooled'], out['pooled'][:1], atol=1e-6)
  # Nor does what stands there.
  noise = jnp.where(MASK, IDS, 99)
  np.testing.assert_allclose(
    apply(params, noise, MASK)['pooled'], out['pooled'], atol=1e-6
  )


def test_the_order_of_words_counts():
  encoder = text_encoder.TextEncoder(**KWARGS)
  params = initialised(encoder)
  apply = jax.jit(encoder.apply)
  out = apply(params, IDS, MASK)['pooled'][1]
  swapped = IDS.at[1, 1:3].set(jnp.array([61, 60]))
  assert not np.allclose(apply(params, swapped, MASK)['pooled'][1], out)


def test_shapes_and_padded_word_table():
  encoder = text_encoder.TextEncoder(**KWARGS)
  params = initialised(encoder)
  assert params['params']['word'].shape == (256, 16)
  out = jax.jit(encoder.apply)(params, IDS, MASK)
  assert out['tokens'].shape == (2, 6, 16)
  assert out['pooled'].shape == (2, 16)


def test_unknown_pooling_raises():
  encoder = text_encoder.TextEncoder(**KWARGS, pooling='max')
  with pytest.raises(ValueError, match="'max' is not one of"):
    jax.eval_shape(encoder.init, jax.random.key(0), IDS, MASK)


def test_gradients_reach_every_parameter():
  encoder = text_encoder.TextEncoder(**KWARGS)
  params = initialised(encoder)

  @jax.jit
  def loss(params):
    pooled = encoder.apply(params, IDS, MASK)['pooled']
    # Not a plain sum, which the last norm holds constant.
    return (pooled * jnp.arange(pooled.size).reshape(pooled.shape)).sum()

  gradients = jax.grad(loss)(params)['params']
  # The bias of a key shifts all logits of a query alike: softmax is blind.
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    names = [key.key for key in path]
    assert np.isfinite(gradient).all(), path
    assert gradient.any() or names[-2:] == ['key', 'bias'], path


def test_bfloat16_stays_near_float32():
  encoder = text_encoder.TextEncoder(**KWARGS)
  half = text_encoder.TextEncoder(**KWARGS, dtype=jnp.bfloat16)
  params = initialised(encoder)
  exact = jax.jit(encoder.apply)(params, IDS, MASK)['pooled']
  rough = jax.jit(half.apply)(params, IDS, MASK)['pooled']
  assert rough.dtype == jnp.bfloat16
  # Tokens have unit variance after the last norm: 8 bits of mantissa.
  assert jnp.abs(rough.astype(jnp.float32) - exact).max() < 0.05
