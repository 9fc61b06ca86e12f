"""Tests that files of earlier commits can be read, used and resumed.

README.md beside this file says what the archives hold and how they are made.
"""

import csv
import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from tests import tiny
import zsar_jax
from zsar_jax import bank, cli, evaluate, main, predict, prepare, protocols
from zsar_jax.data import clip_reader
from zsar_jax.data.datasets import records
from zsar_jax.evaluation import score_files
from zsar_jax.inference import prototype_bank

_HERE = pathlib.Path(__file__).parent
_COMMITS = ('926db35', '16af5b9')
_CLOSE = 1e-5
# After two steps the names' embeddings are close together, and the ridge's
# weights make their rounding a hundred times larger.
_ROUGHER = {'transfer_ridge': 1e-3}


@pytest.fixture(scope='module', params=_COMMITS)
def archive(request, tmp_path_factory):
  """Folder of what a commit made; not to be changed."""
  folder = tmp_path_factory.mktemp(request.param)
  with tarfile.open(_HERE / 'made.tar.xz') as f:
    f.extractall(folder, filter='data')
  return folder / request.param


@pytest.fixture
def made(archive, tmp_path, monkeypatch):
  """A copy of it, as the folder that relative paths start from."""
  folder = tmp_path / 'made'
  shutil.copytree(archive, folder)
  monkeypatch.chdir(folder)
  return folder


def run(entry, *argv):
  assert cli.exit_code(entry.main, [entry.__name__, *map(str, argv)]) == 0


def read(path):
  return json.loads(pathlib.Path(path).read_text())


def rows(content):
  return {(row['method'], row['metric']): row for row in content['rows']}


def check_same_rows(stored, now):
  """Checks that a new evaluation has the same rows and values as the old."""
  for key in ('protocol', 'protocol_hash', 'step'):
    assert now[key] == stored[key]
  stored, now = rows(stored), rows(now)
  assert stored
  for key, row in stored.items():
    for field, value in row.items():
      if isinstance(value, float):
        value = pytest.approx(value, abs=_CLOSE)
      assert now[key][field] == value, (key, field)


def check_same_scores(stored, now):
  stored, now = map(score_files.read_scores, (stored, now))
  for field in ('video_ids', 'labels', 'groups', 'class_names'):
    assert getattr(now, field) == getattr(stored, field)
  assert stored.scores
  for method, scores in stored.scores.items():
    close = _ROUGHER.get(method, _CLOSE)
    np.testing.assert_allclose(
      now.scores[method], scores, atol=close, err_msg=method
    )


def check_same_bank(stored, now):
  stored, now = map(prototype_bank.load_bank, (stored, now))
  assert now.seen_classes == stored.seen_classes
  for field in ('seen_prototypes', 'class_embeddings', 'counts'):
    np.testing.assert_allclose(
      getattr(now, field), getattr(stored, field), atol=_CLOSE, err_msg=field
    )


def test_its_embedding_cache_spares_reading_the_videos(made, monkeypatch):
  def no_video(*_):
    raise AssertionError('a video was read')

  monkeypatch.setattr(clip_reader.ClipReader, 'eval_example', no_video)
  run(evaluate, '--workdir=run', '--output=out/results.json')
  check_same_rows(read('run/results.json'), read('out/results.json'))
  check_same_scores(
    'run/predictions.safetensors', 'out/predictions.safetensors'
  )


def test_its_checkpoint_and_dataset_give_the_same_scores(made):
  shutil.rmtree('run/embeddings')
  run(evaluate, '--workdir=run', '--output=out/results.json')
  check_same_rows(read('run/results.json'), read('out/results.json'))
  check_same_scores(
    'run/predictions.safetensors', 'out/predictions.safetensors'
  )
  run(bank, 'build', '--workdir=run', '--output=built.safetensors')
  check_same_bank('run/bank.safetensors', 'built.safetensors')


def test_an_interrupted_run_goes_on_to_the_same_end(made):
  # What it had written when its first checkpoint was there.
  started = made / 'started'
  (started / 'checkpoints').mkdir(parents=True)
  shutil.copytree('run/checkpoints/1', started / 'checkpoints/1')
  shutil.copy('run/config.json', started)
  flags = [f'--config={tiny.ROOT / "configs/demo.py"}:smoke']
  for change in (_HERE / 'flags.txt').read_text().split():
    flags.append(f'--config.{change}')
  run(main, *flags, '--workdir=started')
  losses = [read_losses(f'{name}/metrics.jsonl') for name in ('run', 'started')]
  assert losses[0].keys() == {1, 2} and losses[1].keys() == {2}
  assert losses[1][2] == pytest.approx(losses[0][2], abs=_CLOSE)
  check_same_rows(read('run/results.json'), read('started/results.json'))
  for name in ('predictions', 'bank'):
    check = {'predictions': check_same_scores, 'bank': check_same_bank}[name]
    check(f'run/{name}.safetensors', f'started/{name}.safetensors')
  # A finished one is left as it is.
  before = pathlib.Path('run/results.json').read_bytes()
  run(main, *flags, '--workdir=run')
  assert pathlib.Path('run/results.json').read_bytes() == before


