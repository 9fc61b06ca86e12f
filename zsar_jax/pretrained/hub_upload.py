"""Uploads a folder to a repository of the Hugging Face Hub, in one commit."""

import os

from zsar_jax.pretrained import hub

# The Hub adds this file to every repository.
_THEIRS = '.gitattributes'


def check_id(repository: str) -> None:
  """Checks the name of a repository.

  Args:
    repository: as the user gave it.

  Raises:
    ValueError: it is not `org/name`.
  """
  from huggingface_hub import errors, utils

  try:
    utils.validate_repo_id(repository)
    well_formed = repository.count('/') == 1
  except errors.HFValidationError:
    well_formed = False
  if not well_formed:
    raise ValueError(
      f'{repository!r} names no repository of the Hugging Face Hub: expected '
      'org/name; org may be your user name'
    )


def push(
  folder: str, repository: str, message: str, overwrite: bool = False
) -> str:
  """Uploads all files of a folder; makes the repository if it is missing.

  The environment variables of `hub` apply, such as HF_TOKEN.

  Args:
    folder: folder to upload, including its subfolders.
    repository: `org/name`.
    message: message of the commit.
    overwrite: upload although the repository has files. Files of the same
      names are replaced, others stay.

  Returns:
    The id `hf:org/name@commit` of the upload.

  Raises:
    ValueError: the name is malformed.
    FileExistsError: the repository has files, and `overwrite` is False.
    PermissionError: there is no token, or it may not write there.
    OSError: the Hub cannot be reached or refuses the files. The message says
      what to do.
  """
  check_id(repository)
  import huggingface_hub

  api = huggingface_hub.HfApi()
  operations = [
    huggingface_hub.CommitOperationAdd(
      os.path.relpath(path, folder).replace(os.sep, '/'), path
    )
    for path in _files(folder)
  ]
  try:
    there = _listed(api, repository)
    if there and not overwrite:
      raise FileExistsError(
        f'{repository} has files already ({", ".join(there[:5])}): give '
        '--overwrite to replace those of the same names'
      )
    api.create_repo(repository, exist_ok=True)
    done = api.create_commit(repository, operations, commit_message=message)
  except FileExistsError:
    raise
  except Exception as e:
    # The transfer library, and so the errors that it raises, differ between
    # versions of huggingface_hub.
    raise _explained(repository, e) from e
  return f'{hub.PREFIX}{repository}@{done.oid}'


def _files(folder: str) -> list[str]:
  """Returns the paths of all files in a folder, sorted."""
  return sorted(
    os.path.join(parent, name)
    for parent, _, names in os.walk(folder)
    for name in names
  )


def _listed(api, repository: str) -> list[str]:
  """Returns the names of a repository's files; [] if it does not exist."""
  from huggingface_hub import errors

  try:
    names = api.list_repo_files(repository)
  except errors.GatedRepoError:
    raise
  except errors.RepositoryNotFoundError:
    return []
  return sorted(name for name in names if name != _THEIRS)


def _explained(repository: str, e: Exception) -> OSError:
  """Returns an error that explains one of huggingface_hub, and what to do."""
  from huggingface_hub import constants, errors

  status = hub.status_of(e)
  if status in (401, 403):
    return PermissionError(
      f'{repository}: your token is missing or may not write there: '
      f'{hub.HOW_TO_LOG_IN}; it needs the right to write to {repository}'
    )
  if isinstance(e, errors.OfflineModeIsEnabled):
    return OSError(
      f'{repository}: HF_HUB_OFFLINE is set, so nothing is uploaded: unset it'
    )
  what = 'cannot be reached' if status is None else f'answered {status}'
  return OSError(
    f'{repository}: {constants.ENDPOINT} {what} ({hub.one_line(e)}): nothing '
    'was uploaded; check the network and HF_ENDPOINT, and try again'
  )
