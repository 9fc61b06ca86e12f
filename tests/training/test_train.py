"""Tests the whole training loop on tiny stick figures."""

import dataclasses
import glob
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from tests import tiny, videos
from zsar_jax.data import datasets
from zsar_jax.inference import evaluate_run, saved_checkpoints, saved_encoders
from zsar_jax.parallel import hardware
from zsar_jax.system import interruption
from zsar_jax.training import (
  checkpointing,
  progress,
  train,
  train_loop,
  train_step,
)


def augmented(**changes):
  """The tiny config, augmented: a resumed run must draw the same again.

  Tests below change what leaves its programs as they are: those are compiled
  for `finished` and not again.
  """
  return tiny.config(
    augmentation__mixup_alpha=0.8,
    augmentation__cutmix_alpha=1.0,
    augmentation__colour_jitter__brightness=0.4,
    augmentation__randaugment_layers=1,
    **changes,
  )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('run'))
  config = augmented()
  return config, workdir, train.train(config, workdir)


def params_of(workdir):
  recognizer = saved_encoders.load(workdir)
  return jax.tree.map(np.asarray, recognizer.params)


def rows_of(results):
  return {(r['method'], r['metric']): r for r in results['rows']}


def test_results_hold_every_row_and_field(finished):
  config, workdir, _ = finished
  with open(os.path.join(workdir, 'results.json')) as f:
    results = json.load(f)
  assert results['schema_version'] == 3
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
    'control_shuffled_frames',
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
  for line in lines:
    if 'loss' in line:
      assert line['data_wait_ms'] >= 0 and 0 <= line['data_wait_share'] <= 1
      assert line['steps_per_second'] > 0 and line['failed_records'] == 0
  assert [line['step'] for line in lines if 'seen_val_top1' in line] == [3]


def test_started_again_it_says_that_it_is_finished(finished, capsys):
  config, workdir, results = finished
  again = train.train(config, workdir)
  assert 'is finished' in capsys.readouterr().out
  assert again == json.loads(json.dumps(results))


def test_a_finished_run_says_that_its_checkpoint_is_damaged(
  finished, tmp_path, capsys
):
  config, workdir, _ = finished
  assert 'damaged' not in capsys.readouterr().out
  copy = tmp_path / 'run'
  shutil.copytree(workdir, copy)
  checkpoints = copy / 'checkpoints'
  newest = max(checkpoints.iterdir(), key=lambda path: int(path.name))
  (newest / 'meta/metadata').write_bytes(b'')
  train.train(config, str(copy))
  out = capsys.readouterr().out
  assert 'is finished' in out
  assert f'checkpoint of step {newest.name} is damaged (meta/metadata' in out
  assert f'remove {copy}/results.json and start again' in out


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
  with saved_checkpoints.open_existing(interrupted) as checkpoints:
    assert 0 < checkpoints.latest_step() < config.train.num_steps

  resumed = train.train(config, interrupted)
  jax.tree.map(
    np.testing.assert_array_equal, params_of(workdir), params_of(interrupted)
  )
  assert resumed['rows'] == results['rows']


