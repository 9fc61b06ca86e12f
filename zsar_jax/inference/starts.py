"""What training starts from: random values, public weights, or a trained model.

`init.model` names a trained model: a folder that `bank export` wrote, or one
that ships. Everything that its config says of network and pixels comes along,
and so do all parameters but the centres of its seen classes.
"""

from collections.abc import Mapping
import os
from typing import Any

import ml_collections

from zsar_jax.data.protocols import class_split, overlap
from zsar_jax.inference import model_files
from zsar_jax.pretrained import directory, initialisation

# Of the classes that the model was trained on.
_CENTRES = 'class_centres'


def start(config: ml_collections.ConfigDict) -> initialisation.Start:
  """Reads what a config names in `init`.

  Args:
    config: the whole config, checked; it is not changed.

  Returns:
    The start.

  Raises:
    FileNotFoundError: there are no weights, or no model.
    ValueError: they do not fit. The message names file and tensor.
  """
  path = config.init.get('model', '')
  if not path:
    return initialisation.start(config)
  given = [
    f'init.{key}'
    for key in initialisation.SOURCES
    if key != 'model' and config.init.get(key, '')
  ]
  given += ['vocabulary'] if config.vocabulary else []
  if given:
    raise ValueError(
      f'init.model={path} sets both encoders and the vocabulary: leave out '
      f'{", ".join(given)}'
    )
  folder = model_files.resolve(os.path.expanduser(path))
  if not model_files.is_model(folder):
    raise FileNotFoundError(
      f'init.model={path} holds no {model_files.META_FILE}: `zsar '
      'bank export --workdir=RUN --output=FOLDER` writes the model of '
      f'a run; {", ".join(model_files.shipped())} comes along'
    )
  params, meta = model_files.read(folder)
  own = meta['config']
  config = config.copy_and_resolve_references()
  for section in ('model', 'preprocessing'):
    initialisation.take(config[section], own[section])
  with config.ignore_type():
    config.init.loaded = _name(folder, params, own)
    # Those that the model's own start was trained on count too.
    config.init.seen_classes = (
      *dict.fromkeys(
        (*own['init'].get('seen_classes', ()), *meta['seen_classes'])
      ),
    )
  loaded = {key: x for key, x in params.items() if key != _CENTRES}
  return initialisation.Start(config, meta['vocabulary'], loaded)


def _name(folder: str, params: Any, config: Mapping[str, Any]) -> str:
  """Names a model and its own start, with a fingerprint."""
  mark = directory.fingerprint(dict(model_files.flatten(params)))
  began = config['init']['loaded']
  name = os.path.basename(os.path.normpath(folder))
  return f'model={name}:{mark}' + (f' (from {began})' if began else '')


def check_unseen(
  config: ml_collections.ConfigDict, protocol: class_split.Protocol
) -> None:
  """Checks that the model of `init.model` was trained on no unseen class.

  Args:
    config: of a `Start`, or of the run that began with it.
    protocol: one split.

  Raises:
    ValueError: an unseen class was trained on.
  """
  trained = config.init.get('seen_classes', ())
  leaks = overlap.audit_names(trained, protocol.unseen_classes)
  if overlap.strict(leaks):
    raise ValueError(
      f'{protocol.name}: the model of init.model was trained on unseen '
      'classes, so the run would not be zero-shot:\n'
      f'{overlap.format_leaks(leaks)}'
    )
