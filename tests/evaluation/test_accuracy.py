import dataclasses

import numpy as np
import pytest

from tests.evaluation import problems
from zsar_jax.evaluation import accuracy, methods, task
from zsar_jax.zeroshot import statistics

RNG = np.random.default_rng(0)


SEEN, UNSEEN, VIDEOS, SEEN_VIDEOS = problems.problem()
SETTINGS = methods.TransferSettings()


def test_default_number_of_resamples_is_ten_thousand():
  assert statistics.RESAMPLES == 10_000


def random_test(seed=0, n=70, c=7, s=3):
  """Splits, sources, attributes and unreadable videos drawn at random."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(c - 1, size=n)  # nobody filmed the last class
  candidates = rng.random((c, s)) < 0.7
  candidates[:2] = True
  unseen = task.Classes(
    tuple(f'u{i}' for i in range(c)),
    np.eye(c),
    tuple('aabbbcc'),
    tuple({'verb': 'xyxyxyx'[i]} for i in range(c)),
  )
  tested = task.Tested(
    labels,
    tuple(f'g{i // 2}' for i in range(n)),
    rng.random(n) < 0.9,
    candidates,
    candidates[labels] & (rng.random((n, s)) < 0.8),
  )
  scores = rng.integers(0, 9, size=(n, c)).astype(np.float32)  # with ties
  return unseen, tested, scores


def ranks_by_hand(tested, scores, s, allowed=None):
  """How many candidates stand before the true class, video by video."""
  ranks = []
  for i, label in enumerate(tested.labels):
    before = 0
    for c in range(scores.shape[1]):
      if not tested.candidates[c, s] or c == label:
        continue
      if allowed is None or allowed[label, c]:
        better = scores[i, c] > scores[i, label]
        before += better or (scores[i, c] == scores[i, label] and c < label)
    ranks.append(before)
  return np.array(ranks)


def test_every_figure_of_splits_video_by_video():
  unseen, tested, scores = random_test()
  figures = accuracy.Accuracies(unseen, tested, resamples=50)
  assert figures.num_figures == 0 and figures.rows() == []
  figures.add_scores('transfer', scores)
  assert figures.num_figures == 5 and figures.methods() == ['transfer']
  assert figures.empty_classes == ['u6'] and figures.many_sources
  sources = np.array(unseen.sources)
  same = sources[:, None] == sources[None]
  verbs = np.array([a['verb'] for a in unseen.attributes])
  wanted = {}
  for s, candidates in enumerate(tested.candidates.T):
    counted = tested.tested[:, s]
    ranks = ranks_by_hand(tested, scores, s)
    own = ranks_by_hand(tested, scores, s, same)
    masked = np.where(candidates, scores, -np.inf)
    verb = verbs[masked.argmax(axis=1)] == verbs[tested.labels]
    guess = np.array(
      [(verbs[candidates] == verbs[y]).mean() for y in tested.labels]
    )
    alike = same[:, candidates].sum(axis=1)[tested.labels]
    size = candidates.sum()
    by_class = lambda x, counted=counted: np.mean(
      [
        x[counted & (tested.labels == c)].mean()
        for c in np.unique(tested.labels[counted])
      ]
    )
    each = lambda x: np.full(len(tested.labels), float(x))
    for metric, right, chance, mean in (
      ('top1', ranks < 1, each(1 / size), lambda x, k=counted: x[k].mean()),
      (
        'top5',
        ranks < 5,
        each(min(5 / size, 1)),
        lambda x, k=counted: x[k].mean(),
      ),
      ('per_class', ranks < 1, each(1 / size), by_class),
      ('same_source_per_class', own < 1, 1 / np.maximum(alike, 1), by_class),
      ('verb_accuracy', verb, guess, by_class),
    ):
      wanted.setdefault(metric, []).append(
        (mean(right & tested.readable), mean(chance))
      )
  rows = {row.metric: row for row in figures.rows()}
  assert set(rows) == set(wanted)
  for metric, row in rows.items():
    of_splits, chances = np.array(wanted[metric]).T
    assert row.value == pytest.approx(of_splits.mean()), metric
    assert row.std == pytest.approx(of_splits.std()), metric
    assert row.chance == pytest.approx(chances.mean()), metric
    assert row.n_splits == 3
    assert row.n_classes == round(tested.candidates.sum(axis=0).mean())
    counted = tested.tested.any(axis=1)
    assert row.n_videos == counted.sum()
    assert row.n_unreadable == (counted & ~tested.readable).sum()
    assert row.low <= row.value <= row.high
    over_classes = metric not in ('top1', 'top5')
    assert (row.class_low is not None) == over_classes
    if over_classes:
      assert row.class_low <= row.value <= row.class_high


@pytest.mark.parametrize('c', [5, 6, 7])
def test_top5_needs_more_than_five_candidates(c):
  labels = np.arange(10) % c
  # The second split has one candidate less.
  candidates = np.ones((c, 2), bool)
  candidates[-1, 1] = False
  tested = task.Tested(
    labels,
    tuple(map(str, range(10))),
    np.arange(10) > 0,  # the first video is unreadable
    candidates,
    candidates[labels],
  )
  unseen = task.Classes(tuple(f'u{i}' for i in range(c)), np.eye(c))
  figures = accuracy.Accuracies(unseen, tested, resamples=50)
  figures.add_scores('transfer', np.eye(c)[labels])
  rows = {row.metric: row for row in figures.rows()}
  assert {'top1', 'per_class'} <= set(rows)
  assert ('top5' in rows) == (c > 5)
  if c > 5:
    chance = np.mean([5 / c, min(5 / (c - 1), 1)])
    assert rows['top5'].chance == pytest.approx(chance)


def test_floors_of_splits_video_by_video():
  unseen, tested, _ = random_test(1)
  figures = accuracy.Accuracies(unseen, tested, resamples=50)
  agree = figures.agreement('verb')
  row = figures.floor_row('floor', agree)
  of_splits = []
  for s, candidates in enumerate(tested.candidates.T):
    of_class = [
      1 / (agree[c] & candidates).sum()
      for c in np.unique(tested.labels[tested.tested[:, s]])
    ]
    of_splits.append(np.mean(of_class))
  assert row.value == pytest.approx(np.mean(of_splits))
  assert row.std == pytest.approx(np.std(of_splits))
  sizes = tested.candidates.sum(axis=0)
  assert row.chance == pytest.approx((1 / sizes).mean())
  assert row.low == row.high == row.class_low == row.class_high == row.value


def test_a_split_without_a_video_raises():
  unseen, tested, _ = random_test()
  nobody = tested.tested.copy()
  nobody[:, 1] = False
  with pytest.raises(ValueError, match='a split has no test video'):
    accuracy.Accuracies(unseen, dataclasses.replace(tested, tested=nobody))


def test_paired_differences_with_their_tests_by_hand():
  unseen, tested, scores = random_test(2)
  figures = accuracy.Accuracies(unseen, tested, resamples=400)
  rng = np.random.default_rng(0)
  better = scores + 3 * np.eye(7)[tested.labels]
  figures.add_scores('transfer', better, brief=True)
  others = {f'm{i}': rng.permuted(scores, axis=1) for i in range(3)}
  for name, of_other in others.items():
    figures.add_scores(name, of_other, brief=True)
  found = figures.paired(
    'transfer', ['transfer', *others, 'nobody'], 'per_class', 'm1'
  )
  assert [p.other for p in found] == ['m0', 'm1', 'm2']
  assert [p.primary for p in found] == [False, True, False]
  rows = {(r.method, r.metric): r for r in figures.rows()}
  class_values = {}
  for name, of_method in {'transfer': better, **others}.items():
    # Each class's mean, weighted by the splits that have it.
    gains, weights = np.zeros(7), np.zeros(7)
    for s in range(3):
      right = (ranks_by_hand(tested, of_method, s) < 1) & tested.readable
      counted = tested.tested[:, s]
      there = np.unique(tested.labels[counted])
      for c in there:
        share = 1 / (3 * len(there))
        gains[c] += share * right[counted & (tested.labels == c)].mean()
        weights[c] += share
    class_values[name] = (gains / np.maximum(weights, 1e-9))[weights > 0]
    weights = weights[weights > 0]
  p_values = [
    statistics.sign_flip_test(
      (class_values['transfer'] - class_values[p.other])[:, None], weights
    )[0]
    for p in found
  ]
  assert [p.p_value for p in found] == pytest.approx(p_values)
  holm = statistics.holm([p_values[0], p_values[2]])
  assert [p.p_holm for p in found] == pytest.approx(
    [holm[0], p_values[1], holm[1]]
  )
  for pair in found:
    value = rows['transfer', 'per_class'].value
    value -= rows[pair.other, 'per_class'].value
    assert pair.difference == pytest.approx(value)
    assert (pair.method, pair.metric) == ('transfer', 'per_class')
    assert pair.low <= value <= pair.high
    assert pair.class_low <= value <= pair.class_high
  assert figures.paired('nobody', ['m0'], 'per_class', 'm0') == []
  assert figures.paired('m0', ['m0'], 'per_class', 'm0') == []


def test_permuted_names_in_splits_are_asked_of_the_candidates_alone():
  unseen, tested, _ = random_test(3)
  # Every video is answered by its own class: swapped names are never right.
  figures = accuracy.Accuracies(unseen, tested, resamples=20)
  figures.add_permuted('control', np.eye(7)[tested.labels])
  rows = {row.metric: row for row in figures.rows()}
  assert set(rows) == {'per_class', 'same_source_per_class'}
  sources = np.array(unseen.sources)
  alone = []
  for s, candidates in enumerate(tested.candidates.T):
    # A class alone in its source keeps its name.
    of_class = [
      (candidates & (sources == sources[c])).sum() == 1
      for c in np.unique(tested.labels[tested.tested[:, s]])
    ]
    share = [
      tested.readable[tested.tested[:, s] & (tested.labels == c)].mean()
      for c in np.unique(tested.labels[tested.tested[:, s]])
    ]
    alone.append(np.mean(np.array(of_class) * share))
  for row in rows.values():
    assert row.value == pytest.approx(np.mean(alone))
