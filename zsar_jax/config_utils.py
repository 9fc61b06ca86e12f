"""The config: all its keys, its checks, and helpers of the config files.

A config file starts from `default_config()` and changes some keys. The config
is locked, so a misspelt key raises an error at that line.
"""

import difflib
import json
from typing import Any

import ml_collections

from zsar_jax import config_checks
from zsar_jax.data import defaults as data_defaults
from zsar_jax.evaluation import defaults as evaluation_defaults
from zsar_jax.models import defaults as model_defaults
from zsar_jax.parallel import defaults as parallel_defaults
from zsar_jax.pretrained import defaults as pretrained_defaults
from zsar_jax.training import defaults as training_defaults

_CHECK_MESSAGE = (
  'config keys are listed in zsar_jax/config_utils.py and the defaults.py of '
  'each room'
)


def default_config() -> ml_collections.ConfigDict:
  """Returns all keys, with defaults that suit a small model.

  Each section is defined in `defaults.py` of the room that it configures.
  """
  return ml_collections.ConfigDict(
    dict(
      seed=0,
      data=data_defaults.data(),
      augmentation=data_defaults.augmentation(),
      names=data_defaults.names(),
      preprocessing=data_defaults.preprocessing(),
      # Path of a vocab.txt; '' is the package's own.
      vocabulary='',
      model=model_defaults.model(),
      init=pretrained_defaults.init(),
      loss=training_defaults.loss(),
      optim=training_defaults.optim(),
      train=training_defaults.train(),
      mesh=parallel_defaults.mesh(),
      zeroshot=evaluation_defaults.zeroshot(),
    )
  ).lock()


def full_size(c: ml_collections.ConfigDict) -> None:
  """Changes a config to the settings that full-size runs share.

  Args:
    c: from `default_config`; changed in place.
  """
  c.data.dataset_dir = 'set --config.data.dataset_dir'
  c.data.num_threads = 16

  c.preprocessing.size = 224
  c.preprocessing.short_side = 256
  c.preprocessing.num_frames = 16
  c.preprocessing.sampling = 'dense'
  c.preprocessing.sample_fps = 25.0

  # The sizes of MiniLM-L6; --config.init.text=DIR reads its weights.
  c.model.text.update(width=384, depth=6, num_heads=12, mlp_dim=1536)
  c.model.fusion.update(width=512, depth=2, num_heads=8, mlp_dim=2048)
  c.model.embedding_dim = 512
  c.model.dtype = 'bfloat16'

  c.train.log_every = 100
  c.train.validate_every = 5000
  c.train.checkpoint_every = 1000
  c.optim.warmup_steps = 5000
  c.loss.label_smoothing = 0.1
  c.zeroshot.num_views = 4


def shorten(c: ml_collections.ConfigDict, num_steps: int) -> None:
  """Shortens a config's schedule and encoder for a test that all parts run.

  Args:
    c: changed in place.
    num_steps: number of training steps.
  """
  c.train.num_steps = num_steps
  c.optim.warmup_steps = num_steps // 4
  c.train.log_every = 5
  c.train.validate_every = 10
  c.train.checkpoint_every = 10
  c.model.video.depth = 1


def shrink_to_smoke(c: ml_collections.ConfigDict) -> None:
  """Shrinks a full-size config to run on a CPU, on stick figures.

  The backbone and the augmentation stay.

  Args:
    c: changed in place.
  """
  # No registered protocol is of stick figures.
  c.data.update(dataset_dir='', test_dataset_dir='', protocol='', num_threads=2)
  c.data.stick_figures.clips_per_class = 4
  c.data.stick_figures.test_clips_per_class = 2
  c.preprocessing.size = 32
  c.preprocessing.short_side = 32
  c.preprocessing.num_frames = 4
  for part in (c.model.video, c.model.text, c.model.fusion):
    part.update(width=64, depth=1, num_heads=2, mlp_dim=128)
  c.train.batch_size = 16
  c.zeroshot.num_views = 1
  shorten(c, 10)


def parse_arg(arg: str | None, *known: str) -> frozenset[str]:
  """Parses the argument of a config file, `configs/x.py:one,other`.

  Args:
    arg: the text after the colon, or None.
    *known: arguments that the config accepts.

  Returns:
    The given arguments; empty for None.

  Raises:
    ValueError: an unknown argument.
  """
  given = arg.split(',') if arg else []
  for part in given:
    if part not in known:
      raise ValueError(
        f'config argument {part!r} is not known; known: {sorted(known)}'
      )
  return frozenset(given)


def _flat(config: Any, prefix: str = '') -> dict[str, Any]:
  items = {}
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict | dict):
      items.update(_flat(value, f'{prefix}{key}.'))
    else:
      items[prefix + key] = value
  return items


def check_config(config: ml_collections.ConfigDict) -> None:
  """Checks the keys, types and values of a config.

  Args:
    config: from a config file.

  Raises:
    ValueError: a key is unknown (the message suggests the nearest one),
      missing or of another type than its default; or a value is wrong, see
      `config_checks.check_values`.
  """
  known, given = _flat(default_config()), _flat(config)
  for key in given:
    if key not in known:
      near = difflib.get_close_matches(key, known, n=1)
      hint = f'did you mean {near[0]!r}? ' if near else ''
      raise ValueError(f'unknown config key {key!r}; {hint}{_CHECK_MESSAGE}')
  for key, default in known.items():
    if key not in given:
      raise ValueError(f'config key {key!r} is missing; {_CHECK_MESSAGE}')
    value = given[key]
    number = isinstance(default, float) and type(value) is int
    sequence = isinstance(default, tuple) and isinstance(value, list | tuple)
    if not (number or sequence or type(value) is type(default)):
      raise ValueError(
        f'config key {key!r} must be {type(default).__name__}, got {value!r}'
      )
  config_checks.check_values(config)


# Keys that change the speed, paths or output of a run, never its results.
_HARMLESS = (
  'data.data_dir',
  'data.num_threads',
  'data.cache_mb',
  'data.max_failed_share',
  'model.video.attention_implementation',
  'model.video.remat',
  'train.log_every',
  'train.keep_checkpoints',
  'train.profile_steps',
  'train.tensorboard',
)


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the config as plain JSON values (tuples become lists)."""
  return json.loads(json.dumps(config.to_dict()))


def from_dict(values: dict[str, Any]) -> ml_collections.ConfigDict:
  """Returns the config of `to_dict`'s values, locked."""
  config = ml_collections.ConfigDict(values)
  config = config.copy_and_resolve_references()
  return config.lock()


# Runs of earlier versions lack these keys. They did what the default does.
_ADDED = (
  'preprocessing.resize',
  'preprocessing.crop',
  'model.text.relative',
  'model.text.pooled_token',
  'init.dual',
  'init.model',
  'init.seen_classes',
  'zeroshot.kernel_gamma',
  'zeroshot.hub_correction',
  'zeroshot.motion_controls',
  'zeroshot.example_prior',
)


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
  """Lists the keys in which two configs differ and that change results.

  Args:
    a: a config, from `to_dict`.
    b: another one.

  Returns:
    'key: value in a -> value in b' for each key.
  """
  # As both configs, which have lists for tuples.
  defaults = _flat(to_dict(default_config()))
  added = {key: defaults[key] for key in _ADDED}
  flat_a, flat_b = ({**added, **_flat(config)} for config in (a, b))
  return [
    f'{key}: {flat_a.get(key)!r} -> {flat_b.get(key)!r}'
    for key in sorted(set(flat_a) | set(flat_b))
    if flat_a.get(key) != flat_b.get(key) and key not in _HARMLESS
  ]
