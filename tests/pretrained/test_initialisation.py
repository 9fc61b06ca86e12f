import json

import jax
import numpy as np
import pytest

from tests import tiny
from tests.pretrained import test_video, tiny_weights
from zsar_jax.inference import public_sides, saved_encoders
from zsar_jax.pretrained import initialisation
from zsar_jax.training import train


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
