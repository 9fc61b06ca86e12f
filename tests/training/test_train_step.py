import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.data import preprocessing
from zsar_jax.inference import model_builder
from zsar_jax.models import pixel_ops, zsar_model
from zsar_jax.parallel import sharding
from zsar_jax.training import losses, optim, step_loss, train_state, train_step

PREP = preprocessing.Preprocessing(
  size=16,
  short_side=16,
  mean=(0.5, 0.5, 0.5),
  std=(0.25, 0.25, 0.25),
  num_frames=4,
  sampling='dense',
  frame_stride=1,
  sample_fps=8.0,
  inputs='grey+difference',
  token_length=6,
  vocabulary_hash='',
)
BATCH, CLASSES = 16, 5


def model(dropout_rate=0.0):
  block = dict(width=16, depth=1, num_heads=2, mlp_dim=32)
  drop = dict(dropout_rate=dropout_rate)
  return zsar_model.ZsarModel(
    video=dict(tubelet_size=(2, 8, 8), **block, **drop),
    text=dict(vocabulary_size=20, max_length=6, **block, **drop),
    fusion={**block, **drop},
    embedding_dim=16,
    num_classes=CLASSES,
  )


def batch_and_text():
  rng = np.random.default_rng(0)
  batch = {
    'video': rng.integers(0, 255, (BATCH, 4, 16, 16, 3), np.uint8),
    'label': (np.arange(BATCH) % CLASSES).astype(np.int32),
    'index': np.arange(BATCH, dtype=np.int32),
  }
  text = {
    'ids': jnp.asarray(rng.integers(5, 20, (CLASSES, 6)).astype(np.int32)),
    'mask': jnp.ones((CLASSES, 6), bool),
  }
  return batch, text


@functools.cache
def init_params():
  """The model's parameters, on the host; dropout has none."""
  _, text = batch_and_text()
  video = jnp.zeros((1, 4, 16, 16, 2))
  init = jax.jit(model().init)
  variables = init(jax.random.key(0), video, text['ids'], text['mask'])
  return jax.device_get(variables['params'])


ALL_LOSSES = step_loss.LossWeights()
NONE = step_loss.NO_AUGMENTATION
EVERYTHING = step_loss.Augmentation(
  pixel_ops.ColourJitter(0.4, 0.4, 0.4, 0.1), pixel_ops.Mixing(0.8, 1.0)
)


def make_mesh(sizes):
  devices = jax.devices()[: int(np.prod(sizes))]
  return sharding.make_mesh(
    dict(zip(sharding.AXES, sizes, strict=True)), devices
  )


@functools.cache
def trainer(
  mesh_sizes=(1, 1, 1),
  dropout_rate=0.0,
  learning_rate=3e-3,
  frozen=(),
  weights=ALL_LOSSES,
  augmentation=NONE,
  fusion_chunks=1,
  accumulate=1,
  ema_decay=0.0,
):
  """(new state, step, mesh): compiled once for all tests that ask for it."""
  mesh = make_mesh(mesh_sizes)
  schedule = optim.make_schedule(
    learning_rate=learning_rate, warmup_steps=2, num_steps=100
  )
  optimizer = optim.make_optimizer(
    schedule, weight_decay=0.05, clip_norm=1.0, frozen=frozen
  )
  step = train_step.make_train_step(
    step_loss.Objective(
      model(dropout_rate), PREP, weights, augmentation, fusion_chunks
    ),
    optimizer,
    schedule,
    mesh,
    accumulate=accumulate,
    ema_decay=ema_decay,
    frozen=frozen,
  )
  start = first_state(frozen, ema_decay > 0)
  shardings = sharding.tree_shardings(start, mesh)
  # A copy: the step takes its argument's memory.
  copy = lambda: jax.tree.map(np.array, start)
  return lambda: jax.device_put(copy(), shardings), step, mesh


@functools.cache
def first_state(frozen=(), with_ema=False):
  """The state before the first step, on the host."""
  optimizer = optim.make_optimizer(
    lambda step: 0.0, weight_decay=0.05, clip_norm=1.0, frozen=frozen
  )
  params, zero = init_params(), np.zeros((), np.int32)
  opt_state = jax.device_get(jax.jit(optimizer.init)(params))
  ema = params if with_ema else {}
  return train_state.TrainState(zero, params, opt_state, ema, zero)


