"""Tests models as plain files, and the shipped model."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

from tests import commands, tiny, videos
import zsar_jax
from zsar_jax import bank, predict
from zsar_jax.inference import (
  model_builder,
  model_files,
  prototype_bank,
  public_folders,
  saved_checkpoints,
  saved_encoders,
  starts,
)

NAME = 'stick_figures'


@pytest.fixture(scope='module')
def run(averaged):
  return averaged


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('exported') / 'model')
  bank.main(['bank', 'export', f'--workdir={run}', f'--output={folder}'])
  return folder


def test_what_is_exported_is_the_model(run, exported, tmp_path):
  assert sorted(os.listdir(exported)) == [
    'README.md',
    'bank.safetensors',
    'examples',
    'model.json',
    'model.safetensors',
    'results.json',
  ]
  path = str(videos.write_video(tmp_path / 'v.mp4', videos.numbered_frames(9)))
  answers = []
  for folder in (run, exported):
    model = zsar_jax.load(folder).add_classes(['juggling', 'rowing'])
    ranking = model.predict(path).ranking
    answers.append([(r.name, r.score, r.match_logit) for r in ranking])
  assert answers[0] == answers[1]
  hashes = {saved_encoders.load(f).weights_hash for f in (run, exported)}
  assert len(hashes) == 1
  # No path of this machine goes with it.
  text = open(os.path.join(exported, 'model.json')).read()
  assert tiny.DATA_DIR not in text


def test_an_output_that_is_there_is_not_mixed_with(run, exported):
  with pytest.raises(FileExistsError):
    bank.main(['bank', 'export', f'--workdir={run}', f'--output={exported}'])
  with pytest.raises(ValueError, match='export needs --workdir'):
    bank.main(['bank', 'export', f'--output={exported}x'])


def spoilt(exported, tmp_path, change):
  folder = str(tmp_path / 'model')
  shutil.copytree(exported, folder)
  change(folder)
  return folder


def cut_weights(folder):
  path = os.path.join(folder, 'model.safetensors')
  os.truncate(path, os.path.getsize(path) // 2)


def drop_weights(folder):
  os.remove(os.path.join(folder, 'model.safetensors'))


def other_shape(folder):
  path = os.path.join(folder, 'model.safetensors')
  flat = safetensors.numpy.load_file(path)
  flat['class_centres'] = flat['class_centres'][:-1]
  safetensors.numpy.save_file(flat, path)


def other_depth(folder):
  path = os.path.join(folder, 'model.json')
  with open(path) as f:
    meta = json.load(f)
  meta['config']['model']['text']['depth'] += 1
  with open(path, 'w') as f:
    json.dump(meta, f)


def no_json(folder):
  with open(os.path.join(folder, 'model.json'), 'w') as f:
    f.write('{')


def no_vocabulary(folder):
  path = os.path.join(folder, 'model.json')
  with open(path) as f:
    meta = json.load(f)
  del meta['vocabulary']
  with open(path, 'w') as f:
    json.dump(meta, f)


@pytest.mark.parametrize(
  'change,error,message',
  [
    (cut_weights, ValueError, 'model.safetensors is damaged'),
    (drop_weights, FileNotFoundError, 'model.safetensors is missing'),
    (other_shape, ValueError, 'class_centres.* do not fit its config'),
    (other_depth, ValueError, 'text_encoder.* do not fit its config'),
    (no_json, ValueError, 'model.json is not JSON'),
    (no_vocabulary, ValueError, r"lacks the keys \['vocabulary'\]"),
  ],
)
def test_spoilt_files_are_refused(exported, tmp_path, change, error, message):
  with pytest.raises(error, match=message):
    zsar_jax.load(spoilt(exported, tmp_path, change))


def test_shapes_are_traced_only_where_files_were_changed(
  exported, tmp_path, monkeypatch
):
  traced = []
  shapes = model_builder.parameter_shapes
  monkeypatch.setattr(
    model_builder,
    'parameter_shapes',
    lambda *args: traced.append(args) or shapes(*args),
  )
  for folder in (exported, NAME):
    zsar_jax.load(folder)
  assert not traced

  def of_an_earlier_version(folder):
    path = os.path.join(folder, 'model.json')
    with open(path) as f:
      meta = json.load(f)
    del meta['digest']
    with open(path, 'w') as f:
      json.dump(meta, f)

  zsar_jax.load(spoilt(exported, tmp_path, of_an_earlier_version))
  assert len(traced) == 1


def test_scalars_come_back_as_scalars(tmp_path):
  params = {'a': {'b': np.float32(2.5)}, 'c': np.arange(6.0).reshape(2, 3).T}
  meta = dict(config={}, vocabulary=[], seen_classes=[], step=3)
  model_files.write(str(tmp_path), params, meta)
  again, read = model_files.read(str(tmp_path))
  assert again['a']['b'].shape == () and again['a']['b'] == 2.5
  np.testing.assert_array_equal(again['c'], params['c'])
  assert read == {**meta, 'digest': read['digest']}


def test_the_model_that_ships_knows_classes_it_never_saw(tmp_path, capsys):
  assert model_files.shipped() == [NAME]
  folder = model_files.resolve(NAME)
  size = sum(
    os.path.getsize(os.path.join(at, name))
    for at, _, names in os.walk(folder)
    for name in names
  )
  assert size < 6e6
  examples = sorted(os.listdir(os.path.join(folder, 'examples')))
  names = [name.removesuffix('.mp4').replace('_', ' ') for name in examples]
  model = zsar_jax.load(NAME)
  assert not set(names) & set(model.bank.seen_classes)
  model.add_classes(names)
  paths = [os.path.join(folder, 'examples', name) for name in examples]
  answers = [p.ranking[0].name for p in model.predict_many(paths)]
  right = sum(a == b for a, b in zip(answers, names, strict=True))
  # One clip of each class: chance is one of twelve.
  assert right >= 8, list(zip(answers, names, strict=True))
  # It warns about videos that are no drawings.
  own = videos.write_video(tmp_path / 'own.mp4', videos.numbered_frames(9))
  predict.main(
    [
      'predict',
      f'--workdir={NAME}',
      f'--video={own}',
      f'--classes={",".join(names)}',
    ]
  )
  assert 'trained on rendered stick figures alone' in capsys.readouterr().out


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert model_files.resolve(NAME) != NAME
  assert model_files.resolve('elsewhere') == 'elsewhere'
  for mark in (
    model_files.META_FILE,
    prototype_bank.BANK_FILE,
    public_folders.FILE,
    saved_checkpoints.FOLDER,
    # Of a run that has begun, and has no checkpoint yet.
    'config.json',
  ):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / mark).touch()
    assert model_files.resolve(NAME) == NAME
    shutil.rmtree(tmp_path / NAME)
  (tmp_path / NAME).touch()
  assert model_files.resolve(NAME) == NAME


def test_a_folder_without_a_model_hides_none(tmp_path, monkeypatch, capsys):
  shipped = model_files.resolve(NAME)
  monkeypatch.chdir(tmp_path)
  (tmp_path / NAME / 'embeddings').mkdir(parents=True)
  assert model_files.resolve(NAME) == shipped
  assert zsar_jax.load(NAME).bank.seen_classes
  assert starts.start(tiny.config(init__model=NAME)).loaded
  code = commands.run(bank, 'show', NAME)
  assert code == 0 and 'seen classes' in capsys.readouterr().out
