import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.pretrained import test_video, tiny_weights
from zsar_jax.inference import model_builder, public_sides, saved_encoders
from zsar_jax.models import zsar_model
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


def test_names_too_long_for_clip_are_refused_before_training(tmp_path):
  # With its prompt around it a name has more than the 40 tokens there are.
  path = tiny_weights.write_clip(tmp_path / 'tiny-clip')
  config = tiny.config(
    init__clip=path,
    preprocessing__inputs='rgb',
    preprocessing__token_length=40,
  )
  with pytest.raises(ValueError, match='more than token_length=40'):
    train.train(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_clip_is_for_both_sides(bert, tmp_path):
  path = tiny_weights.write_clip(tmp_path / 'tiny-clip')
  config = tiny.config(init__clip=path, init__text=bert)
  with pytest.raises(ValueError, match='leave out init.text'):
    initialisation.start(config)
  with pytest.raises(ValueError, match='needs rgb'):
    initialisation.start(tiny.config(init__clip=path))


def _updates(config, **kwargs):
  """Updates of a first step whose gradients are all one, by parameter."""
  start = initialisation.start(config)
  prep = model_builder.make_preprocessing(start.config, start.pieces)
  tokens = model_builder.vocabulary_size(start.pieces)
  model = model_builder.build_model(start.config, prep, tokens, 3)
  shapes = model_builder.parameter_shapes(model, prep)
  params = initialisation.put(
    jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), start.loaded
  )
  optimizer = optim.make_optimizer(
    lambda step: 0.1, weight_decay=0.0, clip_norm=1e9, **kwargs
  )
  grads = jax.tree.map(jnp.ones_like, params)
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.abs(x).max()
    for path, x in jax.tree.leaves_with_path(updates)
  }


@pytest.mark.parametrize('side', ['text+video', 'clip'])
@pytest.mark.parametrize('scan', [False, True])
def test_rates_by_layer_and_freezing_know_all_loaded_parts(
  side, scan, bert, vit, tmp_path
):
  changes = {'init__text': bert, 'init__video': vit}
  changes['model__video__scan_blocks'] = scan
  if side == 'clip':
    path = tiny_weights.write_clip(tmp_path / 'tiny-clip')
    changes = {'init__clip': path}
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
