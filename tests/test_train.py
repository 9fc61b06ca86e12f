"""The training loop, whole, on a tiny stick-figure set."""

import json
import os

import jax
import numpy as np
import pytest

from tests import tiny
from zsar_jax import checkpointing, train
from zsar_jax import recognizer as recognizer_lib


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('run'))
  config = tiny.config()
  return config, workdir, train.train(config, workdir)


def params_of(workdir):
  recognizer = recognizer_lib.Recognizer.from_workdir(workdir)
  return jax.tree.map(np.asarray, recognizer._params)


def rows_of(results):
  return {(r['method'], r['metric']): r for r in results['rows']}


def test_results_hold_every_row_and_field(finished):
  config, workdir, _ = finished
  with open(os.path.join(workdir, 'results.json')) as f:
    results = json.load(f)
  assert results['schema_version'] == 1
  assert {'protocol', 'rows', 'config', 'versions', 'commit'} <= set(results)
  rows = rows_of(results)
  for method in ('transfer', 'nearest_name', 'fusion'):
    for metric in ('top1', 'top5', 'per_class', 'verb_accuracy'):
      row = rows[method, metric]
      assert 0 <= row['low'] <= row['value'] <= row['high'] <= 1
      assert row['n_classes'] == 12 and row['n_videos'] == 24
  assert rows['seen', 'seen_val_top1']['n_classes'] == 6
  for method in (
    'floor_verb_only',
    'control_permuted_names',
    'control_first_frame',
    'oracle_relatedness',
    'oracle_prototypes',
  ):
    assert (method, 'per_class') in rows


def test_metrics_are_written_as_json_lines(finished):
  _, workdir, _ = finished
  with open(os.path.join(workdir, 'metrics.jsonl')) as f:
    lines = [json.loads(line) for line in f]
  assert [line['step'] for line in lines if 'loss' in line] == [1, 2, 4, 6]
  for line in lines:
    assert all(np.isfinite(value) for value in line.values())
  for name in ('loss_visual', 'loss_contrast', 'loss_match', 'learning_rate'):
    assert name in lines[0]
  assert [line['step'] for line in lines if 'seen_val_top1' in line] == [3]


def test_started_again_it_says_that_it_is_finished(finished, capsys):
  config, workdir, results = finished
  again = train.train(config, workdir)
  assert 'is finished' in capsys.readouterr().out
  assert again == json.loads(json.dumps(results))


def test_a_workdir_of_another_config_is_refused(finished):
  config, workdir, _ = finished
  with config.unlocked():
    other = config.copy_and_resolve_references()
    other.optim.learning_rate = 0.5
  with pytest.raises(ValueError, match=r'optim\.learning_rate: .* -> 0\.5'):
    train.train(other, workdir)


def test_resuming_equals_an_uninterrupted_run(finished, tmp_path, monkeypatch):
  config, workdir, results = finished
  interrupted = str(tmp_path / 'interrupted')
  save = checkpointing.Checkpoints.save

  class Killed(Exception):
    pass

  def save_and_die(self, state, meta):
    save(self, state, meta)
    self.wait()
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(checkpointing.Checkpoints, 'save', save_and_die)
    with pytest.raises(Killed):
      train.train(config, interrupted)
  with checkpointing.open_existing(interrupted) as checkpoints:
    assert 0 < checkpoints.latest_step() < config.train.num_steps

  resumed = train.train(config, interrupted)
  jax.tree.map(
    np.testing.assert_array_equal, params_of(workdir), params_of(interrupted)
  )
  assert resumed['rows'] == results['rows']
