"""Shared flags of the command line entries, and their one-line errors.

An entry makes its flags anew in every call:

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

Nothing is defined in absl's global `flags.FLAGS`: entries may share a flag's
name, several can be imported into one process, and a test may call `main`
twice with other flags. A config flag needs `sys_argv=argv`, because it looks
for its overrides there, by default in `sys.argv`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import gc
import os
import select
import sys
from typing import Any

from absl import app, flags, logging

from zsar_jax.data import class_descriptions
from zsar_jax.system import compilation_cache, interruption, terminal

# Errors that a user can fix: shown as one line, without a traceback. OSError
# is a file that is missing or not theirs, or a disk that is full.
USER_ERRORS = (ValueError, OSError, flags.Error)
_INTERRUPTED = 130
# 128 + SIGPIPE: whoever read the output has left, as `head` does.
_READER_LEFT = 141
# Set by `run`: who calls `main` from Python keeps his own settings of JAX.
_is_program = False


def new_flags() -> flags.FlagValues:
  """Makes a set of flags that holds those which every entry has."""
  values = flags.FlagValues()
  flags.DEFINE_bool('help', False, 'Show this help.', flag_values=values)
  flags.DEFINE_bool(
    'traceback',
    False,
    'Show where an error came from instead of one line.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'compilation_cache', None, compilation_cache.HELP, flag_values=values
  )
  # The only one of absl's own flags that is of use here.
  values['verbosity'] = flags.FLAGS['verbosity']
  return values


def define_step(values: flags.FlagValues) -> None:
  """Adds the flag that chooses a checkpoint of a run."""
  flags.DEFINE_integer(
    'step',
    None,
    "Of the run's checkpoint; by default the newest.",
    flag_values=values,
    lower_bound=0,
  )


def define_descriptions(values: flags.FlagValues, of: str) -> None:
  """Adds the flag of class descriptions; `of` says for which classes."""
  flags.DEFINE_string(
    'descriptions',
    '',
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
    Canonical name -> sentences, also of other classes.

  Raises:
    FileNotFoundError: the file does not exist.
    ValueError: it is damaged, or describes none of the classes.
  """
  if not source:
    return {}
  described = class_descriptions.find(source, dataset)
  lacking = class_descriptions.check_some(described, names, source)
  if lacking:
    terminal.say(f'warning: {lacking}', error=True)
  return described


def parse(
  values: flags.FlagValues,
  argv: Sequence[str],
  usage: str | None = None,
  allow_arguments: bool = False,
) -> list[str]:
  """Parses a command line into `values`.

  A program also begins to keep what it compiles; see `compilation_cache`.

  Args:
    values: from `new_flags`, with the entry's own flags added.
    argv: the command line, the program's name first.
    usage: what `--help` says before the flags: the entry's docstring.
    allow_arguments: whether the entry takes arguments that are no flags.

  Returns:
    Those arguments.

  Raises:
    flags.Error: an unknown flag, or a flag with a value it does not take.
    ValueError: an argument that is no flag where none is allowed.
    SystemExit: after `--help`.
  """
  # Looked for first, because parsing fails where a required flag is missing.
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
  """For what a short command loads: most of it stays to the end.

  Python looks through all objects again and again for those that only refer
  to each other. A program does not do so in here, and leaves out later what
  was made in here. That is a quarter of a short command's time.
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
  """Calls an entry's `main`; a user's mistake becomes one line on stderr.

  Args:
    main: takes the command line, the program's name first.
    argv: the command line. With `--traceback` in it nothing is caught.

  Returns:
    0, 1 after one of `USER_ERRORS`, 75 where a run was told to stop and can
    be started again, 130 after Ctrl-C or 141 where nobody reads the output
    any more, as shells have it.
  """
  code = 0
  try:
    code = _call(main, argv)
    sys.stdout.flush()
  except BrokenPipeError:
    # Another pipe, say to a child process, may have broken.
    if not _silence_unread():
      raise
    return code or _READER_LEFT
  return code


def _call(main: Callable[[list[str]], Any], argv: list[str]) -> int:
  """Does the work of `exit_code` while the output can be written."""
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
    return True  # what tests and notebooks put in its place
  poll = select.poll()
  poll.register(descriptor, 0)  # errors are told unasked
  return not poll.poll(0)


def _is_of_output(error: Exception) -> bool:
  """Returns whether an error came from a closed stdout or stderr."""
  return isinstance(error, BrokenPipeError) and not (
    _has_reader(sys.stdout) and _has_reader(sys.stderr)
  )


def _silence_unread() -> bool:
  """Makes streams without a reader lead nowhere; whether there were any.

  What is left in their buffers would fail once more when Python ends, and
  noisily.
  """
  unread = [s for s in (sys.stdout, sys.stderr) if not _has_reader(s)]
  for stream in unread:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
  return bool(unread)


def _make_visible(record) -> bool:
  """A logging filter that lets everything through, but no control character."""
  record.msg, record.args = terminal.visible(record.getMessage()), ()
  return True


def run(main: Callable[[list[str]], Any]) -> None:
  """Runs an entry as a program and exits; see the module docstring."""
  global _is_program
  _is_program = True

  def leave_flags_to_main(argv):
    # Libraries (grain) refuse to work while absl's own flags are unparsed.
    flags.FLAGS(argv[:1])
    # They also talk at INFO, which absl shows by default.
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().addFilter(_make_visible)
    return argv

  app.run(lambda argv: exit_code(main, argv), flags_parser=leave_flags_to_main)
