import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zsar_jax.models import resnet, zsar_model
from zsar_jax.training import optim

TINY = {
  'basic': resnet.Layout((1, 2), bottleneck=False, width=32),
  'bottleneck': resnet.Layout((1, 1), bottleneck=True, width=32),
}
REST = dict(resnet_depth=18, width=16, depth=1, num_heads=2, mlp_dim=32)


def images(*shape):
  return jax.random.normal(jax.random.key(0), shape)


def noisy(params, seed=3):
  """Away from the start, where some gradients are zero by design."""
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return structure.unflatten(
    # Positive, because a variance is.
    [
      jnp.abs(x + 0.3 * jax.random.normal(k, x.shape)) if x.ndim == 1 else x
      for x, k in zip(leaves, keys, strict=True)
    ]
  )


def names_without_gradient(gradients):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
    if not np.abs(leaf).max() > 0
  }


# Without classifier: torchvision's counts less 1000 x (channels + 1).
@pytest.mark.parametrize(
  'depth, count, channels',
  [
    (18, 11_689_512 - 513_000, 512),
    (50, 25_557_032 - 2_049_000, 2048),
    (101, 44_549_160 - 2_049_000, 2048),
  ],
)
@pytest.mark.parametrize('norm', resnet.NORMS)
def test_published_sizes(depth, count, channels, norm):
  module = resnet.ResNet(resnet.LAYOUTS[depth], norm)
  image = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
  out, params = jax.eval_shape(
    module.init_with_output, jax.random.key(0), image
  )
  assert out.shape == (2, 7, 7, channels)
  assert resnet.LAYOUTS[depth].out_channels == channels
  learnt = [
    leaf.size
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    if path[-1].key not in ('mean', 'var')
  ]
  assert sum(learnt) == count


def test_feature_map_is_rounded_up():
  module = resnet.ResNet(resnet.LAYOUTS[18])
  image = jax.ShapeDtypeStruct((1, 48, 80, 2), jnp.float32)
  out, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
  assert out.shape == (1, 2, 3, 512)


@pytest.mark.parametrize('layout', TINY)
def test_gradient_of_group_norm_adds_up_over_parts_of_a_batch(layout):
  module = resnet.ResNet(TINY[layout], 'group')
  x = images(4, 32, 32, 3)
  params = noisy(jax.jit(module.init)(jax.random.key(1), x))
  gradient = jax.jit(
    jax.grad(lambda p, x: jnp.square(module.apply(p, x)).mean())
  )
  whole = gradient(params, x)
  parts = [gradient(params, part) for part in jnp.split(x, 2)]
  jax.tree.map(
    lambda w, a, b: np.testing.assert_allclose(
      w, (a + b) / 2, atol=1e-5 * max(1, np.abs(w).max())
    ),
    whole,
    *parts,
  )
  assert names_without_gradient(whole) == set()


@pytest.mark.parametrize(
  # The norm is the same in both.
  'layout',
  [pytest.param('basic', marks=pytest.mark.slow), 'bottleneck'],
)
def test_no_step_changes_frozen_statistics(layout):
  module = resnet.ResNet(TINY[layout], 'frozen')
  x = images(2, 32, 32, 3)
  params = noisy(jax.jit(module.init)(jax.random.key(1), x))
  gradients = jax.jit(
    jax.grad(lambda p: jnp.square(module.apply(p, x)).mean())
  )(params)
  still = names_without_gradient(gradients)
  assert still and {n.rpartition('/')[2] for n in still} == {'mean', 'var'}
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1), weight_decay=0.5, clip_norm=1.0
  )
  update = jax.jit(optimizer.update)
  updates, _ = update(gradients, optimizer.init(params), params)
  after = optax.apply_updates(params, updates)
  for path, old in jax.tree_util.tree_leaves_with_path(params):
    new = after
    for key in path:
      new = new[key.key]
    name = path[-1].key
    assert np.array_equal(old, new) == (name in ('mean', 'var')), path


