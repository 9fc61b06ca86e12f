"""Weights between a run's public start and its end."""

import dataclasses
import json
import os
import types

import jax
import numpy as np
import optax
import pytest

from tests import tiny
from tests.pretrained import test_initialisation
import zsar_jax
from zsar_jax import cli, config_utils, evaluate
from zsar_jax.inference import (
  bank_building,
  evaluate_run,
  interpolation,
  model_builder,
  saved_encoders,
  starts,
)
from zsar_jax.parallel import sharding
from zsar_jax.pretrained import initialisation
from zsar_jax.training import checkpointing, train_state

bert, vit = test_initialisation.bert, test_initialisation.vit


class Run:
  """A finished run without its training: its end is its start and noise."""

  def __init__(self, folder, bert, vit, **changes):
    self.workdir = str(folder)
    config = tiny.config(
      init__text=bert,
      init__video=vit,
      preprocessing__token_length=60,
      preprocessing__inputs='rgb',
      preprocessing__num_frames=2,
      data__stick_figures__clips_per_class=2,
      data__stick_figures__test_clips_per_class=1,
      # A tree of its own: the end is the average.
      optim__ema_decay=0.5,
      optim__frozen=('^text_encoder/',),
      seed=7,
      **changes,
    )
    self.start = starts.start(config)
    config = self.start.config
    prep = model_builder.make_preprocessing(config, self.start.pieces)
    seen = evaluate_run.make_protocol(config).seen_classes
    model = model_builder.build_model(
      config, prep, model_builder.vocabulary_size(self.start.pieces), len(seen)
    )
    state = train_state.init_state(
      model,
      optax.set_to_zero(),
      model_builder.input_shapes(prep),
      jax.random.key(config.seed),
      sharding.make_mesh(config.mesh),
      with_ema=True,
    )
    params = initialisation.put(state.params, self.start.loaded)
    self.params = jax.tree.map(np.asarray, params)
    rng = np.random.default_rng(0)
    self.end = jax.tree.map(
      lambda x: (x + 0.1 * rng.normal(size=x.shape)).astype(x.dtype),
      self.params,
    )
    meta = {
      'config': config_utils.to_dict(config),
      'vocabulary': self.start.pieces,
      'seen_classes': list(seen),
      'preprocessing': prep.to_json(),
      'descriptions': {},
    }
    shardings = jax.tree.map(lambda x: x.sharding, params)
    average = jax.device_put(self.end, shardings)
    state = dataclasses.replace(state, params=params, ema=average)
    with checkpointing.Checkpoints(self.workdir, 1) as checkpoints:
      checkpoints.save(state, meta)
      checkpoints.wait()


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  return [fixture.__wrapped__(folder) for fixture in (bert, vit)]


@pytest.fixture(scope='module')
def run(weights, tmp_path_factory):
  return Run(tmp_path_factory.mktemp('run'), *weights)


@pytest.fixture(scope='module')
def inner(weights, tmp_path_factory):
  changes = {'data__inner_draw': 0, 'data__inner_share': 0.5}
  return Run(tmp_path_factory.mktemp('inner'), *weights, **changes)


def evaluated(*argv):
  return cli.exit_code(evaluate.main, ['evaluate', *map(str, argv)])


def test_the_start_is_that_of_the_training(run):
  recognizer = saved_encoders.load(run.workdir)
  start = interpolation.starting_params(recognizer, 'run')
  jax.tree.map(np.testing.assert_array_equal, start, run.params)
  jax.tree.map(np.testing.assert_array_equal, recognizer.params, run.end)
  # Both ends are met to the bit, and a point between them is between them.
  at = lambda c: jax.tree.leaves(
    interpolation.between(recognizer, start, c).params
  )
  for got, a, b in zip(
    at(0.25),
    jax.tree.leaves(start),
    jax.tree.leaves(recognizer.params),
    strict=True,
  ):
    np.testing.assert_allclose(got, 0.75 * a + 0.25 * b, rtol=1e-6, atol=1e-7)
  for c, wanted in ((0, start), (1, recognizer.params)):
    for got, leaf in zip(at(c), jax.tree.leaves(wanted), strict=True):
      np.testing.assert_array_equal(got, leaf)
  hashes = {
    interpolation.between(recognizer, start, c).weights_hash
    for c in (0, 0.5, 1)
  }
  assert len(hashes) == 3 and recognizer.weights_hash in hashes


def test_a_model_of_our_own_may_be_the_start(tmp_path):
  run = Run(
    tmp_path / 'run', '', '', init__model='stick_figures', data__inner_draw=0
  )
  recognizer = saved_encoders.load(run.workdir)
  start = interpolation.starting_params(recognizer, 'run')
  jax.tree.map(np.testing.assert_array_equal, start, run.params)
  ours = saved_encoders.load('stick_figures')
  # All of the model but the centres of its seen classes.
  for key, own in ours.params.items():
    if key != 'class_centres':
      jax.tree.map(np.testing.assert_array_equal, start[key], own)
  assert len(start['class_centres']) < len(ours.seen_classes)
  assert recognizer.origin.startswith('model=stick_figures:')
  # What the start was trained on is no unseen class of the run any more.
  unseen = ours.seen_classes[:1]
  assert unseen[0] not in recognizer.seen_classes
  protocol = types.SimpleNamespace(
    name='other', seen_classes=recognizer.seen_classes, unseen_classes=unseen
  )
  with pytest.raises(ValueError, match=f'unseen {unseen[0]!r}'):
    bank_building.check_unseen(recognizer, [protocol])


