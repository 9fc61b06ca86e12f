import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

from tests.evaluation import problems
from zsar_jax.evaluation import evaluator, methods, task
from zsar_jax.zeroshot import hubness, prototypes, scoring

RNG = np.random.default_rng(0)


SEEN, UNSEEN, VIDEOS, SEEN_VIDEOS = problems.problem()
SETTINGS = methods.TransferSettings()


def test_every_method_has_its_rows():
  table = evaluator.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=200)
  found = problems.values(table)
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
  same = problems.values(permuted)
  for key, value in problems.values(plain).items():
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
  for metric in ('top1', 'per_class'):
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
      alone.append(problems.values(one))
    rows = {(r.method, r.metric): r for r in table.rows}
    for method in methods.METHODS:
      of_splits = [v[method, metric] for v in alone]
      row = rows[method, metric]
      assert row.value == pytest.approx(np.mean(of_splits)), (method, metric)
      assert row.std == pytest.approx(np.std(of_splits))
      assert row.n_splits == 2


def test_paired_differences_are_those_of_the_rows():
  table = evaluator.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS)
  found = problems.values(table)
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
  seen, unseen, videos, _ = problems.problem()
  keep = np.flatnonzero(videos.labels != 2)
  fewer = dataclasses.replace(
    videos,
    embeddings=videos.embeddings[keep],
    match=videos.match[keep],
    labels=videos.labels[keep],
    groups=tuple(videos.groups[i] for i in keep),
  )
  table = evaluator.evaluate(seen, unseen, fewer, SETTINGS, resamples=200)
  assert "classes without video: ['u2']" in ' '.join(table.notes)
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
  with pytest.raises(
    ValueError, match='needs class embeddings from before training'
  ):
    evaluator.evaluate(
      SEEN,
      UNSEEN,
      VIDEOS,
      methods.TransferSettings(relatedness_source='initial'),
    )


def test_a_seen_class_composites_to_itself_as_the_temperature_falls():
  # Text embeddings in the space of the prototypes: s2's name finds s2.
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
  z = problems.unit(RNG.normal(size=(3000, 16)))
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
  z = problems.unit(RNG.normal(size=(2500, 16)))
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
  plain = problems.values(
    evaluator.evaluate(SEEN, UNSEEN, VIDEOS, SETTINGS, resamples=9)
  )
  assert not [m for m, _ in plain if m.startswith('transductive')]
  asked = methods.TransferSettings(transductive=True)
  found = problems.values(
    evaluator.evaluate(SEEN, UNSEEN, VIDEOS, asked, resamples=9)
  )
  for method in methods.TRANSDUCTIVE:
    assert (method, 'per_class') in found


def test_facts_of_a_result_by_their_definitions():
  rng = np.random.default_rng(0)
  initial = lambda classes: dataclasses.replace(
    classes,
    initial_text=problems.unit(
      classes.text + rng.normal(size=classes.text.shape)
    ),
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
    [
      problems.unit(VIDEOS.embeddings[VIDEOS.labels == c, 0].mean(0))
      for c in range(6)
    ]
  )
  text, own = UNSEEN.text, SEEN.classes.text
  rows = lambda x, of: problems.unit(x - of.mean(axis=0))
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
