"""Tests exported models (StableHLO, ONNX) without Flax and this project."""

import dataclasses
import json
import os
import pathlib
import sys

import jax
import numpy as np
import pytest

from tests import processes, videos
from tests.inference import test_public_encoders as shared
from tests.pretrained import tiny_weights
import zsar_jax
from zsar_jax import bank
from zsar_jax.data import preprocessing, user_videos
from zsar_jax.inference import (
  bank_changes,
  encoders,
  exported_model,
  exported_predict,
  model_files,
  model_sources,
  prototype_bank,
  saved_encoders,
)

NAMES = ('waving both arms', 'Juggling', 'walking to the left')
# Runs predict.py as if the named packages were not installed.
_ALONE = """
import runpy, sys
script, video, *absent = sys.argv[1:]
for name in ('zsar_jax', 'flax', 'cv2', 'ml_collections', *absent):
  sys.modules[name] = None
sys.argv = [script, video]
runpy.run_path(script, run_name='__main__')
"""
FORMATS = [
  pytest.param('stablehlo', id='stablehlo'),
  pytest.param('onnx', id='onnx'),
]


def need(kind):
  if kind != 'stablehlo':
    pytest.importorskip('jax2onnx')
    pytest.importorskip('onnxruntime')


@pytest.fixture(scope='module')
def public(tmp_path_factory):
  """A bank of a classifier of frames and a sentence encoder."""
  at = tmp_path_factory.mktemp('public')
  video = shared.write_classifier(at / 'classifier')
  text = tiny_weights.write_bert(at / 'bert')
  sides = f'--video={video}', f'--text={text}', f'--output={at / "bank"}'
  bank.main(['bank', 'build', *sides])
  return str(at / 'bank')


@pytest.fixture(scope='module')
def export(tmp_path_factory, public):
  """Exports each model in each format once."""
  made = {}

  def run(model, kind):
    need(kind)
    if (model, kind) not in made:
      folder = tmp_path_factory.mktemp('exports') / 'a' / 'folder'
      source = public if model == 'public' else model
      flags = f'--workdir={source}', f'--classes={",".join(NAMES)}'
      given = f'--format={kind}', f'--output={folder}'
      bank.main(['bank', 'export', *flags, *given])
      made[model, kind] = str(folder)
    return made[model, kind]

  return run


@pytest.fixture(scope='module')
def video(tmp_path_factory):
  rng = np.random.default_rng(2)
  frames = rng.integers(0, 255, (20, 7, 11, 3), np.uint8)
  frames = frames.repeat(10, axis=1).repeat(10, axis=2)
  path = tmp_path_factory.mktemp('v') / 'v.mp4'
  return str(videos.write_video(path, frames, rotation=90))


def run_alone(folder, video):
  """The ranking that predict.py prints: name -> (score, probability or '')."""
  kind = json.loads((pathlib.Path(folder) / 'export.json').read_text())['kind']
  absent = ['onnxruntime'] if kind == 'stablehlo' else ['jax']
  script = os.path.join(folder, 'predict.py')
  done = processes.run([sys.executable, '-c', _ALONE, script, video, *absent])
  assert done.returncode == 0, done.stderr[-2000:]
  found = {}
  for line in done.stdout.splitlines():
    if not line.startswith('none of these'):
      score, *probability, name = line.split('  ')
      found[name.strip()] = float(score), ''.join(probability).strip()
  return found


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('model', ['stick_figures', 'public'])
def test_the_script_gives_our_scores_alone(export, public, video, model, kind):
  found = run_alone(export(model, kind), video)
  ours = zsar_jax.load(public if model == 'public' else model)
  ranking = ours.add_classes(NAMES).predict(video).ranking
  assert list(found) == [r.name for r in ranking]
  for r in ranking:
    score, probability = found[r.name]
    assert score == pytest.approx(r.score, abs=1e-4)
    said = '' if r.probability is None else f'{r.probability:.1%}'
    assert probability == said


