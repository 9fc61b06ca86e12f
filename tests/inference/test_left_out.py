"""Classes that an encoder was trained on, and that its bank leaves out."""

import dataclasses
import json

import pytest

from tests import videos
from tests.commands import run
from tests.inference import test_public_encoders as shared
from tests.pretrained import tiny_weights
import zsar_jax
from zsar_jax import bank, predict
from zsar_jax.inference import bank_changes, model_card, prototype_bank

LEFT_OUT = 'word3', 'word4 row'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('left_out')
  flags = [
    f'--video={shared.write_classifier(path / "classifier")}',
    f'--text={tiny_weights.write_bert(path / "bert")}',
    f'--output={path / "bank"}',
    f'--drop_seen={",".join(LEFT_OUT)}',
  ]
  assert run(bank, 'build', *flags) == 0
  return str(path / 'bank')


def test_the_card_lists_them_apart(folder, tmp_path):
  exported = tmp_path / 'exported'
  assert run(bank, 'export', f'--workdir={folder}', f'--output={exported}') == 0
  card = (exported / 'README.md').read_text()
  _, left_out, seen = card.split('\n## ')[-3:]
  assert left_out.startswith('Left out of the bank\n')
  assert 'was trained on these 2 classes' in left_out
  assert 'no unseen classes' in left_out
  assert seen.startswith('The 3 seen classes\n')
  for name in LEFT_OUT:
    assert name in left_out.splitlines()
    assert name not in seen.splitlines()
  # A bank with all of them says nothing.
  model = zsar_jax.load(folder)
  whole = dataclasses.replace(
    model.recognizer.video, labels=model.bank.seen_classes
  )
  everything = type(model.recognizer)(whole, model.recognizer.text)
  assert 'Left out' not in model_card.make(everything, model.bank)


def test_predict_warns_of_them(folder, tmp_path, capsys):
  video = videos.write_video(
    tmp_path / 'v.mp4', videos.numbered_frames(12, 32, 32), fps=10
  )
  flags = f'--workdir={folder}', f'--video={video}'
  assert run(predict, *flags, '--classes=word3,word7') == 0
  (line,) = [x for x in capsys.readouterr().out.splitlines() if 'left out' in x]
  assert line.startswith('warning: ') and line.endswith('zero-shot: word3')
  assert run(predict, *flags, '--classes=word7,row', '--json') == 0
  warnings = json.loads(capsys.readouterr().out)['warnings']
  assert not any('left out' in x for x in warnings)


def test_an_older_bank_warns_too(folder):
  model = zsar_jax.load(folder)
  older = dataclasses.replace(model.bank, left_out=())
  again = type(model)(model.recognizer, older).add_classes(['word3'])
  assert any('zero-shot: word3' in x for x in again.warnings)


def test_show_lists_them(folder, capsys):
  capsys.readouterr()
  assert run(bank, 'show', folder) == 0
  out = capsys.readouterr().out
  assert '2 classes that the encoder was trained on' in out
  for name in LEFT_OUT:
    assert f'     left out  {name}\n' in f'{out}\n'


def test_a_bank_without_the_field_is_read(folder, tmp_path, monkeypatch):
  made = prototype_bank.load_bank(f'{folder}/bank.safetensors')
  assert made.left_out == LEFT_OUT
  write = prototype_bank.tensor_files.write

  def as_before(path, tensors, header, kind):
    del header['left_out']
    write(path, tensors, header, kind)

  path = str(tmp_path / 'older.safetensors')
  monkeypatch.setattr(prototype_bank.tensor_files, 'write', as_before)
  prototype_bank.save_bank(made, path)
  assert prototype_bank.load_bank(path).left_out == ()
  damaged = dataclasses.replace(made, left_out=3)
  monkeypatch.setattr(prototype_bank.tensor_files, 'write', write)
  prototype_bank.save_bank(damaged, path)
  with pytest.raises(ValueError, match='left_out'):
    prototype_bank.load_bank(path)


def test_merging_brings_back_what_another_bank_has(folder):
  fewer = prototype_bank.load_bank(f'{folder}/bank.safetensors')
  other = dataclasses.replace(
    fewer, seen_classes=('row', 'word3', 'word8'), left_out=('word4 row',)
  )
  with_same_texts = dataclasses.replace(
    other, class_embeddings=fewer.class_embeddings
  )
  merged = bank_changes.merge([fewer, with_same_texts])
  assert merged.left_out == ('word4 row',) and 'word3' in merged.seen_classes
