"""Keeps compiled programs for later runs, in the user's cache folder.

Compiling takes seconds, and every run of a command compiles the same programs.
JAX can keep them in a folder, and this module chooses the folder. No result
depends on it, and it may be deleted at any time. JAX bounds its size only with
the package `filelock`, so this module bounds it when a command starts.
"""

from collections.abc import Mapping
import contextlib
import glob
import hashlib
import os
import platform
import sys
import tempfile

from zsar_jax.system import terminal

OFF = 'off'
VARIABLE = 'ZSAR_COMPILATION_CACHE'
HELP = (
  f"Folder that keeps compiled programs for later runs, or '{OFF}'; by default "
  f"${VARIABLE}, or zsar_jax/xla in the user's cache folder."
)
_JAX_FOLDER = 'JAX_COMPILATION_CACHE_DIR'
_JAX_LEAST_SECONDS = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
_CPU_INFO = '/proc/cpuinfo'
_MOST_BYTES = 2**30
# Pattern of the folders of `_of_machine` and of JAX's files in them.
_PROGRAMS = os.path.join('[0-9a-f]' * 8, '*-cache')


def asked_for(flag: str | None, environment: Mapping[str, str]) -> str | None:
  """Returns the folder that the user chose: `OFF` for none, None if unsaid.

  Args:
    flag: of the command line; None if it was not given. It overrides the
      variable. Either may be empty, which means `OFF`.
    environment: the environment variables.
  """
  asked = environment.get(VARIABLE) if flag is None else flag
  return OFF if asked == '' else asked


def default_folder(environment: Mapping[str, str]) -> str | None:
  """Returns zsar_jax/xla in the user's cache folder; None without a home.

  Args:
    environment: the environment variables. An XDG_CACHE_HOME that is no
      absolute path does not count (XDG Base Directory Specification).
  """
  parent = environment.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(parent):
    parent = os.path.expanduser('~/.cache')
  if not os.path.isabs(parent):
    return None
  return os.path.join(parent, 'zsar_jax', 'xla')


def _of_machine(folder: str) -> str:
  """Returns the subfolder for CPUs like this one.

  Machines may share a home, and a program compiled on one may use instructions
  that another lacks.
  """
  known = [platform.machine()]
  try:
    with open(_CPU_INFO) as f:
      first = f.read(16384).partition('\n\n')[0]
  except OSError:  # not Linux
    first = ''
  known += [x for x in first.split('\n') if x.startswith(('flags', 'Features'))]
  digest = hashlib.sha256('\n'.join(known).encode()).hexdigest()[:8]
  return os.path.join(os.path.abspath(os.path.expanduser(folder)), digest)


def _bound(folder: str) -> None:
  """Deletes programs beyond a total size, those unused for longest first.

  Args:
    folder: of all machines. Files that are not our programs stay.
  """
  found = []
  for path in glob.iglob(os.path.join(glob.escape(folder), _PROGRAMS)):
    # Another process may delete the file meanwhile.
    with contextlib.suppress(OSError):
      status = os.stat(path)
      used = max(status.st_atime, status.st_mtime)
      found.append((used, status.st_size, path))
  total = sum(size for _, size, _ in found)
  for _, size, path in sorted(found):
    if total <= _MOST_BYTES:
      return
    with contextlib.suppress(OSError):
      os.unlink(path)
    total -= size


def use(flag: str | None) -> None:
  """Makes this program and its children keep their compiled programs.

  The flag comes first, then `VARIABLE`, then JAX's own setting, then the
  default. This does not import JAX. If the folder cannot be written, a warning
  says so and nothing is kept.

  Args:
    flag: of the command line; None if it was not given.
  """
  asked = asked_for(flag, os.environ)
  jax = sys.modules.get('jax')
  told = jax and jax.config.jax_compilation_cache_dir
  if asked == OFF or (not asked and (told or os.environ.get(_JAX_FOLDER))):
    return
  folder = asked or default_folder(os.environ)
  if folder is None:
    return
  folder = _of_machine(folder)
  try:
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as e:
    terminal.say(
      f'warning: compiled programs cannot be kept in {os.path.dirname(folder)} '
      f'({e.strerror or e}); --compilation_cache takes another folder, or '
      f"'{OFF}'",
      error=True,
    )
    return
  _bound(os.path.dirname(folder))
  os.environ[_JAX_FOLDER] = folder
  least = os.environ.setdefault(_JAX_LEAST_SECONDS, '0')
  if jax:  # JAX has read its variables already
    jax.config.update('jax_compilation_cache_dir', folder)
    jax.config.update(
      'jax_persistent_cache_min_compile_time_secs', float(least)
    )


def stop_default(flag: str | None) -> None:
  """Turns the cache off again, unless the user named a folder.

  This is for runs of several processes. JAX lets only the first process write.
  On GPUs, processes that compile wait for each other. If each machine has its
  own folder, the first finds its programs while the others wait for it.

  Args:
    flag: as for `use`.
  """
  default = default_folder(os.environ)
  if asked_for(flag, os.environ) or default is None:
    return
  if os.environ.get(_JAX_FOLDER) == _of_machine(default):
    del os.environ[_JAX_FOLDER]
    sys.modules['jax'].config.update('jax_compilation_cache_dir', None)
