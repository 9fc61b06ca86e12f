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


@pytest.mark.parametrize('level', [0.5, 0.9, 1.0])
@pytest.mark.parametrize('r', [1, 2, 10, 101])
def test_any_interval_is_numpys(level, r):
  x = RNG.normal(size=(r, 3))
  tail = (1 - level) / 2
  np.testing.assert_allclose(
    statistics.interval(x, level), np.quantile(x, [tail, 1 - tail], axis=0)
  )


@pytest.mark.parametrize('groups', [1, 5, 2**16, 2**16 + 1])
def test_a_draw_is_of_as_many_groups_as_there_are(groups):
  rng = np.random.default_rng(0)
  counts = statistics._draw(rng, groups, 3)
  assert counts.shape == (3, groups) and counts.dtype == np.float64
  assert (counts.sum(axis=1) == groups).all()


def test_every_group_is_drawn_alike_and_every_resample_anew():
  counts = statistics._draw(np.random.default_rng(0), 4, 4000)
  np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.06)
  # Binomial(4, 1/4).
  np.testing.assert_allclose(counts.var(axis=0), 0.75, atol=0.06)
  assert len(np.unique(counts, axis=0)) == 35  # all ways to draw 4 of 4


def test_a_class_that_is_drawn_twice_draws_its_groups_twice():
  # Two like classes: whichever are drawn, the mean is of two fresh draws.
  labels = np.repeat([0, 1], 12)
  correct = np.tile(np.arange(12) % 2, 2)[:, None]
  (drawn,) = statistics.resample(
    [family(correct, labels)], labels, [str(i) for i in range(24)]
  )
  assert drawn.over_classes.var() == pytest.approx(
    drawn.over_videos.var(), rel=0.1
  )
  # Of one class with 12 videos, half of them right: 0.25 / 12.
  assert drawn.over_videos.var() == pytest.approx(0.25 / 24, rel=0.1)


def test_classes_are_drawn_within_their_source():
  classes = np.arange(5)
  times = statistics._class_multiplicity(
    classes, [*'aabbb'], 3000, np.random.default_rng(0)
  )
  assert times.shape == (5, 3000)
  assert (times[:2].sum(axis=0) == 2).all()
  assert (times[2:].sum(axis=0) == 3).all()
  np.testing.assert_allclose(times.mean(axis=1), 1, atol=0.06)
  times = statistics._class_multiplicity(
    classes, (), 3000, np.random.default_rng(0)
  )
  assert (times.sum(axis=0) == 5).all() and times[:2].sum(axis=0).max() > 2


def test_a_class_that_weighs_nothing_changes_nothing():
  labels = np.array([0, 0, 1, 1])
  weight = np.array([0.5, 0.5, 0.0, 0.0])
  gains = statistics.Gains(
    weight[:, None] * [[1.0], [0], [1], [1]], weight, True
  )
  (drawn,) = statistics.resample([gains], labels, [*'abcd'], resamples=200)
  assert drawn.values == pytest.approx(0.5)
  np.testing.assert_allclose(drawn.class_weights, [1, 0])
  np.testing.assert_allclose(drawn.class_values, [[0.5], [0]])
  assert set(drawn.over_videos[:, 0]) == {0.0, 0.5, 1.0}
  # Where it is all that is drawn there is no figure.
  empty = np.isnan(drawn.over_classes[:, 0])
  assert 0.15 < empty.mean() < 0.35
  assert drawn.over_classes[~empty].min() >= 0
  assert drawn.over_classes[~empty].max() <= 1


def test_labels_without_videos_leave_the_others_their_draws():
  labels = np.array([0, 0, 0, 3, 3, 3])
  correct = np.array([[1.0], [0], [0], [1], [1], [0]])
  (drawn,) = statistics.resample(
    [statistics.Gains(correct / 6, np.full(6, 1 / 6), True)],
    labels,
    [*'abcdef'],
    ['x', 'x', 'x', 'y'],
    resamples=300,
  )
  np.testing.assert_allclose(drawn.class_values, [[1 / 3], [2 / 3]])
  # One class in each source: both are always there.
  np.testing.assert_allclose(drawn.over_classes, drawn.over_videos)


def test_resamples_depend_on_the_seed():
  draw = lambda **seed: statistics.resample(
    [family(CORRECT, LABELS)], LABELS, GROUPS, resamples=20, **seed
  )[0]
  np.testing.assert_array_equal(draw().over_videos, draw(seed=0).over_videos)
  assert (draw().over_videos != draw(seed=1).over_videos).any()
  assert (draw().over_classes != draw(seed=1).over_classes).any()


def test_14_classes_are_tested_exactly_and_15_at_random():
  for c, patterns in ((14, 2**14), (15, 10_000)):
    p = statistics.sign_flip_test(np.ones((c, 1)), np.full(c, 1 / c))
    # Two patterns of all are as large; of random ones the observed alone.
    assert p[0] == pytest.approx((2 if c == 14 else 1) / patterns, abs=1.1e-4)
  flip = lambda *seed: statistics.sign_flip_test(
    RNG_DIFFERENCES, np.full(20, 0.05), *seed
  )
  assert flip().tolist() == flip(0).tolist() != flip(1).tolist()


RNG_DIFFERENCES = np.random.default_rng(7).normal(0.3, 1, size=(20, 9))


def test_weights_of_classes_count_in_the_sign_flips():
  # Alone the heavy class decides: half of the patterns are as large.
  p = statistics.sign_flip_test(
    np.array([[1.0], [-1.0], [1.0]]), np.array([0.8, 0.1, 0.1])
  )
  sums = [
    abs(a * 0.8 - b * 0.1 + c * 0.1)
    for a in (1, -1)
    for b in (1, -1)
    for c in (1, -1)
  ]
  assert p[0] == np.mean([s >= 0.8 - 1e-12 for s in sums])


def test_holm_never_passes_one_nor_falls():
  np.testing.assert_allclose(statistics.holm([0.6, 0.5, 0.02]), [1, 1, 0.06])
  np.testing.assert_allclose(statistics.holm([0.2]), [0.2])
  np.testing.assert_allclose(statistics.holm([0.02, 0.021]), [0.04, 0.04])