def test_frozen_norm_is_batch_norm_by_its_statistics():
  x = images(2, 3, 3, 4)
  vectors = {
    'mean': jnp.arange(4.0),
    'var': jnp.arange(1.0, 5.0),
    'scale': jnp.array([1.0, 2.0, 0.5, -1.0]),
    'bias': jnp.array([0.0, 1.0, 2.0, 3.0]),
  }
  out = resnet.FrozenBatchNorm().apply({'params': vectors}, x)
  expected = (x - vectors['mean']) / np.sqrt(vectors['var'] + 1e-5)
  expected = expected * vectors['scale'] + vectors['bias']
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_unknown_norm_depth_and_backbone_raise():
  key, video = jax.random.key(0), jnp.zeros((1, 1, 32, 32, 3))
  with pytest.raises(ValueError, match="norm 'batch' is not one of"):
    resnet.ResNet(TINY['basic'], 'batch').init(key, video[0])
  with pytest.raises(ValueError, match='resnet_depth 34 is not one of'):
    resnet.ResTEncoder(**{**REST, 'resnet_depth': 34}).init(key, video)
  with pytest.raises(ValueError, match=r"model.video.backbone='rest34' is not"):
    zsar_model.make_video_encoder({'backbone': 'rest34'}, jnp.float32)


def initialised(encoder, video):
  return noisy(jax.jit(encoder.init)(jax.random.key(1), video))


@pytest.mark.parametrize('pooling, extra', [('mean', 0), ('cls', 1)])
def test_rest_gives_what_a_video_encoder_gives(pooling, extra):
  encoder = resnet.ResTEncoder(**REST, pooling=pooling)
  video = jax.ShapeDtypeStruct((2, 3, 64, 64, 3), jnp.float32)
  out, variables = jax.eval_shape(
    encoder.init_with_output, jax.random.key(0), video
  )
  assert out['tokens'].shape == (2, 3 * 2 * 2 + extra, 16)
  assert out['pooled'].shape == (2, 16)
  assert variables['params']['time_position'].shape == (3, 16)
  assert variables['params']['space_position'].shape == (2, 2, 16)


def test_rest_sees_frames_in_order_and_videos_alone(monkeypatch):
  monkeypatch.setitem(resnet.LAYOUTS, 18, TINY['basic'])
  encoder = resnet.ResTEncoder(**REST)
  video = images(2, 2, 32, 32, 3)
  params = initialised(encoder, video)
  apply = jax.jit(encoder.apply)
  whole = apply(params, video)['pooled']
  changed = apply(params, video.at[1].add(1.0))['pooled']
  np.testing.assert_allclose(changed[0], whole[0], atol=1e-5)
  assert not np.allclose(changed[1], whole[1], atol=1e-3)
  backwards = apply(params, video[:, ::-1])['pooled']
  assert np.abs(backwards - whole).max() > 1e-4

  gradients = jax.jit(
    jax.grad(lambda p: jnp.square(encoder.apply(p, video)['tokens']).sum())
  )(params)
  # A key bias shifts all logits of a query alike: softmax cannot see it.
  assert names_without_gradient(gradients) <= {
    'params/block_0/attention/key/bias'
  }

  half = resnet.ResTEncoder(**REST, dtype=jnp.bfloat16)
  out = jax.jit(half.apply)(params, video)
  assert out['tokens'].dtype == jnp.bfloat16
  cosine = (out['pooled'] * whole).sum(1) / (
    np.linalg.norm(out['pooled'].astype(jnp.float32), axis=1)
    * np.linalg.norm(whole, axis=1)
  )
  assert (cosine > 0.99).all()


def test_zsar_model_takes_a_rest_by_its_name():
  encoder = zsar_model.make_video_encoder(
    {
      'backbone': 'rest101',
      'resnet_norm': 'frozen',
      'width': 16,
      'depth': 2,
      'num_heads': 2,
      'mlp_dim': 32,
      'tubelet_size': (2, 16, 16),
    },
    jnp.bfloat16,
  )
  assert encoder == resnet.ResTEncoder(
    width=16,
    depth=2,
    num_heads=2,
    mlp_dim=32,
    resnet_depth=101,
    resnet_norm='frozen',
    dtype=jnp.bfloat16,
  )