def run(steps, **kwargs):
  """The state after some steps on one batch, and the metrics of each."""
  new_state, step, mesh = trainer(**kwargs)
  state = new_state()
  batch, text = batch_and_text()
  batch = sharding.put_batch(batch, mesh)
  text = jax.device_put(text, sharding.replicated(mesh))
  history = []
  for _ in range(steps):
    state, metrics = step(state, batch, text)
    history.append({k: float(v) for k, v in metrics.items()})
  return state, history


@functools.cache
def loss_metrics(weights=ALL_LOSSES, augmentation=NONE):
  """(batch, text, key) -> metrics, without gradients."""
  objective = step_loss.Objective(model(), PREP, weights, augmentation)
  function = jax.jit(
    lambda params, *args: step_loss.compute_loss(params, objective, *args)[1]
  )
  return functools.partial(function, init_params())


SLOW = pytest.mark.slow
MESHES = [
  (8, 1, 1),
  (1, 8, 1),
  pytest.param((2, 4, 1), marks=SLOW),
  (2, 2, 2),
]


@functools.cache
def three_steps(**kwargs):
  """Metrics of three steps, and the optimiser's moments after the first."""
  state, _ = run(1, **kwargs)
  # The learning rate of the first is zero, of the others it is not.
  _, history = run(3, **kwargs)
  return history, jax.device_get(jax.tree.leaves(state.opt_state))


def same_steps(ours, theirs):
  """Compares losses and gradients."""
  (history, moments), (expected, expected_moments) = ours, theirs
  for name in expected[0]:
    np.testing.assert_allclose(
      [h[name] for h in history],
      [h[name] for h in expected],
      rtol=2e-4,
      atol=2e-5,
      err_msg=name,
    )
    # Of the same parameters, to the last bit.
    assert history[0][name] == pytest.approx(expected[0][name], rel=1e-5), name
  # After one step Adam's are a tenth of the gradients, and their squares.
  for a, b in zip(moments, expected_moments, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize('mesh', MESHES)
def test_a_mesh_does_not_change_losses_or_gradients(mesh):
  same_steps(three_steps(mesh_sizes=mesh), three_steps())


@pytest.mark.parametrize('mesh', [(2, 2, 2)])
def test_the_fusion_in_chunks_is_the_same_fusion(mesh):
  in_chunks = three_steps(mesh_sizes=mesh, fusion_chunks=4)
  same_steps(in_chunks, three_steps(mesh_sizes=mesh))


@pytest.mark.parametrize('mesh', [(2, 2, 2)])
def test_a_mesh_does_not_change_the_first_state(mesh):
  optimizer = optim.make_optimizer(
    lambda step: 0.0, weight_decay=0.05, clip_norm=1.0
  )
  state = train_state.init_state(
    model(),
    optimizer,
    model_builder.input_shapes(PREP),
    jax.random.key(0),
    make_mesh(mesh),
    with_ema=True,
  )
  expected = first_state(with_ema=True)
  wanted = sharding.tree_shardings(state, make_mesh(mesh))
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  for (path, leaf), there, value in zip(
    jax.tree.leaves_with_path(state),
    jax.tree.leaves(wanted),
    jax.tree.leaves(expected),
    strict=True,
  ):
    name = jax.tree_util.keystr(path)
    assert leaf.sharding.is_equivalent_to(there, leaf.ndim), name
    np.testing.assert_allclose(leaf, value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('mesh', MESHES)
def test_every_array_of_the_state_lies_where_the_table_says(mesh):
  state, _ = run(1, mesh_sizes=mesh)
  expected = sharding.tree_shardings(state, make_mesh(mesh))
  split = 0
  for (path, leaf), wanted in zip(
    jax.tree.leaves_with_path(state), jax.tree.leaves(expected), strict=True
  ):
    name = jax.tree_util.keystr(path)
    assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), name
    if not wanted.is_fully_replicated:
      split += leaf.size * (1 if 'params' in name else 0)
      shard = leaf.addressable_shards[0].data
      assert shard.size < leaf.size, name
  if mesh != (8, 1, 1):
    # Most of the model is in matrices, and those are split.
    assert split > 0.8 * sum(x.size for x in jax.tree.leaves(state.params))


def test_fsdp_and_tensor_axes_really_split_parameters():
  state, _ = run(1, mesh_sizes=(2, 2, 2))
  kernel = state.params['video_encoder']['block_0']['mlp']['in']['kernel']
  assert kernel.sharding.spec == sharding.P('fsdp', 'tensor')
  assert kernel.addressable_shards[0].data.shape == (8, 16)
  # The optimiser's moments lie as their parameters do.
  moments = [
    leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state)
    if 'mlp' in jax.tree_util.keystr(path) and leaf.shape == kernel.shape
  ]
  assert moments
  for moment in moments:
    assert moment.sharding.spec == kernel.sharding.spec


