"""Loads encoders from a run or a folder, and exports them."""

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
  model_sources,
  prototype_bank,
  public_encoders,
  public_folders,
  trained_encoders,
)
from zsar_jax.parallel import sharding
from zsar_jax.pretrained import hub, initialisation

_DATA_PATHS = ('dataset_dir', 'data_dir', 'test_dataset_dir', 'class_split')


def load(workdir: str, step: int | None = None) -> encoders.Recognizer:
  """Loads encoders onto all devices.

  Args:
    workdir: workdir of a run; a folder that `bank export` or `bank build
      --video` wrote; the name of a shipped model; or a pushed model of the
      Hub, `hf:org/name[@revision]`.
    step: step of the run's checkpoint; None means the newest.

  Returns:
    The encoders.

  Raises:
    FileNotFoundError: there is no model, or no checkpoint of that step.
    OSError: see `model_sources.resolve`.
    ValueError: the files are damaged or do not fit together.
  """
  pinned = model_sources.pin(workdir)
  folder, source = model_sources.resolve(pinned), ''
  if hub.is_id(pinned):
    source = pinned
    if public_folders.is_public(folder):
      public_folders.check_shared(folder, source)
  recognizer = _load_folder(folder, step)
  recognizer.source = source
  return recognizer


def _load_folder(workdir: str, step: int | None) -> encoders.Recognizer:
  """As `load`, from a folder."""
  if public_folders.is_public(workdir):
    if step is not None:
      raise ValueError(f'{workdir} is not a run, so it has no --step')
    return public_folders.read(workdir)
  if model_files.is_model(workdir):
    if step is not None:
      raise ValueError(f'{workdir} is not a run, so it has no --step')
    params, meta = model_files.read(workdir)

    def place(shapes, mesh, ema):
      del ema  # an exported model has one set of parameters
      # Skip the check if possible: tracing the shapes is slower than reading.
      if not model_files.is_as_written(params, meta):
        _check_shapes(workdir, params, shapes())
      return jax.device_put(params, sharding.replicated(mesh))

    return _from_meta(meta, place, meta['step'])
  from zsar_jax.inference import saved_checkpoints  # imports orbax, slowly

  there = lambda name: os.path.exists(os.path.join(workdir, name))
  if there(prototype_bank.BANK_FILE) and not there(saved_checkpoints.FOLDER):
    raise FileNotFoundError(
      f'{workdir} holds a prototype bank without encoders: give the workdir of '
      'the run that it was built from, or a folder that `bank export` wrote'
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
    meta: config, vocabulary, seen classes and, if there are any, descriptions.
    place: (shapes, mesh, ema) -> parameters on the mesh; `shapes()` returns
      their shapes.
    step: training step of the parameters.
  """
  config = config_utils.from_dict(meta['config'])
  prep = model_builder.make_preprocessing(config, meta['vocabulary'])
  model = model_builder.build_model(
    config,
    prep,
    model_builder.vocabulary_size(meta['vocabulary']),
    len(meta['seen_classes']),
  )
  # Inference only splits the batch, whatever the mesh was in training.
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


def export(
  recognizer: encoders.Recognizer,
  bank: prototype_bank.PrototypeBank,
  folder: str,
) -> None:
  """Writes a model as plain files; see `model_files` and `public_folders`.

  Args:
    recognizer: the encoders. Of public ones, only names and hashes are written.
    bank: bank of these encoders.
    folder: folder to write; made if missing.
  """
  os.makedirs(folder, exist_ok=True)
  path = os.path.join(folder, prototype_bank.BANK_FILE)
  prototype_bank.save_bank(bank, path)
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
  """Removes this machine's paths from a config, for privacy.

  The model does not need them. `init.loaded` still names the public weights
  that training started from, by folder name and fingerprint. Ids of the Hub
  stay. Paths become '' and not a folder name, which would point into the
  reader's working directory.
  """
  for key in _DATA_PATHS:
    config['data'][key] = ''
  config['vocabulary'] = config['names']['descriptions'] = ''
  for key in initialisation.SOURCES:
    if not hub.is_id(config['init'].get(key, '')):
      config['init'][key] = ''
  return config


def _check_shapes(workdir: str, params: Any, shapes: Any) -> None:
  """Raises ValueError if parameters do not fit their config."""
  wrong = model_builder.shape_differences(params, shapes)
  if wrong:
    raise ValueError(
      f'{workdir}: the parameters {wrong[:5]} do not fit its config'
    )
