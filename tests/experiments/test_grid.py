"""Tests grids of runs, and the tables made from their stored arrays."""

import json
import os
import re
import signal
import subprocess

import numpy as np
import pytest

from experiments import (
  documents,
  grid,
  pooled,
  real_clips_cells,
  real_clips_series,
  real_clips_where,
  stick_figure_study,
)
from tests import tiny
from tests.parallel import test_distributed
from zsar_jax.evaluation import evaluator, methods, score_files
from zsar_jax.system import interruption

CONFIG = f'{tiny.ROOT / "configs/demo.py"}:smoke'


def cell(name, **changes):
  changes = {k.replace('__', '.'): v for k, v in changes.items()}
  return grid.Cell(name, CONFIG, {**tiny.OVERRIDES, **changes})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A grid of two cells, after work."""
  out = str(tmp_path_factory.mktemp('grid'))
  said = []
  cells = [
    cell('a'),
    cell('broken', data__dataset_dir='/nowhere'),
    cell('b', seed=1),
  ]
  failed = grid.work(cells, out, said.append)
  assert failed == ['broken']
  assert any('broken failed: FileNotFoundError' in line for line in said)
  return out


def settings():
  return real_clips_cells.declared_settings(cell('a'))


def test_a_cell_keeps_all_that_its_table_needs(folder, tiny_run):
  content = json.loads((tiny_run / 'results.json').read_text())
  rows = {(r['method'], r['metric']): r for r in content['rows']}
  trained = grid.read_cell(folder, 'a')
  evaluation = trained.evaluation
  table = evaluator.evaluate(
    evaluation.seen, evaluation.unseen, evaluation.videos, settings()
  )
  for row in table.rows:
    expected = rows[row.method, row.metric]
    for key in ('value', 'low', 'high', 'class_low', 'class_high'):
      assert getattr(row, key) == expected[key], (row.method, row.metric)
  assert (
    trained.facts['seen_val_top1'] == rows['seen', 'seen_val_top1']['value']
  )
  scores = score_files.read_scores(str(tiny_run / 'predictions.safetensors'))
  found = pooled.all_scores(evaluation, settings())
  for method, of_method in scores.scores.items():
    np.testing.assert_array_equal(of_method, found[method])


def test_pooling_one_split_of_one_seed_is_its_own_table(folder):
  evaluation = grid.read_cell(folder, 'a').evaluation
  table = evaluator.evaluate(
    evaluation.seen, evaluation.unseen, evaluation.videos, settings()
  )
  pool = pooled.Pool([evaluation])
  scores = pooled.all_scores(evaluation, settings())
  for name, of_method in scores.items():
    pool.add(name, [[of_method]])
  pool.add_permuted('control_permuted_names', [[scores['transfer']]])
  expected = {(r.method, r.metric): r for r in table.rows}
  rows = pool.rows()
  assert {r.method for r in rows} >= {*methods.METHODS, 'floor_chance'}
  for row in rows:
    known = expected[row.method, row.metric]
    assert row.value == pytest.approx(known.value), row.method
    assert row.chance == pytest.approx(known.chance)
    if row.low is not None and not row.method.startswith('floor'):
      # Other columns are drawn beside it; the draws are the same.
      assert row.low == pytest.approx(known.low, abs=1e-6), row.method
      assert row.class_high == pytest.approx(known.class_high, abs=1e-6)
  pair = pool.paired('transfer', ['nearest_name'], 'nearest_name')[-1]
  known = next(
    p
    for p in table.paired
    if p.other == 'nearest_name' and p.metric == pair.metric
  )
  assert pair.difference == pytest.approx(known.difference)
  assert pair.p_value == pytest.approx(known.p_value)


def test_seeds_are_averaged_and_splits_weigh_the_same(folder):
  a, b = (grid.read_cell(folder, name).evaluation for name in 'ab')
  per_class = lambda e: next(
    r.value
    for r in evaluator.evaluate(
      e.seen, e.unseen, e.videos, settings(), diagnose=False
    ).rows
    if (r.method, r.metric) == ('transfer', 'per_class')
  )
  score = lambda e: pooled.all_scores(e, settings())['transfer']
  seeds = pooled.Pool([a])
  seeds.add('transfer', [[score(a), score(b)]])
  wanted = (per_class(a) + per_class(b)) / 2
  assert seeds.rows()[0].value == pytest.approx(wanted)
  assert seeds.spread['transfer', 'per_class'].tolist() == [
    pytest.approx([per_class(a), per_class(b)])
  ]
  splits = pooled.Pool([a, b])
  splits.add('transfer', [[score(a)], [score(b)]])
  row = splits.rows()[0]
  assert row.value == pytest.approx(wanted) and row.n_splits == 2
  assert row.n_videos == 2 * len(a.videos.labels)


def test_where_it_fails_adds_up_to_the_accuracy(folder):
  trained = grid.read_cell(folder, 'a')
  series = real_clips_series.Series((0,), ((trained,),), (settings(),))
  pool = real_clips_series.pool_of(series)
  row = next(
    r for r in pool.rows() if (r.method, r.metric) == ('transfer', 'per_class')
  )
  lines = real_clips_where.where_lines(series)
  by_source = dict(zip(lines[0].split(), lines[2].split(), strict=True))
  assert by_source['source'] == 'all'
  assert by_source['transfer'] == f'{100 * row.value:.1f}'
  classes = lines[lines.index('') + 3 :]
  assert len(classes) == len(trained.evaluation.unseen.names)
  # Whatever is not right was taken for something else.
  for line in classes:
    shares = [int(v) for v in re.findall(r'(\d+)%', line)]
    right = float(re.search(r'  (\d+\.\d)  ', line)[1])
    assert sum(shares) <= 100 - right + 2
    assert shares or right == 100


def test_a_finished_cell_is_not_trained_again(folder):
  path = os.path.join(folder, 'a', grid.EVALUATION_FILE)
  before = os.stat(path).st_mtime_ns
  assert grid.work([cell('a'), cell('b', seed=1)], folder) == []
  assert grid.run([cell('a')], folder) == []
  assert os.stat(path).st_mtime_ns == before
  # The checkpoint, which is the largest, is gone with the run.
  assert set(os.listdir(os.path.join(folder, 'a'))) == {
    '.lock',
    'log.txt',
    grid.EVALUATION_FILE,
  }


def test_a_cell_that_another_worker_trains_is_left_to_it(folder, monkeypatch):
  monkeypatch.setattr(grid, '_train', lambda *args: pytest.fail('trained'))
  with grid._claim(os.path.join(folder, 'claimed')) as mine:
    assert mine
    assert grid.work([cell('claimed')], folder) == []


def test_workers_are_processes_that_share_the_cells(
  tmp_path, capfd, monkeypatch
):
  for name, value in test_distributed.environment(8).items():
    monkeypatch.setenv(name, value)
  steps = {'train__num_steps': 2, 'optim__warmup_steps': 1}
  cells = [cell('one', **steps), cell('two', seed=1, **steps)]
  assert grid.run(cells, str(tmp_path / 'out'), workers=2) == []
  assert '2 workers' in capfd.readouterr().out
  with open(tmp_path / 'out' / grid.PLAN_FILE) as f:
    assert [c['name'] for c in json.load(f)] == ['one', 'two']


def test_a_signal_ends_the_workers_too(tmp_path, monkeypatch):
  class Worker:
    ended = 0

    def __init__(self, _):
      self.running = True

    def wait(self):
      if self.running:
        os.kill(os.getpid(), signal.SIGTERM)

    def kill(self):
      self.running = False
      Worker.ended += 1

  monkeypatch.setattr(subprocess, 'Popen', Worker)
  with pytest.raises(interruption.Interrupted):
    grid.run([cell('a'), cell('b')], str(tmp_path), workers=2)
  assert Worker.ended == 2


def test_bad_grids_are_refused(tmp_path):
  with pytest.raises(ValueError, match='the same name'):
    grid.run([cell('a'), cell('a')], str(tmp_path))
  with pytest.raises(KeyError, match='lerning_rate'):
    grid.run([cell('a', optim__lerning_rate=1.0)], str(tmp_path))


def test_all_cells_of_the_experiments_have_configs(tmp_path):
  experiment = real_clips_cells.Experiment(
    'DIR', 'split.json', 'TEXT', 'OUT', 2
  )
  cells = [c for tier in experiment.tiers().values() for c in tier]
  assert len({c.name for c in cells}) == len(cells)
  for one in (*cells, *stick_figure_study.cells()):
    one.make_config()
  # Every ablation changes what it says, and one thing alone.
  recipe = experiment.main(0, 0).changes
  for name in real_clips_cells.ABLATIONS:
    assert experiment.ablation(name, 0).changes != recipe, name


def test_tables_go_between_the_markers(tmp_path):
  path = tmp_path / 'doc.md'
  path.write_text('a\n<!-- table: x -->\nold\n<!-- end -->\nb\n')
  documents.put_into(str(path), {'x': ['1\\2', '3'], 'unknown': ['4']})
  assert path.read_text() == (
    'a\n<!-- table: x -->\n```\n1\\2\n3\n```\n<!-- end -->\nb\n'
  )


def test_the_study_draws_and_lists_its_ladder(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(stick_figure_study, 'VARIED', {'num_seen': (6, 8)})
  monkeypatch.setattr(
    stick_figure_study,
    'cell',
    lambda values, seed, described=False: cell('ab'[values['num_seen'] == 8]),
  )
  found = {
    'num_seen': [
      stick_figure_study.accuracies(folder, {'num_seen': n}) for n in (6, 8)
    ]
  }
  lines = stick_figure_study.table(found)
  assert len(lines) == 4 and 'true relatedness' in lines[0]
  one, two = tmp_path / '1.svg', tmp_path / '2.svg'
  for path in (one, two):
    stick_figure_study.draw(found, str(path))
  assert one.read_bytes() == two.read_bytes()
  assert b'seen classes' in one.read_bytes() or one.stat().st_size > 5000
