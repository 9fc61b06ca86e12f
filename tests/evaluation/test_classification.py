import numpy as np
import pytest

from zsar_jax.evaluation import classification

CENTRES = np.eye(4, 6, dtype=np.float32)


def row_of(answers, labels, groups=None):
  return classification.seen_validation_row(
    CENTRES[np.asarray(answers)][:, None],
    np.asarray(labels),
    groups or [str(i) for i in range(len(labels))],
    CENTRES,
  )


def test_validation_row_by_hand():
  row = row_of([0, 1, 2, 3, 3], [0, 1, 2, 3, 0])
  assert (row.method, row.metric) == ('seen', 'seen_val_top1')
  assert row.value == pytest.approx(0.8)
  assert row.chance == 0.25
  assert (row.n_videos, row.n_classes, row.n_unreadable) == (5, 4, 0)
  assert row.low < 0.8 < row.high


def test_classes_without_validation_videos_are_still_candidates():
  row = row_of([3, 3, 0], [0, 0, 0])
  assert row.value == pytest.approx(1 / 3)
  assert row.n_classes == 4


def test_interval_resamples_whole_groups():
  answers, labels = [0] * 20 + [1] * 20, [0] * 40
  alone = row_of(answers, labels)
  grouped = row_of(answers, labels, [str(i // 10) for i in range(40)])
  assert alone.value == grouped.value
  assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_views_are_averaged():
  views = np.stack([CENTRES[[0]], CENTRES[[0]], CENTRES[[1]]], axis=1)
  row = classification.seen_validation_row(views, np.array([0]), ['a'], CENTRES)
  assert row.value == 1


def test_what_could_not_be_read_counts_as_wrong():
  readable = np.array([True, False, True, True])
  row = classification.seen_validation_row(
    CENTRES[[0] * 4, None], np.zeros(4, int), [*'abcd'], CENTRES, readable
  )
  assert row.value == 0.75
  assert (row.n_videos, row.n_classes, row.n_unreadable) == (4, 4, 1)
  assert 0 <= row.low < 0.75 < row.high <= 1