def test_int8_is_a_quarter_of_the_size_and_ranks_alike(export, video):
  whole = pathlib.Path(export('stick_figures', 'onnx'))
  small = pathlib.Path(export('stick_figures', 'onnx-int8'))
  size = lambda folder: (folder / 'video.onnx').stat().st_size
  assert size(small) < 0.4 * size(whole)
  found, exact = (run_alone(str(f), video) for f in (small, whole))
  assert set(found) == set(exact)
  for name, (score, _) in exact.items():
    assert found[name][0] == pytest.approx(score, abs=0.03)


def test_an_encoder_that_does_not_bear_int8_is_refused(export, tmp_path):
  folder = export('stick_figures', 'onnx-int8')
  described = json.loads((pathlib.Path(folder) / 'export.json').read_text())
  right = zsar_jax.load('stick_figures').recognizer.programs['video']
  exported_model._check('video', right, described['video'], folder, 'onnx-int8')
  turned = dataclasses.replace(
    right, function=lambda p, x: jax.numpy.roll(right.function(p, x), 1, -1)
  )
  with pytest.raises(ValueError, match='loses too much in int8.*--format=onnx'):
    exported_model._check(
      'video', turned, described['video'], folder, 'onnx-int8'
    )


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('model', ['stick_figures', 'public'])
def test_both_sides_embed_batches_as_we_do(export, public, model, kind):
  folder = export(model, kind)
  described = json.loads((pathlib.Path(folder) / 'export.json').read_text())
  ours = saved_encoders.load(public if model == 'public' else model)
  text = exported_predict.load_encoder(described['text'], folder)
  expected = ours.encode_class_names(described['classes'])['embedding']
  rows = ours.texts.token_ids(described['classes'])
  means = ours.texts.mean(
    described['classes'],
    [text(row['ids'].astype(np.int32), row['mask']) for row in rows],
  )
  np.testing.assert_allclose(means, expected, atol=1e-4)
  encode = exported_predict.load_encoder(described['video'], folder)
  for batch in (1, 5):
    clips = shared.clips(batch, 1, ours.prep)
    embeddings, _ = ours.encode_videos(clips)
    np.testing.assert_allclose(encode(clips[:, 0]), embeddings[:, 0], atol=1e-4)


def test_the_description_says_what_is_there(export):
  folder = export('stick_figures', 'stablehlo')
  assert sorted(os.listdir(folder)) == [
    'bank.npz',
    'export.json',
    'predict.py',
    'text.npz',
    'text.stablehlo',
    'video.npz',
    'video.stablehlo',
  ]
  described = json.loads((pathlib.Path(folder) / 'export.json').read_text())
  made = prototype_bank.load_bank(
    os.path.join(model_files.resolve('stick_figures'), 'bank.safetensors')
  )
  assert described['seen_classes'] == list(made.seen_classes)
  assert described['classes'] == [name.lower() for name in NAMES]
  assert described['calibration'] == made.calibration
  assert described['video']['platforms'] == ['cpu', 'cuda', 'tpu']
  prep = dict(described['preprocessing'])
  views = prep.pop('num_views'), prep.pop('num_crops')
  ours = saved_encoders.load('stick_figures')
  assert preprocessing.Preprocessing.from_dict(prep) == ours.prep
  config = ours.config.zeroshot
  assert views == (config.num_views, config.num_crops)
  with np.load(os.path.join(folder, 'bank.npz')) as arrays:
    np.testing.assert_array_equal(
      arrays['seen_prototypes'], made.seen_prototypes
    )
    composed = arrays['transfer_weights'] @ arrays['seen_prototypes']
    composed /= np.linalg.norm(composed, axis=1, keepdims=True)
    np.testing.assert_allclose(arrays['prototypes'], composed, atol=1e-5)
  # Parameters of the other side and of the fusion are not exported.
  with np.load(os.path.join(folder, 'video.npz')) as params:
    assert {name.partition('/')[0] for name in params} == {
      'video_encoder',
      'video_projection',
    }


