import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.pretrained import test_video, tiny_weights
from zsar_jax import config_utils
from zsar_jax.inference import (
  interpolation,
  model_builder,
  public_sides,
  saved_encoders,
)
from zsar_jax.models import pixel_ops, zsar_model
from zsar_jax.pretrained import initialisation, pixels
from zsar_jax.training import optim, run_checks, train


@pytest.fixture
def bert(tmp_path):
  # Every letter is a piece, so that any class name can be spelt.
  letters = 'abcdefghijklmnopqrstuvwxyz'
  path = tiny_weights.write_bert(
    tmp_path / 'tiny-bert', {'vocab_size': 57, 'max_position_embeddings': 64}
  )
  pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  pieces += [*letters, *(f'##{letter}' for letter in letters)]
  (tmp_path / 'tiny-bert' / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  return path


@pytest.fixture
def vit(tmp_path):
  path = test_video.write_vit(tmp_path / 'tiny-vit')
  (path / 'preprocessor_config.json').write_text(
    json.dumps(
      {
        'size': {'height': 24, 'width': 24},
        'image_mean': [0.4, 0.5, 0.6],
        'image_std': [0.2, 0.3, 0.4],
      }
    )
  )
  return str(path)


def test_without_weights_nothing_changes():
  config = tiny.config()
  start = initialisation.start(config)
  assert start.config.to_dict() == config.to_dict()
  assert start.loaded == {}
  assert initialisation.describe(start.config) == 'random'


def test_weights_decide_sizes_vocabulary_and_pixels(bert, vit):
  config = tiny.config(
    init__text=bert,
    init__video=vit,
    preprocessing__token_length=60,
    preprocessing__inputs='rgb',
  )
  start = initialisation.start(config)
  assert start.config.model.text.width == 16
  assert start.config.model.text.depth == 2
  assert len(start.pieces) == 57
  assert start.config.model.video.width == 32
  assert start.config.model.video.tubelet_size == (2, 8, 8)
  assert start.config.preprocessing.mean == (0.4, 0.5, 0.6)
  assert start.config.preprocessing.size == 24
  name = initialisation.describe(start.config)
  assert name.startswith('text=tiny-bert:') and 'video=tiny-vit:' in name
  # The caller's config is still the one that was asked for.
  assert config.model.text.width == 32 and not config.init.loaded


def test_training_starts_from_the_weights_and_keeps_what_is_frozen(
  bert, tmp_path
):
  config = tiny.config(
    init__text=bert,
    optim__frozen=('^text_encoder/',),
    preprocessing__token_length=60,
    train__num_steps=2,
    train__checkpoint_every=2,
    data__train_only=True,
  )
  content = train.train(config, str(tmp_path / 'run'))
  assert content['initialisation'].startswith('text=tiny-bert:')
  trained = saved_encoders.load(str(tmp_path / 'run'))
  loaded = initialisation.start(config).loaded['text_encoder']
  jax.tree.map(
    lambda new, old: np.testing.assert_array_equal(np.asarray(new), old),
    trained.params['text_encoder'],
    loaded,
  )
  # Inference needs the checkpoint alone.
  names = ['rowing', 'juggling']
  assert trained.encode_class_names(names)['embedding'].shape == (2, 32)


def test_an_older_run_goes_on_with_the_pixels_it_began_with(
  vit, tmp_path, monkeypatch, capsys
):
  """Until weights said how to resize, areas were averaged."""
  workdir = tmp_path / 'run'
  config = tiny.config(
    init__video=vit,
    preprocessing__inputs='rgb',
    train__num_steps=2,
    train__checkpoint_every=1,
    data__train_only=True,
  )
  before = {'resize': 'area', 'crop': 'square'}
  today = pixels.read
  monkeypatch.setattr(pixels, 'read', lambda *args: {**today(*args), **before})
  train.train(config, str(workdir))
  loss = read_losses(workdir)
  # It had come to its first step.
  shutil.rmtree(workdir / 'checkpoints' / '2')
  (workdir / 'results.json').unlink()
  (workdir / 'metrics.jsonl').unlink()
  monkeypatch.undo()
  capsys.readouterr()
  content = train.train(config, str(workdir))
  said = capsys.readouterr().out
  assert "resize='area' (today 'bilinear'), crop='square' (today 'whole')" in (
    said
  )
  assert content['config']['preprocessing']['resize'] == 'area'
  assert saved_encoders.load(str(workdir)).prep.crop == 'square'
  assert read_losses(workdir)[2] == pytest.approx(loss[2], abs=1e-5)


def read_losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return {x['step']: x['loss'] for x in map(json.loads, lines) if 'loss' in x}


def test_a_run_does_not_go_on_with_another_vocabulary():
  prep = model_builder.make_preprocessing(tiny.config(), ['a'])
  other = dataclasses.replace(prep, vocabulary_hash='x')
  with pytest.raises(ValueError, match='began with another vocabulary'):
    run_checks.keep_preprocessing(tiny.config(), prep, other, print)


def test_an_mpnet_with_its_relative_positions_starts_the_text_side(tmp_path):
  letters = 'abcdefghijklmnopqrstuvwxyz'
  pieces = ['<s>', '<pad>', '</s>', '<unk>', '[PAD]', '[UNK]', '[CLS]', '[SEP]']
  pieces += [*letters, *(f'##{letter}' for letter in letters), '<mask>']
  path = tiny_weights.write_mpnet(tmp_path / 'tiny-mpnet', pieces)
  config = tiny.config(init__text=path, preprocessing__token_length=60)
  start = initialisation.start(config)
  text = start.config.model.text
  assert initialisation.describe(start.config).startswith('text=tiny-mpnet:')
  assert text.relative == 32 and text.width == 16
  params = start.loaded['text_encoder']
  assert params['relative'].shape == (32, 4) and 'token_type' not in params
  # They fit the model that is trained.
  prep = model_builder.make_preprocessing(start.config, start.pieces)
  model = model_builder.build_model(start.config, prep, len(start.pieces), 6)
  shapes = model_builder.parameter_shapes(model, prep)['text_encoder']
  shape = lambda tree: jax.tree.map(lambda x: x.shape, tree)
  assert shape(shapes) == shape(params)
  # Its embeddings are those of the public side with the same weights.
  side = public_sides.open_text(path, ('{}',))
  row = side.texts.token_ids(['rowing'])[0]
  expected = side.program[0](side.program[1], row['ids'], row['mask'])
  encoder = zsar_model.make_text_encoder(model.text, 'float32')
  pooled = encoder.apply({'params': params}, row['ids'], row['mask'])['pooled']
  unit = pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)
  np.testing.assert_allclose(unit, expected, atol=1e-5)


