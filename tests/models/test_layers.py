import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from zsar_jax.models import layers


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize('masked', [False, True])
def test_attend_equals_the_library(masked):
  query, key, value = normal(0, 2, 5, 3, 8), *normal(1, 2, 2, 7, 3, 8)
  mask = None
  if masked:
    mask = jax.random.bernoulli(jax.random.key(2), 0.5, (2, 3, 5, 7))
    mask = mask.at[..., 0].set(True)  # every row attends to one key
  np.testing.assert_allclose(
    jax.jit(layers.attend)(query, key, value, mask),
    jax.nn.dot_product_attention(query, key, value, mask=mask),
    atol=2e-6,
  )


def test_attend_survives_large_logits():
  query = 1e4 * jnp.ones((1, 1, 1, 4))
  key = jnp.stack([jnp.ones((1, 1, 4)), -jnp.ones((1, 1, 4))], axis=1)
  value = jnp.array([1.0, 2.0]).reshape(1, 2, 1, 1) * jnp.ones((1, 2, 1, 4))
  np.testing.assert_allclose(layers.attend(query, key, value), 1.0)


def test_masked_positions_do_not_show():
  query, key, value = normal(0, 1, 2, 1, 4), *normal(1, 2, 1, 3, 1, 4)
  mask = jnp.array([True, True, False])
  out = layers.attend(query, key, value, mask)
  changed = layers.attend(
    query, key.at[:, 2].add(9), value.at[:, 2].add(9), mask
  )
  np.testing.assert_array_equal(out, changed)
  np.testing.assert_allclose(
    out, layers.attend(query, key[:, :2], value[:, :2]), atol=1e-6
  )


def test_heads_must_divide_the_width():
  module = layers.Attention(num_heads=3)
  with pytest.raises(ValueError, match='3 heads do not divide width 8'):
    jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 2, 8)))


def initialised(module, *args, **kwargs):
  return jax.jit(lambda: module.init(jax.random.key(0), *args, **kwargs))()


def test_pre_norm_block_adds_its_branches():
  x = normal(0, 2, 5, 8)
  block = layers.PreNormBlock(num_heads=2, mlp_dim=16)
  params = initialised(block, x)
  assert jax.jit(block.apply)(params, x).shape == x.shape
  # With the branches' last layers at zero the tokens pass unchanged.
  for branch in (
    params['params']['attention']['out'],
    params['params']['mlp']['out'],
  ):
    branch['kernel'] = jnp.zeros_like(branch['kernel'])
  np.testing.assert_array_equal(jax.jit(block.apply)(params, x), x)


def test_post_norm_block_ends_in_a_norm():
  x = normal(0, 2, 5, 8)
  block = layers.PostNormBlock(num_heads=2, mlp_dim=16)
  params = initialised(block, x)
  out = jax.jit(block.apply)(params, x)
  assert out.shape == x.shape
  np.testing.assert_allclose(out.mean(-1), 0, atol=1e-6)
  np.testing.assert_allclose(out.std(-1), 1, rtol=1e-4)


@pytest.mark.parametrize('block', [layers.PreNormBlock, layers.PostNormBlock])
def test_blocks_treat_tokens_as_a_set_without_a_mask(block):
  x = normal(0, 1, 5, 8)
  module = block(num_heads=2, mlp_dim=16)
  params = initialised(module, x)
  order = jnp.array([3, 1, 4, 0, 2])
  apply = jax.jit(module.apply)
  np.testing.assert_allclose(
    apply(params, x[:, order]), apply(params, x)[:, order], atol=1e-5
  )


def test_cross_attention_block_takes_context_of_another_width():
  x, context = normal(0, 2, 5, 8), normal(1, 2, 9, 4)
  block = layers.PreNormBlock(num_heads=2, mlp_dim=16, self_attention=False)
  params = initialised(block, x, context=context)
  assert set(params['params']) == {
    'cross_attention',
    'cross_attention_norm',
    'mlp',
    'mlp_norm',
  }
  apply = jax.jit(lambda c: block.apply(params, x, context=c))
  assert apply(context).shape == x.shape
  assert not np.allclose(apply(context), apply(context + 1))


