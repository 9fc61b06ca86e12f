import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import video_encoder

KWARGS = dict(
  width=16, depth=2, num_heads=2, mlp_dim=32, tubelet_size=(2, 4, 4)
)


def clip(seed=0):
  return jax.random.normal(jax.random.key(seed), (2, 4, 8, 8, 3))


def initialised(module):
  return jax.jit(module.init)(jax.random.key(1), clip())


@pytest.mark.parametrize('pooling, extra', [('mean', 0), ('cls', 1)])
def test_tokens_and_pooled_have_the_promised_shapes(pooling, extra):
  encoder = video_encoder.VideoEncoder(**KWARGS, pooling=pooling)
  out = jax.jit(encoder.apply)(initialised(encoder), clip())
  assert out['tokens'].shape == (2, 2 * 2 * 2 + extra, 16)
  assert out['pooled'].shape == (2, 16)
  if pooling == 'cls':
    np.testing.assert_array_equal(out['pooled'], out['tokens'][:, 0])
  else:
    np.testing.assert_allclose(out['pooled'], out['tokens'].mean(1), atol=1e-6)


def test_videos_of_a_batch_do_not_see_each_other():
  encoder = video_encoder.VideoEncoder(**KWARGS)
  params, video = initialised(encoder), clip()
  apply = jax.jit(encoder.apply)
  changed = apply(params, video.at[1].add(1.0))['pooled']
  whole = apply(params, video)['pooled']
  np.testing.assert_allclose(changed[0], whole[0], atol=1e-6)
  assert not np.allclose(changed[1], whole[1], atol=1e-3)


@pytest.mark.parametrize('axis', ['time', 'space'])
def test_position_embeddings_tell_places_apart(axis):
  encoder = video_encoder.VideoEncoder(**KWARGS)
  params, video = initialised(encoder), clip()
  # Swapping two whole tubelets changes nothing but their positions.
  if axis == 'time':
    swapped = jnp.roll(video, 2, axis=1)
  else:
    swapped = jnp.roll(video, 4, axis=2)
  apply = jax.jit(encoder.apply)
  difference = lambda p: np.abs(
    apply(p, video)['pooled'] - apply(p, swapped)['pooled']
  ).max()
  assert difference(params) > 1e-4
  name = f'{axis}_position'
  params['params'][name] = jnp.zeros_like(params['params'][name])
  assert difference(params) < 1e-5


def test_number_of_blocks_is_the_depth():
  encoder = video_encoder.VideoEncoder(**{**KWARGS, 'depth': 3})
  params = jax.eval_shape(encoder.init, jax.random.key(0), clip())['params']
  assert {'block_0', 'block_1', 'block_2'} <= set(params)
  assert 'block_3' not in params


def test_unknown_pooling_raises():
  encoder = video_encoder.VideoEncoder(**KWARGS, pooling='max')
  with pytest.raises(ValueError, match="'max' is not one of"):
    jax.eval_shape(encoder.init, jax.random.key(0), clip())


@pytest.mark.parametrize(
  'name, width, depth, num_heads, tubelet_size',
  [
    ('Ti/16x2', 192, 12, 3, (2, 16, 16)),
    ('S/8', 384, 12, 6, (1, 8, 8)),
    ('B/32x4', 768, 12, 12, (4, 32, 32)),
    ('L/14x1', 1024, 24, 16, (1, 14, 14)),
  ],
)
def test_variants_by_name(name, width, depth, num_heads, tubelet_size):
  assert video_encoder.variant(name) == dict(
    width=width,
    depth=depth,
    num_heads=num_heads,
    mlp_dim=4 * width,
    tubelet_size=tubelet_size,
  )


@pytest.mark.parametrize('name', ['B', 'XL/16', 'B/x2', 'B/16x0', 'B/16x2x2'])
def test_unknown_variants_raise(name):
  with pytest.raises(ValueError, match=f"variant '{name}' is not of the form"):
    video_encoder.variant(name)


def shapes(frames=16, **kwargs):
  encoder = video_encoder.VideoEncoder(**kwargs)
  video = jax.ShapeDtypeStruct((1, frames, 224, 224, 3), jnp.float32)
  params = jax.eval_shape(encoder.init, jax.random.key(0), video)
  return params, jax.eval_shape(encoder.apply, params, video)


