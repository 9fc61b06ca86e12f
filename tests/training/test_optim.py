import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zsar_jax.models import i3d
from zsar_jax.training import optim


def test_schedule_warms_up_and_ends_at_zero():
  schedule = optim.make_schedule(
    learning_rate=2.0, warmup_steps=10, num_steps=110
  )
  assert schedule(0) == 0
  np.testing.assert_allclose(schedule(5), 1.0, rtol=1e-6)
  np.testing.assert_allclose(schedule(10), 2.0, rtol=1e-6)
  np.testing.assert_allclose(schedule(60), 1.0, rtol=1e-5)  # half the cosine
  np.testing.assert_allclose(schedule(110), 0.0, atol=1e-6)


def test_schedule_never_rises_after_the_warm_up():
  schedule = optim.make_schedule(
    learning_rate=1.0, warmup_steps=3, num_steps=30
  )
  rates = np.array([schedule(step) for step in range(31)])
  assert (np.diff(rates[:4]) > 0).all()
  assert (np.diff(rates[3:]) < 0).all()


@pytest.mark.parametrize('warmup_steps, num_steps', [(0, 5), (5, 5), (0, 1)])
def test_shortest_schedules_are_finite(warmup_steps, num_steps):
  schedule = optim.make_schedule(
    learning_rate=1.0, warmup_steps=warmup_steps, num_steps=num_steps
  )
  rates = [float(schedule(step)) for step in range(num_steps + 1)]
  assert np.isfinite(rates).all() and max(rates) == 1.0


@pytest.mark.parametrize('warmup_steps', [-1, 11])
def test_warm_up_outside_the_training_raises(warmup_steps):
  with pytest.raises(ValueError, match=f'optim.warmup_steps={warmup_steps}'):
    optim.make_schedule(
      learning_rate=1.0, warmup_steps=warmup_steps, num_steps=10
    )


PARAMS = {
  'video_encoder': {
    'tubelet_embed': {'projection': {'kernel': 1.0, 'bias': 1.0}},
    'norm': {'scale': 1.0, 'bias': 1.0},
    'space_position': 1.0,
  },
  'text_encoder': {'word': 1.0},
  'class_centres': 1.0,
  'visual_log_scale': 1.0,
}


def test_kernels_alone_are_decayed():
  decayed = jax.tree_util.tree_leaves_with_path(optim.decayed(PARAMS))
  assert [
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, is_decayed in decayed
    if is_decayed
  ] == ['video_encoder/tubelet_embed/projection/kernel']


def update(optimizer, params, gradients):
  updates, _ = optimizer.update(gradients, optimizer.init(params), params)
  return optax.apply_updates(params, updates)


def test_weight_decay_shrinks_decayed_parameters_alone():
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1), weight_decay=0.5, clip_norm=1.0
  )
  params = jax.tree.map(jnp.float32, PARAMS)
  after = update(optimizer, params, jax.tree.map(jnp.zeros_like, params))
  tubelets = after['video_encoder']['tubelet_embed']['projection']
  np.testing.assert_allclose(tubelets['kernel'], 1 - 0.1 * 0.5, rtol=1e-6)
  assert tubelets['bias'] == 1 and after['class_centres'] == 1


def test_gradients_are_clipped_by_their_global_norm():
  # Adam's first update is blind to a common scale: the second moment tells.
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1), weight_decay=0.0, clip_norm=1.0
  )
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  gradients = {'a': jnp.array([30.0]), 'b': jnp.array([40.0])}
  _, state = optimizer.update(gradients, optimizer.init(params), params)
  (moments,) = [
    s
    for s in jax.tree.leaves(
      state, is_leaf=lambda s: isinstance(s, optax.ScaleByAdamState)
    )
    if isinstance(s, optax.ScaleByAdamState)
  ]
  np.testing.assert_allclose(moments.mu['a'], 0.1 * 0.6, rtol=1e-5)
  np.testing.assert_allclose(moments.mu['b'], 0.1 * 0.8, rtol=1e-5)


def test_frozen_parameters_keep_their_values_and_have_no_moments():
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1),
    weight_decay=0.5,
    clip_norm=1.0,
    frozen=('^video_encoder/(norm|tubelet)', 'centres'),
  )
  params = jax.tree.map(jnp.float32, PARAMS)
  state = optimizer.init(params)
  assert len(jax.tree.leaves(optax.tree.get(state, 'mu'))) == 3
  after = jax.jit(lambda p: update(optimizer, p, p))(params)
  still = {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, leaf in jax.tree_util.tree_leaves_with_path(after)
    if leaf == 1
  }
  assert still == {
    'video_encoder/tubelet_embed/projection/kernel',
    'video_encoder/tubelet_embed/projection/bias',
    'video_encoder/norm/scale',
    'video_encoder/norm/bias',
    'class_centres',
  }


