"""Uploads a folder to a repository of the Hugging Face Hub, in one commit."""

import os

from zsar_jax.pretrained import hub

# What the Hub makes with every repository.
_THEIRS = '.gitattributes'


def check_id(repository: str) -> None:
  """Refuses what names no repository.

  Args:
    repository: as the user gave it.

  Raises:
    ValueError: not `org/name`.
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
      'org/name, or your user name in place of org'
    )


def push(
  folder: str, repository: str, message: str, overwrite: bool = False
) -> str:
  """Uploads all files of a folder; the repository is made if it is missing.

  Args:
    folder: what to upload, with folders in it.
    repository: `org/name`. The variables that `hub` names hold, HF_TOKEN among
      them.
    message: of the commit.
    overwrite: go on though the repository has files. Those of the same names
      are replaced, others stay.

  Returns:
    The id `hf:org/name@commit` of what was uploaded.

  Raises:
    ValueError: a malformed id.
    FileExistsError: the repository has files.
    PermissionError: no token, or one that may not write there.
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
    # Which library carries the bytes, and what it raises, differs between
    # versions of huggingface_hub.
    raise _explained(repository, e) from e
  return f'{hub.PREFIX}{repository}@{done.oid}'


def _files(folder: str) -> list[str]:
  """The paths of all files in a folder, sorted."""
  return sorted(
    os.path.join(parent, name)
    for parent, _, names in os.walk(folder)
    for name in names
  )


def _listed(api, repository: str) -> list[str]:
  """Names of a repository's files; none where it does not exist."""
  from huggingface_hub import errors

  try:
    names = api.list_repo_files(repository)
  except errors.GatedRepoError:
    raise
  except errors.RepositoryNotFoundError:
    return []
  return sorted(name for name in names if name != _THEIRS)


def _explained(repository: str, e: Exception) -> OSError:
  """What an error of huggingface_hub means, and what to do about it."""
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
