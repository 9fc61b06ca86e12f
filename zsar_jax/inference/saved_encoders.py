"""Loads encoders from a run or an exported model, and exports them."""

from collections.abc import Callable, Mapping
import functools
import os
from typing import Any

import jax
import numpy as np

from zsar_jax import config_utils
from zsar_jax.inference import (
  class_texts,
  encoders,
  model_builder,
  model_files,
  prototype_bank,
  public_encoders,
  public_folders,
  trained_encoders,
)
from zsar_jax.parallel import sharding
from zsar_jax.pretrained import hub, initialisation

_DATA_PATHS = ('dataset_dir', 'data_dir', 'test_dataset_dir', 'class_split')


def load(workdir: str, step: int | None = None) -> encoders.Recognizer:
  """Loads encoders onto all devices present.

  Args:
    workdir: of a run; a folder that `export` or `bank build --video` wrote;
      or the name of a model that ships.
    step: of the run's checkpoint to take; None means the newest.

  Returns:
    The encoders.

  Raises:
    FileNotFoundError: no model there, or no checkpoint of that step.
    ValueError: its files are damaged or do not belong together.
  """
  workdir = model_files.resolve(workdir)
  if public_folders.is_public(workdir):
    if step is not None:
      raise ValueError(f'{workdir} is no run: it has no step to choose')
    return public_folders.read(workdir)
  if model_files.is_model(workdir):
    if step is not None:
      raise ValueError(f'{workdir} is no run: it has no step to choose')
    params, meta = model_files.read(workdir)

    def place(shapes, mesh, ema):
      del ema  # an exported model has one set of parameters
      # Tracing a model's shapes takes longer than reading its files.
      if not model_files.is_as_written(params, meta):
        _check_shapes(workdir, params, shapes())
      return jax.device_put(params, sharding.replicated(mesh))

    return _from_meta(meta, place, meta['step'])
  from zsar_jax.inference import saved_checkpoints  # and with it orbax

  there = lambda name: os.path.exists(os.path.join(workdir, name))
  if there(prototype_bank.BANK_FILE) and not there(saved_checkpoints.FOLDER):
    raise FileNotFoundError(
      f'{workdir} holds a prototype bank without its encoders: give the '
      'workdir of the run that it was built from, or a folder that `bank '
      'export` wrote'
    )
  with saved_checkpoints.open_existing(workdir, step) as checkpoints:
    step = checkpoints.latest_step() if step is None else step
    return _from_meta(
      checkpoints.restore_meta(step),
      lambda shapes, mesh, ema: checkpoints.restore_params(
        shapes(), mesh, ema, step
      ),
      step,
    )


def _from_meta(
  meta: Mapping[str, Any], place: Callable[..., Any], step: int
) -> trained_encoders.TrainedEncoders:
  """Builds encoders from a saved `meta`.

  Args:
    meta: config, vocabulary, seen classes and, where there are any,
      descriptions.
    place: (shapes, mesh, ema) -> parameters on the mesh; `shapes()` gives
      their shapes.
    step: of the parameters.
  """
  config = config_utils.from_dict(meta['config'])
  prep = model_builder.make_preprocessing(config, meta['vocabulary'])
  model = model_builder.build_model(
    config,
    prep,
    model_builder.vocabulary_size(meta['vocabulary']),
    len(meta['seen_classes']),
  )
  # Inference splits the batch alone, whatever mesh it was trained on.
  mesh = sharding.make_mesh({'data': -1, 'fsdp': 1, 'tensor': 1})
  shapes = functools.partial(model_builder.parameter_shapes, model, prep)
  return trained_encoders.TrainedEncoders(
    config,
    model,
    place(shapes, mesh, config.optim.ema_decay > 0),
    class_texts.ClassTexts(
      meta['vocabulary'],
      prep.token_length,
      config.names.prompts,
      meta.get('descriptions'),
    ),
    meta['seen_classes'],
    mesh,
    step,
  )


def export(recognizer: encoders.Recognizer, folder: str) -> None:
  """Writes encoders as plain files; see `model_files` and `public_folders`.

  Args:
    recognizer: the encoders. Of public ones only the names are written.
    folder: made if missing.
  """
  if isinstance(recognizer, public_encoders.PublicEncoders):
    public_folders.write(folder, recognizer)
    return
  model_files.write(
    folder,
    jax.tree.map(np.asarray, recognizer.params),
    {
      'config': _without_paths(config_utils.to_dict(recognizer.config)),
      'vocabulary': list(recognizer.texts.pieces),
      'seen_classes': list(recognizer.seen_classes),
      'descriptions': recognizer.texts.descriptions,
      'step': recognizer.step,
    },
  )


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
  """Empties the paths of this machine: they are nobody else's business.

  The model needs none of them. `init.loaded` still names the public weights
  that training began with, by the last part of their path and a fingerprint.
  Ids of the Hub stay: anybody can look them up. A bare last part would not do,
  because it would be looked for in the reader's working directory.
  """
  for key in _DATA_PATHS:
    config['data'][key] = ''
  config['vocabulary'] = config['names']['descriptions'] = ''
  for key in initialisation.SOURCES:
    if not hub.is_id(config['init'][key]):
      config['init'][key] = ''
  return config


def _check_shapes(workdir: str, params: Any, shapes: Any) -> None:
  """Raises ValueError if parameters do not fit the model of their config."""
  wrong = model_builder.shape_differences(params, shapes)
  if wrong:
    raise ValueError(
      f'{workdir}: the parameters {wrong[:5]} are not those of its config'
    )
