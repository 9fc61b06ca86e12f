"""The model card of a bank of public weights."""

import dataclasses
import re

import numpy as np
import pytest

from tests.commands import run
from tests.inference import test_public_encoders as shared
from tests.pretrained import tiny_weights
import zsar_jax
from zsar_jax import bank
from zsar_jax.inference import model_card, public_folders
from zsar_jax.pretrained import i3d

NAMES = tuple(f'row word{i}' for i in range(25))


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  path = tmp_path_factory.mktemp('card')
  columns = np.random.default_rng(0).normal(size=(25, 32)).astype(np.float32)
  labels = {str(i): name for i, name in enumerate(NAMES)}
  video = shared.write_classifier(path / 'looker', columns, labels)
  config = {'_name_or_path': 'org/reader-of-names'}
  text = tiny_weights.write_bert(path / 'reader', config)
  flags = f'--video={video}', f'--text={text}', '--descriptions='
  assert run(bank, 'build', *flags, f'--output={path / "bank"}') == 0
  return zsar_jax.load(str(path / 'bank'))


def rows(card):
  """The table of facts."""
  return dict(re.findall(r'^\| ([a-z ]+) \| (.*) \|$', card, re.MULTILINE))


def with_video(model, **changes):
  recognizer = model.recognizer
  video = dataclasses.replace(recognizer.video, **changes)
  return type(recognizer)(video, recognizer.text)


def test_both_sides_are_named_in_full(model):
  facts = rows(model_card.make(model.recognizer, model.bank))
  assert facts['video side'].startswith('`looker`, a folder of one machine')
  assert 'model_type vit' in facts['video side']
  assert 'a classifier of 25 classes' in facts['video side']
  assert facts['text side'].startswith('`reader`, a folder of one machine')
  assert 'model_type bert, _name_or_path org/reader' in facts['text side']
  assert facts['licence of the text weights'] == 'see their own page'
  assert facts['descriptions'].startswith('none')


@pytest.mark.parametrize('called', ['./', '/home/somebody/model', 3, None])
def test_paths_of_other_machines_stay_out(called, tmp_path):
  text = tiny_weights.write_bert(tmp_path / 'x', {'_name_or_path': called})
  video = shared.write_classifier(tmp_path / 'y')
  assert public_folders.open_sides(video, text).text.about == 'model_type bert'


def test_licences_and_training_are_told_where_they_are_known(model):
  installed = with_video(model, source=i3d.NAME, about=i3d.ABOUT)
  facts = rows(model_card.make(installed, model.bank))
  assert facts['licence of the video weights'] == 'Apache-2.0'
  assert 'Kinetics-400' in facts['video side']
  assert 'folder' not in facts['video side']
  there = with_video(model, source='hf:org/name@abc')
  facts = rows(model_card.make(there, model.bank))
  licence = facts['licence of the video weights']
  assert licence.endswith('https://huggingface.co/org/name')


def test_a_card_says_that_it_is_of_one_machine(model):
  local = model_card.make(model.recognizer, model.bank)
  assert 'works only on the machine' in local
  assert '`looker` (video side), `reader` (text side)' in local
  shared_side = with_video(model, source='hf:org/name@abc')
  assert '`looker`' not in model_card.make(shared_side, model.bank)
  text = dataclasses.replace(model.recognizer.text, source='hf:org/text@abc')
  both = type(model.recognizer)(shared_side.video, text)
  assert 'only on the machine' not in model_card.make(both, model.bank)


def test_descriptions_that_come_along_are_counted(model):
  sentences = {'row word1': ('Somebody rows.',)}
  described = public_folders.describe(model.recognizer, sentences)
  facts = rows(model_card.make(described, model.bank))
  assert '1 classes come along, in `descriptions.json`' in facts['descriptions']


def test_many_names_are_last_and_folded(model):
  card = model_card.make(model.recognizer, model.bank)
  folded = card.partition('<details>')[2]
  assert '\n'.join(NAMES) in folded and card.endswith('</details>\n')
  assert NAMES[0] not in card.partition('<details>')[0]


def test_a_calibration_on_little_is_warned_of(model):
  assert 'Warning: ' not in model_card.make(model.recognizer, model.bank)
  fitted = {
    'candidates': (2,),
    'temperatures': (1.0,),
    'slopes': (1.0,),
    'intercepts': (0.0,),
    'risks': np.zeros((1, 101)),
    'coverages': np.zeros((1, 101)),
    'measured_on': 'a test',
    'num_videos': 6,
    'num_classes': 3,
    'figures': {},
  }
  few = dataclasses.replace(model.bank, calibration=fitted)
  card = model_card.make(model.recognizer, few)
  assert 'calibrated on a test. Warning: ' in card and 'only 6 videos' in card
