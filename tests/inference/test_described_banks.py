"""Banks of public weights that know descriptions of their classes."""

import json
import os
import types

import numpy as np
import pytest

from tests.inference import test_public_encoders as shared
from tests.pretrained import tiny_weights
import zsar_jax
from zsar_jax import bank, predict
from zsar_jax.data import class_descriptions
from zsar_jax.inference import (
  bank_changes,
  prototype_bank,
  public_banks,
  public_folders,
  saved_encoders,
)

video = shared.video
DESCRIBED = {'row': ['arm word5.', 'word6.'], 'word9': ['word7 row.']}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  return (
    shared.write_classifier(folder / 'classifier'),
    tiny_weights.write_bert(folder / 'bert'),
  )


@pytest.fixture(scope='module')
def sentences(tmp_path_factory):
  path = tmp_path_factory.mktemp('texts') / 'mine.json'
  path.write_text(json.dumps(DESCRIBED))
  return str(path)


def build(weights, output, *flags):
  video, text = weights
  flags = [f'--video={video}', f'--text={text}', f'--output={output}', *flags]
  bank.main(['bank', 'build', *flags])
  return str(output)


@pytest.fixture(scope='module')
def folder(weights, sentences, tmp_path_factory):
  output = tmp_path_factory.mktemp('bank') / 'described'
  return build(weights, output, f'--descriptions={sentences}')


@pytest.fixture(scope='module')
def bare(weights, tmp_path_factory):
  output = tmp_path_factory.mktemp('bank') / 'bare'
  return build(weights, output, '--descriptions=')


def load_bank(folder):
  return prototype_bank.load_bank(os.path.join(folder, 'bank.safetensors'))


def test_described_classes_alone_are_embedded_otherwise(folder, bare):
  found, without = load_bank(folder), load_bank(bare)
  changed = np.abs(found.class_embeddings - without.class_embeddings).max(1)
  assert changed[0] > 1e-3 and (changed[1:] == 0).all()
  assert found.weights_hash != without.weights_hash
  np.testing.assert_array_equal(found.seen_prototypes, without.seen_prototypes)
  # With files the message has their names.
  for paths, named in (
    ((), 'number 2, to merge with number 1,'),
    (('a', 'b'), 'b, to merge with a,'),
  ):
    with pytest.raises(
      ValueError, match=f'^bank {named} belongs to other weights'
    ):
      bank_changes.merge([found, without], paths)
  with pytest.raises(ValueError, match='^the bank belongs to other weights'):
    prototype_bank.check_belongs(found, 'x', found.preprocessing)


def test_a_folder_keeps_its_descriptions_and_their_weight(folder, weights):
  again = saved_encoders.load(folder)
  np.testing.assert_array_equal(
    again.encode_class_names(shared.SEEN)['embedding'],
    load_bank(folder).class_embeddings,
  )
  assert again.texts.description_weight == 0.65
  opened = public_folders.open_sides(*weights)
  # 'word9' is no class of the classifier, and described all the same.
  (new,) = again.encode_class_names(['word9'])['embedding']
  (name,) = opened.encode_class_names(['word9'])['embedding']
  assert abs(float(new @ name)) < 0.9999
  # A weight that later versions choose changes no bank that is there.
  other = public_folders.describe(opened, again.texts.descriptions, 0.5)
  assert other.weights_hash != again.weights_hash


def test_lost_descriptions_are_told(folder, tmp_path):
  for name in ('encoders.json', 'bank.safetensors'):
    with open(os.path.join(folder, name), 'rb') as f:
      (tmp_path / name).write_bytes(f.read())
  with pytest.raises(FileNotFoundError, match='descriptions.json does not'):
    zsar_jax.load(str(tmp_path))


def test_names_are_described_at_prediction(
  bare, folder, sentences, video, capsys
):
  def scores(workdir, *flags):
    predict.main(
      [
        'predict',
        f'--workdir={workdir}',
        f'--video={video}',
        '--classes=word9,word8',
        '--json',
        *flags,
      ]
    )
    told = capsys.readouterr()
    answer = json.loads(told.out)
    return {r['name']: r['score'] for r in answer['ranking']}, told.err

  without, silence = scores(bare)
  described, told = scores(bare, f'--descriptions={sentences}')
  assert not silence
  assert f'{sentences} describes 1 of 2 classes, but not word8' in told
  assert described['word8'] == without['word8']
  assert described['word9'] != without['word9']
  # A folder's own descriptions need no flag.
  own, _ = scores(folder)
  again, _ = scores(folder, f'--descriptions={sentences}')
  assert own == pytest.approx(again, abs=1e-6)


def test_python_takes_sentences_for_the_classes_it_adds(bare):
  model = zsar_jax.load(bare)
  model.add_classes(['word8']).add_classes(
    ['word9'], descriptions={'WORD9': DESCRIBED['word9']}
  )
  of_names = zsar_jax.load(bare).add_classes(['word8', 'word9'])
  text = model.recognizer.encode_class_names(['word8', 'word9'])['embedding']
  plain = of_names.recognizer.encode_class_names(['word8', 'word9'])
  changed = np.abs(text - plain['embedding']).max(axis=1)
  assert changed[0] == 0 and changed[1] > 1e-3
  weights = [m._candidates.weights for m in (model, of_names)]
  np.testing.assert_allclose(weights[0][0], weights[1][0], atol=1e-6)
  assert np.abs(weights[0][1] - weights[1][1]).max() > 1e-4
  with pytest.raises(ValueError, match="'juggling' needs a list of sentences"):
    model.add_classes(['juggling'], descriptions={'Juggling': 'Balls fly.'})