def test_frozen_gradients_do_not_count_in_the_norm():
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  gradients = {'a': jnp.array([1e6]), 'b': jnp.array([0.5])}
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1), weight_decay=0, clip_norm=1.0, frozen=('a',)
  )
  _, state = optimizer.update(gradients, optimizer.init(params), params)
  (moment,) = jax.tree.leaves(optax.tree.get(state, 'mu'))
  np.testing.assert_allclose(moment, 0.1 * 0.5, rtol=1e-5)


def test_pattern_that_freezes_nothing_raises():
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1),
    weight_decay=0.5,
    clip_norm=1.0,
    frozen=('norm', 'resnet'),
  )
  message = r"no parameter matches \['resnet'\]; the paths start with .'class"
  with pytest.raises(ValueError, match=message):
    optimizer.init(jax.tree.map(jnp.float32, PARAMS))


def test_a_constant_schedule_stays_at_the_peak():
  schedule = optim.make_schedule(
    learning_rate=0.5, warmup_steps=10, num_steps=100, name='constant'
  )
  np.testing.assert_allclose(
    [schedule(s) for s in (0, 5, 10, 50, 99)], [0, 0.25, 0.5, 0.5, 0.5]
  )
  with pytest.raises(ValueError, match="optim.schedule='linear'"):
    optim.make_schedule(
      learning_rate=1, warmup_steps=0, num_steps=1, name='linear'
    )


def test_layers_have_learning_rates_of_their_own():
  leaf = lambda *shape: {'kernel': jnp.ones(shape)}
  params = {
    'video_encoder': {
      'tubelet_embed': leaf(2, 2),
      'blocks': {'mlp': leaf(3, 2, 2)},
      'norm': {'scale': jnp.ones(2)},
    },
    'text_encoder': {
      'word': jnp.ones((4, 2)),
      'block_0': leaf(2, 2),
      'block_1': leaf(2, 2),
    },
    'video_projection': leaf(2, 2),
  }
  scales = optim.layer_scales(params, 0.5, ('video_encoder', 'text_encoder'))
  video, text = scales['video_encoder'], scales['text_encoder']
  assert video['tubelet_embed']['kernel'] == 0.5**4
  stack = video['blocks']['mlp']['kernel']
  assert stack.shape == (3, 1, 1)
  assert stack.ravel().tolist() == [0.5**3, 0.5**2, 0.5]
  assert video['norm']['scale'] == 1
  assert text['word'] == 0.5**3
  assert text['block_0']['kernel'] == 0.25
  assert text['block_1']['kernel'] == 0.5
  assert scales['video_projection']['kernel'] == 1
  # And updates are scaled by them.
  optimizer = optim.make_optimizer(
    lambda step: 0.1, weight_decay=0.0, clip_norm=1e9, layer_decay=0.5
  )
  grads = jax.tree.map(jnp.ones_like, params)
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  np.testing.assert_allclose(
    updates['video_encoder']['blocks']['mlp']['kernel'][:, 0, 0],
    [-0.1 / 8, -0.1 / 4, -0.1 / 2],
    rtol=1e-4,
  )


@pytest.mark.parametrize('name', optim.SCHEDULES)
@pytest.mark.parametrize('warmup_steps', [0, 1, 10])
def test_every_schedule_warms_up_linearly(name, warmup_steps):
  schedule = optim.make_schedule(
    learning_rate=3.0, warmup_steps=warmup_steps, num_steps=10, name=name
  )
  for step in range(warmup_steps):
    assert schedule(step) == pytest.approx(3.0 * step / warmup_steps)
  assert schedule(warmup_steps) == pytest.approx(3.0)
  # One step later the cosine of the rest, of which there may be none.
  rest = 10 - warmup_steps
  if name == 'cosine' and rest:
    cosine = 0.5 * (1 + np.cos(np.pi / rest))
    assert schedule(warmup_steps + 1) == pytest.approx(3 * cosine, abs=1e-6)
  else:
    later = schedule(warmup_steps + 1)
    assert later == pytest.approx(3.0 if name == 'constant' else 0, abs=1e-6)


def test_an_unknown_schedule_and_a_cosine_by_default():
  kwargs = dict(learning_rate=1.0, warmup_steps=2, num_steps=20)
  schedule = optim.make_schedule(**kwargs)
  cosine = optim.make_schedule(name='cosine', **kwargs)
  assert [schedule(s) for s in range(21)] == [cosine(s) for s in range(21)]
  with pytest.raises(ValueError, match="'constan' is not one of"):
    optim.make_schedule(name='constan', **kwargs)


