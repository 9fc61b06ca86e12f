"""Flags that all commands share, and one-line errors.

A command defines its flags inside `main`:

```python
def main(argv):
  values = cli.new_flags()
  flags.DEFINE_string('source', None, 'Folder.', flag_values=values)
  config_flags.DEFINE_config_file(
    'config', None, 'Config.', flag_values=values, sys_argv=argv
  )
  cli.parse(values, argv, usage=__doc__)
  print(values.source, values.config)


if __name__ == '__main__':
  cli.run(main)
```

Nothing is defined in absl's global `flags.FLAGS`. So commands may use the same
flag name, one process can import several, and a test can call `main` twice. A
config flag needs `sys_argv=argv`: it reads its overrides from there, by default
from `sys.argv`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import gc
import glob
import os
import select
import sys
from typing import Any

from absl import app, flags, logging

from zsar_jax.data import class_descriptions
from zsar_jax.models import defaults
from zsar_jax.system import compilation_cache, interruption, terminal

# Errors that a user can fix, printed as one line without a traceback. OSError
# covers a missing file, missing permissions and a full disk.
USER_ERRORS = (ValueError, OSError, flags.Error)
_INTERRUPTED = 130
# 128 + SIGPIPE: the reader of the output has closed it, as `head` does.
_READER_LEFT = 141
# Set by `run`. Calling `main` from Python keeps the caller's JAX settings.
_is_program = False


def new_flags() -> flags.FlagValues:
  """Returns a set of flags with those that every command has."""
  values = flags.FlagValues()
  flags.DEFINE_bool('help', False, 'Show this help.', flag_values=values)
  flags.DEFINE_bool(
    'traceback',
    False,
    'Show the traceback of an error instead of one line.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'compilation_cache', None, compilation_cache.HELP, flag_values=values
  )
  # The only one of absl's own flags that is useful here.
  values['verbosity'] = flags.FLAGS['verbosity']
  return values


def define_step(values: flags.FlagValues) -> None:
  """Defines --step, which chooses a checkpoint of a run."""
  flags.DEFINE_integer(
    'step',
    None,
    "Step of the run's checkpoint; by default the newest.",
    flag_values=values,
    lower_bound=0,
  )


def define_dtype(values: flags.FlagValues, of: str) -> None:
  """Defines --dtype of public weights; `of` says which flag names them."""
  flags.DEFINE_enum(
    'dtype',
    defaults.DTYPES[0],
    defaults.DTYPES,
    f'With --{of}: number format of the video encoder. bfloat16 is made for '
    'GPUs, TPUs and CPUs with matrix units (AMX), and a little less exact.',
    flag_values=values,
  )


def check_dtype(values: flags.FlagValues, of: str) -> None:
  """Refuses a --dtype without the flag `of`, which names public weights."""
  if values['dtype'].present and not values[of].value:
    raise ValueError(
      f'--dtype belongs to --{of}: other models keep the dtype that they were '
      'made with'
    )


def read_names(text: str | None) -> list[str]:
  """Returns names from a text with commas or a file; [] for None."""
  if text is None:
    return []
  if not text.strip():
    raise ValueError('--classes is empty: give names separated by commas')
  if os.path.isfile(text):
    with open(text, encoding='utf-8-sig') as f:
      names = [line.strip() for line in f if line.strip()]
    if not names:
      raise ValueError(f'{text} holds no class name')
    return names
  if text.endswith('.txt'):
    raise FileNotFoundError(f'--classes={text} does not exist')
  return text.split(',')


def read_paths(text: str, flag: str = 'video') -> list[str]:
  """Returns the files of a flag that takes files and patterns, with commas.

  Raises:
    FileNotFoundError: a file does not exist.
    ValueError: a pattern finds no file.
  """
  # A file name may look like a pattern, or hold a comma.
  if os.path.exists(text):
    return [text]
  paths = []
  for part in text.split(','):
    found = sorted(glob.glob(part, recursive=True))
    if not found and glob.has_magic(part):
      raise ValueError(f'no file matches --{flag}={part}')
    if not found:
      raise FileNotFoundError(f'--{flag}={part} does not exist')
    paths += found
  return paths


def define_descriptions(
  values: flags.FlagValues, of: str, default: str | None = ''
) -> None:
  """Adds the flag of class descriptions; `of` says for which classes."""
  flags.DEFINE_string(
    'descriptions',
    default,
    f'{of}: a JSON file, class name -> sentences, or '
    f'"{class_descriptions.SHIPPED}" for those that come along.',
    flag_values=values,
  )


def read_descriptions(
  source: str, names: Iterable[str], dataset: str = ''
) -> dict[str, tuple[str, ...]]:
  """Reads what `define_descriptions` asks for; says what has none.

  Args:
    source: value of the flag; '' for no descriptions.
    names: canonical names of the classes.
    dataset: see `class_descriptions.shipped`.

  Returns:
    Canonical name -> sentences, of these classes.

  Raises:
    FileNotFoundError: the file does not exist.
    ValueError: it is damaged, or describes none of the classes.
  """
  if not source:
    return {}
  names, described = [*names], class_descriptions.find(source, dataset)
  lacking = class_descriptions.check_some(described, names, source)
  if lacking:
    terminal.say(f'warning: {lacking}', error=True)
  return {name: described[name] for name in names if name in described}


def check_sources(
  values: flags.FlagValues, sources: Sequence[str], belongs: Mapping[str, str]
) -> None:
  """Refuses flags that do not go together.

  Args:
    values: parsed flags.
    sources: flags of which exactly one must be given.
    belongs: names of flags -> of the sources that look at them, with spaces.

  Raises:
    ValueError: no source or several, or a flag that the source has no use for.
  """
  given = [name for name in sources if values[name].value]
  if len(given) != 1:
    raise ValueError(
      f'give one of {", ".join(f"--{name}" for name in sources)}; given: '
      f'{given or "none"}'
    )
  for names, owners in belongs.items():
    for flag in names.split() if given[0] not in owners.split() else ():
      if values[flag].value != values[flag].default:
        needed = ' or '.join(f'--{owner}' for owner in owners.split())
        raise ValueError(f'--{flag} needs {needed}, not --{given[0]}')


def check_belongs(
  values: flags.FlagValues, command: str, belongs: Mapping[str, str]
) -> None:
  """Refuses flags that a command of a module has no use for.

  Args:
    values: parsed flags.
    command: the one that is given.
    belongs: commands, with ' and ' -> names of the flags that only they have,
      with spaces.

  Raises:
    ValueError: a flag of other commands is given.
  """
  for owners, names in belongs.items():
    for flag in names.split() if command not in owners.split(' and ') else ():
      if values[flag].value != values[flag].default:
        raise ValueError(f'--{flag} belongs to {owners}, not to {command}')


def parse(
  values: flags.FlagValues,
  argv: Sequence[str],
  usage: str | None = None,
  allow_arguments: bool = False,
) -> list[str]:
  """Parses a command line into `values`.

  In a program, it also turns on the compilation cache; see
  `compilation_cache`.

  Args:
    values: from `new_flags`, with the command's own flags added.
    argv: the command line, the program's name first.
    usage: text that `--help` prints before the flags: the docstring of the
      command's module.
    allow_arguments: whether the command takes positional arguments.

  Returns:
    The positional arguments.

  Raises:
    flags.Error: an unknown flag, or a flag with a value it does not take.
    ValueError: a positional argument where none is allowed.
    SystemExit: after `--help`.
  """
  # Checked first: parsing fails if a required flag is missing.
  if '--help' in argv[1:]:
    terminal.say(f'{usage or ""}\n{values.get_help()}')
    raise SystemExit(0)
  extra = values(argv)[1:]
  if extra and not allow_arguments:
    raise ValueError(f'arguments not understood: {" ".join(extra)}')
  if _is_program:
    compilation_cache.use(values.compilation_cache)
  return extra


@contextlib.contextmanager
def start_up() -> Iterator[None]:
  """Context manager that imports and loads without garbage collection.

  Most objects of a command's start-up live until it ends, so searching them
  for cycles finds nothing. Without that, a short command takes a quarter less
  time. Afterwards the collector runs again, and skips these objects. Outside
  of a program, this does nothing.
  """
  if not _is_program:
    yield
    return
  gc.disable()
  try:
    yield
  finally:
    gc.freeze()
    gc.enable()


def exit_code(main: Callable[[list[str]], Any], argv: list[str]) -> int:
  """Calls a command's `main`; prints a user's mistake as one line on stderr.

  Args:
    main: takes the command line, the program's name first.
    argv: the command line. With `--traceback`, errors and Ctrl-C are raised.

  Returns:
    0 on success, 1 after one of `USER_ERRORS`, 75 after a run was told to
    stop and can be resumed, 130 after Ctrl-C, 141 if the reader of the output
    has closed it. 130 and 141 are the codes that shells use.
  """
  code = 0
  try:
    code = _call(main, argv)
    sys.stdout.flush()
  except BrokenPipeError:
    # Otherwise another pipe has broken, such as one to a child process.
    if not _silence_unread():
      raise
    return code or _READER_LEFT
  return code


def _call(main: Callable[[list[str]], Any], argv: list[str]) -> int:
  """Does the work of `exit_code`, except for a closed output."""
  try:
    main(argv)
  except USER_ERRORS as e:
    if '--traceback' in argv or _is_of_output(e):
      raise
    terminal.say(f'error: {e}', error=True)
    return 1
  except interruption.Interrupted as e:
    terminal.say(f'stopped: {e}', error=True)
    return interruption.EXIT_CODE
  except KeyboardInterrupt:
    if '--traceback' in argv:
      raise
    terminal.say('interrupted', error=True)
    return _INTERRUPTED
  return 0


def _has_reader(stream) -> bool:
  try:
    descriptor = stream.fileno()
  except (AttributeError, OSError, ValueError):
    return True  # tests and notebooks replace it by an object without one
  poll = select.poll()
  poll.register(descriptor, 0)  # poll always reports errors
  return not poll.poll(0)


def _is_of_output(error: Exception) -> bool:
  """Returns whether an error came from a closed stdout or stderr."""
  return isinstance(error, BrokenPipeError) and not (
    _has_reader(sys.stdout) and _has_reader(sys.stderr)
  )


def _silence_unread() -> bool:
  """Redirects streams without a reader to /dev/null.

  Otherwise Python would flush their buffers at exit, fail and print that.

  Returns:
    Whether there were such streams.
  """
  unread = [s for s in (sys.stdout, sys.stderr) if not _has_reader(s)]
  for stream in unread:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
  return bool(unread)


def _make_visible(record) -> bool:
  """Makes control characters of a log record visible; keeps every record."""
  record.msg, record.args = terminal.visible(record.getMessage()), ()
  return True


def run(main: Callable[[list[str]], Any]) -> None:
  """Runs a command as a program and exits; see the module docstring."""
  global _is_program
  _is_program = True

  def leave_flags_to_main(argv):
    # Some libraries (grain) do not work until absl's own flags are parsed.
    flags.FLAGS(argv[:1])
    # They also log at INFO, which absl shows by default.
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().addFilter(_make_visible)
    return argv

  app.run(lambda argv: exit_code(main, argv), flags_parser=leave_flags_to_main)
