import dataclasses

import numpy as np
import pytest

from tests.evaluation import problems
from zsar_jax.evaluation import generalised, methods, task

SEEN, UNSEEN, VIDEOS, SEEN_VIDEOS = problems.problem()
SETTINGS = methods.TransferSettings()


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


def test_gzsl_rows_count_classes_and_videos_that_cannot_be_read():
  # No video of the last class is readable, and one of a seen class is not.
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
  found, whole = problems.values(out), problems.values(plain)
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
    alone.append(problems.values(one))
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
