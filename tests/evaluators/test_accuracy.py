import dataclasses

import jax
import numpy as np
import pytest

from zsar_jax.evaluators import accuracy, choosing, generalised, zeroshot
from zsar_jax.evaluators.protocol_evaluation import Evaluation
from zsar_jax.zeroshot import prototypes, scoring, statistics

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
  seen = zeroshot.Seen(
    accuracy.Classes(names('s', s), seen_text),
    sums.prototypes(),
    sums=sums,
  )
  videos = zeroshot.TestVideos(
    z[:, None],
    rng.normal(size=(n, u)).astype(np.float32),
    labels,
    tuple(f'g{i // 3}' for i in range(n)),
  )
  seen_videos = zeroshot.TestVideos(
    train[:40, None] + 0, None, train_labels[:40], tuple(map(str, range(40)))
  )
  unseen = accuracy.Classes(names('u', u), text)
  return seen, unseen, videos, seen_videos


SEEN, UNSEEN, VIDEOS, SEEN_VIDEOS = problem()
SETTINGS = zeroshot.TransferSettings()


def values(table):
  return {(r.method, r.metric): r.value for r in table.rows}


def test_every_method_has_its_rows():
  table = zeroshot.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  found = values(table)
  for method in zeroshot.METHODS:
    for metric in ('top1', 'top5', 'per_class'):
      assert (method, metric) in found
  assert found['transfer', 'per_class'] > 0.5 > found['fusion', 'per_class']
  assert {'hubness', 'semantic_gap'} <= set(table.facts)


def test_permuting_unseen_classes_permutes_nothing_else():
  order = RNG.permutation(6)
  place = np.argsort(order)
  permuted = zeroshot.evaluate(
    SEEN,
    accuracy.Classes(tuple(UNSEEN.names[i] for i in order), UNSEEN.text[order]),
    dataclasses.replace(
      VIDEOS, labels=place[VIDEOS.labels], match=VIDEOS.match[:, order]
    ),
    SETTINGS,
    resamples=200,
  )
  plain = zeroshot.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  same = values(permuted)
  for key, value in values(plain).items():
    if key[0] != 'control_permuted_names':
      assert same[key] == pytest.approx(value), key


def test_permuting_seen_classes_changes_nothing():
  order = RNG.permutation(10)
  sums = prototypes.PrototypeSums(10, 16, with_gram=True)
  sums.sums, sums.counts = SEEN.sums.sums[order], SEEN.sums.counts[order]
  sums.gram = SEEN.sums.gram
  seen = zeroshot.Seen(
    accuracy.Classes(
      tuple(SEEN.classes.names[i] for i in order), SEEN.classes.text[order]
    ),
    SEEN.prototypes[order],
    sums=sums,
  )
  a = zeroshot.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  b = zeroshot.evaluate(seen, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  for method, scores in a.scores.items():
    np.testing.assert_allclose(b.scores[method], scores, rtol=1e-5, atol=1e-5)


def test_several_splits_are_means_over_their_own_tables():
  candidates = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]], bool).T
  several = dataclasses.replace(
    VIDEOS, candidates=candidates, tested=candidates[VIDEOS.labels]
  )
  table = zeroshot.evaluate(SEEN, UNSEEN, several, SETTINGS, resamples=200)
  for metric in ('top1', 'top5', 'per_class'):
    alone = []
    for column in candidates.T:
      at = np.flatnonzero(column)
      rows = np.flatnonzero(column[VIDEOS.labels])
      one = zeroshot.evaluate(
        SEEN,
        accuracy.Classes(tuple(UNSEEN.names[i] for i in at), UNSEEN.text[at]),
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
    for method in zeroshot.METHODS:
      of_splits = [v[method, metric] for v in alone]
      row = rows[method, metric]
      assert row.value == pytest.approx(np.mean(of_splits)), (method, metric)
      assert row.std == pytest.approx(np.std(of_splits))
      assert row.n_splits == 2


def test_paired_differences_are_those_of_the_rows():
  table = zeroshot.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS)
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
  table = zeroshot.evaluate(seen, unseen, fewer, SETTINGS, resamples=200)
  assert "no video of ['u2']" in ' '.join(table.notes)
  row = next(r for r in table.rows if r.metric == 'per_class')
  answers = table.scores['transfer'].argmax(1)
  own = [(answers[fewer.labels == c] == c).mean() for c in range(6) if c != 2]
  assert row.value == pytest.approx(np.mean(own)) and row.n_classes == 6