def test_without_names_the_banks_own_classes_are_chosen_from(tmp_path):
  ours = zsar_jax.load('stick_figures')
  chosen = exported_model._choose(ours.recognizer, ours.bank, ())
  assert chosen.names == ours.bank.seen_classes
  np.testing.assert_array_equal(chosen.prototypes, ours.bank.seen_prototypes)
  text = ours.recognizer.encode_class_names(['rowing'])['embedding']
  added = bank_changes.add_names(ours.bank, ['rowing'], text)
  chosen = exported_model._choose(ours.recognizer, added, ())
  assert chosen.names == ('rowing',)
  chosen = exported_model._choose(ours.recognizer, added, ('Skiing',))
  assert chosen.names == ('skiing',)


@pytest.mark.parametrize(
  'shape,size,sampling,views,crops,resize,crop',
  [
    ((96, 128), (48, 48), 'segment', 1, 1, 'area', 'square'),  # halved
    ((70, 110), (32, 48), 'uniform', 2, 3, 'area', 'square'),
    ((30, 20), (32, 48), 'dense', 1, 1, 'area', 'square'),  # enlarged
    ((120, 90), (56, 64), 'dense', 3, 2, 'bicubic', 'centre'),
    ((70, 110), (32, 48), 'uniform', 1, 2, 'bilinear', 'whole'),
    ((70, 110), (32, 32), 'ends', 2, 1, 'bilinear', 'whole'),
  ],
)
def test_the_script_reads_the_clips_that_we_read(
  tmp_path, shape, size, sampling, views, crops, resize, crop
):
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 255, (25, *shape, 3), np.uint8)
  times = np.cumsum(rng.integers(1, 4, 25))
  path = str(
    videos.write_video(tmp_path / 'v.mp4', frames, times=(times - 1).tolist())
  )
  prep = {
    'size': size[0],
    'short_side': size[1],
    'mean': [0.5] * 3,
    'std': [0.5] * 3,
    'num_frames': 6,
    'sampling': sampling,
    'frame_stride': 3,
    'sample_fps': 30.0,
    'inputs': 'rgb',
    'token_length': 8,
    'vocabulary_hash': '',
    'resize': resize,
    'crop': crop,
  }
  (_, (ours,)) = user_videos.views_task(path, json.dumps(prep), views, crops)
  theirs = exported_predict.read_clips(
    path, {**prep, 'num_views': views, 'num_crops': crops}
  )
  assert theirs.shape == (views * crops, *ours.shape[-4:])
  ours = ours.reshape(theirs.shape)
  difference = np.abs(ours.astype(int) - theirs)
  # OpenCV's own rounding differs between machines in a few pixels.
  assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_a_damaged_video_is_no_answer(export, tmp_path, video):
  cut = tmp_path / 'cut.mp4'
  cut.write_bytes(pathlib.Path(video).read_bytes()[:2000])
  folder = export('stick_figures', 'stablehlo')
  script = os.path.join(folder, 'predict.py')
  done = processes.run([sys.executable, script, str(cut)])
  assert done.returncode != 0 and not done.stdout


def program(function):
  shape = jax.ShapeDtypeStruct((4,), 'float32')
  return encoders.Program(function, {'w': np.ones(4, np.float32)}, {'x': shape})


class Recognizer:
  """Encoders, one of which uses an operation that a target lacks."""

  def __init__(self, function):
    ours = zsar_jax.load('stick_figures')
    self.programs = {'video': program(function)}
    self.__dict__.update(
      prep=ours.recognizer.prep,
      encode_class_names=ours.recognizer.encode_class_names,
      initial_embeddings=ours.recognizer.initial_embeddings,
      transfer_settings=ours.recognizer.transfer_settings,
    )


