"""Kills a real process, and tests that the resumed run is the same."""

import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import survival
from tests import processes, tiny
from tests.parallel import test_distributed
from zsar_jax import main

STEPS = 24
FLAGS = (
  f'--config.train.num_steps={STEPS}',
  '--config.train.validate_every=1000',
  '--config.train.checkpoint_every=4',
  '--config.optim.ema_decay=0.5',
  # Evaluating unseen classes is most of the time, and what is killed here are
  # steps; `benchmarks.survival` kills everything.
  '--config.data.train_only=True',
)


@pytest.fixture(scope='module')
def calm(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('calm') / 'run')
  main.main(['main', *tiny.flags(), *FLAGS, f'--workdir={workdir}'])
  return workdir


@pytest.mark.parametrize(
  'how,code',
  [
    (signal.SIGKILL, -9),
    # test_train.py and test_distributed.py have it too.
    pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow),
  ],
)
def test_a_killed_run_ends_as_if_it_never_was(calm, tmp_path, how, code):
  workdir = str(tmp_path / 'run')
  before = survival.shared_memory()
  log = tmp_path / 'log'
  argv = [sys.executable, '-m', 'zsar_jax.main', *tiny.flags(), *FLAGS]
  with (
    open(log, 'w') as f,
    processes.start(
      [*argv, f'--workdir={workdir}'],
      stdout=f,
      stderr=subprocess.STDOUT,
      cwd=tiny.ROOT,
      env=test_distributed.environment(8),
    ) as process,
  ):
    # A moment that differs from test to test, after the first steps.
    until = time.monotonic() + 120
    wanted = f'step {random.choice(range(4, 14, 2))}/'
    while wanted not in log.read_text() and process.poll() is None:
      assert time.monotonic() < until, log.read_text()
      time.sleep(0.02)
    process.send_signal(how)
    assert process.wait(60) == code, log.read_text()
    assert survival.of_session(process.pid) == []
  assert survival.shared_memory() <= before
  assert not (pathlib.Path(workdir) / 'results.json').exists()
  main.main(['main', *tiny.flags(), *FLAGS, f'--workdir={workdir}'])
  assert survival.differences(calm, workdir) == []