@pytest.mark.parametrize(
  'descriptions, message',
  [
    ({'rowing': ['Oars.']}, "of 'rowing', expected some of the names juggling"),
    ({'juggling': ['Balls.'], 'rowing': ['Oars.']}, "of 'rowing', expected"),
    (['Balls fly.'], r"expected class name -> list .*, got \['Balls fly.'\]"),
    ('Balls fly.', "expected class name -> list of .*, got 'Balls fly.'"),
    ({1: ['Balls fly.']}, 'descriptions: expected a name, got 1'),
    ({'juggling': [None]}, "'juggling' needs a list of sentences"),
  ],
)
def test_bad_descriptions_add_nothing(bare, descriptions, message):
  model = zsar_jax.load(bare)
  with pytest.raises(ValueError, match=message):
    model.add_classes(['Juggling'], descriptions=descriptions)
  assert model.classes == ()


def test_a_bank_gets_described_names(bare, sentences, tmp_path):
  added = []
  for name, flags in (('a', ()), ('b', (f'--descriptions={sentences}',))):
    output = str(tmp_path / name)
    path = os.path.join(bare, 'bank.safetensors')
    bank.main(
      ['bank', 'add', path, '--classes=word9', f'--output={output}', *flags]
    )
    added.append(prototype_bank.load_bank(output).added_embeddings)
  assert np.abs(added[0] - added[1]).max() > 1e-3


@pytest.mark.parametrize(
  'change, message',
  [
    ({'description_weight': None}, r"values of \['description_weight'\]"),
    ({'prompts': 5}, r"values of \['prompts'\]"),
    ({'prompts': [5]}, r"values of \['prompts'\]"),
    ({'num_frames': -2}, 'num_frames is -2, expected a positive whole'),
    ({'num_frames': 'many', 'video': 1}, r"values of \['video', 'num_frames'"),
    (None, 'expected a JSON object'),
  ],
)
def test_damaged_values_are_named(change, message, folder, tmp_path):
  with open(os.path.join(folder, 'encoders.json'), encoding='utf-8') as f:
    content = json.load(f)
  path = tmp_path / 'encoders.json'
  path.write_text(json.dumps(change and content | change))
  with pytest.raises(ValueError, match=f'encoders.json.* {message}'):
    public_folders.read(str(tmp_path))


def test_mistakes_come_before_the_weights_are_read(tmp_path):
  path = tmp_path / 'mine.json'
  path.write_text('{"row": "no list"}')
  with pytest.raises(ValueError, match="'row' needs a list of sentences"):
    build(('none', 'none'), tmp_path / 'out', f'--descriptions={path}')
  assert os.listdir(tmp_path) == ['mine.json']
  with pytest.raises(FileExistsError, match='exists: name a new folder'):
    build(('none', 'none'), tmp_path, '--overwrite')


@pytest.mark.parametrize(
  'argv, message',
  [
    (['bank', 'show', 'x', '--descriptions=y'], 'belongs to build and add'),
    # One letter less than --videos.
    (['bank', 'add', 'x', '--video=y', '--output=O'], 'belongs to build'),
    (
      ['bank', 'build', '--workdir=W', '--output=O', '--descriptions=shipped'],
      'keep those that they were made with',
    ),
  ],
)
def test_where_the_flag_does_not_belong(argv, message, tmp_path):
  argv = [arg.replace('=O', f'={tmp_path / "out"}') for arg in argv]
  with pytest.raises(ValueError, match=message):
    bank.main(argv)


def test_sentence_encoders_get_the_shipped_ones_unasked(monkeypatch):
  monkeypatch.setattr(
    public_folders, 'describe', lambda _, described: described
  )

  def found(classes, source=None, space=''):
    said = []
    text = types.SimpleNamespace(space=space)
    given = types.SimpleNamespace(seen_classes=classes, text=text)
    out = public_banks.describe(given, source, say=said.append)
    return (None if out is given else out), said

  shipped = class_descriptions.shipped()
  assert found(('archery', 'qwv')) == (
    shipped,
    ['shipped describes 1 of 2 classes, but not qwv'],
  )
  everything = found(('archery',))
  assert everything[0] == shipped and 'takes names alone' in everything[1][0]
  assert found(('qwv',)) == (None, [])
  assert found(('archery',), '') == (None, [])
  # Of a joint space nothing was measured.
  assert found(('archery',), space='clip') == (None, [])
  assert found(('archery',), 'shipped', 'clip')[0] == shipped


def test_descriptions_of_none_of_the_classes_are_refused(weights, tmp_path):
  other = tmp_path / 'other.json'
  other.write_text(json.dumps({'rowing': ['Oars dip.']}))
  with pytest.raises(ValueError, match='none of the classes row, arm row'):
    build(weights, tmp_path / 'out', f'--descriptions={other}')