# Millions of parameters as published, less the head of so many classes: DeiT
# (Ti, S), ViT (B, L), ViViT table 2 (B/16x2, models 1 and 2), TimeSformer
# table 2, VideoMAE table 6.
@pytest.mark.parametrize(
  'name, frames, kwargs, published, num_classes',
  [
    ('Ti/16', 1, {'pooling': 'cls'}, 5.72, 1000),
    ('S/16', 1, {'pooling': 'cls'}, 22.05, 1000),
    ('B/16', 1, {'pooling': 'cls'}, 86.57, 1000),
    ('L/16', 1, {'pooling': 'cls'}, 304.33, 1000),
    ('B/16x2', 32, {'pooling': 'cls', 'positions': 'full'}, 88.9, 400),
    (
      'B/16x2',
      32,
      {'pooling': 'cls', 'attention': 'factorised', 'depth_time': 4},
      115.1,
      400,
    ),
    ('B/16', 8, {'pooling': 'cls', 'attention': 'divided'}, 121.4, 400),
    ('B/16x2', 16, {'positions': 'sincos', 'qkv_bias': 'qv'}, 87.0, 400),
  ],
)
def test_variants_have_the_published_number_of_parameters(
  name, frames, kwargs, published, num_classes
):
  kwargs = {**video_encoder.variant(name), **kwargs}
  params, out = shapes(frames, **kwargs)
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
  head = (kwargs['width'] + 1) * num_classes
  np.testing.assert_allclose((count + head) / 1e6, published, rtol=0.02)
  assert out['pooled'].shape == (1, kwargs['width'])


SMALL = dict(KWARGS, dropout_rate=0.1, stochastic_depth_rate=0.2)


@pytest.mark.parametrize(
  'kwargs',
  [
    {'attention': 'joint', 'pooling': 'attention', 'positions': 'full'},
    {'attention': 'factorised', 'depth_time': 1, 'pooling': 'cls'},
    {'attention': 'divided', 'pooling': 'cls', 'scan_blocks': True},
    {'attention': 'divided', 'final_norm': 'pooled', 'remat': 'full'},
  ],
)
def test_a_step_of_training_reaches_every_parameter(kwargs):
  encoder = video_encoder.VideoEncoder(**SMALL, **kwargs)
  params = initialised(encoder)

  @jax.jit
  def step(params):
    def loss(params):
      out = encoder.apply(
        params, clip(), deterministic=False, rngs={'dropout': jax.random.key(3)}
      )
      return jnp.square(out['pooled'] - 1).mean()

    value, gradients = jax.value_and_grad(loss)(params)
    new = jax.tree.map(lambda p, g: p - 0.01 * g, params, gradients)
    return value, loss(new), gradients

  before, after, gradients = step(params)
  assert after < before
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    path = jax.tree_util.keystr(path, simple=True, separator='/')
    assert np.isfinite(gradient).all(), path
    # A key's bias adds the same to all logits of a query: softmax ignores it.
    if not path.endswith('key/bias'):
      assert np.abs(gradient).max() > 1e-9, path


def test_factorised_attention_gives_a_token_a_frame():
  encoder = video_encoder.VideoEncoder(
    **KWARGS, attention='factorised', depth_time=1
  )
  out = jax.eval_shape(encoder.init_with_output, jax.random.key(0), clip())[0]
  assert out['tokens'].shape == (2, 2, 16)
  assert out['pooled'].shape == (2, 16)


@pytest.mark.parametrize(
  'kwargs', [{}, {'attention': 'divided', 'pooling': 'cls'}]
)
def test_bfloat16_is_near_float32(kwargs):
  encoder = video_encoder.VideoEncoder(**KWARGS, **kwargs)
  half = video_encoder.VideoEncoder(**KWARGS, **kwargs, dtype=jnp.bfloat16)
  params = initialised(encoder)
  exact = jax.jit(encoder.apply)(params, clip())['pooled']
  found = jax.jit(half.apply)(params, clip())['pooled']
  assert found.dtype == jnp.bfloat16
  # The pooled vector's entries are of order 1; 8 bits of mantissa.
  np.testing.assert_allclose(found.astype(jnp.float32), exact, atol=0.05)


def test_fixed_positions_follow_the_clip():
  encoder = video_encoder.VideoEncoder(
    **KWARGS, positions='sincos', sincos_grid=(4, 3, 3)
  )
  out = jax.jit(encoder.init_with_output)(jax.random.key(0), clip())
  assert np.isfinite(out[0]['tokens']).all()
  assert not [name for name in out[1]['params'] if 'position' in name]


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'attention': 'axial'}, "attention 'axial' is not one of"),
    ({'positions': 'none'}, "positions 'none' is not one of"),
    ({'final_norm': 'all'}, "final_norm 'all' is not one of"),
    ({'remat': 'some'}, "remat 'some' is not one of"),
    ({'attention_implementation': 'fast'}, "'fast' is not one of"),
    ({'attention': 'factorised'}, 'with depth_time=0'),
    ({'attention': 'divided', 'depth_time': 2}, 'with depth_time=2'),
    (
      {'attention': 'factorised', 'depth_time': 1, 'positions': 'full'},
      "cannot be 'full'",
    ),
  ],
)
def test_choices_that_do_not_exist_or_fit_raise(kwargs, message):
  encoder = video_encoder.VideoEncoder(**KWARGS, **kwargs)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(encoder.init, jax.random.key(0), clip())
