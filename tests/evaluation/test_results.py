import dataclasses
import json

import pytest

from zsar_jax.evaluation import results, results_text

ROWS = [
  results.Row('transfer', 'top1', 0.5, 0.4, 0.625, 0.125, 80, 8, 2),
  results.Row('floor_chance', 'per_class', 0.125, 0.125, 0.125, 0.125, 80, 8),
]


def make(protocol='set/1', rows=ROWS, protocol_hash='abc', leaks=(), **extra):
  return results.make_results(
    protocol,
    rows,
    {'seed': 3},
    extra,
    protocol_hash=protocol_hash,
    leaks=leaks,
  )


def test_content_says_what_how_and_with_which_versions():
  content = make(step=7)
  assert content['protocol'] == 'set/1'
  assert content['config'] == {'seed': 3}
  assert content['step'] == 7
  assert {'jax', 'flax', 'optax'} <= set(content['versions'])
  assert 'commit' in content
  assert content['rows'][0] == {
    'method': 'transfer',
    'metric': 'top1',
    'value': 0.5,
    'low': 0.4,
    'high': 0.625,
    'chance': 0.125,
    'n_videos': 80,
    'n_classes': 8,
    'n_unreadable': 2,
    'std': None,
    'n_splits': 1,
    'class_low': None,
    'class_high': None,
  }
  assert content['protocol_hash'] == 'abc' and content['leaks'] == []


def test_written_results_are_read_back(tmp_path):
  path = str(tmp_path / 'results.json')
  content = make()
  results.write_results(content, path)
  assert results.read_results(path) == content
  assert [p.name for p in tmp_path.iterdir()] == ['results.json']


def test_failed_write_leaves_the_old_results_whole(tmp_path):
  path = str(tmp_path / 'results.json')
  results.write_results(make(), path)
  with pytest.raises(TypeError):
    results.write_results({**make(), 'bad': object()}, path)
  assert results.read_results(path) == make()


def test_results_of_another_schema_are_refused(tmp_path):
  path = tmp_path / 'results.json'
  path.write_text(json.dumps({**make(), 'schema_version': 0}))
  with pytest.raises(ValueError, match='schema_version 0.*reads 3'):
    results.read_results(str(path))


def test_missing_results_raise(tmp_path):
  with pytest.raises(FileNotFoundError):
    results.read_results(str(tmp_path / 'none.json'))


def test_table_has_a_line_a_row_with_percentages():
  protocol, header, rule, first, second = results_text.format_table(
    make()
  ).splitlines()
  assert protocol == 'protocol: set/1 abc'
  assert header.split()[:3] == ['method', 'metric', '%']
  assert set(rule) == {'-', ' '}
  assert first.split() == (
    'transfer top1 50.0 40.0 - 62.5 12.5 80 (2 unreadable)'.split()
  )
  # An exact figure has no interval.
  assert second.split() == 'floor_chance per_class 12.5 12.5 80'.split()
  # The columns stand under their headers.
  assert first.index('top1') == header.index('metric')
  assert second.index('80') == header.index('videos')


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
  room = tmp_path / 'zsar_jax/evaluation'
  room.mkdir(parents=True)
  monkeypatch.setattr(results, '__file__', str(room / 'results.py'))
  assert make()['commit'] is None


def test_leaks_stand_above_the_table():
  leaks = [f'name: seen {i}' for i in range(12)]
  lines = results_text.format_table(make(leaks=leaks)).splitlines()
  assert lines[1].startswith('NOT STRICT: 12 leaks')
  assert lines[2] == '  name: seen 0' and lines[12] == '  and 2 more'


def test_results_are_compared_row_by_row():
  better = [dataclasses.replace(ROWS[0], value=0.75)]
  lines = results_text.compare(make(), make(rows=better)).splitlines()
  assert lines[-1].split() == 'transfer top1 50.0 75.0 +25.0'.split()
  assert len(lines) == 4


@pytest.mark.parametrize(
  'other, words',
  [
    ({'protocol': 'set/2', 'protocol_hash': 'd'}, 'set/1 and set/2'),
    ({'protocol_hash': 'd'}, 'set/1 was measured on other classes'),
    ({'leaks': ['x']}, 'only one of them was trained on classes that leak'),
  ],
)
def test_what_was_measured_differently_is_not_compared(other, words):
  with pytest.raises(ValueError, match=words):
    results_text.compare(make(), make(**other))
  empty = make(protocol_hash='')
  with pytest.raises(ValueError, match='they have no test'):
    results_text.compare(empty, empty)


def test_the_line_of_the_protocol_says_which_split():
  line = lambda **extra: results_text.format_table(make(**extra)).split('\n')[0]
  assert line() == line(split='') == 'protocol: set/1 abc'
  assert line(split='split 0 of 2') == 'protocol: set/1 abc, split 0 of 2'
