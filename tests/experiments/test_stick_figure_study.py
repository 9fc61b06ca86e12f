import types

import pytest

from experiments import stick_figure_study as study
from zsar_jax.data import class_descriptions
from zsar_jax.data.datasets import records, stick_figure_classes
from zsar_jax.inference import class_texts, starts
from zsar_jax.training import run_checks


def test_cells_of_earlier_runs_keep_their_names():
  names = [made.name for made in study.cells(['ladder'])]
  assert len(names) == len(set(names)) == 30
  assert names[0] == 'num_seen12_clips_per_class24_nuisance1.0_seed0'


def test_descriptions_are_compared_with_names_on_the_same_classes():
  made = {one.name: one for one in study.cells(['described'])}
  assert len(made) == 12
  for name, one in made.items():
    config = one.make_config()
    if '_described' not in name:
      assert not config.names.descriptions
      continue
    beside = made[name.replace('_described', '')].make_config()
    assert config.names.descriptions == study.DESCRIPTIONS
    assert config.data == beside.data and config.seed == beside.seed
  # They are part of the ladder, so nothing trains twice.
  ladder = {one.name for one in study.cells(['ladder'])}
  assert len(ladder & set(made)) == 6


@pytest.mark.parametrize('num_seen', study.DESCRIBED_SEEN)
def test_runs_read_the_descriptions_of_their_classes(num_seen, monkeypatch):
  monkeypatch.setattr(records, 'read_metadata', lambda x: {'dataset': x})
  seen, unseen = stick_figure_classes.class_split(num_seen=num_seen)
  protocol = types.SimpleNamespace(
    dataset_dir='', test=None, seen_classes=seen, unseen_classes=unseen
  )
  values = {**study.USUAL, 'num_seen': num_seen}
  config = study.cell(values, 0, described=True).make_config()
  said = []
  described = run_checks.read_descriptions(config, protocol, said.append)
  assert {*seen, *unseen} <= set(described) and not said
  texts = class_texts.ClassTexts(
    starts.start(config).pieces,
    config.preprocessing.token_length,
    config.names.prompts,
    described,
  )
  assert len(texts.token_ids((*seen, *unseen))) == 3  # refuses long ones


def test_every_class_is_described_and_nothing_else():
  described = class_descriptions.read(study.DESCRIPTIONS)
  assert tuple(described) == stick_figure_classes.CLASS_NAMES
  assert {len(sentences) for sentences in described.values()} == {2}


def test_unfinished_points_are_said(tmp_path):
  found = [
    study.accuracies(str(tmp_path), *point)
    for point in study.described_points()
  ]
  lines = study.described_table(found)
  assert len(lines) == 2 + 4
  assert all(line.count('not finished') == 6 for line in lines[2:])
  assert 'names and descriptions' in lines[3]