def test_nothing_is_made_of_what_is_no_number():
  bad = VIDEOS.embeddings.copy()
  bad[4] = np.nan
  with pytest.raises(ValueError, match=r'1 of 90 embeddings.*rows \[4\]'):
    zeroshot.evaluate(
      SEEN, UNSEEN, dataclasses.replace(VIDEOS, embeddings=bad), SETTINGS
    )
  with pytest.raises(ValueError, match='no seen class'):
    prototypes.PrototypeSums(0, 4)
  with pytest.raises(ValueError, match='at most the 10 seen classes, got 11'):
    zeroshot.evaluate(SEEN, UNSEEN, VIDEOS, zeroshot.TransferSettings(top_k=11))
  with pytest.raises(ValueError, match="zeroshot.weighting='mean'"):
    zeroshot.TransferSettings(weighting='mean')
  with pytest.raises(ValueError, match='before the training are not known'):
    zeroshot.evaluate(
      SEEN,
      UNSEEN,
      VIDEOS,
      zeroshot.TransferSettings(relatedness_source='initial'),
    )


def test_a_seen_class_composites_to_itself_as_the_temperature_falls():
  # Text that is the prototypes' own space: class s2 asked for by its name.
  again = accuracy.Classes(('s2',), SEEN.classes.text[[2]])
  previous = -1
  for temperature in (10, 1, 0.1, 0.01):
    (composite,), _ = zeroshot.unseen_prototypes(
      SEEN.classes,
      SEEN.prototypes,
      again,
      zeroshot.TransferSettings(temperature),
    )
    nearness = composite @ SEEN.prototypes[2]
    assert nearness >= previous - 1e-6
    previous = nearness
  assert previous == pytest.approx(1, abs=1e-5)
  for weighting in ('ridge', 'simplex'):
    (composite,), _ = zeroshot.unseen_prototypes(
      SEEN.classes,
      SEEN.prototypes,
      again,
      # Centred rows are dependent: ridge needs them as they are.
      zeroshot.TransferSettings(
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
  plain = values(zeroshot.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=9))
  assert not [m for m, _ in plain if m.startswith('transductive')]
  asked = zeroshot.TransferSettings(transductive=True)
  found = values(zeroshot.evaluate(SEEN, UNSEEN, VIDEOS, asked, resamples=9))
  for method in zeroshot.TRANSDUCTIVE:
    assert (method, 'per_class') in found


def test_gzsl_rows_equal_a_plain_argmax():
  settings = zeroshot.TransferSettings(seen_penalty=0.07)
  out = generalised.evaluate(SEEN, UNSEEN, SEEN_VIDEOS, VIDEOS, settings)
  found = {r.metric: r.value for r in out.rows if r.method == 'transfer'}
  composites = zeroshot.all_composites(SEEN, UNSEEN, settings)['transfer']
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
  for default in (SETTINGS, zeroshot.TransferSettings(temperature=0.4)):
    draws = [draw(seed) for seed in seeds]
    choice = choosing.choose(draws, default, names)
    table = choice['compared']
    assert 5 < len(table) <= 8
    assert table[0]['settings'] == dataclasses.asdict(default)
    for line in table:
      settings = zeroshot.TransferSettings(**line['settings'])
      for one, value in zip(draws, line['accuracies'], strict=True):
        rows = zeroshot.evaluate(
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
  settings = zeroshot.TransferSettings(seen_penalty=0.07)
  out = generalised.evaluate(SEEN, UNSEEN, seen_videos, unseen_videos, settings)
  plain = generalised.evaluate(SEEN, UNSEEN, SEEN_VIDEOS, VIDEOS, settings)
  for row in out.rows:
    assert row.n_classes == 16
    assert row.n_videos == len(keep) + 40 + 4 and row.n_unreadable == 4
  found, whole = values(out), values(plain)
  # Of five videos of a seen class and of sixteen of an unseen one, one more
  # is wrong; of the last class all are.
  right = {}
  composites = zeroshot.all_composites(SEEN, UNSEEN, settings)['transfer']
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
      accuracy.Classes(tuple(UNSEEN.names[i] for i in at), UNSEEN.text[at]),
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
