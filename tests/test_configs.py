import ast
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from zsar_jax import config_utils
from zsar_jax.data import input_pipeline
from zsar_jax.data.protocols import registry
from zsar_jax.inference import model_builder
from zsar_jax.training import make_step

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
  """Returns the arguments of `parse_arg` in a config file's source."""
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
    ('model__dtype', 'float16', "model.dtype is not .*, got 'float16'"),
    ('data__balance', 'label', "data.balance is not '', 'class',"),
    ('data__max_failed_share', 1.5, r'must be in \[0, 1\], got 1.5'),
    ('data__class_split_index', -1, 'class_split_index must not be negative'),
    ('augmentation__crop_area', (0.5, 1.5), 'crop_area must be .*, got'),
    ('augmentation__crop_area', (0.9, 0.5), 'crop_area must be'),
    ('augmentation__crop_area', (0.5,), 'crop_area must be'),
    ('augmentation__crop_area', ('0.5', 1.0), 'crop_area must be'),
    ('augmentation__crop_aspect', (0.0, 1.0), 'crop_aspect must be'),
    ('augmentation__colour_jitter__contrast', -0.1, 'contrast must not be neg'),
    ('augmentation__colour_jitter__hue', 0.6, r'hue must be in \[0, 0.5\]'),
    ('augmentation__randaugment_layers', -1, 'layers must not be negative'),
    ('augmentation__randaugment_magnitude', 11.0, r'must be in \[0, 10\]'),
    ('augmentation__mixup_alpha', -1.0, 'mixup_alpha must not be negative'),
    ('augmentation__cutmix_alpha', -1.0, 'cutmix_alpha must not be negative'),
    ('names__prompts', (), "must be texts that each hold '{}' once"),
    ('names__prompts', ('a video',), "must be texts that each hold '{}' once"),
    ('names__prompts', (1,), "must be texts that each hold '{}' once"),
    ('zeroshot__num_crops', 0, 'num_crops must be positive, got 0'),
    ('data__protocol', 'ucf101/truze', 'needs data.dataset_dir'),
    ('data__test_dataset_dir', 'x', 'needs data.dataset_dir'),
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


def test_class_split_and_protocol_exclude_each_other():
  config = unlocked(
    data__dataset_dir='x',
    data__protocol='ucf101/truze',
    data__class_split='split.json',
  )
  with pytest.raises(ValueError, match='both say which classes are unseen'):
    config_utils.check_config(config)


@pytest.mark.parametrize('key', ['protocol', 'class_split'])
def test_training_alone_tests_nothing(key):
  config = unlocked(data__dataset_dir='x', data__train_only=True)
  config_utils.check_config(config)
  config.data[key] = 'ucf101/truze'
  with pytest.raises(ValueError, match=f"data.{key}='ucf101/truze' says"):
    config_utils.check_config(config)


@pytest.mark.parametrize('name, arg', CASES)
def test_protocols_of_configs_are_registered_and_smoke_has_none(name, arg):
  config = load(name)(arg)
  if 'smoke' in (arg or ''):
    assert not config.data.protocol and not config.data.test_dataset_dir
  elif config.data.protocol:
    spec = registry.get(config.data.protocol)
    assert 0 <= config.data.class_split_index < len(spec.splits)


@pytest.mark.parametrize('name', ['ucf101', 'hmdb51', 'activitynet'])
def test_config_of_a_dataset_tests_within_it(name):
  data = load(f'{name}.py')().data
  assert registry.get(data.protocol).dataset == name
  assert not data.test_dataset_dir


def test_smoke_of_a_full_size_config_runs_on_stick_figures_of_32_pixels():
  for name in ('k400.py', 'k700_664.py', 'ucf101.py', 'activitynet.py'):
    full, smoke = load(name)(), load(name)('smoke')
    assert full.data.dataset_dir and not smoke.data.dataset_dir
    assert (full.preprocessing.size, smoke.preprocessing.size) == (224, 32)
    assert smoke.optim.warmup_steps < smoke.train.num_steps
    # The command in the docstring is the one that works.
    assert smoke.augmentation == full.augmentation


def test_default_does_nothing_to_pixels_inside_the_step():
  section = config_utils.default_config().augmentation
  augmentation = make_step.make_augmentation(section)
  assert not augmentation.jitter and not augmentation.mixing
  section.colour_jitter.hue, section.cutmix_alpha = 0.25, 2.0
  augmentation = make_step.make_augmentation(section)
  assert augmentation.jitter.hue == 0.25
  assert augmentation.mixing.cutmix_alpha == 2.0


@pytest.mark.parametrize('balance', input_pipeline.BALANCES)
def test_every_balance_of_the_loader_passes(balance):
  config_utils.check_config(unlocked(data__balance=balance))


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
    ('augmentation__mirror', False),
    ('augmentation__colour_jitter__hue', 0.1),
    ('names__prompts', ('a video of {}',)),
    ('data__allow_leaks', True),
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
    ('data__max_failed_share', 0.5),
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