def test_one_batch_can_be_learnt():
  _, history = run(40)
  assert history[-1]['loss'] < 0.5 * history[0]['loss']
  assert history[-1]['train_top1'] == 1


def test_the_old_state_is_donated():
  new_state, step, mesh = trainer()
  state = new_state()
  batch, text = batch_and_text()
  step(state, sharding.put_batch(batch, mesh), text)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_a_loss_of_weight_zero_is_left_out():
  weights = step_loss.LossWeights(visual=1.0, contrast=0.0, match=0.0)
  metrics = loss_metrics(weights)(*batch_and_text(), jax.random.key(0))
  assert 'loss_visual' in metrics
  assert 'loss_match' not in metrics
  assert metrics['loss'] == pytest.approx(metrics['loss_visual'])


def test_loss_weights_that_train_nothing_are_refused():
  with pytest.raises(ValueError, match='nothing to train'):
    step_loss.LossWeights(visual=0.0, contrast=0.0, match=0.0)
  with pytest.raises(ValueError, match='negative'):
    step_loss.LossWeights(match=-1.0)


def test_dropout_depends_on_seed_and_step_alone():
  _, first = run(2, dropout_rate=0.5)
  _, again = run(2, dropout_rate=0.5)
  assert first == again
  assert first != run(2)[1]


def plain_loss(params, the_model, batch, text, key, smoothing):
  """All three losses written out, of clips as they are."""
  dropout_key, negative_key = jax.random.split(key)
  apply = functools.partial(
    the_model.apply,
    {'params': params},
    deterministic=False,
    rngs={'dropout': dropout_key},
  )
  clip = pixel_ops.to_inputs(batch['video'], PREP.mean, PREP.std, PREP.inputs)
  video = apply(clip, method='encode_video')
  names = apply(text['ids'], text['mask'], method='encode_text')
  heads = the_model.apply({'params': params}, method='heads')
  z, t, labels = video['embedding'], names['embedding'], batch['label']
  q = losses.targets(labels, CLASSES, smoothing)
  visual = losses.visual_loss(
    z, heads['class_centres'], heads['visual_scale'], q
  )
  contrast = losses.contrast_loss(z, t, heads['text_scale'], q)
  keys = losses.global_index_keys(negative_key, batch['index'])
  true = losses.targets(labels, CLASSES)
  wrong = losses.hard_negatives(z, t, heads['text_scale'], true, keys)
  pairs = jnp.stack([labels, wrong], axis=1)
  logits = apply(
    video['tokens'], names['tokens'][pairs], text['mask'][pairs], method='match'
  )
  match = losses.match_loss(logits[:, 0], logits[:, 1])
  return visual.mean() + contrast.mean() + match.mean()


@pytest.mark.parametrize('smoothing', [pytest.param(0.0, marks=SLOW), 0.1])
def test_without_augmentation_loss_and_gradient_are_the_plain_ones(smoothing):
  the_model = model(dropout_rate=0.1)
  batch, text = batch_and_text()
  params = init_params()
  key = jax.random.key(7)
  weights = step_loss.LossWeights(label_smoothing=smoothing)
  loss, gradient = jax.jit(
    jax.value_and_grad(
      lambda p: step_loss.compute_loss(
        p, step_loss.Objective(the_model, PREP, weights), batch, text, key
      )[0]
    )
  )(params)
  expected, expected_gradient = jax.jit(
    jax.value_and_grad(
      lambda p: plain_loss(p, the_model, batch, text, key, smoothing)
    )
  )(params)
  assert loss == expected
  jax.tree.map(np.testing.assert_array_equal, gradient, expected_gradient)


