"""Gated blocks and ModernBERT, by what their tokens may see.

That outputs equal those of public weights is tested in
`pretrained/test_pe_video`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import gated_blocks, modern_bert

WORDS = 12


def model(everywhere, reach=1):
  return modern_bert.ModernBert(
    vocabulary_size=WORDS,
    width=8,
    depth=len(everywhere),
    num_heads=2,
    mlp_dim=16,
    max_length=8,
    everywhere=everywhere,
    reach=reach,
    theta=(1000.0, 100.0),
  )


def encoder(everywhere, reach=1):
  """(ids, mask) -> outputs, with parameters of the seed."""
  made = model(everywhere, reach)
  ids, mask = jnp.zeros((1, 8), jnp.int32), jnp.ones((1, 8), bool)
  params = jax.jit(made.init)(jax.random.key(0), ids, mask)
  return jax.jit(lambda *args: made.apply(params, *args))


IDS = np.array([[1, 2, 3, 4, 5, 6, 7, 8]], np.int32)
ALL = np.ones((1, 8), bool)


@pytest.mark.parametrize(
  'everywhere, seen',
  [
    # Each block reaches one token further.
    ((False,), 1),
    ((False, False), 2),
    ((False, True), 7),
  ],
)
def test_tokens_see_as_far_as_their_blocks_reach(everywhere, seen):
  encode = encoder(everywhere)
  first = encode(IDS, ALL)['pooled']
  for place in range(1, 8):
    changed = IDS.copy()
    changed[0, place] = 10
    same = np.allclose(encode(changed, ALL)['pooled'], first, atol=1e-6)
    assert same == (place > seen), place


def test_padding_is_not_seen():
  encode = encoder((True, False), reach=3)
  mask = np.arange(8)[None] < 5
  changed = np.where(mask, IDS, 9)
  a, b = encode(IDS, mask), encode(changed, mask)
  np.testing.assert_allclose(a['tokens'][0, :5], b['tokens'][0, :5], atol=1e-6)
  # Nor does the length to which a text is filled up matter.
  short = encode(IDS[:, :5], mask[:, :5])
  np.testing.assert_allclose(short['pooled'], a['pooled'], atol=1e-5)
  np.testing.assert_array_equal(a['pooled'], a['tokens'][:, 0])


def test_tokens_know_their_order():
  encode = encoder((True,))
  turned = IDS.copy()
  turned[0, 1:] = turned[0, :0:-1]
  a, b = encode(IDS, ALL)['pooled'], encode(turned, ALL)['pooled']
  assert np.abs(a - b).max() > 1e-3


def test_the_gated_mlp_is_its_formula():
  mlp = gated_blocks.GatedMlp(16, 'gelu')
  x = jax.random.normal(jax.random.key(1), (2, 3, 8))
  params = jax.jit(mlp.init)(jax.random.key(0), x)
  kernel = {k: v['kernel'] for k, v in params['params'].items()}
  assert {k: set(v) for k, v in params['params'].items()} == {
    name: {'kernel'} for name in ('in', 'gate', 'out')
  }
  hidden = jax.nn.gelu(x @ kernel['in'], approximate=False)
  expected = hidden * (x @ kernel['gate']) @ kernel['out']
  np.testing.assert_allclose(mlp.apply(params, x), expected, atol=1e-5)


@pytest.mark.parametrize('kind, mean', [('layer', 0.0), ('rms', None)])
def test_norms_have_no_bias(kind, mean):
  norm = gated_blocks.norm(kind, 1e-5, jnp.float32, 'norm')
  x = 3 + jax.random.normal(jax.random.key(0), (4, 64))
  params = norm.init(jax.random.key(1), x)
  assert set(params['params']) == {'scale'}
  y = np.asarray(norm.apply(params, x))
  if mean is None:  # The mean stays.
    np.testing.assert_allclose((y**2).mean(axis=1), 1, atol=1e-3)
    assert y.mean() > 0.5
  else:
    np.testing.assert_allclose(y.mean(axis=1), mean, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=1), 1, atol=1e-3)


def test_another_norm_is_refused():
  with pytest.raises(ValueError, match="norm 'batch' is not one of"):
    gated_blocks.norm('batch', 1e-5, jnp.float32, 'norm')
