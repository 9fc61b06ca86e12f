"""Tests `evaluate` on a trained run, and on scores of others."""

import csv
import dataclasses
import glob
import json
import os
import shutil

import numpy as np
import pytest

from tests import tiny
from tests.commands import read, run
from tests.pretrained import tiny_weights
from zsar_jax import bank, evaluate, main
from zsar_jax.evaluation import results, score_files
from zsar_jax.inference import prototype_bank


def test_second_evaluation_reads_no_video(workdir, capsys, monkeypatch):
  first = read(os.path.join(workdir, 'results.json'))
  from zsar_jax.data import clip_reader

  def no_video(*_):
    raise AssertionError('a video was read')

  monkeypatch.setattr(clip_reader.ClipReader, 'eval_example', no_video)
  assert run(evaluate, f'--workdir={workdir}') == 0
  (path,) = glob.glob(f'{workdir}/evaluations/*/results.json')
  assert f'written to {path}' in capsys.readouterr().out
  again = read(path)
  # Bit-equal.
  assert again['rows'] == first['rows'] and again['paired'] == first['paired']
  assert again['facts'] == first['facts']


def test_predictions_are_the_scores_behind_the_rows(workdir):
  first = read(os.path.join(workdir, 'results.json'))
  scores = score_files.read_scores(f'{workdir}/predictions.safetensors')
  assert scores.protocol_hash == first['protocol_hash']
  labels = np.array([scores.class_names.index(x) for x in scores.labels])
  right = scores.scores['transfer'].argmax(1) == labels
  row = next(
    r
    for r in first['rows']
    if (r['method'], r['metric']) == ('transfer', 'top1')
  )
  assert row['value'] == pytest.approx(right.mean())


def test_outputs_are_never_replaced_unasked(workdir, tmp_path, capsys):
  output = tmp_path / 'results.json'
  flags = f'--workdir={workdir}', f'--output={output}'
  assert run(evaluate, *flags) == 0
  assert (tmp_path / 'predictions.safetensors').exists()
  assert run(evaluate, *flags) == 1
  assert 'already exists' in capsys.readouterr().err
  assert run(evaluate, *flags, '--overwrite') == 0
  # Found before any work, even before the workdir is read.
  assert run(evaluate, '--workdir=nowhere', f'--report={tmp_path}') == 1
  assert 'is a folder' in capsys.readouterr().err


@pytest.fixture(scope='module')
def dataset(workdir):
  """The prepared dataset of the run."""
  pattern = f'{tiny.DATA_DIR}/stick_figures/**/metadata.json'
  return os.path.dirname(glob.glob(pattern, recursive=True)[0])


def test_one_split_of_a_file_or_all(dataset, workdir, tmp_path, capsys):
  own = read(f'{dataset}/metadata.json')
  seen, unseen = own['seen_classes'], own['unseen_classes']
  halves = [{'seen': seen, 'unseen': unseen[i::2]} for i in range(2)]
  split = tmp_path / 'halves.json'
  split.write_text(json.dumps({'splits': halves}))
  clip = tiny_weights.clip_config()
  clip['text_config']['max_position_embeddings'] = 77
  weights = tiny_weights.write_clip(tmp_path / 'clip', clip)
  measure = lambda source, index: run(
    evaluate,
    source,
    f'--dataset={dataset}',
    f'--class_split={split}',
    f'--class_split_index={index}',
    f'--output={tmp_path}/{index}/results.json',
    '--overwrite',
  )
  top1 = {}
  for index in (0, 1, 'all'):
    assert measure(f'--pretrained={weights}', index) == 0
    content = read(f'{tmp_path}/{index}/results.json')
    said, protocol = capsys.readouterr().out, content['protocol']
    line = next(x for x in said.splitlines() if x.startswith('protocol: '))
    line = line.removeprefix(f'protocol: {protocol} ')
    hashed = content['protocol_hash']
    part = '' if index == 'all' else f', split {index} of 2'
    assert line == f'{hashed}{part}'
    (top1[index],) = (
      r
      for r in content['rows']
      if (r['method'], r['metric']) == ('nearest_name', 'top1')
    )
  both = [top1[i]['value'] for i in range(2)]
  assert top1['all']['value'] == pytest.approx(np.mean(both))
  assert top1['all']['std'] == pytest.approx(np.std(both))
  mean, sd = 100 * np.mean(both), 100 * np.std(both)
  printed = f'top-1 over 2 splits: nearest_name {mean:.1f} +- {sd:.1f}'
  assert f'as papers print it, {printed}' in said
  # The prototypes of a run are of a split's seen classes.
  assert measure(f'--workdir={workdir}', 'all') == 1
  assert 'give an index, 0 to 1' in capsys.readouterr().err
  flags = f'--workdir={workdir}', '--class_split_index=1'
  assert run(evaluate, *flags) == 1
  assert 'index needs --class_split' in capsys.readouterr().err