def test_mass_of_both_classes_of_a_mix_reaches_every_loss():
  the_model = model()
  batch, text = batch_and_text()
  # One and the same clip under all labels: mixing changes its targets alone.
  batch['video'] = np.repeat(batch['video'][:1], BATCH, axis=0)
  params = init_params()
  key = jax.random.key(5)
  mixup = step_loss.Augmentation(mixing=pixel_ops.Mixing(mixup_alpha=1.0))
  metrics = loss_metrics(ALL_LOSSES, mixup)(batch, text, key)

  mixing_key = jax.random.fold_in(key, 3)
  _, shift, share = pixel_ops.mix(
    batch['video'],
    mixup.mixing,
    mixing_key,
    losses.global_index_keys(mixing_key, batch['index']),
  )
  share, labels = np.asarray(share), batch['label']
  others = np.roll(labels, -int(shift))
  # The loss of this clip as an example of each class.
  each = [
    loss_metrics()({**batch, 'label': np.full(BATCH, c, np.int32)}, text, key)
    for c in range(CLASSES)
  ]
  for name in ('loss_visual', 'loss_contrast'):
    of_class = np.array([m[name] for m in each])
    expected = share * of_class[labels] + (1 - share) * of_class[others]
    assert float(metrics[name]) == pytest.approx(expected.mean(), rel=1e-4)
  named = int(np.argmax([m['train_top1'] for m in each]))
  dominant = np.where(share > 0.5, labels, others)
  assert float(metrics['train_top1']) == pytest.approx(
    (dominant == named).mean()
  )

  # Of the match logits too; which wrong class was drawn, the test redraws.
  apply = functools.partial(the_model.apply, {'params': params})

  @jax.jit
  def outputs(pixels):
    clip = pixel_ops.to_inputs(pixels, PREP.mean, PREP.std, PREP.inputs)
    video = apply(clip, method='encode_video')
    names = apply(text['ids'], text['mask'], method='encode_text')
    tokens, mask = names['tokens'][None], text['mask'][None]
    logits = apply(video['tokens'], tokens, mask, method='match')
    return video, names, logits, apply(method='heads')

  video, names, logits, heads = outputs(batch['video'][:1])
  logit = np.asarray(logits)[0]
  q = share[:, None] * np.eye(CLASSES)[labels]
  q = q + (1 - share)[:, None] * np.eye(CLASSES)[others]
  wrong = losses.hard_negatives(
    np.repeat(video['embedding'], BATCH, axis=0),
    names['embedding'],
    heads['text_scale'],
    q,
    losses.global_index_keys(jax.random.split(key)[1], batch['index']),
  )
  softplus = lambda x: np.logaddexp(0, x)
  expected = 0.5 * (
    (q * softplus(-logit)).sum(axis=1) + softplus(logit[np.asarray(wrong)])
  )
  assert float(metrics['loss_match']) == pytest.approx(
    expected.mean(), rel=1e-3
  )


def test_devices_do_not_change_an_augmented_loss():
  batch, text = batch_and_text()
  mesh = sharding.make_mesh({'data': 4, 'fsdp': 2, 'tensor': 1})
  split = sharding.put_batch(batch, mesh)
  on_all = jax.device_put(text, sharding.replicated(mesh))
  key = jax.random.key(0)
  function = loss_metrics(ALL_LOSSES, EVERYTHING)
  expected = function(batch, text, key)
  found = function(split, on_all, key)
  for name in expected:
    assert float(found[name]) == pytest.approx(
      float(expected[name]), rel=1e-4
    ), name
  plain = loss_metrics()(batch, text, key)
  assert abs(float(plain['loss'] - expected['loss'])) > 1e-3


def test_an_augmented_batch_can_be_learnt_from():
  augmentation = step_loss.Augmentation(mixing=pixel_ops.Mixing(0.8))
  _, history = run(30, augmentation=augmentation)
  assert history[-1]['loss'] < 0.9 * history[0]['loss']