def test_another_text_encoder_is_refused_by_name(bert, tmp_path):
  path = tmp_path / 'tiny-bert' / 'config.json'
  content = {**json.loads(path.read_text()), 'model_type': 'modernbert'}
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="'modernbert', expected 'bert' or 'mpn"):
    initialisation.start(tiny.config(init__text=bert))


def test_two_vocabularies_are_refused(bert, tmp_path):
  config = tiny.config(init__text=bert, vocabulary=str(tmp_path / 'v.txt'))
  with pytest.raises(ValueError, match='set only one'):
    initialisation.start(config)


def test_missing_weights_are_named(tmp_path):
  config = tiny.config(init__text=str(tmp_path / 'none'))
  with pytest.raises(FileNotFoundError, match='none do not exist'):
    initialisation.start(config)


def test_clip_starts_both_sides_and_its_frozen_self_stands_beside(tmp_path):
  clip_config = tiny_weights.clip_config()
  clip_config['text_config']['max_position_embeddings'] = 77
  path = tiny_weights.write_clip(tmp_path / 'tiny-clip', clip_config)
  config = tiny.config(
    init__clip=path,
    preprocessing__inputs='rgb',
    preprocessing__token_length=40,
    train__num_steps=1,
    optim__learning_rate=0.0,
    optim__warmup_steps=0,
  )
  content = train.train(config, str(tmp_path / 'run'))
  assert content['initialisation'].startswith('clip=tiny-clip:')
  methods = {row['method'] for row in content['rows']}
  assert {'transfer', 'frozen_clip'} <= methods
  # Nothing was learnt, so names are where CLIP puts them.
  model = saved_encoders.load(str(tmp_path / 'run'))
  np.testing.assert_allclose(
    model.encode_class_names(['running'])['embedding'],
    public_sides.open_text(path, ['{}']).embed_names(['running']),
    atol=1e-5,
  )


