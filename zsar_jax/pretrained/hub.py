"""Finds weights: a local path, or a repository of the Hugging Face Hub.

`hf:org/name`, or `hf:org/name@revision` with a branch, tag or commit, is the id
of a repository. Its files come from the cache of huggingface_hub, and missing
files are downloaded. huggingface_hub reads the environment variables
HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_TOKEN when it is
imported, which happens at the first id.

Only known file names are requested. So no pickle and no code is downloaded.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import os
import re

from zsar_jax.pretrained import tensor_files

PREFIX = 'hf:'
# Small files that a reader may need; a repository has some of them.
_SMALL_FILES = (
  'preprocessor_config.json',
  'video_preprocessor_config.json',
  'processor_config.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'tokenizer.json',
  'vocab.txt',
  'vocab.json',
  'merges.txt',
  '1_Pooling/config.json',
)
_REVISION = re.compile(r'[\w][\w./+-]*', re.ASCII)
_COMMIT = re.compile('[0-9a-f]{40}')
_UNAUTHORIZED, _FORBIDDEN = 401, 403
HOW_TO_LOG_IN = (
  'set HF_TOKEN to a token of an account that may read it, or log in with '
  '`huggingface-cli login` (newer versions: `hf auth login`)'
)


@dataclasses.dataclass(frozen=True)
class Located:
  """The place of weights on this machine.

  Attributes:
    folder: local path. For an id, a folder of the cache.
    revision: the commit, 40 hex digits; '' for a local path.
    given: the path or id as the user wrote it.
  """

  folder: str
  revision: str
  given: str

  @property
  def pinned(self) -> str:
    """The id with the commit, so that it never changes; '' for a local path."""
    if not self.revision:
      return ''
    return f'{self.given.partition("@")[0]}@{self.revision}'


@dataclasses.dataclass(frozen=True)
class _Repository:
  """A repository, and whether its files may be downloaded.

  Attributes:
    id: `org/name`.
    given: the id as the user wrote it, for messages.
    local_only: look only in the cache.
  """

  id: str
  given: str
  local_only: bool


class _Unreachable(OSError):
  """A file is not in the cache and cannot be downloaded.

  Attributes:
    reason: why it cannot be downloaded: the end of a message.
  """

  def __init__(self, where: str, reason: str = ''):
    super().__init__(where + reason)
    self.reason = reason


def is_id(path: str) -> bool:
  """Returns whether a path is an id of the Hub, by its prefix 'hf:'."""
  return os.fspath(path).startswith(PREFIX)


def resolve(path: str, *, local_only: bool = False) -> Located:
  """Finds weights, and downloads files that the cache lacks.

  Args:
    path: a local path, or `hf:org/name[@revision]`.
    local_only: never download.

  Returns:
    The place of the weights. A local path is returned without checking it.

  Raises:
    ValueError: the id is malformed.
    OSError: the repository or revision does not exist, is not accessible, has
      no config.json or no safetensors, or cannot be reached. The message names
      the id and says what to do. FileNotFoundError and PermissionError are
      kinds of OSError.
  """
  if not is_id(path):
    return Located(os.path.expanduser(path), '', path)
  name, revision = _parse(path)
  repository = _Repository(name, path, local_only)
  config = _get(repository, 'config.json', revision)
  if config is None:
    raise FileNotFoundError(
      f'{path} has no config.json: choose a model in the layout of '
      'transformers.' + _listing(repository, revision)
    )
  folder = os.path.dirname(config)
  # The cache keeps files in snapshots/COMMIT.
  located = Located(folder, os.path.basename(folder), path)
  try:
    _complete(repository, located.revision)
  except _Unreachable as e:
    # Another program may have filled the cache, without the small files that
    # only we read. Try the cache alone: requesting each file would time out.
    try:
      _complete(
        dataclasses.replace(repository, local_only=True), located.revision
      )
    except _Unreachable as missing:
      raise _Unreachable(str(missing), e.reason) from e
  return located


def resolve_files(
  path: str, wanted: Sequence[str], optional: Sequence[str] = ()
) -> Located:
  """Finds single files of a repository, and downloads what the cache lacks.

  Args:
    path: `hf:org/name[@revision]`.
    wanted: names of files that must be there.
    optional: names of further files, of one commit with the others. Without
      network, those that are not in the cache are left out.

  Returns:
    Where the files lie.

  Raises:
    ValueError: a malformed id.
    OSError: as for `resolve`, of the wanted files.
  """
  name, revision = _parse(path)
  repository = _Repository(name, path, False)
  for file in wanted:
    found = _get(repository, file, revision)
    if found is None:
      raise FileNotFoundError(
        f'{path} has no {file}.' + _listing(repository, revision)
      )
    folder = found.removesuffix(file).rstrip('/')
    revision = os.path.basename(folder)
  for file in optional:
    # Who needs one of them sees whether it is there.
    with contextlib.suppress(_Unreachable):
      _get(repository, file, revision)
  return Located(folder, revision, path)


def at_hand(path: str) -> bool:
  """Returns whether weights are on this machine, without using the network.

  Args:
    path: as for `resolve`.

  Returns:
    Whether the local path exists, or the cache holds the repository's weights.

  Raises:
    ValueError: the id is malformed.
  """
  if not is_id(path):
    return os.path.exists(os.path.expanduser(path))
  try:
    resolve(path, local_only=True)
  except OSError:
    return False
  return True


def _parse(path: str) -> tuple[str, str]:
  """Splits an id into repository and revision."""
  from huggingface_hub import errors, utils

  repository, at, revision = path.removeprefix(PREFIX).partition('@')
  if not at:
    revision = 'main'
  well_formed = (
    repository.count('/') == 1
    and _REVISION.fullmatch(revision)
    # The revision becomes part of a path in the cache.
    and '..' not in revision
  )
  try:
    utils.validate_repo_id(repository)
  except errors.HFValidationError:
    well_formed = False
  if not well_formed:
    raise ValueError(
      f'{path!r} is not an id of the Hugging Face Hub: expected '
      f'{PREFIX}org/name or {PREFIX}org/name@revision, such as '
      f'{PREFIX}google-bert/bert-base-uncased'
    )
  return repository, revision


def _complete(repository: _Repository, commit: str) -> None:
  """Downloads every file of a commit that a reader may need."""
  for name in _SMALL_FILES:
    try:
      _get(repository, name, commit)
    except _Unreachable:
      if not repository.local_only:
        raise
  # Weights come last: if they are complete, so are the small files.
  _get_weights(repository, commit)


def _get_weights(repository: _Repository, commit: str) -> None:
  """Downloads the weights: shards if there is an index, else a single file."""
  try:
    index = _get(repository, tensor_files.INDEX_FILE, commit)
  except _Unreachable:
    if not repository.local_only:
      raise
    index = None  # The cache may hold the single file.
  if index is not None:
    for shard in sorted(set(tensor_files.weight_map(index).values())):
      if _get(repository, shard, commit) is None:
        raise FileNotFoundError(
          f'{repository.given} has no {shard}, which its '
          f'{tensor_files.INDEX_FILE} names: choose another revision'
        )
  elif _get(repository, tensor_files.SINGLE_FILE, commit) is None:
    raise FileNotFoundError(
      f'{repository.given} has no safetensors ({tensor_files.SINGLE_FILE}), '
      'and pickles such as pytorch_model.bin are never downloaded. Look on its '
      'page for a pull request that adds safetensors, and give '
      f'{PREFIX}{repository.id}@refs/pr/NUMBER; or convert the pickle where '
      'you trust it, and give the folder.' + _listing(repository, commit)
    )


def _get(repository: _Repository, name: str, revision: str) -> str | None:
  """Returns the path of a file in the cache; None if the repository lacks it.

  Downloads the file if the cache lacks it.
  """
  import huggingface_hub
  from huggingface_hub import errors

  if _COMMIT.fullmatch(revision):
    cached = huggingface_hub.try_to_load_from_cache(
      repository.id, name, revision=revision
    )
    # Only a commit is remembered to lack a file; a branch may get it later.
    if cached is huggingface_hub._CACHED_NO_EXIST:
      return None
  try:
    return huggingface_hub.hf_hub_download(
      repository.id,
      name,
      revision=revision,
      local_files_only=repository.local_only,
    )
  except errors.LocalEntryNotFoundError as e:  # a kind of EntryNotFoundError
    # Older versions raise it for a refused request too.
    if status_of(e.__cause__) in (_UNAUTHORIZED, _FORBIDDEN):
      raise _explained(repository, name, revision, e.__cause__) from e
    raise _not_in_cache(repository, name, e) from e
  except errors.EntryNotFoundError:
    return None
  except Exception as e:
    # The transfer library, and so the errors that it raises, differ between
    # versions of huggingface_hub and between files.
    raise _explained(repository, name, revision, e) from e


def _not_in_cache(repository: _Repository, name: str, e: Exception) -> OSError:
  """Returns an error that says why a file cannot be downloaded."""
  from huggingface_hub import constants

  where = f'{repository.given}: {name} is not in {constants.HF_HUB_CACHE}'
  if repository.local_only:
    return _Unreachable(where)
  if constants.HF_HUB_OFFLINE:
    return _Unreachable(
      where,
      ', and HF_HUB_OFFLINE is set: unset it to download the weights, or give '
      'a local folder',
    )
  return _Unreachable(
    where,
    f', and {constants.ENDPOINT} cannot be reached '
    f'({one_line(e.__cause__ or e)}): check the network, set HF_ENDPOINT to a '
    'mirror, or give a local folder',
  )


def _explained(
  repository: _Repository, name: str, revision: str, e: Exception
) -> OSError:
  """Returns an error that explains one of huggingface_hub, and what to do."""
  from huggingface_hub import errors

  given = repository.given
  if isinstance(e, errors.GatedRepoError) or status_of(e) == _FORBIDDEN:
    return _no_access(repository)
  # The Hub hides private repositories from other users, and answers an invalid
  # token with the same status.
  if (
    isinstance(e, errors.RepositoryNotFoundError)
    or status_of(e) == _UNAUTHORIZED
  ):
    return FileNotFoundError(
      f'{given} does not exist on the Hugging Face Hub, or is private, or your '
      f'token is not valid: check the spelling; if it is private, '
      f'{HOW_TO_LOG_IN}'
    )
  if isinstance(e, errors.RevisionNotFoundError):
    return FileNotFoundError(
      f'{given}: the repository has no revision {revision!r}: give a branch, '
      'a tag or a whole commit hash'
    )
  return OSError(
    f'{given}: {name} could not be downloaded ({one_line(e)}): try again; the '
    'cache keeps the files downloaded so far'
  )


def _no_access(repository: _Repository) -> PermissionError:
  from huggingface_hub import constants

  return PermissionError(
    f'{repository.given} is gated or private, and you have no access: ask for '
    f'it on {constants.ENDPOINT}/{repository.id}, then {HOW_TO_LOG_IN}'
  )


def status_of(error: BaseException | None) -> int | None:
  """Returns an error's HTTP status, or None."""
  return getattr(getattr(error, 'response', None), 'status_code', None)


def one_line(error: BaseException) -> str:
  """Returns an error's type and message in one line."""
  return f'{type(error).__name__}: {" ".join(str(error).split())}'


def _listing(repository: _Repository, revision: str) -> str:
  """Lists a repository's files, as the end of a message; '' if unknown."""
  if repository.local_only:
    return ''
  import huggingface_hub

  try:
    names = huggingface_hub.HfApi().list_repo_files(
      repository.id, revision=revision
    )
  except Exception:
    return ''  # The list is optional; the message is complete without it.
  return f' Its files: {", ".join(sorted(names)[:20])}'