def test_mixing_that_leaves_no_wrong_class_is_refused():
  the_model = model()
  batch, text = batch_and_text()
  text = {name: value[:2] for name, value in text.items()}
  mixing = step_loss.Augmentation(mixing=pixel_ops.Mixing(0.0, 1.0))
  assert step_loss.least_classes(ALL_LOSSES, NONE) == 2
  assert step_loss.least_classes(ALL_LOSSES, mixing) == 3
  no_match = step_loss.LossWeights(match=0.0)
  assert step_loss.least_classes(no_match, mixing) == 2
  with pytest.raises(ValueError, match='2 seen classes; .* at least 3'):
    step_loss.compute_loss(
      {},
      step_loss.Objective(the_model, PREP, ALL_LOSSES, mixing),
      batch,
      text,
      jax.random.key(0),
    )


def test_metrics_are_a_mean_over_the_global_batch():
  mesh = sharding.make_mesh({'data': 8, 'fsdp': 1, 'tensor': 1})
  batch, text = batch_and_text()
  key = jax.random.key(1)
  whole = loss_metrics()(batch, text, key)['loss']
  on_all = jax.device_put(text, sharding.replicated(mesh))
  halves = [{k: v[i : i + 8] for k, v in batch.items()} for i in (0, 8)]
  losses_of_halves = [
    loss_metrics()(sharding.put_batch(half, mesh), on_all, key)['loss']
    for half in halves
  ]
  assert np.mean(losses_of_halves) == pytest.approx(float(whole), rel=1e-4)


def run_with(change=None, steps=1, mesh_sizes=(2, 1, 1), **kwargs):
  """States and metrics of some steps, and the state before them."""
  new_state, step, mesh = trainer(mesh_sizes, **kwargs)
  state = new_state()
  before = jax.device_get(state)
  batch, text = batch_and_text()
  batch = sharding.put_batch(batch, mesh)
  if change:
    state = change(state)
  states, metrics = [], []
  for _ in range(steps):
    state, values = step(state, batch, text)
    states.append(jax.device_get(state))
    metrics.append({k: float(v) for k, v in values.items()})
  return before, states, metrics


@pytest.mark.parametrize(
  'augmentation', [pytest.param(NONE, marks=SLOW), EVERYTHING]
)
def test_a_batch_in_parts_gives_the_same_step(augmentation):
  _, (whole,), (metrics,) = run_with(augmentation=augmentation)
  _, (parts,), (of_parts,) = run_with(augmentation=augmentation, accumulate=2)
  for name in ('loss', 'train_top1', 'gradient_norm'):
    assert of_parts[name] == pytest.approx(metrics[name], rel=1e-4)
  # Adam's first step is the sign of the gradient: compare its moments.
  moments = lambda s: jax.tree.leaves(s.opt_state)
  for a, b in zip(moments(whole), moments(parts), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-6)


def test_an_update_that_is_not_finite_is_left_out_and_counted():
  def spoil(state):
    # One class centre is infinite: the loss is not a number.
    params = dict(state.params)
    params['class_centres'] = params['class_centres'] * jnp.inf
    return train_state.TrainState(
      state.step, params, state.opt_state, state.ema, state.skipped
    )

  before, (first, second), metrics = run_with(spoil, steps=2, ema_decay=0.75)
  assert [m['skipped'] for m in metrics] == [1, 2]
  assert int(second.step) == 2 and int(second.skipped) == 2
  for name in before.params:
    if name != 'class_centres':
      jax.tree.map(
        np.testing.assert_array_equal, before.params[name], second.params[name]
      )
  jax.tree.map(np.testing.assert_array_equal, before.opt_state, first.opt_state)
  jax.tree.map(np.testing.assert_array_equal, before.ema, second.ema)
  # A healthy one counts nothing.
  _, (healthy,) = run(1)
  assert healthy['skipped'] == 0


