import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import layers, space_time, video_encoder

GRID = (3, 2, 2)
KWARGS = dict(num_heads=2, mlp_dim=16)


def tokens(num_cls=1):
  return jax.random.normal(jax.random.key(0), (2, num_cls + 12, 8))


def divided(num_cls=1):
  block = space_time.DividedBlock(GRID, **KWARGS)
  return block, jax.jit(block.init)(jax.random.key(1), tokens(num_cls))


def reached(block, params, x, source):
  """Which tokens of the first clip change with token `source` of its input."""
  apply = jax.jit(block.apply)
  # Not the same everywhere: a norm would take that away.
  changed = x.at[0, source].add(jnp.arange(8.0))
  difference = np.abs(apply(params, changed) - apply(params, x))
  assert difference[1].max() == 0  # the other clip
  return difference[0].max(-1) > 1e-6


@pytest.mark.parametrize('num_cls', [0, 1])
def test_divided_attention_reaches_its_place_and_then_whole_frames(num_cls):
  block, params = divided(num_cls)
  # Its own place in all frames sees it, and spreads it in each frame.
  assert reached(block, params, tokens(num_cls), num_cls + 5).all()
  # Without the temporal step nothing leaves the frame, but for the cls token.
  projection = params['params']['temporal_projection']
  projection['kernel'] = jnp.zeros_like(projection['kernel'])
  frame = reached(block, params, tokens(num_cls), num_cls + 5)
  expected = [True] * num_cls + [i // 4 == 1 for i in range(12)]
  np.testing.assert_array_equal(frame, expected)


def test_divided_attention_over_time_stays_at_its_place():
  block, params = divided()
  out = params['params']['attention']['out']
  out['kernel'] = jnp.zeros_like(out['kernel'])
  found = reached(block, params, tokens(), 1 + 5)
  # Token 5 is place 1 of frame 1; the cls token takes no part.
  np.testing.assert_array_equal(
    found, [False] + [i % 4 == 1 for i in range(12)]
  )


class Stack(nn.Module):
  """A stack with a name and a scope of its own."""

  depth: int = 3
  divided: bool = False
  options: tuple = ()

  @nn.compact
  def __call__(self, x, deterministic=True):
    block = layers.PreNormBlock
    if self.divided:
      block = functools.partial(space_time.DividedBlock, GRID)
    return space_time.apply_blocks(
      functools.partial(block, **KWARGS),
      self.depth,
      x,
      deterministic=deterministic,
      **dict(self.options),
    )


def stack(**options):
  kwargs = {k: options.pop(k) for k in ('divided', 'depth') if k in options}
  return Stack(**kwargs, options=tuple(options.items()))


def stacked(params):
  """Parameters of separate blocks as those of a scanned stack."""
  blocks = [params[f'block_{i}'] for i in range(len(params))]
  return {'blocks': jax.tree.map(lambda *x: jnp.stack(x), *blocks)}


def output_and_gradients(module, params, x):
  def loss(params):
    out = module.apply({'params': params}, x)
    return jnp.sum(jnp.sin(out)), out

  (_, out), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  return out, gradients


@pytest.mark.parametrize(
  'is_divided, scan, remat',
  [
    (False, False, 'full'),
    (False, False, 'dots'),
    (False, True, 'none'),
    (True, True, 'full'),
  ],
)
def test_remat_and_scan_change_no_number(is_divided, scan, remat):
  plain = stack(divided=is_divided)
  params = jax.jit(plain.init)(jax.random.key(1), tokens())['params']
  expected = output_and_gradients(plain, params, tokens())
  other = stack(divided=is_divided, remat=remat, scan=scan)
  if scan:
    params, expected = stacked(params), (expected[0], stacked(expected[1]))
  found = output_and_gradients(other, params, tokens())
  jax.tree.map(
    # Sums are taken in another order.
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=5e-5),
    found,
    expected,
  )


def test_remat_saves_less():
  def saved(remat):
    module = stack(remat=remat, depth=1)
    params = jax.eval_shape(module.init, jax.random.key(1), tokens())
    backward = jax.eval_shape(
      lambda params: jax.vjp(lambda p: module.apply(p, tokens()), params)[1],
      params,
    )
    return sum(x.size for x in jax.tree.leaves(backward))

  sizes = [saved(remat) for remat in ('full', 'dots', 'none')]
  assert sizes[0] < sizes[1] < sizes[2]


def test_scanned_blocks_start_differently():
  module = stack(scan=True)
  params = jax.jit(module.init)(jax.random.key(1), tokens())['params']
  kernel = params['blocks']['mlp']['in']['kernel']
  assert kernel.shape == (3, 8, 16)
  assert not np.allclose(kernel[0], kernel[1])


def test_unknown_remat_raises():
  with pytest.raises(ValueError, match="'some' is not one of"):
    jax.eval_shape(stack(remat='some').init, jax.random.key(0), tokens())


class Skip(nn.Module):
  """Stochastic depth alone."""

  rate: float

  @nn.compact
  def __call__(self, x, deterministic=False):
    return layers.stochastic_depth(self, x, self.rate, deterministic)


def test_stochastic_depth_keeps_the_expectation():
  x = jnp.ones((20_000, 2, 3))
  apply = jax.jit(Skip(0.3).apply)
  found = apply({}, x, rngs={'dropout': jax.random.key(0)})
  # Whole examples are skipped, and the others are scaled up.
  np.testing.assert_array_equal(found, found[:, :1, :1] * x)
  assert set(np.unique(found.round(4))) == {0, np.float32(1 / 0.7).round(4)}
  # Standard deviation of the mean: sqrt(0.3 / 0.7 / 20000) = 0.0046.
  np.testing.assert_allclose(found.mean(), 1, atol=0.02)
  np.testing.assert_array_equal(Skip(0.3).apply({}, x, True), x)


@pytest.mark.parametrize('scan', [False, True])
def test_rate_of_stochastic_depth_grows_from_zero(scan):
  x = jnp.repeat(tokens()[:1], 2000, axis=0)

  def outcomes(depth):
    module = stack(depth=depth, scan=scan, stochastic_depth_rate=0.5)
    params = jax.jit(module.init)(jax.random.key(1), x[:1])
    apply = jax.jit(functools.partial(module.apply, deterministic=False))
    found = apply(params, x, rngs={'dropout': jax.random.key(2)})
    values = np.asarray(found[:, 0, 0]).round(3)
    return np.unique(values, return_counts=True)[1] / len(values)

  # One block: its rate is the first one's, zero.
  assert outcomes(1) == [1]
  # Two: the second loses each of its two branches half the time.
  np.testing.assert_allclose(outcomes(2), [0.25] * 4, atol=0.05)


def test_a_scanned_stack_has_the_same_blocks_unrolled():
  kwargs = dict(
    tubelet_size=(2, 8, 8), depth=2, width=16, mlp_dim=32, num_heads=2
  )
  video = np.random.default_rng(0).normal(size=(1, 4, 16, 16, 3))
  scanned = video_encoder.VideoEncoder(**kwargs, scan_blocks=True)
  params = jax.jit(scanned.init)(jax.random.key(0), video)['params']
  plain = video_encoder.VideoEncoder(**kwargs)
  unrolled = space_time.unrolled(params)
  assert {'block_0', 'block_1'} < set(unrolled) and 'blocks' not in unrolled
  np.testing.assert_allclose(
    jax.jit(plain.apply)({'params': unrolled}, video)['pooled'],
    jax.jit(scanned.apply)({'params': params}, video)['pooled'],
    atol=1e-5,
  )