@pytest.mark.parametrize('kind', FORMATS)
def test_an_operation_that_the_target_lacks_is_named(tmp_path, kind):
  need(kind)

  def lacking(params, x):
    same = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return params['w'] * jax.pure_callback(lambda y: y, same, x)

  made = zsar_jax.load('stick_figures').bank
  with pytest.raises(ValueError, match=rf'video encoder.*{kind}.*callback'):
    exported_model.write(
      Recognizer(lacking), made, NAMES, str(tmp_path / 'out'), kind
    )
  assert not list(tmp_path.iterdir())


def test_an_export_that_computes_something_else_is_refused(tmp_path):
  right = program(lambda params, x: params['w'] * x)
  files, described = exported_model._to_stablehlo('video', right)
  for name, content in files.items():
    (tmp_path / name).write_bytes(content)
  exported_model._check('video', right, described, str(tmp_path), 'stablehlo')
  other = program(lambda params, x: params['w'] * x + 2e-4)
  with pytest.raises(
    ValueError, match='video encoder computes other embeddings'
  ):
    exported_model._check('video', other, described, str(tmp_path), 'stablehlo')


@pytest.mark.parametrize(
  'command,flags,message',
  [
    ('export', ['--format=tflite'], 'should be one of <zsar_jax|stablehlo'),
    (
      'export',
      ['--format=onnx', '--push=a/b'],
      'uploads only the format zsar_jax',
    ),
    ('build', ['--format=onnx'], '--format belongs to export, not to build'),
    ('export', ['--format=stablehlo', '--classes=a,A'], 'duplicate class name'),
  ],
)
def test_flags_that_make_no_sense(tmp_path, command, flags, message):
  with pytest.raises(Exception, match=message.replace('|', r'\|')):
    bank.main(
      [
        'bank',
        command,
        '--workdir=stick_figures',
        f'--output={tmp_path / "out"}',
        *flags,
      ]
    )
  assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path):
  (tmp_path / 'mine').write_text('x')
  flags = '--workdir=stick_figures', '--format=stablehlo'
  with pytest.raises(FileExistsError, match='exists: name a new folder'):
    bank.main(['bank', 'export', *flags, f'--output={tmp_path}'])
  assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_a_bank_alone_is_no_model(tmp_path):
  made = zsar_jax.load('stick_figures').bank
  prototype_bank.save_bank(made, str(tmp_path / 'bank.safetensors'))
  flags = f'--workdir={tmp_path}', f'--output={tmp_path / "out"}'
  with pytest.raises(FileNotFoundError, match='without encoders'):
    bank.main(['bank', 'export', *flags, '--format=stablehlo'])


def test_without_its_packages_onnx_is_refused_first(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'jax2onnx', None)
  flags = '--workdir=stick_figures', f'--output={tmp_path / "out"}'
  with pytest.raises(ValueError, match=r'needs jax2onnx.*zsar_jax\[onnx\]'):
    bank.main(['bank', 'export', *flags, '--format=onnx'])
  assert not list(tmp_path.iterdir())


def test_paths_of_this_machine_are_not_given_away(tmp_path):
  ours = saved_encoders.load('stick_figures')
  ours.config.init.update(
    text='/home/somebody/bert', video='~/vit', clip='hf:org/clip@12ab'
  )
  ours.config.init.loaded = 'text=bert:0123'
  ours.config.vocabulary = '/home/somebody/vocab.txt'
  ours.config.names.descriptions = '/home/somebody/names.json'
  own = prototype_bank.load_bank(model_sources.bank_file('stick_figures'))
  saved_encoders.export(ours, own, str(tmp_path / 'model'))
  text = (tmp_path / 'model' / 'model.json').read_text()
  assert 'somebody' not in text and '~/vit' not in text
  again = saved_encoders.load(str(tmp_path / 'model'))
  assert again.config.init.clip == 'hf:org/clip@12ab'
  assert again.origin == 'text=bert:0123'
  assert again.weights_hash == ours.weights_hash
