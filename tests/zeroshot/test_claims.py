import itertools

import numpy as np
import pytest
from scipy import stats

from zsar_jax.zeroshot import claims

RNG = np.random.default_rng(0)
LABELS = np.arange(200) % 4
GROUPS = [f'g{i // 8}' for i in range(200)]
H = RNG.normal(size=(200, 10)) + 3 * np.eye(4, 10)[LABELS]


def test_nothing_is_lost_by_a_rotation():
  rotation = np.linalg.qr(RNG.normal(size=(10, 10)))[0]
  loss = claims.information_loss(H, H @ rotation, LABELS, GROUPS)
  assert loss.loss == pytest.approx(0, abs=0.05)
  assert loss.accuracy_before > 0.85 and loss.chance == 0.25


def test_everything_is_lost_by_noise_and_some_by_a_projection():
  noise = RNG.normal(size=(200, 10))
  assert claims.information_loss(H, noise, LABELS, GROUPS).loss > 0.8
  # Without the axes that tell classes 2 and 3 apart.
  part = claims.information_loss(H, H[:, :2], LABELS, GROUPS)
  assert 0.2 < part.loss < 0.6


def test_where_nothing_was_known_nothing_can_be_lost():
  noise = RNG.normal(size=(200, 3))
  loss = claims.information_loss(noise, H, LABELS, GROUPS)
  assert loss.loss is None and loss.accuracy_after > 0.85


def test_sessions_are_never_cut():
  # Each session looks like itself alone: read-outs that saw it would know.
  session = np.arange(200) // 8
  labels = session % 4
  looks = RNG.normal(size=(25, 60))[session]
  groups = [str(s) for s in session]
  loss = claims.information_loss(looks, looks, labels, groups)
  assert loss.accuracy_before < 0.5
  with pytest.raises(ValueError, match='5 recording sessions, got 2'):
    claims.information_loss(H, H, LABELS, ['a', 'b'] * 100)
  with pytest.raises(ValueError, match='two classes'):
    claims.information_loss(H, H, np.zeros(200, int), GROUPS)


def test_two_classes_and_as_many_sessions_as_folds_are_enough():
  labels = np.arange(200) % 2
  h = RNG.normal(size=(200, 10)) + 3 * np.eye(2, 10)[labels]
  groups = [f'g{i // 40}' for i in range(200)]
  loss = claims.information_loss(h, h, labels, groups, folds=5)
  assert loss.loss == 0 and loss.chance == 0.5
  with pytest.raises(ValueError, match='6 recording sessions, got 5'):
    claims.information_loss(h, h, labels, groups, folds=6)


def test_more_videos_than_are_needed_are_drawn_from():
  big = np.tile(H, (20, 1))
  groups = [f'{i}' for i in range(4000)]
  loss = claims.information_loss(big, big, np.tile(LABELS, 20), groups)
  assert loss.loss == 0


def test_gap_is_one_less_spearman():
  a, b = RNG.normal(size=(2, 5, 7))
  assert claims.semantic_gap(a, b) == pytest.approx(
    1 - stats.spearmanr(a.ravel(), b.ravel()).statistic
  )
  assert claims.semantic_gap(a, np.exp(a)) == pytest.approx(0)
  assert claims.semantic_gap(a, np.ones((5, 7))) == 1


def test_names_that_mean_something_pass_the_permutation_test():
  related = RNG.normal(size=(8, 12))
  visual = related + 0.5 * RNG.normal(size=(8, 12))
  assert claims.semantic_gap_test(related, visual) < 0.01
  nothing = [
    claims.semantic_gap_test(related, RNG.normal(size=(8, 12)), permutations=99)
    for _ in range(40)
  ]
  assert 0.3 < np.mean(nothing) < 0.7


def test_permuting_within_sources_asks_for_more_than_the_source():
  # Names know the source and nothing else.
  source = np.repeat([0, 1], 4)
  related = source[:, None] * np.ones(6) + 0.1 * RNG.normal(size=(8, 6))
  visual = source[:, None] * np.ones(6) + 0.1 * RNG.normal(size=(8, 6))
  assert claims.semantic_gap_test(related, visual) < 0.05
  within = claims.semantic_gap_test(related, visual, [*'aaaabbbb'])
  assert within > 0.05


def test_no_permutation_is_as_good_as_names_that_order_all():
  related = np.arange(40.0).reshape(8, 5)
  for permutations in (9, 49):
    p = claims.semantic_gap_test(related, related, permutations=permutations)
    assert p == pytest.approx(1 / (permutations + 1))
  # Where all names mean the same every permutation is as good.
  same = np.tile(np.arange(5.0), (8, 1))
  assert claims.semantic_gap_test(same, same, permutations=9) == 1
  # And the other way round all of them are better.
  assert claims.semantic_gap_test(related, -related, permutations=9) == 1


def test_the_permutation_test_has_999_permutations_and_a_seed():
  related = np.arange(40.0).reshape(8, 5)
  assert claims.semantic_gap_test(related, related) == pytest.approx(1e-3)
  noise = np.random.default_rng(0).normal(size=(8, 5))
  test = lambda **seed: claims.semantic_gap_test(related, noise, **seed)
  assert test() == test(seed=0) != test(seed=1)


def test_the_gap_is_between_0_and_2():
  a = np.random.default_rng(0).normal(size=(4, 6))
  assert claims.semantic_gap(a, -a) == pytest.approx(2)
  assert claims.spearman(np.ones(6), a.ravel()[:6]) == 0
  assert claims.spearman(a.ravel()[:6], np.ones(6)) == 0


def test_the_p_value_is_the_share_of_permutations_that_fit_as_well():
  related, visual = np.random.default_rng(3).normal(size=(2, 4, 6))
  observed = claims.spearman(related, visual)
  as_large = [
    claims.spearman(related[list(order)], visual) >= observed - 1e-12
    for order in itertools.permutations(range(4))
  ]
  assert 0.1 < np.mean(as_large) < 0.9
  p = claims.semantic_gap_test(related, visual, permutations=4000)
  assert p == pytest.approx(np.mean(as_large), abs=0.03)


@pytest.mark.parametrize('most, read', [(150, 150), (200, 200), (500, 200)])
def test_no_more_videos_are_read_than_is_said(monkeypatch, most, read):
  monkeypatch.setattr(claims, '_MOST_VIDEOS', most)
  seen = []

  def probe(x, labels, groups, folds):
    assert len(x) == len(labels) == len(groups)
    seen.append((len(x), labels.tolist()))
    return 1.0

  monkeypatch.setattr(claims, '_probe', probe)
  claims.information_loss(H, H, LABELS, GROUPS)
  assert [n for n, _ in seen] == [read, read]
  # Few enough keep their order.
  assert (seen[0][1] == LABELS.tolist()) == (read == 200)
