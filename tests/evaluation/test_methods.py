import dataclasses

import numpy as np
import pytest

from zsar_jax.evaluation import diagnostics, evaluator, methods, task

SHARP = methods.TransferSettings(temperature=0.01)
U, PER_CLASS = 4, 5
# Text lives in the first four axes. In visual space class i lies on the axis
# of name i + 1, so that only the transfer can find it, never the nearest name.
TEXT = np.eye(U, 8, dtype=np.float32)
VISUAL = TEXT[[1, 2, 3, 0]]

SEEN = task.Classes(('s0', 's1', 's2', 's3'), TEXT)
UNSEEN = task.Classes(('u0', 'u1', 'u2', 'u3'), TEXT)


def make_videos(direction_of_class=VISUAL, **changes):
  labels = np.repeat(np.arange(U), PER_CLASS)
  videos = task.TestVideos(
    embeddings=np.asarray(direction_of_class)[labels][:, None],
    match=np.zeros((len(labels), U), np.float32),
    labels=labels,
    groups=[f'group {i}' for i in range(len(labels))],
  )
  return dataclasses.replace(videos, **changes)


def evaluate(videos=None, seen=SEEN, unseen=UNSEEN, settings=SHARP):
  videos = make_videos() if videos is None else videos
  table = evaluator.evaluate(
    task.Seen(seen, VISUAL), unseen, videos, settings, resamples=200
  )
  by_name = {(row.method, row.metric): row for row in table.rows}
  assert len(by_name) == len(table.rows)
  return by_name


def test_perfect_transfer_is_always_right():
  rows = evaluate()
  for metric in ('top1', 'per_class'):
    row = rows['transfer', metric]
    assert (row.value, row.low, row.high) == pytest.approx((1, 1, 1))
    assert (row.n_videos, row.n_classes, row.n_unreadable) == (20, 4, 0)


def test_nearest_name_and_fusion_have_scores_of_their_own():
  rows = evaluate()
  assert rows['nearest_name', 'top1'].value == pytest.approx(0)
  # Equal logits go to the lowest class.
  assert rows['fusion', 'top1'].value == pytest.approx(1 / U)


def test_transfer_uses_the_settings():
  warm = methods.TransferSettings(temperature=1e12)
  # All weights equal: all composites are one, and the lowest class wins.
  assert evaluate(settings=warm)['transfer', 'top1'].value == pytest.approx(
    1 / U
  )
  one = methods.TransferSettings(temperature=1e12, top_k=1)
  assert evaluate(settings=one)['transfer', 'top1'].value == pytest.approx(1)


def test_composites_of_new_names_by_hand():
  seen = task.Classes(('a', 'b'), np.eye(2, dtype=np.float32))
  prototypes, weights = methods.unseen_prototypes(
    seen,
    np.array([[0.0, 1.0], [1.0, 0.0]], np.float32),
    np.array([[1.0, 0.0]], np.float32),
    # Without centring the cosines are 1 and 0: weights 3 to 1.
    methods.TransferSettings(1 / np.log(3), centre_text=False),
  )
  np.testing.assert_allclose(weights, [[0.75, 0.25]], rtol=1e-6)
  np.testing.assert_allclose(
    prototypes, [[1 / 10**0.5, 3 / 10**0.5]], rtol=1e-6
  )


def test_permuted_names_are_never_right_where_transfer_always_is():
  row = evaluate()['control_permuted_names', 'per_class']
  assert row.value == 0 and row.chance == pytest.approx(1 / U)


def test_chance_is_of_the_candidates():
  rows = evaluate()
  assert rows['transfer', 'top1'].chance == pytest.approx(1 / U)
  assert rows['floor_chance', 'per_class'].value == pytest.approx(1 / U)


ATTRIBUTES = (
  {'verb': 'wave', 'place': 'left'},
  {'verb': 'wave', 'place': 'right'},
  {'verb': 'wave', 'place': 'both'},
  {'verb': 'walk', 'place': 'left'},
)


def test_floors_of_attributes_by_hand():
  rows = evaluate(unseen=dataclasses.replace(UNSEEN, attributes=ATTRIBUTES))
  # Three classes share a verb, one has its own; two share a place.
  assert rows['floor_verb_only', 'per_class'].value == pytest.approx(
    (3 * 1 / 3 + 1) / 4
  )
  assert rows['floor_place_only', 'per_class'].value == pytest.approx(
    (2 * 1 / 2 + 2) / 4
  )
  assert 'floor_source_only' not in {method for method, _ in rows}


