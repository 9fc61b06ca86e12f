import functools

from absl import logging
import jax
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import attention, products
from zsar_jax.parallel import sharding

choose = functools.partial(
  attention.choose, platform='cpu', dtype=jnp.float32, length=1568, head_dim=64
)


@pytest.mark.parametrize(
  'changes, chosen',
  [
    ({}, 'einsum'),
    ({'dtype': jnp.bfloat16}, 'einsum'),
    ({'platform': 'gpu', 'dtype': jnp.bfloat16}, 'cudnn'),
    ({'platform': 'gpu'}, 'einsum'),
    ({'platform': 'gpu', 'dtype': jnp.bfloat16, 'masked': True}, 'einsum'),
    ({'platform': 'gpu', 'dtype': jnp.bfloat16, 'head_dim': 12}, 'einsum'),
    ({'platform': 'gpu', 'dtype': jnp.bfloat16, 'head_dim': 256}, 'einsum'),
    ({'platform': 'tpu'}, 'flash'),
    ({'platform': 'tpu', 'dtype': jnp.bfloat16}, 'flash'),
    ({'platform': 'tpu', 'length': 8}, 'einsum'),
    ({'platform': 'tpu', 'masked': True}, 'einsum'),
  ],
)
def test_auto_chooses_by_platform_and_dtype(changes, chosen):
  assert choose('auto', **changes) == chosen


@pytest.mark.parametrize(
  'flags, chosen',
  [
    ('--a=1 --xla_gpu_deterministic_ops=true', 'einsum'),
    ('--xla_gpu_deterministic_ops', 'einsum'),
    ('--xla_gpu_deterministic_ops=false', 'cudnn'),
  ],
)
def test_auto_leaves_cudnn_where_xla_is_deterministic(
  flags, chosen, monkeypatch
):
  monkeypatch.setenv('XLA_FLAGS', flags)
  on_gpu = {'platform': 'gpu', 'dtype': jnp.bfloat16}
  assert choose('auto', **on_gpu) == chosen
  assert choose('cudnn', **on_gpu) == 'cudnn'


@pytest.mark.parametrize('name', ['einsum', 'flash'])
def test_a_name_insists(name):
  assert choose(name, platform='gpu', dtype=jnp.bfloat16) == name


@pytest.mark.parametrize(
  'name, changes, message',
  [
    ('fast', {}, "'fast' is not one of"),
    ('cudnn', {'platform': 'gpu'}, 'not float32'),
    ('flash', {'masked': True}, 'takes no mask'),
    ('cudnn', {'masked': True, 'dtype': jnp.bfloat16}, 'takes no mask'),
  ],
)
def test_what_cannot_be_done_raises(name, changes, message):
  with pytest.raises(ValueError, match=message):
    choose(name, **changes)


def test_a_choice_is_logged_once(monkeypatch):
  said = []
  monkeypatch.setattr(
    logging, 'info', lambda text, *args: said.append(text % args)
  )
  attention._log_choice.cache_clear()
  for length in (640, 640, 641):
    choose('auto', platform='tpu', length=length)
  assert said == [
    f'attention on tpu in float32 over {n} tokens: flash' for n in (640, 641)
  ]


def test_platform_is_that_of_the_mesh():
  found = []

  @jax.jit
  def step(x):
    found.append(products.platform())
    return x

  step(jnp.ones(3))
  mesh = sharding.make_mesh({'data': -1, 'fsdp': 1, 'tensor': 1})
  with jax.set_mesh(mesh):
    step(jnp.ones(3))
  assert found == ['cpu', 'cpu']
  # The target of the compilation decides, not the platform of this process.
  device = jax.sharding.AbstractDevice('TPU v5e', None, 'tpu')
  abstract = mesh.abstract_mesh.update(abstract_device=device)
  with jax.sharding.use_abstract_mesh(abstract):
    assert products.platform() == 'tpu'


def inputs(batch, queries, keys, heads, head_dim):
  shape = lambda n: (batch, n, heads, head_dim)
  make = lambda seed, n: jax.random.normal(jax.random.key(seed), shape(n))
  return make(0, queries), make(1, keys), make(2, keys)


def value_and_gradients(implementation, q, k, v):
  def loss(q, k, v):
    out = attention.attend(q, k, v, implementation=implementation)
    # Not a plain sum: its gradient is the same everywhere.
    return jnp.sum(jnp.sin(out)), out

  step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
  (_, out), gradients = step(q, k, v)
  return out, *gradients


def test_flash_equals_einsum_in_output_and_gradients():
  # Neither length is a whole number of tiles, and they differ.
  q, k, v = inputs(1, 5, 130, 1, 8)
  with pltpu.force_tpu_interpret_mode():
    found = value_and_gradients('flash', q, k, v)
  for a, b in zip(found, value_and_gradients('einsum', q, k, v), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize('batch', [2, 1])
def test_flash_runs_on_each_devices_share(batch):
  mesh = sharding.make_mesh(
    {'data': 1, 'fsdp': 2, 'tensor': 2}, jax.devices()[:4]
  )
  q, k, v = inputs(batch, 3, 4, 2, 8)
  run = jax.jit(functools.partial(attention.attend, implementation='flash'))
  with jax.set_mesh(mesh), pltpu.force_tpu_interpret_mode():
    text = run.lower(q, k, v).as_text()
    found = run(q, k, v)
  assert 'manual_computation' in text
  np.testing.assert_allclose(found, attention.attend(q, k, v), atol=2e-6)


def test_softmax_is_in_float32():
  q, k, v = (x.astype(jnp.bfloat16) for x in inputs(2, 7, 9, 2, 16))
  exact = attention.attend(*(x.astype(jnp.float32) for x in (q, k, v)))
  found = attention.attend(q, k, v)
  assert found.dtype == jnp.bfloat16
  # Weights and result are rounded to 8 bits, the logits between are not.
  np.testing.assert_allclose(found.astype(jnp.float32), exact, atol=0.02)
  jaxpr = str(jax.make_jaxpr(attention.attend)(q, k, v))
  exponentials = [line for line in jaxpr.splitlines() if '= exp ' in line]
  assert len(exponentials) == 1 and 'f32[' in exponentials[0]


@pytest.mark.parametrize('queries, keys', [(300, 700), (700, 300)])
def test_blocks_equal_whole_matrices(monkeypatch, queries, keys):
  q, k, v = inputs(2, queries, keys, 6, 8)
  found = {}
  # One head, two heads and all heads at a time.
  of_head = queries * keys * 4
  for size in (1, 2 * of_head, 6 * of_head):
    monkeypatch.setattr(attention, '_BLOCK_BYTES', size)
    found[size] = value_and_gradients('einsum', q, k, v)
  with products.portable():
    whole = value_and_gradients('einsum', q, k, v)
  for parts in found.values():
    for a, b in zip(parts, whole, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


def has_loop(arrays, **kwargs) -> bool:
  # A new function each time, or JAX would remember the first trace.
  return 'scan' in str(
    jax.make_jaxpr(lambda *x: attention.attend(*x, **kwargs))(*arrays)
  )


def test_blocks_are_for_long_sequences_on_one_cpu():
  long, short = inputs(1, 900, 900, 4, 8), inputs(1, 90, 90, 4, 8)
  assert has_loop(long)
  assert not has_loop(short)
  assert not has_loop(long, softcap=5.0)
  with products.portable():
    assert not has_loop(long)
  # A loop over clips and heads would break up what a mesh has split.
  with jax.set_mesh(sharding.make_mesh({'data': -1, 'fsdp': 1, 'tensor': 1})):
    assert not has_loop(long)
