import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import layers, products
from zsar_jax.parallel import program_cost

VALUES = 'abcd,adbe->acbe'
SPECS = {
  'ab,bc->ac': ((3, 4), (4, 5)),
  'abc,cd->abd': ((2, 3, 4), (4, 5)),
  VALUES: ((2, 3, 4, 5), (2, 5, 3, 6)),
}


def operands(spec, dtype=jnp.bfloat16):
  return tuple(
    jax.random.normal(jax.random.key(i), shape, dtype)
    for i, shape in enumerate(SPECS[spec])
  )


@pytest.mark.parametrize('spec', SPECS)
def test_einsum_rounds_once(spec):
  a, b = operands(spec)
  exact = np.einsum(spec, *(np.asarray(x, np.float64) for x in (a, b)))
  out = products.einsum(spec, a, b)
  assert out.dtype == jnp.bfloat16
  # Half of the last of bfloat16's eight digits.
  np.testing.assert_allclose(
    np.asarray(out, np.float64), exact, rtol=2**-8, atol=1e-5
  )


@pytest.mark.parametrize('spec', SPECS)
def test_gradients_are_those_of_the_plain_product(spec):
  a, b = operands(spec)
  weight = jax.random.normal(
    jax.random.key(9), products.einsum(spec, a, b).shape, jnp.bfloat16
  )

  def loss(product, *x):
    return (product(spec, *x) * weight).astype(jnp.float32).sum()

  ours = jax.grad(functools.partial(loss, products.einsum), (0, 1))(a, b)
  wide = jax.grad(functools.partial(loss, jnp.einsum), (0, 1))(
    *(x.astype(jnp.float32) for x in (a, b))
  )
  for x, y in zip(ours, wide, strict=True):
    assert x.dtype == jnp.bfloat16
    np.testing.assert_allclose(x.astype(jnp.float32), y, rtol=0.01, atol=0.02)


def results_of_products(dtype, portable=False):
  """Dtypes of the results of an MLP's products, forward and backward."""
  mlp = layers.Mlp(16, dtype=dtype)
  x = jnp.ones((2, 3, 8), dtype)
  params = mlp.init(jax.random.key(0), x)
  loss = lambda params: mlp.apply(params, x).astype(jnp.float32).sum()
  if portable:
    with products.portable():
      text = jax.jit(jax.grad(loss)).lower(params).as_text()
  else:
    text = jax.jit(jax.grad(loss)).lower(params).as_text()
  return set(re.findall(r'dot_general.*-> tensor<[\dx]*x(\w+)>', text))


def test_halves_are_summed_in_float32_on_a_cpu():
  assert results_of_products(jnp.bfloat16) == {'f32'}
  assert results_of_products(jnp.float32) == {'f32'}


def test_portable_programs_have_the_plain_product():
  assert results_of_products(jnp.bfloat16, portable=True) == {'bf16'}


def test_the_count_of_operations_does_not_depend_on_the_dtype():
  def count(dtype):
    mlp = layers.Mlp(16, dtype=dtype)
    x = jnp.ones((2, 3, 8), dtype)
    params = mlp.init(jax.random.key(0), x)
    return program_cost.count_macs(
      jax.make_jaxpr(lambda p: mlp.apply(p, x))(params).jaxpr
    )

  assert count(jnp.bfloat16) == count(jnp.float32) == 2 * 2 * 3 * 8 * 16
