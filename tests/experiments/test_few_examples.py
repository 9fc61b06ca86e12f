"""The tables of example videos, on random arrays."""

import dataclasses

import numpy as np
import pytest

from experiments import few_examples
from tests.evaluation import problems
from zsar_jax.evaluation import methods
from zsar_jax.evaluation.protocol_evaluation import Evaluation


@pytest.fixture(scope='module')
def made():
  seen, unseen, videos, _ = problems.problem(u=4, n=80, spread=1.0)
  # Sessions of one video: ten examples and ten tested videos a class.
  videos = dataclasses.replace(videos, groups=tuple(map(str, range(80))))
  evaluation = Evaluation(
    seen, None, unseen, videos, tuple(f'v{i}' for i in range(80))
  )
  return few_examples.Problem(evaluation, methods.TransferSettings())


def cells(lines):
  return [line.split() for line in lines[2:]]


def test_every_number_of_examples_tests_the_same_videos(made):
  assert len(made.draws) == few_examples.NUM_DRAWS
  for n in few_examples.NUM_EXAMPLES:
    assert {s.shape for s in made.scores(n, 1.0)} == {(40, 4)}
  assert made.accuracies(made.scores(0, 1.0)).shape == (20, 4)
  halves = made.halves()
  assert (halves.sum(axis=1) == 2).all() and len(np.unique(halves, axis=0)) > 2


def test_intervals_hold_the_means_of_the_draws(made, monkeypatch):
  monkeypatch.setattr('zsar_jax.zeroshot.statistics.RESAMPLES', 50)
  rows = cells(few_examples.test_table([made], [1.0]))
  # No examples, then four numbers of them, with the name and without.
  assert [row[0] for row in rows] == ['0', '1', '2', '5', '10'] + [
    '1',
    '2',
    '5',
    '10',
  ]
  for row in rows[:5]:
    wanted = 100 * made.accuracies(made.scores(int(row[0]), 1.0)).mean()
    value, low, high = float(row[4]), float(row[6]), float(row[8])
    assert value == pytest.approx(wanted, abs=0.06) and low <= value <= high


def test_halves_and_choice(made):
  rows = cells(few_examples.fairness_table([made], [1.0], ()))
  # Without examples all columns are about one accuracy.
  assert float(rows[0][4]) == pytest.approx(
    (float(rows[0][1]) + float(rows[0][2])) / 2, abs=0.1
  )
  lines, chosen = few_examples.inner_table([made, made], 1.0)
  assert lines[-1] == f'chosen: {chosen:g}'
  assert len(lines) == 2 + len(few_examples.NUM_EXAMPLES) + 1