def read_losses(path):
  lines = map(json.loads, pathlib.Path(path).read_text().splitlines())
  return {x['step']: x['loss'] for x in lines if 'loss' in x}


@pytest.mark.parametrize('workdir', ['run', 'exported'])
def test_videos_are_ranked_as_they_were_scored(made, capsys, workdir):
  scores = score_files.read_scores('run/predictions.safetensors')
  name = scores.class_names[3]
  video = f'{workdir}/examples/{name.replace(" ", "_")}.mp4'
  capsys.readouterr()
  run(
    predict,
    f'--workdir={workdir}',
    f'--video={video}',
    f'--classes={",".join(scores.class_names)}',
    f'--top_k={len(scores.class_names)}',
    '--json',
  )
  said = json.loads(capsys.readouterr().out)
  ranked = {r['name']: r['score'] for r in said['ranking']}
  row = list(scores.labels).index(name)
  np.testing.assert_allclose(
    [ranked[c] for c in scores.class_names],
    scores.scores['transfer'][row],
    atol=_CLOSE,
  )


def test_its_bank_is_shown_and_takes_more_classes(made, capsys):
  run(bank, 'show', 'run/bank.safetensors')
  assert 'waving the left arm slowly' in capsys.readouterr().out
  run(
    bank,
    'add',
    'run/bank.safetensors',
    '--classes=juggling,rowing',
    '--output=more.safetensors',
    '--workdir=run',
  )
  assert prototype_bank.load_bank('more.safetensors').added_classes == (
    'juggling',
    'rowing',
  )
  check_same_bank('run/bank.safetensors', 'more.safetensors')
  model = zsar_jax.load('exported')
  assert (
    model.bank.seen_classes
    == prototype_bank.load_bank('run/bank.safetensors').seen_classes
  )


def test_an_export_today_is_the_export_of_then(made):
  run(bank, 'export', '--workdir=run', '--output=again')
  stored, now = (
    safetensors_numpy.load_file(f'{name}/model.safetensors')
    for name in ('exported', 'again')
  )
  assert now.keys() == stored.keys()
  for name, array in stored.items():
    np.testing.assert_array_equal(now[name], array, err_msg=name)
  check_same_bank('exported/bank.safetensors', 'again/bank.safetensors')


def test_its_results_and_scores_are_compared_with_others(made, archive, capsys):
  row = rows(read('run/results.json'))['transfer', 'top1']
  for commit in _COMMITS:
    other = archive.parent / commit / 'run'
    run(protocols, 'compare', 'run/results.json', other / 'results.json')
    out = capsys.readouterr().out
    assert out.startswith('protocol: stick_figures')
    assert f'{100 * row["value"]:5.1f}' in out and '+0.0' in out
    files = [f'{x}/predictions.safetensors' for x in ('run', other)]
    run(evaluate, f'--compare={",".join(files)}')
    assert 'p (Holm)' in capsys.readouterr().out


def test_its_score_file_gives_the_rows_of_its_results(made):
  run(
    evaluate,
    '--scores=run/predictions.safetensors',
    '--labels=labels.csv',
    '--output=out/results.json',
  )
  stored = rows(read('run/results.json'))
  now = rows(read('out/results.json'))
  assert ('transfer', 'top1') in now
  for key, row in now.items():
    for field in ('value', 'low', 'high', 'n_videos', 'n_classes'):
      assert row[field] == pytest.approx(stored[key][field]), (key, field)
  with open('labels.csv', newline='') as f:
    assert len(list(csv.DictReader(f))) == row['n_videos']


def test_its_prepared_dataset_is_not_prepared_again(made, capsys):
  (folder,) = (made / 'data/stick_figures').glob('*/*')
  before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
  run(
    prepare,
    '--dataset=stick_figures',
    '--data_dir=data',
    *(
      f'--option={option}'
      for option in (
        'num_seen=4',
        'clips_per_class=2',
        'test_clips_per_class=1',
        'nuisance=0.1',
        'size=16',
      )
    ),
  )
  assert 'already prepared' in capsys.readouterr().out
  assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before
  metadata = records.read_metadata(folder)
  source = records.open_split(str(folder), 'test')
  name = metadata['videos']['test']['label'][0]
  example = made / 'run/examples' / f'{name.replace(" ", "_")}.mp4'
  assert source.read_file(0) == example.read_bytes()
