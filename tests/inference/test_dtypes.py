"""The video side of public weights in bfloat16."""

import json
import pathlib

import numpy as np
import pytest

from tests import videos
from tests.inference import test_public_encoders
from tests.pretrained import tiny_towers, tiny_weights
import zsar_jax
from zsar_jax import app, bank, evaluate, predict
from zsar_jax.inference import (
  exported_model,
  prototype_bank,
  public_folders,
  public_sides,
  saved_encoders,
)

WRITERS = {
  'vit': test_public_encoders.write_classifier,
  'clip': tiny_weights.write_clip,
  'siglip': tiny_towers.write_siglip,
  'xclip': tiny_towers.write_xclip,
  'videoprism': tiny_towers.write_videoprism,
  'pe_video': tiny_towers.write_pe_video,
  'vjepa2': tiny_towers.write_vjepa2,
}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  return {
    'vit': test_public_encoders.write_classifier(folder / 'classifier'),
    'clip': tiny_weights.write_clip(folder / 'clip'),
    'bert': tiny_weights.write_bert(folder / 'bert'),
  }


@pytest.fixture(scope='module')
def folder(weights, tmp_path_factory):
  path = str(tmp_path_factory.mktemp('bank') / 'half')
  flags = [f'--video={weights["vit"]}', f'--text={weights["bert"]}']
  bank.main(['bank', 'build', *flags, '--dtype=bfloat16', f'--output={path}'])
  return path


@pytest.fixture(scope='module')
def video(tmp_path_factory):
  path = tmp_path_factory.mktemp('v') / 'v.mp4'
  return videos.write_video(path, videos.blocks())


def embed(side):
  shape = (2, 1, side.pixels['num_frames'], *(side.pixels['size'],) * 2, 3)
  clips = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
  return side.embed(clips)[:, 0]


@pytest.mark.parametrize('kind', WRITERS)
def test_every_video_side_computes_in_bfloat16(kind, tmp_path):
  path = str(WRITERS[kind](tmp_path / kind))
  exact, half = (
    embed(public_sides.open_video(path, dtype=dtype))
    for dtype in ('float32', 'bfloat16')
  )
  assert half.dtype == exact.dtype == np.float32
  np.testing.assert_allclose(np.linalg.norm(half, axis=-1), 1, rtol=1e-5)
  # Rounded to 8 bits in every layer: near, and not equal.
  assert np.abs(half - exact).max() > 1e-4
  assert (half * exact).sum(axis=-1).min() > 0.995


def test_a_folder_keeps_its_dtype(folder, weights, video):
  model = zsar_jax.load(folder)
  assert model.recognizer.video.dtype == 'bfloat16'
  assert ' in bfloat16, text=' in model.recognizer.origin
  exact = public_folders.open_sides(weights['vit'], weights['bert'])
  # A bank of one belongs to no encoders of the other.
  assert model.recognizer.weights_hash != exact.weights_hash
  assert model.recognizer.video.digest == exact.video.digest
  names = ['row', 'word7', 'word8']
  ranking = model.add_classes(names).predict(video).ranking
  assert sorted(r.name for r in ranking) == names
  bank_of = prototype_bank.load_bank(f'{folder}/bank.safetensors')
  with pytest.raises(ValueError, match='other weights'):
    prototype_bank.check_belongs(
      bank_of, exact.weights_hash, exact.prep.to_json(), 'the bank'
    )


def test_folders_without_a_dtype_are_float32(folder, tmp_path):
  content = json.loads(pathlib.Path(folder, 'encoders.json').read_text())
  assert content.pop('dtype') == 'bfloat16'
  tiny_weights.write_json(tmp_path / 'encoders.json', content)
  found = saved_encoders.load(str(tmp_path))
  assert found.video.dtype == 'float32'
  for wrong, reason in ((1, "values of \\['dtype'\\]"), ('half', "'half'")):
    tiny_weights.write_json(
      tmp_path / 'encoders.json', {**content, 'dtype': wrong}
    )
    with pytest.raises(ValueError, match=reason):
      saved_encoders.load(str(tmp_path))


def test_public_weights_predict_in_bfloat16(weights, video, capsys):
  scores = []
  for dtype in ('float32', 'bfloat16'):
    flags = [f'--pretrained={weights["clip"]}', f'--dtype={dtype}', '--json']
    predict.main(
      ['predict', *flags, f'--video={video}', '--classes=row,arm row']
    )
    ranking = json.loads(capsys.readouterr().out)['ranking']
    scores.append({r['name']: r['score'] for r in ranking})
  exact, half = (np.array([s['row'], s['arm row']]) for s in scores)
  assert 0 < np.abs(exact - half).max() < 0.01


def test_an_export_stays_in_bfloat16(folder, tmp_path):
  model = zsar_jax.load(folder)
  exported_model.write(
    model.recognizer, model.bank, ['row'], str(tmp_path / 'out'), 'stablehlo'
  )
  text = pathlib.Path(tmp_path, 'out', 'export.json').read_text()
  assert json.loads(text)['weights_hash'] == model.recognizer.weights_hash


def test_onnx_of_bfloat16_is_refused_with_the_way_forward(folder, tmp_path):
  pytest.importorskip('jax2onnx')
  pytest.importorskip('onnxruntime')
  model = zsar_jax.load(folder)
  with pytest.raises(ValueError, match='use --format=stablehlo'):
    exported_model.write(
      model.recognizer, model.bank, ['row'], str(tmp_path / 'out'), 'onnx'
    )
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('command', 'flags', 'reason'),
  [
    (bank, ['build', '--workdir=a', '--output=b'], 'belongs to --video'),
    (bank, ['show', 'a'], 'belongs to build, not to show'),
    (predict, ['--workdir=a', '--video=b'], 'belongs to --pretrained'),
    (app, ['--workdir=a'], 'belongs to --pretrained'),
    (evaluate, ['--workdir=a'], '--dtype'),
  ],
)
def test_other_models_keep_their_dtype(command, flags, reason):
  with pytest.raises(ValueError, match=reason):
    command.main(['zsar', *flags, '--dtype=bfloat16'])
