import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

from zsar_jax.evaluation import (
  accuracy,
  choosing,
  evaluator,
  generalised,
  methods,
  task,
)
from zsar_jax.evaluation.protocol_evaluation import Evaluation
from zsar_jax.zeroshot import hubness, prototypes, scoring, statistics

RNG = np.random.default_rng(0)


def unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def problem(u=6, s=10, n=90, d=16, seed=0, spread=0.6):
  """Names and videos live in one space: transfer works, not always."""
  rng = np.random.default_rng(seed)
  seen_text = unit(rng.normal(size=(s, d)))
  text = unit(rng.dirichlet(np.full(s, 0.4), u) @ seen_text)
  labels = np.arange(n) % u
  z = unit(text[labels] + spread * rng.normal(size=(n, d)) / 2)
  train_labels = np.arange(8 * s) % s
  train = unit(seen_text[train_labels] + 0.1 * rng.normal(size=(8 * s, d)))
  sums = prototypes.PrototypeSums(s, d, with_gram=True)
  sums.add(train, train_labels)
  names = lambda kind, k: tuple(f'{kind}{i}' for i in range(k))
  seen = task.Seen(
    task.Classes(names('s', s), seen_text),
    sums.prototypes(),
    sums=sums,
  )
  videos = task.TestVideos(
    z[:, None],
    rng.normal(size=(n, u)).astype(np.float32),
    labels,
    tuple(f'g{i // 3}' for i in range(n)),
  )
  seen_videos = task.TestVideos(
    train[:40, None] + 0, None, train_labels[:40], tuple(map(str, range(40)))
  )
  unseen = task.Classes(names('u', u), text)
  return seen, unseen, videos, seen_videos


SEEN, UNSEEN, VIDEOS, SEEN_VIDEOS = problem()
SETTINGS = methods.TransferSettings()


def values(table):
  return {(r.method, r.metric): r.value for r in table.rows}


def test_every_method_has_its_rows():
  table = evaluator.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  found = values(table)
  for method in methods.METHODS:
    for metric in ('top1', 'top5', 'per_class'):
      assert (method, metric) in found
  assert found['transfer', 'per_class'] > 0.5 > found['fusion', 'per_class']
  assert {'hubness', 'semantic_gap'} <= set(table.facts)


def test_permuting_unseen_classes_permutes_nothing_else():
  order = RNG.permutation(6)
  place = np.argsort(order)
  permuted = evaluator.evaluate(
    SEEN,
    task.Classes(tuple(UNSEEN.names[i] for i in order), UNSEEN.text[order]),
    dataclasses.replace(
      VIDEOS, labels=place[VIDEOS.labels], match=VIDEOS.match[:, order]
    ),
    SETTINGS,
    resamples=200,
  )
  plain = evaluator.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  same = values(permuted)
  for key, value in values(plain).items():
    if key[0] != 'control_permuted_names':
      assert same[key] == pytest.approx(value), key


def test_permuting_seen_classes_changes_nothing():
  order = RNG.permutation(10)
  sums = prototypes.PrototypeSums(10, 16, with_gram=True)
  sums.sums, sums.counts = SEEN.sums.sums[order], SEEN.sums.counts[order]
  sums.gram = SEEN.sums.gram
  seen = task.Seen(
    task.Classes(
      tuple(SEEN.classes.names[i] for i in order), SEEN.classes.text[order]
    ),
    SEEN.prototypes[order],
    sums=sums,
  )
  a = evaluator.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  b = evaluator.evaluate(seen, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  for method, scores in a.scores.items():
    np.testing.assert_allclose(b.scores[method], scores, rtol=1e-5, atol=1e-5)


def test_several_splits_are_means_over_their_own_tables():
  candidates = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]], bool).T
  several = dataclasses.replace(
    VIDEOS, candidates=candidates, tested=candidates[VIDEOS.labels]
  )
  table = evaluator.evaluate(SEEN, UNSEEN, several, SETTINGS, resamples=200)
  for metric in ('top1', 'top5', 'per_class'):
    alone = []
    for column in candidates.T:
      at = np.flatnonzero(column)
      rows = np.flatnonzero(column[VIDEOS.labels])
      one = evaluator.evaluate(
        SEEN,
        task.Classes(tuple(UNSEEN.names[i] for i in at), UNSEEN.text[at]),
        dataclasses.replace(
          VIDEOS,
          embeddings=VIDEOS.embeddings[rows],
          match=VIDEOS.match[np.ix_(rows, at)],
          labels=np.searchsorted(at, VIDEOS.labels[rows]),
          groups=tuple(VIDEOS.groups[i] for i in rows),
        ),
        SETTINGS,
        diagnose=False,
        resamples=200,
      )
      alone.append(values(one))
    rows = {(r.method, r.metric): r for r in table.rows}
    for method in methods.METHODS:
      of_splits = [v[method, metric] for v in alone]
      row = rows[method, metric]
      assert row.value == pytest.approx(np.mean(of_splits)), (method, metric)
      assert row.std == pytest.approx(np.std(of_splits))
      assert row.n_splits == 2