def test_a_row_for_each_coefficient_and_inner_draws_choose(
  run, inner, tmp_path, capsys
):
  exported, out = tmp_path / 'model', tmp_path / 'results.json'
  code = evaluated(
    f'--workdir={run.workdir}',
    '--interpolate=0',
    f'--inner={inner.workdir}',
    f'--export={exported}',
    f'--output={out}',
  )
  captured = capsys.readouterr()
  assert code == 0, captured.err
  content = json.loads(out.read_text())
  found = content['interpolation']
  assert [*found['rows']] == ['0', '1'] == [*found['inner_accuracies']]
  (draw,) = found['chosen_on']
  assert '#inner0' in draw and draw in captured.out
  # One draw has no standard error: the end stays.
  assert found['coefficient'] == 1
  assert found['rows']['1'] == content['rows'] != found['rows']['0']
  assert any(line.startswith('1*') for line in captured.out.splitlines())
  # No settings were chosen, and no bank was replaced.
  assert not os.path.exists(f'{run.workdir}/choice.json')
  assert not os.path.exists(f'{run.workdir}/bank.safetensors')
  model = zsar_jax.load(str(exported)).add_classes(['rowing'])
  assert model.recognizer.weights_hash == content['weights_hash']
  assert evaluated(f'--workdir={exported}', '--interpolate=0') == 1
  assert 'does not say where that is' in capsys.readouterr().err


def test_the_coefficient_of_inner_draws_is_reported(run, monkeypatch):
  recognizer = saved_encoders.load(run.workdir)

  class Outcome:
    def __init__(self, encoders, choice):
      self.content = {'rows': [], 'weights_hash': encoders.weights_hash}
      # Their calibration is of their ends, their settings are of use.
      assert 'calibration' not in choice and choice['settings']['top_k'] == 3

  choice = {'coefficient': 0.5, 'chosen_on': ['a', 'b'], 'inner_accuracies': {}}
  monkeypatch.setattr(interpolation, 'choose_on', lambda *_: choice)
  outcome = interpolation.evaluate(
    recognizer,
    interpolation.read_sweep(run.workdir, '0.5,0', '', ''),
    Outcome,
    {'settings': {'top_k': 3}, 'calibration': {}},
    lambda text: None,
  )
  assert outcome.content['interpolation']['coefficient'] == 0.5
  start = interpolation.starting_params(recognizer, 'run')
  middle = interpolation.between(recognizer, start, 0.5)
  assert outcome.content['weights_hash'] == middle.weights_hash
  assert middle.weights_hash != recognizer.weights_hash


def test_runs_without_a_start_say_so(run, inner, tmp_path, capsys):
  # The model that ships began with random values.
  flags = '--workdir=stick_figures', f'--output={tmp_path / "results.json"}'
  assert evaluated(*flags, '--interpolate=0') == 1
  assert 'started from random values' in capsys.readouterr().err
  # Told before the run is read.
  assert evaluated('--workdir=nowhere', '--interpolate=2') == 1
  assert "'2' is no number in [0, 1]" in capsys.readouterr().err
  assert evaluated('--scores=x', '--labels=y', '--interpolate=0') == 1
  assert '--interpolate needs --workdir' in capsys.readouterr().err
  assert evaluated(f'--workdir={run.workdir}', f'--export={tmp_path}') == 1
  assert '--export needs --interpolate' in capsys.readouterr().err
  # An inner draw that began elsewhere has other coefficients.
  recognizer = saved_encoders.load(run.workdir)
  recognizer.config.init.loaded = 'text=other:0123'
  sweep = interpolation.Sweep('run', (0.0, 1.0), (inner.workdir,))
  with pytest.raises(ValueError, match='holds for one start'):
    interpolation.choose_on(
      sweep, recognizer, recognizer.transfer_settings, lambda text: None
    )


def test_public_weights_that_have_changed_are_refused(run):
  recognizer = saved_encoders.load(run.workdir)
  path = os.path.join(recognizer.config.init.text, 'model.safetensors')
  with open(path, 'rb') as f:
    content = f.read()
  try:
    # The last byte of the last tensor.
    with open(path, 'wb') as f:
      f.write(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match='have changed: run began with'):
      interpolation.starting_params(recognizer, 'run')
    os.remove(path)
    with pytest.raises(FileNotFoundError, match='tiny-bert'):
      interpolation.starting_params(recognizer, 'run')
  finally:
    with open(path, 'wb') as f:
      f.write(content)
