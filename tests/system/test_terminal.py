import io
import sys

import pytest

from zsar_jax.data import class_names, decode
from zsar_jax.system import terminal


@pytest.mark.parametrize(
  'text, shown',
  [
    ('\x1b[31mred', r'\x1b[31mred'),
    ('a\x9b2Jb', r'a\x9b2Jb'),
    ('a\x00\x07\x08\x7f', r'a\x00\x07\x08\x7f'),
    ('gpj.\u202eexe', r'gpj.\u202eexe'),
    ('\u2066a\u2069', r'\u2066a\u2069'),
    ('a\rb', r'a\rb'),
    ('a\u2028b\x85', r'a\u2028b\x85'),
    ('\udcff.mp4', r'\udcff.mp4'),
    ('跑步 ελα naïve עברית 😀', '跑步 ελα naïve עברית 😀'),
  ],
)
def test_control_characters_are_spelled_out(text, shown):
  assert terminal.visible(text) == shown
  assert terminal.visible_name(text) == shown


def test_lines_stay_lines_but_not_within_a_name():
  assert terminal.visible('a\tb\nc') == 'a\tb\nc'
  assert terminal.visible_name('a\tb\nc') == r'a\tb\nc'


def test_terminals_of_few_letters_get_the_others_spelled_out(monkeypatch):
  out = io.TextIOWrapper(io.BytesIO(), encoding='latin-1')
  monkeypatch.setattr(sys, 'stdout', out)
  terminal.say('naïve 跑\x1b')
  assert out.buffer.getvalue() == b'na\xefve \\u8dd1\\x1b\n'


def test_wide_letters_take_two_columns():
  assert [terminal.width(x) for x in ('', 'ab', '跑步', '태권도 a', 'é')] == [
    0,
    2,
    4,
    8,
    1,
  ]


def test_class_names_with_control_characters_are_refused():
  for name in ('run\x1b[2J', 'run\u202egnipmuj', 'run\udcff'):
    with pytest.raises(ValueError, match='has control characters') as error:
      class_names.canonical_names(['walk', name], 'names.txt')
    assert str(error.value).isprintable()
    assert 'names.txt: class name' in str(error.value)
  # An end of line is a space like any other.
  assert class_names.canonical_names(['jumping\nrope']) == ['jumping rope']
  assert class_names.canonical_names(['走路', 'দৌড়ানো']) == ['走路', 'দৌড়ানো']


def test_errors_name_a_video_without_obeying_its_name():
  error = decode.VideoError('a\n\x1b[2Jb.mp4', 'does not exist')
  assert str(error) == r'a\n\x1b[2Jb.mp4: does not exist'


def test_a_line_is_written_over_the_one_before(monkeypatch, capsys):
  terminal.say_over('not seen')
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
  terminal.say_over('one\x1b[2J')
  terminal.say_over('')
  assert capsys.readouterr().err == '\r\x1b[Kone\\x1b[2J\r\x1b[K'
  monkeypatch.setenv('COLUMNS', '8')
  terminal.say_over('跑步 juggling')
  assert capsys.readouterr().err == '\r\x1b[K跑步 ju'