def test_paired_differences_are_those_of_the_rows():
  table = evaluator.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS)
  found = values(table)
  assert [p.other for p in table.paired if p.primary] == ['nearest_name']
  for pair in table.paired:
    assert pair.difference == pytest.approx(
      found['transfer', pair.metric] - found[pair.other, pair.metric]
    )
    assert pair.low <= pair.difference <= pair.high
    assert 0 < pair.p_value <= pair.p_holm <= 1
  fusion = next(p for p in table.paired if p.other == 'fusion')
  assert fusion.low > 0 and fusion.p_value < 0.1


def test_a_class_without_a_video_is_left_out_and_said():
  seen, unseen, videos, _ = problem()
  keep = np.flatnonzero(videos.labels != 2)
  fewer = dataclasses.replace(
    videos,
    embeddings=videos.embeddings[keep],
    match=videos.match[keep],
    labels=videos.labels[keep],
    groups=tuple(videos.groups[i] for i in keep),
  )
  table = evaluator.evaluate(seen, unseen, fewer, SETTINGS, resamples=200)
  assert "no video of ['u2']" in ' '.join(table.notes)
  row = next(r for r in table.rows if r.metric == 'per_class')
  answers = table.scores['transfer'].argmax(1)
  own = [(answers[fewer.labels == c] == c).mean() for c in range(6) if c != 2]
  assert row.value == pytest.approx(np.mean(own)) and row.n_classes == 6


def test_nothing_is_made_of_what_is_no_number():
  bad = VIDEOS.embeddings.copy()
  bad[4] = np.nan
  with pytest.raises(ValueError, match=r'1 of 90 embeddings.*rows \[4\]'):
    evaluator.evaluate(
      SEEN, UNSEEN, dataclasses.replace(VIDEOS, embeddings=bad), SETTINGS
    )
  with pytest.raises(ValueError, match='no seen class'):
    prototypes.PrototypeSums(0, 4)
  with pytest.raises(ValueError, match='at most the 10 seen classes, got 11'):
    evaluator.evaluate(SEEN, UNSEEN, VIDEOS, methods.TransferSettings(top_k=11))
  with pytest.raises(ValueError, match="zeroshot.weighting='mean'"):
    methods.TransferSettings(weighting='mean')
  with pytest.raises(ValueError, match='before the training are not known'):
    evaluator.evaluate(
      SEEN,
      UNSEEN,
      VIDEOS,
      methods.TransferSettings(relatedness_source='initial'),
    )


