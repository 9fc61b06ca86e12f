"""What `bank export` does: it writes a model as files, and uploads them."""

import os
import shutil
import tempfile

from zsar_jax import cli
from zsar_jax.evaluation import results
from zsar_jax.inference import (
  action_model,
  exported_model,
  model_card,
  model_sources,
  public_folders,
  saved_encoders,
)
from zsar_jax.pretrained import hub_upload
from zsar_jax.system import terminal, whole_folders
from zsar_jax.training import run_outputs

# The default format: files for this project.
OWN_FORMAT = 'zsar_jax'


def check(values) -> None:
  """Checks the flags of `export`, before anything is read.

  Args:
    values: the parsed flags.

  Raises:
    ValueError: --push with another format, or of a bad name.
  """
  if values.format != OWN_FORMAT and values.push:
    raise ValueError(
      f'--push uploads only the format {OWN_FORMAT}, not {values.format}'
    )
  if values.push:
    hub_upload.check_id(values.push)


def export(values) -> None:
  """Writes encoders and bank as plain files, and uploads them with --push.

  Args:
    values: the parsed flags.

  Raises:
    OSError: see `action_model.load` and `hub_upload.push`.
    ValueError: see `action_model.load`; or an upload of weights that are only
      on this machine.
  """
  model = action_model.load(values.workdir, step=values.step)
  if values.format != OWN_FORMAT:
    _export_elsewhere(model, values)
    return
  public = public_folders.is_public(model_sources.resolve(values.workdir))
  local = public_folders.local_weights(model.recognizer) if public else []
  if local and values.push:
    raise ValueError(
      f'{" and ".join(local)} are only on this machine, so nobody else could '
      'use the upload: upload the weights to the Hub first, and build the bank '
      'from there (hf:org/name)'
    )
  if not values.output:
    with tempfile.TemporaryDirectory() as folder:
      _write_export(model, values, folder)
      _push(values, folder)
    return
  with whole_folders.making(values.output) as folder:
    _write_export(model, values, folder)
  if local:
    terminal.say(
      f'{" and ".join(local)} are not copied: the folder holds their place on '
      'this machine'
    )
  terminal.say(f'encoders and bank written to {values.output}')
  if values.push:
    _push(values, values.output)


def _export_elsewhere(model, values) -> None:
  """Writes a folder that works without this project."""
  names = exported_model.write(
    model.recognizer,
    model.bank,
    cli.read_names(values.classes or None),
    values.output,
    values.format,
  )
  terminal.say(
    f'{values.format} with {len(names)} classes written to {values.output}: '
    f'try\npython {values.output}/predict.py VIDEO'
  )
  if model.recognizer.origin != 'random':
    terminal.say(
      f'it holds weights of {model.recognizer.origin}: their licence applies'
    )


def _write_export(model, values, folder: str) -> None:
  """Writes encoders, bank and model card; copies results and examples."""
  saved_encoders.export(model.recognizer, model.bank, folder)
  workdir = model_sources.resolve(values.workdir)
  for name in (results.RESULTS_FILE, run_outputs.EXAMPLES_FOLDER):
    source, target = os.path.join(workdir, name), os.path.join(folder, name)
    if os.path.isdir(source):
      shutil.copytree(source, target)
    elif os.path.exists(source):
      shutil.copy(source, target)
  model_card.write(
    folder,
    model.recognizer,
    model.bank,
    repository=values.push,
    licence=values.licence,
  )


def _push(values, folder: str) -> None:
  what = 'Encoders and prototype bank'
  pushed = hub_upload.push(folder, values.push, what, values.overwrite)
  terminal.say(f'uploaded to {pushed}')
