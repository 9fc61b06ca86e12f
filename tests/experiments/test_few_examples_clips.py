"""Example videos on clips of several sources, on random arrays."""

import dataclasses

import numpy as np
import pytest

from experiments import few_examples, few_examples_clips
from tests.evaluation import problems
from zsar_jax.evaluation import methods
from zsar_jax.evaluation.protocol_evaluation import Evaluation


def problem(seed):
  seen, unseen, videos, _ = problems.problem(u=4, n=96, spread=1.0, seed=seed)
  unseen = dataclasses.replace(unseen, sources=('a', 'a', 'b', 'b'))
  # Sessions of one video of each class.
  groups = tuple(f'{seed}:{i // 4}' for i in range(96))
  videos = dataclasses.replace(videos, groups=groups)
  ids = tuple(f'{seed}:{i}' for i in range(96))
  evaluation = Evaluation(seen, None, unseen, videos, ids)
  return few_examples.Problem(evaluation, methods.TransferSettings())


@pytest.fixture(scope='module')
def made():
  return [problem(0), problem(1)]


def test_splits_are_measured_together(made, monkeypatch):
  monkeypatch.setattr('zsar_jax.zeroshot.statistics.RESAMPLES', 50)
  lines = few_examples.test_table(made, [0.5, 2.0])
  assert 'same source %' in lines[0] and 'all %' in lines[0]
  for line in lines[2:7]:
    cells = line.split()
    n, same, every, sd = int(cells[0]), cells[4], cells[12], cells[13]
    of_splits = [
      p.accuracies(p.scores(n, k)) for p, k in zip(made, (0.5, 2), strict=True)
    ]
    wanted = 100 * np.mean(of_splits)
    assert float(every) == pytest.approx(wanted, abs=0.06)
    assert float(same) >= float(every)
    of_draws = np.mean([x.mean(axis=1) for x in of_splits], axis=0)
    assert float(sd) == pytest.approx(100 * of_draws.std(), abs=0.06)


def test_each_split_chooses_on_its_own_draws(made, monkeypatch):
  chosen = iter((0.25, 1.0))
  tables = few_examples.inner_table
  monkeypatch.setattr(
    few_examples,
    'inner_table',
    lambda draws, default: (
      tables(draws, default)[0],
      default if draws == made * 2 else next(chosen),
    ),
  )
  lines, priors = few_examples_clips.inner_table([made, made])
  assert priors == [0.25, 1.0]
  assert lines[-1] == 'chosen for each split: 0.25, 1'