def test_a_seen_class_composites_to_itself_as_the_temperature_falls():
  # Text that is the prototypes' own space: class s2 asked for by its name.
  again = task.Classes(('s2',), SEEN.classes.text[[2]])
  previous = -1
  for temperature in (10, 1, 0.1, 0.01):
    (composite,), _ = methods.unseen_prototypes(
      SEEN.classes,
      SEEN.prototypes,
      again,
      methods.TransferSettings(temperature),
    )
    nearness = composite @ SEEN.prototypes[2]
    assert nearness >= previous - 1e-6
    previous = nearness
  assert previous == pytest.approx(1, abs=1e-5)
  for weighting in ('ridge', 'simplex'):
    (composite,), _ = methods.unseen_prototypes(
      SEEN.classes,
      SEEN.prototypes,
      again,
      # Centred rows are dependent: ridge needs them as they are.
      methods.TransferSettings(
        weighting=weighting, ridge=1e-6, centre_text=weighting == 'simplex'
      ),
    )
    assert composite @ SEEN.prototypes[2] == pytest.approx(1, abs=1e-3)


def test_ridge_weights_are_the_regression_from_names_to_prototypes():
  from sklearn import linear_model

  from zsar_jax.zeroshot import semantic_transfer

  t_u, t_s = (
    np.asarray(x, np.float64)
    for x in semantic_transfer.centred_rows(UNSEEN.text, SEEN.classes.text)
  )
  model = linear_model.Ridge(alpha=0.3, fit_intercept=False)
  model.fit(t_s, SEEN.prototypes.astype(np.float64))
  weights = semantic_transfer.ridge_weights(UNSEEN.text, SEEN.classes.text, 0.3)
  np.testing.assert_allclose(
    weights @ SEEN.prototypes, model.predict(t_u), atol=1e-6
  )


def test_scores_are_equal_on_one_device_and_on_eight(monkeypatch):
  z = unit(RNG.normal(size=(3000, 16)))
  eight = scoring.score_videos(z, SEEN.prototypes)
  assert len(jax.local_devices()) == 8
  monkeypatch.setattr(scoring, '_devices', lambda: jax.local_devices()[:1])
  one = scoring.score_videos(z, SEEN.prototypes)
  np.testing.assert_array_equal(one, eight)
  # And in any batches.
  parts = [scoring.score_videos(z[i : i + 700], SEEN.prototypes)
           for i in range(0, 3000, 700)]  # fmt: skip
  np.testing.assert_allclose(np.concatenate(parts), one, atol=1e-6)


def test_a_stream_names_the_same_best_classes():
  z = unit(RNG.normal(size=(2500, 16)))
  chunks = [z[:1000], z[1000:1001], z[1001:]]
  out = list(scoring.stream_top_k(chunks, SEEN.prototypes, 3))
  scores = np.concatenate([v for v, _ in out])
  classes = np.concatenate([c for _, c in out])
  exact = z.astype(np.float64) @ SEEN.prototypes.T.astype(np.float64)
  np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :3], atol=1e-6)
  picked = np.take_along_axis(exact, classes, axis=1)
  np.testing.assert_allclose(picked, scores, atol=1e-6)
  with pytest.raises(ValueError, match='k=11 is not between 1 and the 10'):
    list(scoring.stream_top_k([z], SEEN.prototypes, 11))


def test_transductive_rows_are_there_only_when_asked_for():
  plain = values(
    evaluator.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=9)
  )
  assert not [m for m, _ in plain if m.startswith('transductive')]
  asked = methods.TransferSettings(transductive=True)
  found = values(evaluator.evaluate(SEEN, UNSEEN, VIDEOS, asked, resamples=9))
  for method in methods.TRANSDUCTIVE:
    assert (method, 'per_class') in found


def test_gzsl_rows_equal_a_plain_argmax():
  settings = methods.TransferSettings(seen_penalty=0.07)
  out = generalised.evaluate(SEEN, UNSEEN, SEEN_VIDEOS, VIDEOS, settings)
  found = {r.metric: r.value for r in out.rows if r.method == 'transfer'}
  composites = methods.all_composites(SEEN, UNSEEN, settings)['transfer']
  classes = np.concatenate([SEEN.prototypes, composites])
  for name, penalty in (('gzsl', 0), ('gzsl_chosen', 0.07)):
    accuracies = []
    for videos, offset in ((SEEN_VIDEOS, 0), (VIDEOS, 10)):
      scores = videos.embeddings[:, 0] @ classes.T
      scores = scores - penalty * (np.arange(16) < 10)
      right = scores.argmax(1) == videos.labels + offset
      accuracies.append(
        np.mean(
          [right[videos.labels == c].mean() for c in np.unique(videos.labels)]
        )
      )
    assert found[f'{name}_seen'] == pytest.approx(accuracies[0])
    assert found[f'{name}_unseen'] == pytest.approx(accuracies[1])
  assert found['gzsl_ausuc'] == pytest.approx(out.curve.ausuc)