def _started(config):
  """The model and its preprocessing; loaded parameters, zeros elsewhere."""
  start = initialisation.start(config)
  prep = model_builder.make_preprocessing(start.config, start.pieces)
  tokens = model_builder.vocabulary_size(start.pieces)
  model = model_builder.build_model(start.config, prep, tokens, 3)
  shapes = model_builder.parameter_shapes(model, prep)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return model, prep, initialisation.put(zeros, start.loaded)


@pytest.mark.parametrize('kind', ['clip', 'metaclip_2'])
def test_a_start_embeds_as_the_public_model_does(kind, tmp_path):
  write = getattr(tiny_weights, f'write_{kind}')
  path = write(tmp_path / kind)
  model, prep, params = _started(
    tiny.config(
      init__dual=path,
      preprocessing__inputs='rgb',
      preprocessing__token_length=40,
      preprocessing__num_frames=2,
    )
  )
  texts = public_sides.open_text(path, ('{}',))
  video = public_sides.open_video(path, prep.num_frames)
  # Of several lengths: the end token stands at another place in each.
  row = texts.texts.token_ids(['rowing', 'a run', 'juggling'])[0]
  apply = jax.jit(model.apply, static_argnames='method')
  ids, mask = row['ids'][:, :40], row['mask'][:, :40]
  named = apply({'params': params}, ids, mask, method='encode_text')
  np.testing.assert_allclose(
    named['embedding'],
    texts.embed_names(['rowing', 'a run', 'juggling']),
    atol=1e-4,
  )
  # The public model projects every frame and takes the mean of unit vectors,
  # training the mean of frames. They agree on frames of one length.
  rng = np.random.default_rng(0)
  frame = rng.integers(0, 256, (2, 1, 1, 32, 32, 3), np.uint8)
  clips = np.repeat(frame, prep.num_frames, axis=2)
  inputs = pixel_ops.to_inputs(clips[:, 0], prep.mean, prep.std)
  seen = apply({'params': params}, inputs, method='encode_video')
  np.testing.assert_allclose(
    seen['embedding'], video.embed(clips)[:, 0], atol=1e-4
  )


def test_metaclip_2_trains_and_keeps_what_is_frozen(tmp_path):
  path = tiny_weights.write_metaclip_2(tmp_path / 'tiny-metaclip')
  config = tiny.config(
    init__dual=path,
    preprocessing__inputs='rgb',
    preprocessing__token_length=40,
    preprocessing__num_frames=2,
    train__num_steps=2,
    train__checkpoint_every=2,
    optim__warmup_steps=0,
    optim__layer_decay=0.5,
    optim__frozen=('^text_encoder/', '^text_projection/'),
  )
  workdir = str(tmp_path / 'run')
  content = train.train(config, workdir)
  assert content['initialisation'].startswith('dual=tiny-metaclip:')
  assert 'frozen_clip' in {row['method'] for row in content['rows']}
  model = saved_encoders.load(workdir)
  np.testing.assert_allclose(
    model.encode_class_names(['running'])['embedding'],
    public_sides.open_text(path, ['{}']).embed_names(['running']),
    atol=1e-5,
  )
  # WiSE-FT finds the start again, and training has moved away from it.
  start = interpolation.starting_params(model, workdir)
  norm = lambda params: np.asarray(params['video_encoder']['norm']['scale'])
  loaded = initialisation.start(config).loaded['video_encoder']['norm']['scale']
  np.testing.assert_array_equal(norm(start), loaded)
  assert np.abs(norm(model.params) - loaded).max() > 0


REFUSED = {
  ('dual', 'vjepa2'): "'clip' or .*; init.video takes these weights",
  ('dual', 'videomae'): 'init.video takes these weights',
  ('dual', 'bert'): 'init.text takes these weights',
  ('clip', 'vivit'): 'init.video takes these weights',
  ('video', 'xclip'): "'vjepa2' or 'i3d'; init.dual takes these weights",
  ('video', 'clip'): 'init.dual takes these weights',
  ('video', 'pe_audio_video'): 'init.dual takes these weights',
  ('text', 'metaclip_2'): 'init.dual takes these weights',
  ('text', 'siglip'): "'bert' or 'mpnet'; init.dual takes these weights",
  ('text', 'videoprism'): 'init.dual takes these weights',
}