@pytest.mark.parametrize(('given', 'b2'), [({}, 0.999), ({'b2': 0.9}, 0.9)])
def test_adam_by_hand(given, b2):
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1), weight_decay=0.0, clip_norm=100.0, **given
  )
  params = {'bias': jnp.zeros(())}
  state, m, v, wanted = optimizer.init(params), 0.0, 0.0, 0.0
  for step, gradient in enumerate([1.0, -3.0, 0.5], 1):
    updates, state = optimizer.update(
      {'bias': jnp.float32(gradient)}, state, params
    )
    params = optax.apply_updates(params, updates)
    m, v = 0.9 * m + 0.1 * gradient, b2 * v + (1 - b2) * gradient**2
    mean, square = m / (1 - 0.9**step), v / (1 - b2**step)
    wanted -= 0.1 * mean / (np.sqrt(square) + 1e-8)
    assert float(params['bias']) == pytest.approx(wanted, rel=1e-4)


def test_small_gradients_are_not_clipped_and_layers_are_alike_by_default():
  params = {'video_encoder': {'block_0': {'kernel': jnp.zeros(2)}}}
  gradients = jax.tree.map(lambda x: x + 0.3, params)
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1), weight_decay=0.0, clip_norm=1.0
  )
  updates, state = optimizer.update(gradients, optimizer.init(params), params)
  (moment,) = jax.tree.leaves(optax.tree.get(state, 'mu'))
  np.testing.assert_allclose(moment, 0.03, rtol=1e-5)
  np.testing.assert_allclose(jax.tree.leaves(updates)[0], -0.1, rtol=1e-4)


def test_layers_of_an_encoder_by_their_distance_from_its_end():
  shape = jnp.ones((2, 3))
  params = {
    'text_encoder': {
      'block_0': {'bias': jnp.ones(3)},
      'block_1': {'kernel': shape},
      'block_10': {'kernel': shape},
      'final_norm': {'scale': jnp.ones(3)},
      'position': shape,
    },
    'other_encoder': {'block_0': {'kernel': shape}},
  }
  scales = optim.layer_scales(params, 0.1, ('text_encoder',))
  text = scales['text_encoder']
  assert text['block_0']['bias'] == pytest.approx(0.1**3)
  assert text['block_1']['kernel'] == pytest.approx(0.1**2)
  assert text['final_norm']['scale'] == 1
  assert text['position'] == pytest.approx(0.1**4)
  assert scales['other_encoder']['block_0']['kernel'] == 1


def test_layers_of_factorised_attention_and_of_pools():
  shape = jnp.ones((2, 3))
  leaf = {'kernel': shape}
  params = {
    'video_encoder': {
      'tubelet_embed': leaf,
      'block_0': leaf,
      'messages_0': leaf,
      'block_1': leaf,
      'space_norm': leaf,
      'time_cls': shape,
      'time_block_0': leaf,
      'norm': leaf,
      'pool': leaf,
    }
  }
  scales = optim.layer_scales(params, 0.5, ('video_encoder',))
  found = {
    name: jax.tree.leaves(part)[0]
    for name, part in scales['video_encoder'].items()
  }
  assert found == {
    'tubelet_embed': 0.5**4,
    'block_0': 0.5**3,
    'messages_0': 0.5**3,
    'block_1': 0.5**2,
    'space_norm': 0.5**2,
    'time_cls': 0.5**2,
    'time_block_0': 0.5,
    'norm': 1,
    'pool': 1,
  }
  stacked = {
    'video_encoder': {
      'blocks': {'kernel': jnp.ones((2, 3))},
      'time_blocks': {'kernel': jnp.ones((1, 3))},
    }
  }
  scales = optim.layer_scales(stacked, 0.5, ('video_encoder',))
  encoder = scales['video_encoder']
  assert encoder['blocks']['kernel'].ravel().tolist() == [0.5**3, 0.5**2]
  assert encoder['time_blocks']['kernel'].ravel().tolist() == [0.5]


def test_blocks_of_i3d_by_their_names():
  names = [f'{block}_1_3x3' for block in i3d._BLOCKS]
  params = {'video_encoder': {name: jnp.ones(1) for name in names}}
  scales = optim.layer_scales(params, 0.5, ('video_encoder',))
  found = [scales['video_encoder'][name] for name in names]
  assert found == [0.5**power for power in range(9, 0, -1)]


def test_a_frozen_stack_has_no_rates():
  params = {
    'video_encoder': {
      'blocks': {'kernel': jnp.ones((2, 3))},
      'norm': {'scale': jnp.ones(3)},
    },
    'text_encoder': {'block_0': {'kernel': jnp.ones((2, 3))}},
  }
  optimizer = optim.make_optimizer(
    optax.constant_schedule(0.1),
    weight_decay=0.0,
    clip_norm=1e9,
    frozen=('^video_encoder/',),
    layer_decay=0.5,
  )
  grads = jax.tree.map(jnp.ones_like, params)
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  assert not np.any(updates['video_encoder']['blocks']['kernel'])
  np.testing.assert_allclose(
    updates['text_encoder']['block_0']['kernel'], -0.05, rtol=1e-4
  )