def draw(seed, **changes):
  seen, unseen, videos, seen_videos = problem(u=5, seed=seed, **changes)
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
        assert values(rows)['transfer', 'per_class'] == pytest.approx(value)
    best = max(table, key=lambda line: np.mean(line['accuracies']))
    gain = np.subtract(best['accuracies'], table[0]['accuracies'])
    better = gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain))
    wanted = best if better else table[0]
    chosen = choice['settings']
    assert {**chosen, 'seen_penalty': None} == wanted['settings']
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
  assert 'promises too much' in fitted.measured_on
  assert 'set/1' in fitted.measured_on and fitted.num_videos == 40
  none = dataclasses.replace(draw(1), seen_videos=None)
  assert choosing.calibrate_on_seen(none, SETTINGS, 'x') is None


def test_default_number_of_resamples_is_ten_thousand():
  assert statistics.RESAMPLES == 10_000


def test_gzsl_rows_count_classes_and_videos_that_cannot_be_read():
  # Nothing of the last class can be read, nor one video of a seen class.
  keep = np.flatnonzero(VIDEOS.labels < 5)
  unseen_videos = dataclasses.replace(
    VIDEOS,
    embeddings=VIDEOS.embeddings[keep],
    match=None,
    labels=VIDEOS.labels[keep],
    groups=tuple(VIDEOS.groups[i] for i in keep),
    unreadable_labels=(5, 5, 0),
  )
  seen_videos = dataclasses.replace(SEEN_VIDEOS, unreadable_labels=(3,))
  settings = methods.TransferSettings(seen_penalty=0.07)
  out = generalised.evaluate(SEEN, UNSEEN, seen_videos, unseen_videos, settings)
  plain = generalised.evaluate(SEEN, UNSEEN, SEEN_VIDEOS, VIDEOS, settings)
  for row in out.rows:
    assert row.n_classes == 16
    assert row.n_videos == len(keep) + 40 + 4 and row.n_unreadable == 4
  found, whole = values(out), values(plain)
  # Of five videos of a seen class and of sixteen of an unseen one, one more
  # is wrong; of the last class all are.
  right = {}
  composites = methods.all_composites(SEEN, UNSEEN, settings)['transfer']
  scores = (
    VIDEOS.embeddings[:, 0] @ np.concatenate([SEEN.prototypes, composites]).T
  )
  answers = (scores - 0.07 * (np.arange(16) < 10)).argmax(axis=1) - 10
  for c in range(5):
    right[c] = (answers[VIDEOS.labels == c] == c).sum() / (15 + (c == 0))
  key = ('transfer', 'gzsl_chosen_unseen')
  assert found[key] == pytest.approx(sum(right.values()) / 6)
  key = ('transfer', 'gzsl_chosen_seen')
  scores = (
    SEEN_VIDEOS.embeddings[:, 0]
    @ np.concatenate([SEEN.prototypes, composites]).T
  )
  hit = (scores - 0.07 * (np.arange(16) < 10)).argmax(1) == SEEN_VIDEOS.labels
  own = [hit[SEEN_VIDEOS.labels == c].sum() / (4 + (c == 3)) for c in range(10)]
  assert found[key] == pytest.approx(np.mean(own))
  assert whole['transfer', 'gzsl_unseen'] > 0


