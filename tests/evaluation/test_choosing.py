import dataclasses

import numpy as np
import pytest

from tests.evaluation import problems
from zsar_jax.evaluation import choosing, evaluator, methods
from zsar_jax.evaluation.protocol_evaluation import Evaluation

SEEN, UNSEEN, VIDEOS, SEEN_VIDEOS = problems.problem()
SETTINGS = methods.TransferSettings()


def draw(seed, **changes):
  seen, unseen, videos, seen_videos = problems.problem(
    u=5, seed=seed, **changes
  )
  return Evaluation(seen, None, unseen, videos, seen_videos=seen_videos)


@pytest.mark.parametrize('seeds', [(1, 2, 3), (4, 5, 6), (7, 8, 9, 10)])
def test_only_what_is_clearly_better_replaces_the_default(seeds):
  names = [f'draw {seed}' for seed in seeds]
  for default in (SETTINGS, methods.TransferSettings(temperature=0.4)):
    draws = [draw(seed) for seed in seeds]
    choice = choosing.choose(draws, default, names)
    table = choice['compared']
    assert 5 < len(table) <= 8
    assert table[0]['settings'] == dataclasses.asdict(default)
    for line in table:
      settings = methods.TransferSettings(**line['settings'])
      for one, value in zip(draws, line['accuracies'], strict=True):
        rows = evaluator.evaluate(
          one.seen,
          one.unseen,
          one.videos,
          settings,
          diagnose=False,
          resamples=9,
        )
        assert problems.values(rows)['transfer', 'per_class'] == pytest.approx(
          value
        )
    best = max(table, key=lambda line: np.mean(line['accuracies']))
    gain = np.subtract(best['accuracies'], table[0]['accuracies'])
    better = gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain))
    wanted = best if better else table[0]
    chosen = choice['settings']
    # They are chosen on their own.
    others = {'seen_penalty': None, 'example_prior': default.example_prior}
    assert {**chosen, **others} == wanted['settings']
    assert 0 <= chosen['seen_penalty'] <= 0.5
    assert choice['chosen_on'] == names
    assert choice['calibration']['measured_on'].endswith(', '.join(names))


def test_draws_must_exist_and_be_alike():
  with pytest.raises(ValueError, match='no inner draw'):
    choosing.choose([], SETTINGS, [])
  other = Evaluation(SEEN, None, UNSEEN, VIDEOS)
  with pytest.raises(ValueError, match=r'\[5, 6\] unseen classes'):
    choosing.choose([draw(1), other], SETTINGS, ['a', 'b'])


def test_without_draws_seen_classes_are_left_out_one_by_one():
  fitted = choosing.calibrate_on_seen(draw(1), SETTINGS, 'set/1')
  assert 'probabilities are too high' in fitted.measured_on
  assert 'set/1' in fitted.measured_on and fitted.num_videos == 40
  none = dataclasses.replace(draw(1), seen_videos=None)
  assert choosing.calibrate_on_seen(none, SETTINGS, 'x') is None