@pytest.mark.parametrize('key, kind', REFUSED)
def test_weights_under_another_key_are_refused_and_told_theirs(
  key, kind, tmp_path
):
  # Before tensors are read: there are none.
  tiny_weights.write_json(tmp_path / 'config.json', {'model_type': kind})
  config = tiny.config(
    preprocessing__inputs='rgb', **{f'init__{key}': str(tmp_path)}
  )
  with pytest.raises(ValueError, match=REFUSED[key, kind]) as caught:
    initialisation.start(config)
  told = str(caught.value)
  assert told.startswith(f'init.{key}={tmp_path}: ') and '\n' not in told


def test_i3d_is_refused_for_names_and_without_its_inputs():
  with pytest.raises(ValueError, match='init.video takes these weights'):
    initialisation.start(tiny.config(init__text='i3d'))
  config = tiny.config(
    init__video='i3d', preprocessing__inputs='rgb+difference'
  )
  with pytest.raises(ValueError, match='i3d needs rgb'):
    initialisation.start(config)


def test_both_names_of_one_key_are_refused(tmp_path):
  config = tiny.config(init__clip='one', init__dual='two')
  with pytest.raises(ValueError, match='older name of init.dual; set only'):
    initialisation.start(config)


def test_a_config_of_an_older_run_starts_by_the_older_key(tmp_path):
  path = tiny_weights.write_clip(tmp_path / 'tiny-clip')
  config = tiny.config(
    init__clip=path,
    preprocessing__inputs='rgb',
    preprocessing__token_length=40,
  )
  older = config_utils.to_dict(config)
  del older['init']['dual'], older['model']['text']['pooled_token']
  assert not config_utils.differences(older, config_utils.to_dict(config))
  start = initialisation.start(config_utils.from_dict(older))
  assert initialisation.describe(start.config).startswith('clip=tiny-clip:')
  assert initialisation.dual_source(start.config) == path


def test_names_too_long_for_clip_are_refused_before_training(tmp_path):
  # With its prompt around it a name has more than the 40 tokens there are.
  path = tiny_weights.write_clip(tmp_path / 'tiny-clip')
  config = tiny.config(
    init__dual=path,
    preprocessing__inputs='rgb',
    preprocessing__token_length=40,
  )
  with pytest.raises(ValueError, match='more than token_length=40'):
    train.train(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_clip_is_for_both_sides(bert, tmp_path):
  path = tiny_weights.write_clip(tmp_path / 'tiny-clip')
  config = tiny.config(init__dual=path, init__text=bert)
  with pytest.raises(ValueError, match='leave out init.text'):
    initialisation.start(config)
  with pytest.raises(ValueError, match='needs rgb'):
    initialisation.start(tiny.config(init__dual=path))


def _updates(config, **kwargs):
  """Updates of a first step whose gradients are all one, by parameter."""
  _, _, params = _started(config)
  optimizer = optim.make_optimizer(
    lambda step: 0.1, weight_decay=0.0, clip_norm=1e9, **kwargs
  )
  grads = jax.tree.map(jnp.ones_like, params)
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.abs(x).max()
    for path, x in jax.tree.leaves_with_path(updates)
  }


@pytest.mark.parametrize('side', ['text+video', 'clip', 'metaclip_2'])
@pytest.mark.parametrize('scan', [False, True])
def test_rates_by_layer_and_freezing_know_all_loaded_parts(
  side, scan, bert, vit, tmp_path
):
  changes = {'init__text': bert, 'init__video': vit}
  changes['model__video__scan_blocks'] = scan
  if side in ('clip', 'metaclip_2'):
    path = getattr(tiny_weights, f'write_{side}')(tmp_path / side)
    changes = {'init__dual': path}
  config = tiny.config(
    **changes, preprocessing__token_length=20, preprocessing__inputs='rgb'
  )
  found = _updates(config, layer_decay=0.5)
  for encoder in ('video_encoder', 'text_encoder'):
    of = {k: v for k, v in found.items() if k.startswith(f'{encoder}/')}
    early = [v for k, v in of.items() if 'position' in k or 'embed' in k]
    blocks = [v for k, v in of.items() if '/block' in k]
    # The first part learns slowest, the last block at half the rate.
    assert early and max(early) < max(blocks)
    assert max(blocks) == pytest.approx(0.05, rel=1e-3)
  assert found['video_projection/kernel'] == pytest.approx(0.1, rel=1e-3)
  frozen = _updates(config, layer_decay=0.5, frozen=('^video_encoder/',))
  for name, update in frozen.items():
    assert (update == 0) == name.startswith('video_encoder/'), name