def test_gzsl_of_splits_is_the_mean_over_them():
  candidates = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]], bool).T
  several = dataclasses.replace(
    VIDEOS, candidates=candidates, tested=candidates[VIDEOS.labels]
  )
  rows = generalised.evaluate(SEEN, UNSEEN, SEEN_VIDEOS, several, SETTINGS).rows
  alone = []
  for column in candidates.T:
    at, of = np.flatnonzero(column), np.flatnonzero(column[VIDEOS.labels])
    one = generalised.evaluate(
      SEEN,
      task.Classes(tuple(UNSEEN.names[i] for i in at), UNSEEN.text[at]),
      SEEN_VIDEOS,
      dataclasses.replace(
        VIDEOS,
        embeddings=VIDEOS.embeddings[of],
        match=None,
        labels=np.searchsorted(at, VIDEOS.labels[of]),
        groups=tuple(VIDEOS.groups[i] for i in of),
      ),
      SETTINGS,
    )
    alone.append(values(one))
  assert {row.metric for row in rows} == {
    'gzsl_ausuc',
    'gzsl_seen',
    'gzsl_unseen',
    'gzsl_harmonic_mean',
  }
  for row in rows:
    of_splits = [found[row.method, row.metric] for found in alone]
    assert row.value == pytest.approx(np.mean(of_splits), abs=1e-6)
    assert row.std == pytest.approx(np.std(of_splits), abs=1e-6)
    # Three and four unseen candidates beside ten seen ones.
    assert (row.n_splits, row.n_classes) == (2, 10 + 4)


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


def test_facts_of_a_result_by_their_definitions():
  rng = np.random.default_rng(0)
  initial = lambda classes: dataclasses.replace(
    classes,
    initial_text=unit(classes.text + rng.normal(size=classes.text.shape)),
  )
  seen = dataclasses.replace(SEEN, classes=initial(SEEN.classes))
  unseen = initial(UNSEEN)
  candidates = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]], bool).T
  several = dataclasses.replace(
    VIDEOS, candidates=candidates, tested=candidates[VIDEOS.labels]
  )
  table = evaluator.evaluate(seen, unseen, several, SETTINGS, resamples=9)
  scores = table.scores['transfer']
  measured = [
    hubness.measure(
      scores[np.ix_(column[VIDEOS.labels], column)],
      np.cumsum(column)[VIDEOS.labels[column[VIDEOS.labels]]] - 1,
    )
    for column in candidates.T
  ]
  found = table.facts['hubness']['transfer']['k=1']
  for name in ('skewness', 'robin_hood', 'largest_share'):
    wanted = np.mean([getattr(m, name) for m in measured])
    assert found[name] == pytest.approx(wanted)
  assert found['reliable'] is False
  # Four candidates have a second neighbourhood, three have none.
  assert set(table.facts['hubness']['transfer']) == {'k=1', 'k=2'}
  assert set(table.facts['hubness']) == {
    'transfer',
    'nearest_name',
    'ridge_to_text',
    'fusion',
  }
  means = np.stack(
    [unit(VIDEOS.embeddings[VIDEOS.labels == c, 0].mean(0)) for c in range(6)]
  )
  text, own = UNSEEN.text, SEEN.classes.text
  rows = lambda x, of: unit(x - of.mean(axis=0))
  related = rows(text, own) @ rows(own, own).T
  gap = table.facts['semantic_gap']
  visual = means @ SEEN.prototypes.T
  assert gap['unseen_x_seen'] == pytest.approx(
    1 - stats.spearmanr(related.ravel(), visual.ravel()).statistic, abs=1e-3
  )
  among = rows(own, own) @ rows(own, own).T
  pairs = np.triu_indices(10, 1)
  assert gap['seen_x_seen'] == pytest.approx(
    1
    - stats.spearmanr(
      among[pairs], (SEEN.prototypes @ SEEN.prototypes.T)[pairs]
    ).statistic,
    abs=1e-3,
  )
  assert gap['p_value'] < 0.05
  before = seen.classes.initial_text
  kept = stats.spearmanr(
    related.ravel(),
    (rows(unseen.initial_text, before) @ rows(before, before).T).ravel(),
  ).statistic
  assert table.facts['relatedness_kept'] == pytest.approx(kept, abs=1e-3)
