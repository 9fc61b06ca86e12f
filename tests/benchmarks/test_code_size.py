"""Small sources whose sizes are counted by hand."""

import pathlib
import sys
import textwrap

import pytest

from benchmarks import code_size

_SOURCE = '''
"""A module."""


def plain(a, b: int, *rest, c=1, **more) -> int:
  """Two lines of code
  and a docstring."""
  inner = lambda x, y: x

  def nested(z: str):
    return z

  return inner


class Outer:

  def method(self, a: int, /, b):
    pass

  @classmethod
  def made(cls):
    return cls()

  @staticmethod
  def alone(first):
    pass

  class Inner:

    def deep(self, *, key: str):
      pass
'''


def found(text, path='some/file.py'):
  functions = code_size.functions(pathlib.Path(path), textwrap.dedent(text))
  return {f.name: f for f in functions}


def test_every_function_is_found_under_its_class_and_line():
  functions = found(_SOURCE)
  assert {name: f.place for name, f in functions.items()} == {
    'plain': 'some/file.py:5',
    'plain.nested': 'some/file.py:10',
    'Outer.method': 'some/file.py:18',
    'Outer.made': 'some/file.py:22',
    'Outer.alone': 'some/file.py:26',
    'Outer.Inner.deep': 'some/file.py:31',
  }


def test_lines_reach_from_the_def_to_the_end_with_the_docstring():
  lines = {name: f.lines for name, f in found(_SOURCE).items()}
  assert lines['plain'] == 9
  assert lines['plain.nested'] == lines['Outer.method'] == 2
  assert found('def f(): pass')['f'].lines == 1


@pytest.mark.parametrize(
  'name,parameters,annotated',
  [
    ('plain', 5, 1),  # the starred ones too
    ('plain.nested', 1, 1),
    ('Outer.method', 2, 1),  # no self, but what is positional only
    ('Outer.made', 0, 0),  # no cls
    ('Outer.alone', 1, 0),
    ('Outer.Inner.deep', 1, 1),
  ],
)
def test_parameters_and_their_types_are_counted(name, parameters, annotated):
  function = found(_SOURCE)[name]
  assert function.parameters == parameters
  assert function.annotated == annotated


def test_self_counts_outside_a_class():
  assert found('def f(self, a): pass')['f'].parameters == 2


def test_functions_inside_other_statements_are_found():
  text = """
    if True:
      def f(a):
        for _ in a:
          def g(b, c): pass
  """
  assert {n: f.parameters for n, f in found(text).items()} == {'f': 1, 'f.g': 2}


def test_no_python_is_an_error():
  with pytest.raises(SyntaxError):
    found('def f(:')
  assert not found('')


def _long(name, lines):
  return f'def {name}():\n' + '  pass\n' * (lines - 1)


@pytest.fixture
def tree(tmp_path):
  """A folder of files at the bounds and one beyond."""
  many = ', '.join(f'a{i}' for i in range(9))
  files = {
    'empty.py': '',
    'bounds.py': _long('at_bound', 60) + '#\n' * 340,
    'below/over.py': _long('over', 61) + '#\n' * 340,
    'below/many.py': (
      f'def many({many}): pass\ndef eight({many[:-4]}: int): pass\n'
    ),
    # A config's defaults are a list, not a function to read.
    'below/defaults.py': _long('default_config', 99),
    'notes.txt': 'def no_python(): pass\n' * 500,
  }
  for name, text in files.items():
    path = tmp_path / 'code' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return tmp_path


def test_report_by_hand(tree):
  assert code_size.report(tree, 'code', 0).splitlines() == [
    'code: 4 files that are not empty, 902 lines, median 250, longest 401',
    '  files over 400 lines: 1',
    '  functions: 4; over 60 lines: 1; with more than 8 parameters: 1',
    '  arguments with a type: 1 of 17, 6%',
  ]


def test_the_longest_are_listed_the_longest_first(tree):
  *_, first, second, over, many = code_size.report(tree, 'code', 2).splitlines()
  assert first == '     401 lines  code/below/over.py'
  assert second == '     400 lines  code/bounds.py'
  assert over == '      61 lines  over  code/below/over.py:1'
  assert many == '       9 parameters  many  code/below/many.py:1'


def test_arguments_of_nobody_are_a_share_of_none(tmp_path):
  (tmp_path / 'one.py').write_text('x = 1\n')
  lines = code_size.report(tmp_path, '.', 5).splitlines()
  assert lines[0].startswith('.: 1 files')
  assert lines[3] == '  arguments with a type: 0 of 0, 0%'


def test_a_folder_without_python_is_refused(tmp_path):
  (tmp_path / 'empty.py').write_text('')
  for folder in ('.', 'missing'):
    with pytest.raises(ValueError, match='holds no Python'):
      code_size.report(tmp_path, folder, 0)


def test_the_command_reports_our_own_folders(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['code_size', '--folder=benchmarks,configs'])
  code_size.main()
  out = capsys.readouterr().out.splitlines()
  assert out[0].startswith('benchmarks: ')
  assert out[4].startswith('configs: ') and len(out) == 8
  monkeypatch.setattr(sys, 'argv', ['code_size'])
  code_size.main()
  folders = [
    line for line in capsys.readouterr().out.splitlines() if line[0] != ' '
  ]
  assert [line.partition(':')[0] for line in folders] == [
    'zsar_jax',
    'experiments',
    'benchmarks',
  ]