def test_attribute_accuracy_counts_answers_with_the_true_attribute():
  # Videos of class 0 look like class 1 (same verb), those of class 1 like
  # class 3, those of class 2 and 3 like themselves.
  videos = make_videos(VISUAL[[1, 3, 2, 3]])
  rows = evaluate(
    videos, unseen=dataclasses.replace(UNSEEN, attributes=ATTRIBUTES)
  )
  assert rows['transfer', 'per_class'].value == pytest.approx(0.5)
  verb = rows['transfer', 'verb_accuracy']
  assert verb.value == pytest.approx(0.75)
  # Guessing: three classes find their verb in three of four candidates.
  assert verb.chance == pytest.approx((3 * 0.75 + 0.25) / 4)
  assert rows['transfer', 'place_accuracy'].value == pytest.approx(0.5)


def test_attributes_that_some_class_lacks_are_left_out():
  some = ({'verb': 'wave', 'place': 'left'}, {'verb': 'walk'}) * 2
  rows = evaluate(unseen=dataclasses.replace(UNSEEN, attributes=some))
  assert ('transfer', 'verb_accuracy') in rows
  assert ('transfer', 'place_accuracy') not in rows
  none = dataclasses.replace(UNSEEN, attributes=({},) * 4)
  assert ('transfer', 'verb_accuracy') not in evaluate(unseen=none)


def test_oracle_relatedness_is_of_the_attributes():
  # Names carry no information; attributes identify the classes.
  blind = np.ones((U, 8), np.float32)
  own = tuple({'verb': str(i)} for i in range(U))
  rows = evaluate(
    seen=task.Classes(SEEN.names, blind, attributes=own),
    unseen=task.Classes(UNSEEN.names, blind, attributes=own),
  )
  assert rows['transfer', 'per_class'].value == pytest.approx(1 / U)
  assert rows['oracle_relatedness', 'per_class'].value == pytest.approx(1)


SOURCES = dataclasses.replace(UNSEEN, sources=('a', 'a', 'a', 'b'))


def test_same_source_rows_leave_other_sources_out():
  # Videos of class 0 look like class 3, and a little like themselves.
  mixed = VISUAL.copy()
  mixed[0] = 0.6 * VISUAL[0] + 0.8 * VISUAL[3]
  rows = evaluate(make_videos(mixed), unseen=SOURCES)
  assert rows['transfer', 'per_class'].value == pytest.approx(0.75)
  row = rows['transfer', 'same_source_per_class']
  assert row.value == pytest.approx(1)
  assert row.chance == pytest.approx((3 * 1 / 3 + 1) / 4)
  assert ('transfer', 'same_source_per_class') not in evaluate()


def test_source_floor_by_hand():
  row = evaluate(unseen=SOURCES)['floor_source_only', 'per_class']
  assert row.value == pytest.approx((3 * 1 / 3 + 1) / 4)


def test_names_are_permuted_within_their_source():
  rows = evaluate(unseen=SOURCES)
  # The class alone in its source cannot be swapped and stays right.
  assert rows['control_permuted_names', 'per_class'].value == pytest.approx(
    0.25
  )
  assert rows[
    'control_permuted_names', 'same_source_per_class'
  ].value == pytest.approx(0.25)
  alone = dataclasses.replace(UNSEEN, sources=('a', 'b', 'c', 'd'))
  assert 'control_permuted_names' not in {m for m, _ in evaluate(unseen=alone)}


def test_unreadable_videos_count_as_wrong():
  rows = evaluate(make_videos(unreadable_labels=(1, 1, 1, 1, 1)))
  top1 = rows['transfer', 'top1']
  assert top1.value == 20 / 25
  assert top1.n_videos == 25 and top1.n_unreadable == 5
  # Class 1 is right in half of its videos, and resampling shows it.
  per_class = rows['transfer', 'per_class']
  assert per_class.value == pytest.approx(3.5 / 4)
  assert per_class.low < per_class.value < per_class.high
  assert rows['floor_chance', 'per_class'].n_videos == 25
  assert rows['oracle_prototypes', 'per_class'].value == pytest.approx(3.5 / 4)


def test_a_control_scores_the_changed_videos():
  still = make_videos(VISUAL[[0, 0, 2, 3]]).embeddings
  rows = evaluate(make_videos(changed_embeddings={'first_frame': still}))
  assert rows['control_first_frame', 'per_class'].value == pytest.approx(0.75)
  assert rows['transfer', 'per_class'].value == pytest.approx(1)
  assert 'control_first_frame' not in {method for method, _ in evaluate()}


