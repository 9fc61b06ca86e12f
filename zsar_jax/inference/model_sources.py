"""Where a model is: a folder, a model that ships, or a repository of the Hub.

`hf:org/name[@revision]` is what `bank export --push` uploaded. Its bank and
what says which encoders belong to it are downloaded, and of a trained model
the parameters. Nothing else is: no pickle, no code.
"""

import os

from zsar_jax.inference import model_files, prototype_bank, public_folders
from zsar_jax.pretrained import hub


def pin(name: str) -> str:
  """Finds the commit of a repository, so that all that follows agrees.

  Args:
    name: a folder, a shipped model's name, or an id of the Hub.

  Returns:
    The id with its commit; anything else unchanged.

  Raises:
    ValueError, OSError: see `resolve`.
  """
  if not hub.is_id(name):
    return name
  return hub.resolve_files(name, (prototype_bank.BANK_FILE,)).pinned


def resolve(name: str) -> str:
  """Returns the folder of a model, and downloads it if it is on the Hub.

  Args:
    name: see `pin`.

  Returns:
    The folder; of a repository, the one in the cache.

  Raises:
    ValueError: a malformed id.
    OSError: no such repository or revision, no access, no network, or not a
      model that `bank export --push` uploaded.
  """
  if not hub.is_id(name):
    return model_files.resolve(name)
  located = hub.resolve_files(
    name,
    (prototype_bank.BANK_FILE,),
    (model_files.META_FILE, public_folders.FILE),
  )
  if model_files.is_model(located.folder):
    hub.resolve_files(located.pinned, (model_files.PARAMS_FILE,))
  elif not public_folders.is_public(located.folder):
    raise FileNotFoundError(
      f'{name} has a bank, but neither {model_files.META_FILE} nor '
      f'{public_folders.FILE}, which say what it was made by: push it with '
      '`zsar bank export --push`'
    )
  elif public_folders.has_descriptions(located.folder):
    hub.resolve_files(located.pinned, (public_folders.DESCRIPTIONS_FILE,))
  return located.folder


def bank_file(name: str) -> str:
  """Returns the path of a bank.

  Args:
    name: the path itself, or a model: its folder, the name of one that ships,
      or an id of the Hub.

  Raises:
    ValueError, OSError: see `resolve`.
  """
  path = resolve(name)
  if os.path.isdir(path):
    return os.path.join(path, prototype_bank.BANK_FILE)
  return path


def outputs_folder(workdir: str, output: str) -> str:
  """Returns where to keep what is made of a model.

  Args:
    workdir: of the model; see `pin`.
    output: a file that will be written, or ''.

  Returns:
    The workdir; for a model that ships, and for one of the Hub, whose cache
    nobody writes into, the folder of the output.

  Raises:
    ValueError: the model ships or is on the Hub, and there is no output.
  """
  if hub.is_id(workdir):
    where = 'is on the Hub'
  elif model_files.resolve(workdir) != workdir:
    where = 'comes with the package'
  else:
    return workdir
  if not output:
    raise ValueError(
      f'{workdir} {where}, and results cannot be written there: give '
      '--output=FILE'
    )
  return os.path.dirname(output) or '.'
