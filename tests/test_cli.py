"""Tests commands whose output is closed or holds control characters."""

import ast
import contextlib
import gc
import logging
import os
import pathlib
import sys

from absl import logging as absl_logging
import pytest

from tests import processes
from zsar_jax import bank, cli, evaluate, main, predict, prepare, protocols

ENTRIES = (bank, evaluate, main, predict, prepare, protocols)


def unread():
  """The writing end of a pipe that nobody reads."""
  reader, writer = os.pipe()
  os.close(reader)
  return open(writer, 'w')


@contextlib.contextmanager
def unread_streams(monkeypatch, *names):
  """Closes the readers of these streams; not a fixture, because of capsys."""
  with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
    for name in names:
      patch.setattr(sys, name, stack.enter_context(unread()))
    yield


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda e: e.__name__)
def test_help_that_is_not_read_ends_quietly(entry, monkeypatch, capsys):
  with unread_streams(monkeypatch, 'stdout'):
    assert cli.exit_code(entry.main, ['x', '--help']) == 141
  assert capsys.readouterr().err == ''


def test_output_in_the_buffer_ends_quietly_too(monkeypatch, capsys):
  with unread_streams(monkeypatch, 'stdout'):
    assert cli.exit_code(lambda argv: print('short'), ['x']) == 141
  assert capsys.readouterr().err == ''


def test_an_error_is_told_though_the_output_is_not_read(monkeypatch, capsys):
  def fail(argv):
    print('short')
    raise ValueError('what is wrong')

  with unread_streams(monkeypatch, 'stdout'):
    assert cli.exit_code(fail, ['x']) == 1
  assert capsys.readouterr().err == 'error: what is wrong\n'


def test_where_errors_are_not_read_either(monkeypatch):
  with unread_streams(monkeypatch, 'stdout', 'stderr'):
    assert cli.exit_code(predict.main, ['x', '--nothing']) == 141


def test_a_pipe_to_a_child_is_an_error_like_any_other(capsys):
  def fail(argv):
    raise BrokenPipeError(32, 'Broken pipe')

  assert cli.exit_code(fail, ['x']) == 1
  assert 'error: [Errno 32] Broken pipe' in capsys.readouterr().err


@pytest.mark.parametrize('unbuffered', ['', '1'])
@pytest.mark.parametrize('words', [['list'], ['--help'], []])
def test_a_program_whose_reader_left_says_nothing(words, unbuffered):
  reader, writer = os.pipe()
  os.close(reader)
  with processes.start(
    [sys.executable, '-m', 'zsar_jax.protocols', *words],
    env={**os.environ, 'PYTHONUNBUFFERED': unbuffered},
    stdout=writer,
    stderr=processes.subprocess.PIPE,
    text=True,
  ) as process:
    os.close(writer)
    _, err = process.communicate(timeout=processes.DEADLINE)
  if words:
    assert (process.returncode, err) == (141, '')
  else:
    assert process.returncode == 1 and err.startswith('error: unknown command')


def test_errors_are_not_obeyed_by_a_terminal(capsys):
  assert cli.exit_code(protocols.main, ['x', 'a\x1b[2J\u202eb']) == 1
  err = capsys.readouterr().err
  assert '\\u202eb' in err and '\x1b' not in err


def test_warnings_in_the_log_are_not_obeyed_either():
  record = absl_logging.get_absl_logger().makeRecord(
    'absl', logging.WARNING, 'x.py', 1, '%s is odd', ('a\x1b[2J',), None
  )
  assert cli._make_visible(record)
  assert record.getMessage() == r'a\x1b[2J is odd'


def test_people_are_told_by_terminal_alone():
  """Other code may only print JSON, numbers and cursor movements."""
  folder = pathlib.Path(cli.__file__).parent
  found = {}
  for path in folder.rglob('*.py'):
    calls = [
      node
      for node in ast.walk(ast.parse(path.read_text()))
      if isinstance(node, ast.Call)
      and isinstance(node.func, ast.Name)
      and node.func.id == 'print'
    ]
    if calls:
      found[path.name] = len(calls)
  assert found == {
    'terminal.py': 1,
    'predict.py': 5,
    'tokenizer.py': 1,
    'beam_staging.py': 1,
    # Goes into exported folders, and runs without this package.
    'exported_predict.py': 2,
  }


def test_a_program_that_loads_does_not_look_for_garbage(monkeypatch):
  with cli.start_up():
    assert gc.isenabled()  # called from Python
  monkeypatch.setattr(cli, '_is_program', True)
  try:
    with pytest.raises(ValueError), cli.start_up():
      assert not gc.isenabled()
      raise ValueError
    assert gc.isenabled() and gc.get_freeze_count()
  finally:
    gc.unfreeze()