def test_a_damaged_checkpoint_costs_its_steps_alone(finished, tmp_path, capsys):
  config, workdir, results = finished
  run = tmp_path / 'run'
  shutil.copytree(workdir, run)
  os.remove(run / 'results.json')
  # The numbers lie in the process's own database or in the one that orbax
  # merges it into, as orbax finds it best.
  for path in (run / 'checkpoints' / '6' / 'params').rglob('d/*'):
    os.truncate(path, path.stat().st_size // 2)
  again = train.train(config, str(run))
  out = capsys.readouterr().out
  assert 'warning: the checkpoint of step 6 is damaged (params/' in out
  assert 'resuming from step 3' in out
  assert (run / 'damaged_checkpoints' / '6').is_dir()
  jax.tree.map(
    np.testing.assert_array_equal, params_of(workdir), params_of(str(run))
  )
  assert again['rows'] == results['rows']


def protocol_like(monkeypatch, **changes):
  """Makes training use the tiny protocol with these fields changed."""
  make = evaluate_run.make_protocol
  monkeypatch.setattr(
    evaluate_run,
    'make_protocol',
    lambda config: dataclasses.replace(make(config), **changes),
  )


def test_without_unseen_classes_only_the_seen_row_is_printed(tmp_path, capsys):
  config = augmented(augmentation__mirror=True, data__train_only=True)
  content = train.train(config, str(tmp_path))
  assert [row['metric'] for row in content['rows']] == ['seen_val_top1']
  assert not (tmp_path / 'examples').exists()
  out = capsys.readouterr().out
  assert 'no unseen classes' in out and 'zsar predict' not in out
  # Of six classes some have a side.
  assert 'never mirrored, because their names have a side: [' in out


def test_mixing_two_classes_leaves_no_wrong_one(tmp_path, monkeypatch):
  config = tiny.config(augmentation__cutmix_alpha=1.0)
  seen = evaluate_run.make_protocol(config).seen_classes
  protocol_like(monkeypatch, seen_classes=seen[:2])
  with pytest.raises(ValueError, match='at least three, since clips are mix'):
    train.train(config, str(tmp_path))
  assert not os.listdir(tmp_path)


def test_a_profile_and_utilisation_where_the_device_is_known(
  tmp_path, monkeypatch
):
  # As if this CPU were listed, with a peak of 10^9 operations a second.
  listed = hardware.Device('this one', 1e9, 1e9, 1e9)
  monkeypatch.setattr(hardware, 'find', lambda kind: listed)
  config = tiny.config(
    train__num_steps=8,
    train__log_every=1,
    train__profile_steps=2,
    data__train_only=True,
  )
  train.train(config, str(tmp_path))
  with open(tmp_path / 'metrics.jsonl') as f:
    lines = [m for m in map(json.loads, f) if 'loss' in m]
  for line in lines:
    seconds = line['step_ms'] / 1000
    flops = line['mfu'] * seconds * 1e9 * jax.device_count()
    # The same model operations, whatever the time.
    assert flops == pytest.approx(
      lines[0]['mfu'] * lines[0]['step_ms'] * 1e6 * jax.device_count()
    )
    assert line['clips_per_second'] == pytest.approx(8 / seconds)
    assert line['host_memory_gib'] > 0.1
  assert glob.glob(str(tmp_path / 'profile/**/*.xplane.pb'), recursive=True)


def test_a_batch_that_does_not_divide_is_refused_early(tmp_path):
  for changes in (
    {'train__batch_size': 12},
    {'train__batch_size': 16, 'train__accumulate': 4},
    {'train__batch_size': 16, 'train__fusion_chunks': 4},
  ):
    with pytest.raises(ValueError, match='does not divide over 8 batch shards'):
      train.train(tiny.config(**changes), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_prompts_take_turns():
  texts = [{'ids': np.full((2, 3), i)} for i in range(3)]
  turns = [train_loop.text_of_step(texts, step) for step in range(7)]
  assert [int(text['ids'][0, 0]) for text in turns] == [0, 1, 2, 0, 1, 2, 0]
  assert train_loop.text_of_step(texts[1], 5) is texts[1]


def test_failed_records_are_counted(tmp_path, monkeypatch):
  batches = train_loop.input_pipeline.train_batches

  def failing(*args, **kwargs):
    for number, batch in enumerate(batches(*args, **kwargs)):
      yield {**batch, 'num_failed': batch['num_failed'] * 0 + (number == 1)}

  monkeypatch.setattr(train_loop.input_pipeline, 'train_batches', failing)
  config = augmented(data__train_only=True, train__log_every=1)
  train.train(config, str(tmp_path))
  with open(tmp_path / 'metrics.jsonl') as f:
    lines = [json.loads(line) for line in f]
  counts = [line['failed_records'] for line in lines if 'loss' in line]
  # The second batch has one in each of its eight examples.
  assert counts == [0] + 5 * [8]


def test_clips_finer_than_the_stored_frames_are_warned_of(tmp_path, capsys):
  folder = tmp_path / 'v'
  # As many classes as the other runs have: the same programs.
  names = 'waving', 'rowing', 'boxing', 'jumping', 'running', 'walking'
  for name in names:
    for i in range(2):
      path = folder / name / f'{i}.mp4'
      path.parent.mkdir(parents=True, exist_ok=True)
      videos.write_video(path, videos.numbered_frames(12, 32, 32))
  builder = datasets.make_builder(
    'video_folder', str(tmp_path / 'data'), str(folder), kind='frames'
  )
  datasets.prepare(builder)
  config = augmented(
    data__dataset_dir=str(builder.data_dir),
    data__train_only=True,
    preprocessing__sampling='dense',
    preprocessing__frame_stride=2,
    preprocessing__sample_fps=30.0,
  )
  train.train(config, str(tmp_path / 'run'))
  out = capsys.readouterr().out
  assert 'stores a frame every 0.1 s and clips take one every 0.0667 s' in out


def test_told_to_stop_it_saves_and_goes_on_from_there(
  finished, tmp_path, monkeypatch
):
  config, workdir, results = finished
  stopped = str(tmp_path / 'stopped')
  fetch = progress.Progress.fetch
  steps = []

  def terminate_at_the_fifth(self, batches, busy):
    steps.append(0)
    if len(steps) == 5:
      os.kill(os.getpid(), signal.SIGTERM)
    return fetch(self, batches, busy)

  with monkeypatch.context() as patch:
    patch.setattr(progress.Progress, 'fetch', terminate_at_the_fifth)
    with pytest.raises(interruption.Interrupted, match='at step 5 of 6'):
      train.train(config, stopped)
  with saved_checkpoints.open_existing(stopped) as checkpoints:
    assert checkpoints.latest_step() == 5
  resumed = train.train(config, stopped)
  jax.tree.map(
    np.testing.assert_array_equal, params_of(workdir), params_of(stopped)
  )
  assert resumed['rows'] == results['rows']


def test_two_runs_never_share_a_workdir(tmp_path):
  path = str(tmp_path / 'run')
  with checkpointing.lock_workdir(path):
    with (
      pytest.raises(ValueError, match=f'in use by process {os.getpid()}'),
      checkpointing.lock_workdir(path),
    ):
      pass
    with pytest.raises(ValueError, match='in use by process'):
      train.train(tiny.config(), path)
  with checkpointing.lock_workdir(path):
    pass  # free again


def poison_from(monkeypatch, first):
  """Makes the parameters of all steps from this one on no numbers."""
  make = train_step.make_train_step

  def make_poisoned(*args, **kwargs):
    healthy = make(*args, **kwargs)

    def step(state, batch, text):
      if int(state.step) >= first:
        params = jax.tree.map(lambda x: x * np.nan, state.params)
        state = dataclasses.replace(state, params=params)
      return healthy(state, batch, text)

    return step

  monkeypatch.setattr(train_step, 'make_train_step', make_poisoned)


def test_too_many_skipped_updates_stop_the_run(tmp_path, capsys, monkeypatch):
  poison_from(monkeypatch, 0)
  config = augmented(train__max_skipped=1)
  with pytest.raises(ValueError, match='more than train.max_skipped=1') as e:
    train.train(config, str(tmp_path / 'run'))
  assert 'on the records [' in str(e.value)
  assert 'there is no checkpoint yet' in str(e.value)
  assert 'the update is skipped (1 so far' in capsys.readouterr().out


def test_the_last_good_checkpoint_is_named(tmp_path, monkeypatch):
  poison_from(monkeypatch, 4)  # the checkpoint is of step 3
  config = augmented(train__max_skipped=0)
  with pytest.raises(ValueError, match='the newest checkpoint, of step 3, is'):
    train.train(config, str(tmp_path / 'run'))


def test_an_average_is_what_is_evaluated(averaged, tmp_path):
  workdir = shutil.copytree(averaged, tmp_path / 'run')
  with open(workdir / 'results.json') as f:
    results = json.load(f)
  from zsar_jax import evaluate

  assert evaluate.main(['evaluate', f'--workdir={workdir}']) is None
  (path,) = glob.glob(f'{workdir}/evaluations/*/results.json')
  with open(path) as f:
    again = json.load(f)
  assert again['weights_hash'] == results['weights_hash']
  assert again['rows'] == results['rows']