def test_the_model_that_ships_is_not_written_into(
  dataset, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  split = tmp_path / 'split.json'
  names = read(f'{dataset}/metadata.json')
  keys = 'seen', 'unseen'
  split.write_text(json.dumps({k: names[f'{k}_classes'] for k in keys}))
  flags = (
    '--workdir=stick_figures',
    f'--dataset={dataset}',
    f'--class_split={split}',
    '--nomotion_controls',
  )
  for entry, argv in ((evaluate, flags), (bank, ('build', flags[0]))):
    assert run(entry, *argv) == 1
    assert '--output' in capsys.readouterr().err
  assert os.listdir() == ['split.json']
  assert run(evaluate, *flags, '--output=out/r.json') == 0
  assert sorted(os.listdir()) == ['out', 'split.json']
  assert sorted(os.listdir('out')) == [
    'embeddings',
    'predictions.safetensors',
    'r.json',
  ]
  for output in ('out/2.json', 'stick_figures/2.json'):
    assert run(evaluate, *flags, f'--output={output}', '--inner=x') == 1
    assert 'stick_figures is no run' in capsys.readouterr().err


def test_outputs_that_cannot_be_written_are_found_first(tmp_path):
  path = tmp_path / 'file'
  results.check_output(str(path))
  assert not path.exists() and not list(tmp_path.iterdir())
  path.write_text('x')
  with pytest.raises(FileExistsError, match='--overwrite'):
    results.check_output(str(path))
  results.check_output(str(path), overwrite=True)
  assert path.read_text() == 'x'
  with pytest.raises(OSError):
    results.check_output(str(path / 'below'))


def test_report_is_written(workdir, tmp_path):
  path = tmp_path / 'report.html'
  assert run(evaluate, f'--workdir={workdir}', f'--report={path}') == 0
  html = path.read_text()
  assert html.count('data:image/jpeg;base64,') > 3  # thumbnails
  assert '<section id="gzsl">' in html


def test_runs_are_compared_by_their_predictions(workdir, tmp_path, capsys):
  a = f'{workdir}/predictions.safetensors'
  b = str(tmp_path / 'b.safetensors')
  scores = score_files.read_scores(a)
  fusion = {'transfer': scores.scores['fusion']}
  score_files.write_scores(dataclasses.replace(scores, scores=fusion), b)
  assert run(evaluate, f'--compare={a},{b}') == 0
  out = capsys.readouterr().out
  rows = {
    (r['method'], r['metric']): r['value']
    for r in read(f'{workdir}/results.json')['rows']
  }
  gain = rows['fusion', 'per_class'] - rows['transfer', 'per_class']
  assert f'{100 * gain:+5.1f}' in out and 'p (Holm)' in out
  assert run(evaluate, f'--compare={a}') == 1
  assert 'two files' in capsys.readouterr().err


def test_scores_of_others_give_the_same_rows(workdir, tmp_path, capsys):
  path = f'{workdir}/predictions.safetensors'
  scores = score_files.read_scores(path)
  labels = tmp_path / 'labels.csv'
  with open(labels, 'w', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(['id', 'label', 'group'])
    writer.writerows(
      zip(scores.video_ids, scores.labels, scores.groups, strict=True)
    )
  output = tmp_path / 'out' / 'results.json'
  mteb = tmp_path / 'mteb.json'
  code = run(
    evaluate,
    f'--scores={path}',
    f'--labels={labels}',
    f'--output={output}',
    f'--mteb={mteb}',
  )
  assert code == 0
  (in_mteb,) = read(mteb)['scores']['test']
  ours = {
    (r['method'], r['metric']): r
    for r in read(f'{workdir}/results.json')['rows']
  }
  main = ours['transfer', 'top1']['value']
  assert in_mteb['main_score'] == pytest.approx(main)
  for row in read(output)['rows']:
    theirs = ours[row['method'], row['metric']]
    for key in ('value', 'low', 'high', 'n_videos'):
      assert row[key] == pytest.approx(theirs[key]), (row, key)
  assert run(evaluate, f'--scores={path}') == 1
  assert '--labels is missing' in capsys.readouterr().err
  assert run(evaluate, f'--scores={path}', f'--workdir={workdir}') == 1
  assert 'give one of' in capsys.readouterr().err


def test_settings_are_chosen_on_inner_draws(
  workdir, tiny_run, tmp_path, capsys
):
  inner = []
  for draw in range(2):
    inner.append(str(tmp_path / f'inner{draw}'))
    code = run(
      main,
      *tiny.flags(),
      f'--workdir={inner[-1]}',
      f'--config.data.inner_draw={draw}',
      '--config.data.inner_share=0.5',
    )
    assert code == 0
  run_dir = tmp_path / 'run'
  shutil.copytree(tiny_run, run_dir)
  code = run(evaluate, f'--workdir={run_dir}', f'--inner={",".join(inner)}')
  assert code == 0, capsys.readouterr().err
  choice = read(run_dir / 'choice.json')
  assert all('#inner' in name for name in choice['chosen_on'])
  assert len(choice['compared']) > 3
  # From now on results and predictions follow it, and say so.
  assert run(evaluate, f'--workdir={run_dir}') == 0
  paths = glob.glob(f'{run_dir}/evaluations/*/results.json')
  content = read(paths[0])
  assert content['settings_from'] == choice['chosen_on']
  made = prototype_bank.load_bank(str(run_dir / 'bank.safetensors'))
  assert made.calibration['measured_on'].startswith('pseudo-unseen classes')
  # A run that is none of its inner draws is refused.
  assert run(evaluate, f'--workdir={run_dir}', f'--inner={workdir}') == 1
  assert 'is no inner draw' in capsys.readouterr().err
  assert run(evaluate, f'--workdir={inner[0]}', f'--inner={inner[1]}') == 1
  assert 'was not trained on' in capsys.readouterr().err
