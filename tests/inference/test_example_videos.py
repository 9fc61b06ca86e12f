"""Example videos of a class, from the command line and from Python."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tests.inference import test_public_encoders as shared
import zsar_jax
from zsar_jax import bank, cli, predict
from zsar_jax.evaluation import methods
from zsar_jax.inference import (
  action_model,
  bank_changes,
  example_videos,
  model_files,
  prototype_bank,
)
from zsar_jax.web import chart

weights, folder, video = shared.weights, shared.folder, shared.video
NAME = 'hopping in place'
# Banks of earlier versions have none of their own.
KAPPA = methods.TransferSettings().example_prior
EXAMPLES = model_files.examples()


@pytest.fixture(scope='module')
def shipped():
  return zsar_jax.load('stick_figures')


@pytest.fixture(scope='module')
def directions(shipped):
  found = example_videos.directions(
    shipped.recognizer, shipped.bank, {NAME: EXAMPLES[:3]}
  )
  return found[NAME]


def add(path, output, *flags):
  argv = ['bank', 'add', str(path), f'--output={output}', *flags]
  return cli.exit_code(bank.main, argv)


def prototype(model, name):
  return model._candidates.prototypes[model.classes.index(name)]


def test_python_mixes_name_and_examples(shipped, directions):
  model = shipped.clear_classes().add_classes(['Hopping in place', 'rowing'])
  by_name = prototype(model, NAME)
  model.clear_classes().add_classes(
    [NAME, 'rowing'], videos={'HoppingInPlace': EXAMPLES[:3]}
  )
  wanted = KAPPA * by_name + directions.sum(axis=0)
  np.testing.assert_allclose(
    prototype(model, NAME), wanted / np.linalg.norm(wanted), atol=1e-5
  )
  assert any(f'{NAME} (3)' in text for text in model.warnings)
  prediction = model.predict(EXAMPLES[0])
  ranked = {r.name: r for r in prediction.ranking}
  assert (ranked[NAME].examples, ranked['rowing'].examples) == (3, 0)
  assert ranked[NAME].examples_share == pytest.approx(3 / (3 + KAPPA))
  assert ranked['rowing'].examples_share == 0
  # The name's part still says what it is made of.
  assert sum(w for _, w in ranked[NAME].composited_from) > 0.5
  assert chart.describe_source(ranked[NAME]).startswith(
    f'made of 3 example videos {3 / (3 + KAPPA):.0%}, the name'
  )
  assert chart.describe_source(ranked['rowing']).startswith('composited from')
  # Forgotten with the classes.
  model.clear_classes().add_classes([NAME])
  np.testing.assert_allclose(prototype(model, NAME), by_name, atol=1e-5)


def test_examples_that_cancel_the_name_out_add_nothing(shipped):
  model = shipped.clear_classes().add_classes(['rowing', NAME])
  opposite = -KAPPA * prototype(model, NAME)[None]
  chosen = model.clear_classes().add_classes(['rowing'])._candidates
  before = chosen.prototypes
  with pytest.raises(ValueError, match=f"videos of '{NAME}' are opposite"):
    chosen.add([NAME], model.recognizer, {NAME: opposite})
  assert chosen.names == ('rowing',) and len(chosen.text) == 1
  np.testing.assert_array_equal(chosen.prototypes, before)
  chosen.add([NAME], model.recognizer)
  assert chosen.counts.tolist() == [0, 0]


def test_a_file_counts_once_however_it_is_written(shipped, tmp_path):
  link = tmp_path / 'link.mp4'
  link.symlink_to(EXAMPLES[0])
  folder, name = os.path.split(EXAMPLES[0])
  again = os.path.join(folder, '.', name)
  paths = [EXAMPLES[0], again, link, EXAMPLES[1]]
  checked = example_videos.check(shipped.bank, [NAME], {NAME: paths})
  assert len(checked[NAME]) == 2


def test_the_bank_remembers_examples_and_takes_more(
  shipped, directions, tmp_path, capsys
):
  own = f'{model_files.resolve("stick_figures")}/bank.safetensors'
  first, second = (
    tmp_path / 'first.safetensors',
    tmp_path / 'second.safetensors',
  )
  flags = '--workdir=stick_figures', f'--classes={NAME}'
  assert add(own, first, *flags, f'--videos={EXAMPLES[0]},{EXAMPLES[1]}') == 0
  assert f'{NAME}  <- 2 example videos' in capsys.readouterr().out
  # Given twice in one go, a video counts once.
  again = f'--videos={EXAMPLES[2]},{EXAMPLES[2]}'
  assert add(first, second, *flags, again) == 0
  assert f'{NAME}  <- 3 example videos' in capsys.readouterr().out
  made = prototype_bank.load_bank(str(second))
  assert made.example_counts.tolist() == [3]
  np.testing.assert_allclose(
    made.example_sums[0], directions.sum(axis=0), atol=1e-5
  )
  assert f'   3 examples  {NAME}' in prototype_bank.describe(made)
  # A prediction that names the class among others has its examples.
  code = cli.exit_code(
    predict.main,
    [
      'predict',
      f'--bank={second}',
      '--workdir=stick_figures',
      f'--video={EXAMPLES[0]}',
      f'--classes=rowing,{NAME}',
      '--json',
    ],
  )
  assert code == 0
  ranked = json.loads(capsys.readouterr().out)['ranking']
  assert {r['name']: r['examples'] for r in ranked} == {NAME: 3, 'rowing': 0}


@pytest.mark.parametrize(
  'flags,reason',
  [
    (
      (f'--classes={NAME}', '--videos=nothing*.mp4'),
      'no file matches --videos',
    ),
    ((f'--classes={NAME}', '--videos=none.mp4'), '--videos=none.mp4 does not'),
    (('--classes=a,b', f'--videos={EXAMPLES[0]}'), 'are of one class'),
    # As of a variable of the shell that is empty.
    (('--classes=a', '--videos='), '--videos= does not exist'),
    (
      ('--classes=waving both arms slowly', f'--videos={EXAMPLES[0]}'),
      "'waving both arms slowly' is a seen class",
    ),
  ],
)
def test_the_command_refuses_early(flags, reason, tmp_path, capsys):
  own = f'{model_files.resolve("stick_figures")}/bank.safetensors'
  output = tmp_path / 'bank.safetensors'
  # No encoder is read: there is none in this workdir.
  assert add(own, output, f'--workdir={tmp_path}', *flags) == 1
  assert reason in capsys.readouterr().err
  assert not output.exists()


def test_videos_that_cannot_be_read_are_all_named(shipped, tmp_path):
  bad = [str(tmp_path / name) for name in ('a.mp4', 'b.mp4')]
  for path in bad:
    with open(path, 'wb') as f:
      f.write(b'no video')
  shipped.clear_classes()
  with pytest.raises(ValueError, match='2 of 3 example videos') as error:
    shipped.add_classes(['rowing'], {'rowing': [bad[0], EXAMPLES[0], bad[1]]})
  assert all(path in str(error.value) for path in bad)
  assert shipped.classes == ()


def test_examples_of_the_wrong_names_are_refused(shipped):
  shipped.clear_classes()
  for videos, reason in (
    ({'juggling': EXAMPLES}, 'none of the names: rowing'),
    ({'waving both arms slowly': EXAMPLES}, 'is a seen class'),
    ({'rowing': []}, 'no path'),
    ({'rowing': EXAMPLES[0]}, 'must be in a list'),
    ({'rowing': 5}, 'must be in a list, got 5'),
    ({'rowing': [EXAMPLES[0], None]}, "'rowing' must be paths, got None"),
    ({1: EXAMPLES}, 'videos: expected a name, got 1'),
    (EXAMPLES[:1], r'videos: expected class name -> list of paths, got \['),
  ):
    with pytest.raises(ValueError, match=reason):
      shipped.add_classes(['rowing'], videos)
  with pytest.raises(ValueError, match='need a prototype bank'):
    example_videos.check(None, ['rowing'], {'rowing': EXAMPLES})


def test_a_classifier_takes_examples_less_the_mean_of_videos(folder, video):
  model = zsar_jax.load(folder)
  with pytest.raises(ValueError, match='Build it again with videos'):
    model.add_classes(['word7'], {'word7': [video]})
  # As `bank build --dataset` leaves it.
  by_name = prototype(model.add_classes(['word7']), 'word7')
  read = example_videos.read(model.recognizer, video)
  z = model.recognizer.encode_videos(read.clips[None])[0][0, 0]
  centre = 0.5 * z + 0.1
  known = action_model.ActionModel(
    model.recognizer, dataclasses.replace(model.bank, centre=centre)
  ).add_classes(['word7'], {'word7': [video]})
  shared = centre / np.linalg.norm(centre)
  away = z - (z @ shared) * shared
  away /= np.linalg.norm(away)
  wanted = KAPPA * by_name + away
  np.testing.assert_allclose(
    prototype(known, 'word7'), wanted / np.linalg.norm(wanted), atol=1e-5
  )
  with pytest.raises(ValueError, match='the mean of all classes'):
    action_model.ActionModel(
      model.recognizer, dataclasses.replace(model.bank, centre=z)
    ).add_classes(['word7'], {'word7': [video]})


def test_examples_survive_saving_and_merging(shipped, tmp_path):
  text = np.eye(2, shipped.bank.class_embeddings.shape[1], dtype=np.float32)
  with_names = bank_changes.add_names(shipped.bank, ['rowing', 'b'], text)
  z = np.eye(2, shipped.bank.seen_prototypes.shape[1], dtype=np.float32)
  given = bank_changes.add_examples(with_names, 'b', z)
  larger = bank_changes.add_names(given, ['c'], text[:1])
  assert prototype_bank.examples_of(larger) == {'rowing': 0, 'b': 2, 'c': 0}
  path = str(tmp_path / 'bank.safetensors')
  prototype_bank.save_bank(larger, path)
  back = prototype_bank.load_bank(path)
  np.testing.assert_array_equal(back.example_sums, larger.example_sums)
  merged = bank_changes.merge([back, given])
  assert prototype_bank.examples_of(merged) == {'b': 4, 'c': 0, 'rowing': 0}
  np.testing.assert_array_equal(merged.example_sums[0], 2 * z.sum(axis=0))
  # Where the class was seen, its examples are videos of it.
  seen = dataclasses.replace(
    shipped.bank,
    seen_classes=('b', *shipped.bank.seen_classes[1:]),
    class_embeddings=np.concatenate(
      [text[1:], shipped.bank.class_embeddings[1:]]
    ),
  )
  joined = bank_changes.merge([seen, given])
  at = joined.seen_classes.index('b')
  assert 'b' not in joined.added_classes and joined.example_counts is None
  assert joined.counts[at] == seen.counts[0] + 2
  with pytest.raises(ValueError, match='none of the added classes'):
    bank_changes.add_examples(given, 'x', z)


def test_damaged_examples_are_named(shipped, tmp_path):
  path = str(tmp_path / 'bank.safetensors')
  shape = len(shipped.bank.added_classes), 3
  for changes in (
    {'example_counts': np.zeros(5, np.int64)},
    {'example_counts': np.zeros(shape[0], np.int64)},
    {'centre': np.full(shipped.bank.seen_prototypes.shape[1], np.nan)},
  ):
    damaged = dataclasses.replace(shipped.bank, **changes)
    prototype_bank.save_bank(damaged, path)
    with pytest.raises(ValueError, match=r'(example_|centre).* expected'):
      prototype_bank.load_bank(path)
