import ast
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from zsar_jax import config_utils, model_builder

_FOLDER = pathlib.Path(__file__).parents[1] / 'configs'
_FILES = sorted(path.name for path in _FOLDER.glob('*.py'))
_VOCABULARY = [f'piece{i}' for i in range(300)]
_NUM_CLASSES = 7


def load(name):
  spec = importlib.util.spec_from_file_location('config', _FOLDER / name)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config


def known_args(name):
  """What the file hands to `parse_arg`, read from its source."""
  for node in ast.walk(ast.parse((_FOLDER / name).read_text())):
    if isinstance(node, ast.Call) and (
      getattr(node.func, 'attr', '') == 'parse_arg'
    ):
      return [ast.literal_eval(arg) for arg in node.args[1:]]
  raise AssertionError(f'configs/{name} does not call config_utils.parse_arg')


CASES = [(name, arg) for name in _FILES for arg in (None, *known_args(name))]
CASES.append(('k700_664.py', 'rest101,smoke'))


@pytest.mark.parametrize('name, arg', CASES)
def test_config_is_sound(name, arg):
  config = load(name)(arg)
  config_utils.check_config(config)
  assert config.is_locked


@pytest.mark.parametrize('name, arg', CASES)
def test_model_of_the_config_builds(name, arg):
  config = load(name)(arg)
  prep = model_builder.make_preprocessing(config, _VOCABULARY)
  model = model_builder.build_model(
    config, prep, len(_VOCABULARY), num_classes=_NUM_CLASSES
  )
  example = {
    k: jnp.zeros(v.shape, v.dtype)
    for k, v in model_builder.input_shapes(prep).items()
  }
  params = jax.eval_shape(
    lambda: model.init(jax.random.key(0), **example)['params']
  )
  d = config.model.embedding_dim
  assert params['class_centres'].shape == (_NUM_CLASSES, d)
  # Rows of the word table are padded to a multiple of 128.
  assert params['text_encoder']['word'].shape[0] == 384
  blocks = [k for k in params['video_encoder'] if k.startswith('block_')]
  assert len(blocks) == config.model.video.depth


@pytest.mark.parametrize('name', _FILES)
def test_every_config_has_a_smoke_mode_that_is_smaller(name):
  assert 'smoke' in known_args(name)
  assert load(name)('smoke').train.num_steps < load(name)().train.num_steps


@pytest.mark.parametrize('name', _FILES)
def test_unknown_argument_raises_and_shows_the_known(name):
  with pytest.raises(ValueError, match="'smok' is not known.*smoke"):
    load(name)('smok')


def test_arguments_are_joined_by_commas():
  parse = config_utils.parse_arg
  assert parse(None, 'a', 'b') == parse('', 'a', 'b') == frozenset()
  assert parse('b,a', 'a', 'b') == {'a', 'b'}
  with pytest.raises(ValueError, match="'c' is not known; known: .'a', 'b'"):
    parse('a,c', 'a', 'b')


def test_backbone_is_the_argument_of_the_paper_config():
  config = load('k700_664.py')
  assert config().model.video.backbone == 'rest18'
  for arg in ('rest18', 'rest101', 'rest101,smoke'):
    assert config(arg).model.video.backbone == arg.split(',')[0]
  with pytest.raises(ValueError, match='rest18 or rest101, not both'):
    config('rest18,rest101')


def unlocked(**changes):
  config = ml_collections.ConfigDict(config_utils.default_config())
  with config.unlocked():
    for key, value in changes.items():
      *parents, leaf = key.split('__')
      section = config
      for parent in parents:
        section = section[parent]
      section[leaf] = value
  return config


def test_misspelt_key_fails_where_it_is_written():
  config = config_utils.default_config()
  with pytest.raises((AttributeError, KeyError), match='learning_rat'):
    config.optim.learning_rat = 1.0
  with pytest.raises((AttributeError, KeyError), match='trian'):
    config.trian = 1


