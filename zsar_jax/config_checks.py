"""Checks values of a config, beyond their types."""

from collections.abc import Callable
from typing import Any

import ml_collections

from zsar_jax.models import defaults


def _is_range(value: Any, highest: float) -> bool:
  """Returns whether 0 < low <= high <= highest."""
  numbers = all(type(x) in (int, float) for x in value)
  return numbers and len(value) == 2 and 0 < value[0] <= value[1] <= highest


_POSITIVE = 'must be positive', lambda x: x > 0
_NOT_NEGATIVE = 'must not be negative', lambda x: x >= 0
_SHARE = 'must be in [0, 1]', lambda x: 0 <= x <= 1

# Key -> rule for its value, in words and as a function.
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
  'data.class_split_index': _NOT_NEGATIVE,
  'data.inner_draw': ('must be -1 or a draw from 0', lambda x: x >= -1),
  'data.inner_share': ('must be in (0, 1)', lambda x: 0 < x < 1),
  'data.balance': (
    "is not '', 'class', 'source' or 'source+class'",
    lambda x: x in ('', 'class', 'source', 'source+class'),
  ),
  'data.max_failed_share': _SHARE,
  'augmentation.crop_area': (
    'must be (low, high) with 0 < low <= high <= 1',
    lambda x: _is_range(x, 1),
  ),
  'augmentation.crop_aspect': (
    'must be (low, high) with 0 < low <= high',
    lambda x: _is_range(x, float('inf')),
  ),
  'augmentation.colour_jitter.brightness': _NOT_NEGATIVE,
  'augmentation.colour_jitter.contrast': _NOT_NEGATIVE,
  'augmentation.colour_jitter.saturation': _NOT_NEGATIVE,
  'augmentation.colour_jitter.hue': (
    'must be in [0, 0.5] turns',
    lambda x: 0 <= x <= 0.5,
  ),
  'augmentation.randaugment_layers': _NOT_NEGATIVE,
  'augmentation.randaugment_magnitude': (
    'must be in [0, 10]',
    lambda x: 0 <= x <= 10,
  ),
  'augmentation.mixup_alpha': _NOT_NEGATIVE,
  'augmentation.cutmix_alpha': _NOT_NEGATIVE,
  'names.prompts': (
    "must be texts that each hold '{}' once, in place of the name",
    lambda x: (
      x and all(isinstance(text, str) and text.count('{}') == 1 for text in x)
    ),
  ),
  'model.dtype': (
    f'is not one of {", ".join(defaults.DTYPES)}',
    lambda x: x in defaults.DTYPES,
  ),
  'train.batch_size': _POSITIVE,
  'train.accumulate': _POSITIVE,
  'train.fusion_chunks': _POSITIVE,
  'train.max_skipped': _NOT_NEGATIVE,
  'train.profile_steps': _NOT_NEGATIVE,
  'optim.ema_decay': ('must be in [0, 1)', lambda x: 0 <= x < 1),
  'optim.layer_decay': ('must be in (0, 1]', lambda x: 0 < x <= 1),
  'train.num_steps': _POSITIVE,
  'train.log_every': _POSITIVE,
  'train.validate_every': _POSITIVE,
  'train.checkpoint_every': _POSITIVE,
  'zeroshot.num_views': _POSITIVE,
  'zeroshot.num_crops': _POSITIVE,
  'zeroshot.temperature': _POSITIVE,
  'zeroshot.top_k': _NOT_NEGATIVE,
  'zeroshot.ridge': _POSITIVE,
  'zeroshot.kernel_gamma': _POSITIVE,
  'zeroshot.hub_correction': _NOT_NEGATIVE,
  'zeroshot.text_ridge': _POSITIVE,
  'zeroshot.conse_top': _POSITIVE,
  'zeroshot.ensemble_beta': ('must be in [0, 1]', lambda x: 0 <= x <= 1),
  'zeroshot.ensemble_transfer_temperature': _POSITIVE,
  'zeroshot.ensemble_match_temperature': _POSITIVE,
  'zeroshot.example_prior': _POSITIVE,
}


def check_values(config: ml_collections.ConfigDict) -> None:
  """Checks the values of a config, alone and together.

  Args:
    config: with all keys, of the right types.

  Raises:
    ValueError: names the key, the rule and the value.
  """
  for key, (must, holds) in _RULES.items():
    value = config
    for part in key.split('.'):
      value = value[part]
    if not holds(value):
      raise ValueError(f'{key} {must}, got {value!r}')
  data = config.data
  if data.protocol and data.class_split:
    raise ValueError(
      f'data.protocol={data.protocol!r} and data.class_split='
      f'{data.class_split!r} both say which classes are unseen: set one'
    )
  for key in ('protocol', 'class_split', 'test_dataset_dir'):
    if data.train_only and data[key]:
      raise ValueError(
        f'data.train_only leaves nothing to test, but data.{key}='
        f'{data[key]!r} says what to test'
      )
  for key in ('protocol', 'test_dataset_dir'):
    if data[key] and not data.dataset_dir:
      raise ValueError(
        f'data.{key}={data[key]!r} needs data.dataset_dir, the prepared '
        'dataset to train on'
      )
