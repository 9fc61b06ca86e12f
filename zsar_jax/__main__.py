"""The command `zsar`, with its subcommands: `zsar train`, `zsar predict`, ...

`zsar COMMAND ...` and `python -m zsar_jax COMMAND ...` are the same. Each
subcommand is the `main` of a module, and only that module is imported:
`zsar prepare` never loads JAX.
"""

from collections.abc import Mapping
import difflib
import importlib
import importlib.metadata
import platform

import zsar_jax
from zsar_jax import cli
from zsar_jax.system import terminal

# Subcommand -> module, and its line in the help.
COMMANDS: Mapping[str, tuple[str, str]] = {
  'train': ('main', 'train a model, then evaluate it'),
  'evaluate': ('evaluate', 'measure a trained model, or files of scores'),
  'predict': ('predict', 'rank class names for videos'),
  'prepare': ('prepare', 'check videos and pack them for training'),
  'bank': ('bank', 'show, build, extend and export prototype banks'),
  'app': ('app', 'serve a web page that ranks class names for videos'),
  'protocols': ('protocols', 'list, check and audit protocols and names'),
}
_PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'tensorflow',
  'tensorflow-datasets',
  'grain',
  'opencv-python-headless',
)


def usage() -> str:
  """Returns what `zsar --help` prints."""
  lines = [f'  {name:10} {text}' for name, (_, text) in COMMANDS.items()]
  return '\n'.join(
    [
      'usage: zsar COMMAND [--flag=value ...]',
      '',
      *lines,
      '',
      'zsar COMMAND --help shows the flags of a command.',
      'zsar --version shows the versions and devices in use.',
    ]
  )


def _package_version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'


def _devices() -> str:
  """Counts JAX's devices by kind, or says why there are none."""
  import jax

  try:
    devices = jax.devices()
  except RuntimeError as e:
    return f'none: {" ".join(str(e).split())}'
  kinds = [f'{d.platform} ({d.device_kind})' for d in devices]
  counted = [f'{kinds.count(kind)} x {kind}' for kind in dict.fromkeys(kinds)]
  return ', '.join(counted)


def describe_versions() -> str:
  """Returns what `zsar --version` prints: package versions and devices."""
  import av

  lines = {
    'zsar_jax': zsar_jax.__version__,
    'python': platform.python_version(),
    'platform': platform.platform(),
    **{name: _package_version(name) for name in _PACKAGES},
    'av': f'{av.__version__} (FFmpeg {av.ffmpeg_version_info})',
    'devices': _devices(),
  }
  width = max(map(len, lines))
  return '\n'.join(f'{key:{width}}  {value}' for key, value in lines.items())


def main(argv: list[str]) -> None:
  """Calls the command that the first argument names.

  Args:
    argv: the command line, the program's name first.

  Raises:
    ValueError: an unknown command; the message suggests the nearest one.
  """
  command, *rest = argv[1:] or ['--help']
  if command in ('--help', '-h', 'help'):
    terminal.say(usage())
  elif command == '--version':
    terminal.say(describe_versions())
  elif command in COMMANDS:
    module = importlib.import_module(f'zsar_jax.{COMMANDS[command][0]}')
    module.main([f'{argv[0]} {command}', *rest])
  else:
    near = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f'did you mean {near[0]}? ' if near else ''
    raise ValueError(
      f'unknown command {command!r}; {hint}commands are {", ".join(COMMANDS)}'
    )


def run() -> None:
  """Runs the console script `zsar`."""
  cli.run(main)


if __name__ == '__main__':
  run()