@pytest.mark.parametrize(
  'key, name, near',
  [
    ('sede', 'sede', 'seed'),
    ('optim__learning_rat', 'optim.learning_rat', 'optim.learning_rate'),
    ('model__video__widht', 'model.video.widht', 'model.video.width'),
  ],
)
def test_unknown_key_raises_and_names_the_nearest(key, name, near):
  config = unlocked(**{key: 1})
  with pytest.raises(ValueError) as e:
    config_utils.check_config(config)
  assert f'unknown config key {name!r}' in str(e.value)
  assert f'did you mean {near!r}?' in str(e.value)


def test_missing_key_raises():
  config = unlocked()
  with config.unlocked():
    del config.optim['clip_norm']
  with pytest.raises(ValueError, match="'optim.clip_norm' is missing"):
    config_utils.check_config(config)


@pytest.mark.parametrize(
  'key, value, message',
  [
    ('seed', 'a', "'seed' must be int, got 'a'"),
    ('seed', 1.0, "'seed' must be int"),
    ('seed', True, "'seed' must be int"),
    ('optim__learning_rate', '1', "'optim.learning_rate' must be float"),
    ('optim__learning_rate', True, "'optim.learning_rate' must be float"),
    ('train__tensorboard', 1, "'train.tensorboard' must be bool"),
    ('vocabulary', None, "'vocabulary' must be str"),
    ('model__video__tubelet_size', 2, 'tubelet_size. must be tuple'),
    ('train__num_steps', 0, 'train.num_steps must be positive, got 0'),
    ('train__checkpoint_every', 0, 'train.checkpoint_every must be positive'),
    ('model__dtype', 'float16', "model.dtype='float16' is not"),
  ],
)
def test_value_that_cannot_work_raises_and_names_the_key(key, value, message):
  # A fresh section, because a ConfigDict refuses most types by itself.
  values = config_utils.to_dict(config_utils.default_config())
  *parents, leaf = key.split('__')
  section = values
  for parent in parents:
    section = section[parent]
  section[leaf] = value
  with pytest.raises(ValueError, match=message):
    config_utils.check_config(ml_collections.ConfigDict(values))


def test_whole_number_passes_for_a_fraction_and_a_list_for_a_tuple():
  values = config_utils.to_dict(config_utils.default_config())
  values['optim']['learning_rate'] = 1
  assert isinstance(values['model']['video']['tubelet_size'], list)
  config_utils.check_config(ml_collections.ConfigDict(values))


@pytest.mark.parametrize('name, arg', CASES)
def test_config_survives_json(name, arg):
  plain = config_utils.to_dict(load(name)(arg))
  config = config_utils.from_dict(plain)
  config_utils.check_config(config)
  assert config.is_locked
  assert config_utils.to_dict(config) == plain
  assert config_utils.differences(plain, config_utils.to_dict(config)) == []


def plain(**changes):
  config = config_utils.default_config()
  config.update_from_flattened_dict(
    {key.replace('__', '.'): value for key, value in changes.items()}
  )
  return config_utils.to_dict(config)


@pytest.mark.parametrize(
  'key, value',
  [
    ('seed', 1),
    ('train__batch_size', 64),
    ('train__num_steps', 999),
    ('preprocessing__mean', (0.1, 0.2, 0.3)),
    ('mesh__fsdp', 2),
    ('data__mirror', False),
  ],
)
def test_what_changes_the_numbers_is_a_difference(key, value):
  (difference,) = config_utils.differences(plain(), plain(**{key: value}))
  assert difference.startswith(key.replace('__', '.') + ': ')
  assert difference.endswith(f'-> {_shown(value)}')


def _shown(value):
  return repr(list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(
  'key, value',
  [
    ('data__data_dir', '/elsewhere'),
    ('data__num_threads', 9),
    ('data__cache_mb', 9),
    ('train__log_every', 9),
    ('train__keep_checkpoints', 9),
    ('train__tensorboard', False),
  ],
)
def test_what_changes_no_number_is_no_difference(key, value):
  assert config_utils.differences(plain(), plain(**{key: value})) == []


def test_key_of_one_config_alone_is_a_difference():
  older = plain()
  del older['zeroshot']['top_k']
  assert config_utils.differences(older, plain()) == [
    'zeroshot.top_k: None -> 0'
  ]