def test_views_are_averaged():
  good, bad = make_videos().embeddings, make_videos(VISUAL[::-1]).embeddings
  views = np.concatenate([good, good, bad], axis=1)
  assert evaluate(make_videos(embeddings=views))[
    'transfer', 'top1'
  ].value == pytest.approx(1)
  views = np.concatenate([good, bad, bad], axis=1)
  assert evaluate(make_videos(embeddings=views))[
    'transfer', 'top1'
  ].value == pytest.approx(0)


def out_of_fold_accuracy(embeddings, labels, groups):
  (scores,) = diagnostics.out_of_fold_scores(
    embeddings[:, None], labels, groups, labels.max() + 1, [lambda x: x]
  )
  return scores, float((scores.argmax(1) == labels).mean())


def test_oracle_prototypes_never_saw_the_group_of_the_video():
  # Videos only look like others of their session. So prototypes that included
  # the session would nearly always be right.
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(4), 50)
  session = np.arange(200) // 5
  looks = rng.normal(size=(40, 256))
  looks /= np.linalg.norm(looks, axis=1, keepdims=True)
  embeddings = looks[session].astype(np.float32)
  _, honest = out_of_fold_accuracy(embeddings, labels, session.astype(str))
  assert honest < 0.5
  # Without the folds, videos find their own sessions.
  alone = [str(i) for i in range(200)]
  _, leaking = out_of_fold_accuracy(embeddings, labels, alone)
  assert leaking > 0.9


def test_class_without_videos_outside_the_fold_is_no_candidate():
  labels = np.array([0, 0, 0, 1, 1, 1])
  embeddings = np.eye(2, dtype=np.float32)[labels]
  groups = ['a', 'b', 'c', 'same', 'same', 'same']
  scores, _ = out_of_fold_accuracy(embeddings, labels, groups)
  assert np.isneginf(scores[3:, 1]).all()
  np.testing.assert_allclose(scores[:3], [[1, 0]] * 3, atol=1e-6)


def test_class_of_one_session_has_true_prototypes_of_its_other_videos():
  one = make_videos(groups=['same'] * 20)
  for videos in (one, make_videos()):
    row = evaluate(videos)['oracle_prototypes', 'per_class']
    assert row.value == pytest.approx(1)


def test_scores_that_are_not_numbers_raise():
  videos = make_videos(match=np.full((20, U), np.nan))
  with pytest.raises(ValueError, match='not numbers'):
    evaluate(videos)


def test_sessions_that_are_all_of_a_class_are_divided():
  labels = np.array([0, 0, 1, 1, 2])
  groups = diagnostics._divisible(labels, ['a', 'a', 'a', 'b', 'c'])
  # Class 0 has one session, as has class 2; class 1 has two.
  assert groups == ['a video 0', 'a video 1', 'a', 'b', 'c video 4']


def test_metadata_is_a_control_where_both_sides_have_it():
  seen = task.Seen(SEEN, VISUAL, metadata_prototypes=VISUAL[[0, 1, 3, 2]])
  videos = make_videos()
  videos = dataclasses.replace(videos, metadata=videos.embeddings[:, 0])
  rows = evaluator.evaluate(seen, UNSEEN, videos, SHARP, resamples=20).rows
  found = {r.method: r.value for r in rows if r.metric == 'per_class'}
  assert found['control_metadata'] == pytest.approx(0.5)
  for change in ({'metadata': None},):
    rows = evaluator.evaluate(
      seen, UNSEEN, dataclasses.replace(videos, **change), SHARP, resamples=20
    ).rows
    assert 'control_metadata' not in {row.method for row in rows}


def test_an_oracle_of_mixtures_is_bound_to_the_seen_prototypes():
  # Two seen classes span two axes: classes along other axes look the same.
  seen = task.Seen(
    dataclasses.replace(SEEN, names=SEEN.names[:2], text=TEXT[:2]), VISUAL[:2]
  )
  rows = evaluator.evaluate(
    seen, UNSEEN, make_videos(), SHARP, resamples=20
  ).rows
  found = {r.method: r.value for r in rows if r.metric == 'per_class'}
  assert found['oracle_prototypes'] == pytest.approx(1)
  # Classes 0 and 1 are the seen ones; 2 and 3 are the same mixture.
  assert found['oracle_mixture'] == pytest.approx(0.5)
