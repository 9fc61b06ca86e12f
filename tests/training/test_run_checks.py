"""What a run asks for, and what is refused before its first step."""

import json
import types

import pytest

from tests import tiny
from zsar_jax import config_utils
from zsar_jax.data import class_descriptions
from zsar_jax.data.datasets import records
from zsar_jax.training import run_checks, train, train_loop

# As if prepared: the folder is the dataset's name.
PROTOCOL = types.SimpleNamespace(
  dataset_dir='kinetics700_664',
  test=types.SimpleNamespace(dataset_dir='ucf101'),
  seen_classes=('abseiling', 'fencing (sport)'),
  unseen_classes=('archery', 'a class of my own'),
)


@pytest.fixture
def read(monkeypatch):
  monkeypatch.setattr(records, 'read_metadata', lambda x: {'dataset': x})

  def read(source, protocol=PROTOCOL):
    config = config_utils.default_config()
    config.names.descriptions = source
    said = []
    return run_checks.read_descriptions(config, protocol, said.append), said

  return read


def test_nothing_is_described_unasked(read):
  assert read('') == ({}, [])


def test_seen_and_unseen_classes_have_their_own_datasets_sentences(read):
  described, said = read('shipped')
  group = class_descriptions.group
  assert described['abseiling'] == group('kinetics')['abseiling']
  assert described['archery'] == group('ucf101')['archery']
  # Names that are added after training are described too.
  assert described['smile'] == group('hmdb51')['smile']
  assert said == ['shipped describes 3 of 4 classes, but not a class of my own']


def test_a_file_may_describe_other_classes_too(read, tmp_path):
  path = tmp_path / 'mine.json'
  path.write_text(json.dumps({'Archery': ['An arrow flies.']}))
  described, said = read(str(path))
  assert described == {'archery': ('An arrow flies.',)}
  assert 'describes 1 of 4 classes, but not abseiling, fencing' in said[0]
  # An inner draw has a part of the classes that the file was written for.
  more = {'archery': ['An arrow flies.'], 'rowing': ['Oars.']}
  path.write_text(json.dumps(more))
  assert set(read(str(path))[0]) == {'archery', 'rowing'}
  path.write_text(json.dumps({'archer': ['An arrow.'], 'abseiling': ['A.']}))
  _, said = read(str(path))
  assert "archery (it has 'archer')" in said[0]


def test_classes_that_nobody_has_described_are_refused(read):
  protocol = types.SimpleNamespace(
    dataset_dir='video_folder', test=None, seen_classes=('a', 'b')
  )
  protocol.unseen_classes = ()
  with pytest.raises(ValueError, match='shipped .*none of the classes a, b'):
    read('shipped', protocol)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'optim__warmup_steps': 7}, 'optim.warmup_steps=7 is not within'),
    ({'optim__frozen': ('nothing',)}, 'no parameter matches'),
  ],
)
def test_what_is_refused_early_makes_no_workdir(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    train.train(tiny.config(**changes), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_what_is_refused_late_does_not_occupy_the_workdir(
  tmp_path, monkeypatch
):
  def refuse(*args):
    raise ValueError('refused')

  with monkeypatch.context() as patch:
    patch.setattr(train, '_make_loop', refuse)
    with pytest.raises(ValueError, match='refused'):
      train.train(tiny.config(seed=1), str(tmp_path / 'run'))
  monkeypatch.setattr(train_loop.TrainLoop, 'run', refuse)
  # Another config gets as far as the first step.
  with pytest.raises(ValueError, match='refused'):
    train.train(tiny.config(seed=2), str(tmp_path / 'run'))
  with pytest.raises(ValueError, match='holds a run of another config'):
    train.train(tiny.config(seed=1), str(tmp_path / 'run'))