@pytest.mark.parametrize('block', [layers.PreNormBlock, layers.PostNormBlock])
def test_dropout_works_in_training_alone(block):
  x = normal(0, 1, 4, 8)
  module = block(num_heads=2, mlp_dim=16, dropout_rate=0.5)
  params = initialised(module, x)

  @jax.jit
  def train(key):
    return module.apply(
      params, x, deterministic=False, rngs={'dropout': jax.random.key(key)}
    )

  evaluate = jax.jit(module.apply)
  assert not np.allclose(train(0), train(1))
  np.testing.assert_array_equal(train(0), train(0))
  np.testing.assert_array_equal(evaluate(params, x), evaluate(params, x))


def test_masked_mean_by_hand():
  tokens = jnp.array([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
  mask = jnp.array([[True, True, False]])
  np.testing.assert_allclose(layers.masked_mean(tokens, mask), [[2, 3]])


def test_masked_mean_of_nothing_is_zero():
  mean = layers.masked_mean(jnp.ones((1, 3, 2)), jnp.zeros((1, 3), bool))
  np.testing.assert_array_equal(mean, [[0, 0]])


def test_l2_normalise_gives_unit_vectors_in_float32():
  x = jnp.array([[3.0, 4.0], [0.0, -2.0]], jnp.bfloat16)
  out = layers.l2_normalise(x)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(out, [[0.6, 0.8], [0, -1]], rtol=1e-6)


def test_l2_normalise_of_zero_is_zero_with_a_finite_gradient():
  zero = jnp.zeros(3)
  np.testing.assert_array_equal(layers.l2_normalise(zero), 0)
  gradient = jax.grad(lambda x: layers.l2_normalise(x).sum())(zero)
  assert np.isfinite(gradient).all()


def test_gelu_and_its_slope_equal_the_exact_ones():
  x = np.linspace(-20, 20, 100001, dtype=np.float32).astype(np.float64)
  normal_cdf = scipy.special.ndtr(x)
  density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
  value, slope = jax.jvp(
    jax.jit(layers.gelu),
    (jnp.asarray(x, jnp.float32),),
    (jnp.ones(x.shape, jnp.float32),),
  )
  bound = 3e-7 * np.maximum(1, np.abs(x))
  assert (np.abs(value - x * normal_cdf) <= bound).all()
  erfc = jax.nn.gelu(jnp.asarray(x, jnp.float32), approximate=False)
  assert (np.abs(value - erfc) <= bound).all()
  np.testing.assert_allclose(slope, normal_cdf + x * density, atol=1e-6)


def test_gelu_in_bfloat16_is_the_rounded_one():
  x = jnp.linspace(-4, 4, 401, dtype=jnp.bfloat16)
  found = layers.gelu(x)
  assert found.dtype == jnp.bfloat16
  exact = layers.gelu(x.astype(jnp.float32)).astype(jnp.bfloat16)
  np.testing.assert_array_equal(found, exact)


def test_gelu_of_numbers_that_are_no_array():
  exact = np.array([0.5, -1]) * scipy.special.ndtr([0.5, -1])
  np.testing.assert_allclose(layers.gelu(0.5), exact[0], atol=3e-7)
  np.testing.assert_allclose(layers.gelu(np.array([0.5, -1])), exact, atol=3e-7)


@pytest.mark.parametrize('dtype', ['int32', 'bool', 'complex64'])
def test_gelu_of_other_than_floating_point_raises(dtype):
  with pytest.raises(TypeError, match=f'floating-point numbers, got {dtype}'):
    layers.gelu(jnp.ones(3, dtype))


def test_gelu_keeps_one_array_for_the_backward_pass():
  x = jnp.ones((3, 5), jnp.bfloat16)
  _, pullback = jax.vjp(layers.gelu, x)
  (kept,) = jax.tree.leaves(pullback)
  assert (kept.shape, kept.dtype) == (x.shape, x.dtype)
