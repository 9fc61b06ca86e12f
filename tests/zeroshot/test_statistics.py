import itertools

import numpy as np
import pytest
from scipy import stats

from zsar_jax.zeroshot import statistics


def family(correct, labels, stratified=True):
  correct = np.asarray(correct, float)
  n = len(labels)
  counts = np.bincount(labels)
  weight = np.full(n, 1 / n)
  if stratified:
    weight = 1 / (len(np.unique(labels)) * counts[labels])
  return statistics.Gains(correct * weight[:, None], weight, stratified)


RNG = np.random.default_rng(1)
LABELS = np.repeat(np.arange(8), 12)
GROUPS = [f'{label} {i // 3}' for i, label in enumerate(LABELS)]
CORRECT = RNG.random((96, 3)) < RNG.random(8)[LABELS][:, None]


def test_interval_is_numpys_percentile():
  x = RNG.normal(size=(1003, 4))
  np.testing.assert_allclose(
    statistics.interval(x), np.quantile(x, [0.025, 0.975], axis=0)
  )


@pytest.mark.parametrize('stratified', [True, False])
def test_intervals_over_videos_equal_a_plain_bootstrap(stratified):
  (ours,) = statistics.resample(
    [family(CORRECT, LABELS, stratified)], LABELS, GROUPS
  )
  rng = np.random.default_rng(5)
  groups = np.array(GROUPS)
  plain = []
  for _ in range(2000):
    drawn = []
    for c in range(8):
      own = np.unique(groups[LABELS == c])
      drawn += [np.flatnonzero(groups == g) for g in rng.choice(own, len(own))]
    at = np.concatenate(drawn)
    if stratified:
      values = [CORRECT[at][LABELS[at] == c].mean(0) for c in range(8)]
      plain.append(np.mean(values, axis=0))
    else:
      plain.append(CORRECT[at].mean(axis=0))
  np.testing.assert_allclose(
    statistics.interval(ours.over_videos),
    np.quantile(plain, [0.025, 0.975], axis=0),
    atol=0.015,
  )
  np.testing.assert_allclose(ours.values, np.mean(CORRECT, axis=0))


def test_intervals_over_classes_equal_a_plain_bootstrap():
  sources = [*'aaabbbbb']
  (ours,) = statistics.resample(
    [family(CORRECT, LABELS)], LABELS, GROUPS, sources
  )
  rng = np.random.default_rng(5)
  groups, plain = np.array(GROUPS), []
  for _ in range(2000):
    values = []
    for own in (range(3), range(3, 8)):
      for c in rng.choice(list(own), len(own)):
        mine = np.unique(groups[LABELS == c])
        at = [np.flatnonzero(groups == g) for g in rng.choice(mine, len(mine))]
        values.append(CORRECT[np.concatenate(at)].mean(axis=0))
    plain.append(np.mean(values, axis=0))
  np.testing.assert_allclose(
    statistics.interval(ours.over_classes),
    np.quantile(plain, [0.025, 0.975], axis=0),
    atol=0.02,
  )


def test_bootstrap_agrees_with_scipy_for_one_class():
  # One class, every video its own group: the textbook case.
  correct = (RNG.random((200, 1)) < 0.3).astype(float)
  labels = np.zeros(200, int)
  (ours,) = statistics.resample(
    [family(correct, labels)], labels, [str(i) for i in range(200)]
  )
  theirs = stats.bootstrap(
    (correct[:, 0],), np.mean, n_resamples=9999, method='percentile', rng=0
  ).confidence_interval
  low, high = statistics.interval(ours.over_videos)
  assert low[0] == pytest.approx(theirs.low, abs=0.01)
  assert high[0] == pytest.approx(theirs.high, abs=0.01)


def test_whole_groups_widen_the_interval():
  same = np.repeat(RNG.random(32) < 0.5, 3)[:, None]
  alone = [str(i) for i in range(96)]
  width = {}
  for name, groups in (('groups', GROUPS), ('videos', alone)):
    (drawn,) = statistics.resample([family(same, LABELS)], LABELS, groups)
    low, high = statistics.interval(drawn.over_videos)
    width[name] = high[0] - low[0]
  assert width['groups'] > 1.4 * width['videos']


def test_the_same_seed_gives_the_same_draws_for_every_family():
  a = statistics.resample([family(CORRECT, LABELS)], LABELS, GROUPS)[0]
  both = statistics.resample(
    [family(CORRECT, LABELS), family(CORRECT, LABELS, False)], LABELS, GROUPS
  )
  np.testing.assert_array_equal(a.over_videos, both[0].over_videos)
  # Identical methods differ by nothing in every resample.
  twice = np.repeat(CORRECT[:, :1], 2, axis=1)
  (drawn,) = statistics.resample([family(twice, LABELS)], LABELS, GROUPS)
  np.testing.assert_array_equal(
    drawn.over_classes[:, 0], drawn.over_classes[:, 1]
  )


def test_class_values_are_the_classes_own_means():
  (drawn,) = statistics.resample([family(CORRECT, LABELS)], LABELS, GROUPS)
  np.testing.assert_allclose(
    drawn.class_values, [CORRECT[LABELS == c].mean(0) for c in range(8)]
  )
  np.testing.assert_allclose(drawn.class_weights, np.full(8, 1 / 8))


def test_sign_flips_by_hand():
  # All four patterns of two classes: |sum| is 0.3, 0.1, 0.1, 0.3.
  p = statistics.sign_flip_test(np.array([[0.4], [0.2]]), np.array([0.5, 0.5]))
  assert p == pytest.approx(2 / 4)


def test_sign_flips_equal_scipys_permutation_test():
  differences = RNG.normal(0.4, 1, size=10)
  p = statistics.sign_flip_test(differences[:, None], np.full(10, 0.1))
  theirs = stats.permutation_test(
    (differences,),
    np.mean,
    permutation_type='samples',
    alternative='two-sided',
    n_resamples=np.inf,
  )
  assert p[0] == pytest.approx(theirs.pvalue)


def test_many_classes_are_flipped_at_random():
  differences = RNG.normal(0.1, 1, size=(60, 2))
  p = statistics.sign_flip_test(differences, np.full(60, 1 / 60))
  z = differences.mean(0) / differences.std(0) * np.sqrt(60)
  np.testing.assert_allclose(p, 2 * stats.norm.sf(np.abs(z)), atol=0.03)
  sure = statistics.sign_flip_test(np.ones((60, 1)), np.full(60, 1 / 60))
  assert sure[0] == pytest.approx(1e-4)  # never zero


def test_holm_by_hand():
  np.testing.assert_allclose(
    statistics.holm([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5]
  )
  assert statistics.holm([]).size == 0


def test_no_difference_has_p_one():
  p = statistics.sign_flip_test(np.zeros((5, 1)), np.full(5, 0.2))
  assert p[0] == 1


def test_every_pattern_is_counted_once():
  differences = np.array([0.3, -0.2, 0.5, 0.1])
  observed = abs(differences.sum())
  patterns = itertools.product((1, -1), repeat=4)
  wanted = np.mean(
    [abs(np.dot(p, differences)) >= observed - 1e-12 for p in patterns]
  )
  p = statistics.sign_flip_test(differences[:, None], np.full(4, 0.25))
  assert p[0] == pytest.approx(wanted)