def test_the_average_follows_the_parameters():
  before, states, _ = run_with(steps=3, ema_decay=0.75)
  wanted = before.params
  for state in states:
    wanted = jax.tree.map(
      lambda e, p: 0.75 * e + 0.25 * p, wanted, state.params
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    states[-1].ema,
    wanted,
  )
  assert states[-1].best_params is states[-1].ema
  plain, _ = run(1)
  assert plain.ema == {} and plain.best_params is plain.params


FROZEN = ('^text_encoder/', '^video_encoder/block_0')


def plain_text(params, text):
  del params
  return text


def known_text(params, text):
  encode = jax.jit(functools.partial(model().apply, method='encode_text'))
  out = encode({'params': params}, text['ids'], text['mask'])
  return {**text, 'tokens': out['tokens'], 'pooled': out['pooled']}


@functools.cache
def frozen_steps(text, accumulate):
  """The states before and after two steps with some frozen, and metrics."""
  new_state, step, mesh = trainer(
    (2, 1, 1), learning_rate=0.1, frozen=FROZEN, accumulate=accumulate
  )
  state = new_state()
  start = jax.device_get(state)
  batch, words = batch_and_text()
  batch = sharding.put_batch(batch, mesh)
  words = text(start.params, words)
  metrics = []
  for _ in range(2):
    state, values = step(state, batch, words)
    metrics.append(jax.device_get(values))
  return start, jax.device_get(state), metrics


# With the text encoder run in parts, and without running it.
FROZEN_WAYS = [(plain_text, 2), (known_text, 1)]


@pytest.mark.parametrize('way', FROZEN_WAYS)
def test_frozen_parameters_stay_and_do_not_count(way):
  before, after, metrics = frozen_steps(*way)
  start, end = before.params, after.params
  for side, part in (('text_encoder', 'word'), ('video_encoder', 'block_0')):
    jax.tree.map(
      np.testing.assert_array_equal, end[side][part], start[side][part]
    )
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), start, end)
  assert moved['text_projection']['kernel'] > 0
  assert moved['video_encoder']['norm']['scale'] > 0
  # The norm is of the others alone: that of the whole is larger.
  _, (of_all,) = run(1)
  assert 0 < metrics[0]['gradient_norm'] < of_all['gradient_norm']


def test_a_frozen_text_encoder_need_not_run():
  _, runs, metrics = frozen_steps(*FROZEN_WAYS[0])
  _, known, known_metrics = frozen_steps(*FROZEN_WAYS[1])
  for name in ('loss', 'gradient_norm'):
    for a, b in zip(metrics, known_metrics, strict=True):
      assert a[name] == pytest.approx(b[name], rel=1e-4), name
  # Adam makes a step of a gradient that is only rounding: compare its moments.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6),
    runs.opt_state,
    known.opt_state,
  )


def test_no_backward_pass_of_what_is_frozen():
  the_model, (batch, text) = model(), batch_and_text()
  params = init_params()
  mesh = sharding.make_mesh(dict(data=1, fsdp=1, tensor=1), jax.devices()[:1])
  optimizer = optim.make_optimizer(
    lambda step: 0.1, weight_decay=0, clip_norm=1.0, frozen=FROZEN[:1]
  )
  state = train_state.TrainState(
    jnp.zeros((), jnp.int32),
    params,
    optimizer.init(params),
    {},
    jnp.zeros((), jnp.int32),
  )

  def flops(frozen):
    step = train_step.make_train_step(
      step_loss.Objective(the_model, PREP, ALL_LOSSES),
      optimizer,
      lambda step: 0.1,
      mesh,
      frozen=frozen,
    )
    with jax.set_mesh(mesh):
      # Before compiling: a backward pass that is not asked for is not traced.
      return step.__wrapped__.lower(state, batch, text).cost_analysis()['flops']

  assert flops(FROZEN[:1]) < flops(())


@pytest.mark.parametrize('name', ['transfer', 'regression'])
def test_optional_losses_can_be_learnt(name):
  weights = step_loss.LossWeights(visual=0, contrast=0, match=0, **{name: 1.0})
  # The centres of `transfer` are learnt by it alone here.
  _, history = run(12, weights=weights)
  assert set(history[0]) & {'loss_visual', 'loss_contrast'} == set()
  assert history[-1][f'loss_{name}'] < 0.8 * history[0][f'loss_{name}']
