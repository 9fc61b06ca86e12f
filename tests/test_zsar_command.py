import importlib
import re
import sys

import pytest

from tests import processes, tiny
from zsar_jax import __main__ as zsar
from zsar_jax import cli


def call(*arguments):
  return cli.exit_code(zsar.main, ['zsar', *arguments])


@pytest.mark.parametrize('arguments', [(), ('--help',), ('-h',)])
def test_help_names_every_command(arguments, capsys):
  assert call(*arguments) == 0
  out = capsys.readouterr().out
  for name, (_, text) in zsar.COMMANDS.items():
    assert re.search(rf'^  {name} +{re.escape(text)}$', out, re.MULTILINE)


@pytest.mark.parametrize('command', zsar.COMMANDS)
def test_a_command_is_the_main_of_its_module(command, monkeypatch):
  module = importlib.import_module(f'zsar_jax.{zsar.COMMANDS[command][0]}')
  seen = []
  monkeypatch.setattr(module, 'main', seen.append)
  assert call(command, '--some=flag', 'argument') == 0
  assert seen == [[f'zsar {command}', '--some=flag', 'argument']]


def test_a_command_shows_its_own_help(capsys):
  with pytest.raises(SystemExit) as ended:
    call('predict', '--help')
  assert ended.value.code == 0
  assert '--classes' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('given', 'near'), [('trian', 'did you mean train?'), ('xyz', 'commands are')]
)
def test_an_unknown_command_is_one_line(given, near, capsys):
  assert call(given) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f"error: unknown command '{given}'") and near in line


def test_flags_reach_the_command_and_errors_come_back(capsys):
  assert call('protocols', 'show', 'no/such') == 1
  assert 'no/such' in capsys.readouterr().err


def test_version_names_packages_and_devices(capsys):
  assert call('--version') == 0
  out = capsys.readouterr().out
  lines = dict(line.split(maxsplit=1) for line in out.splitlines())
  assert lines['zsar_jax'] == zsar.zsar_jax.__version__
  assert lines['python'] == sys.version.split()[0]
  assert lines['devices'] == '8 x cpu (cpu)'
  assert 'FFmpeg' in lines['av']


def test_version_says_what_is_missing_and_why(monkeypatch, capsys):
  import jax

  def broken():
    raise RuntimeError('no driver\nwas found')

  monkeypatch.setattr(jax, 'devices', broken)
  monkeypatch.setattr(zsar, '_PACKAGES', ('no-such-package',))
  assert call('--version') == 0
  out = capsys.readouterr().out
  assert re.search('no-such-package +not installed', out)
  assert 'none: no driver was found' in out


def test_the_module_is_the_command():
  done = processes.run(
    [
      sys.executable,
      '-c',
      'import runpy, sys; sys.argv[1:] = ["prepare", "--help"]\n'
      'try:\n  runpy.run_module("zsar_jax", run_name="__main__")\n'
      'finally:\n  print("jax" in sys.modules)',
    ],
    cwd=tiny.ROOT,
  )
  assert done.returncode == 0, done.stderr
  assert '--storage' in done.stdout
  assert done.stdout.splitlines()[-1] == 'False'


def test_hints_and_help_name_commands_as_the_readme_does():
  modules = '|'.join(module for module, _ in zsar.COMMANDS.values())
  other = re.compile(
    rf'zsar_jax\.({modules}) [a-z-]|-m zsar_jax\.({modules})\b'
  )
  package = tiny.ROOT / 'zsar_jax'
  found = [
    f'{path}: {line}'
    for path in package.rglob('*.py')
    for line in path.read_text().splitlines()
    if other.search(line)
  ]
  assert not found
