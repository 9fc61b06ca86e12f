import collections

import numpy as np
import pytest

from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import video_sets


def video_set(labels, groups):
  n = len(labels)
  return video_sets.VideoSet(
    '/nowhere',
    ('videos',) * n,
    np.arange(n) * 2,
    np.array(labels),
    tuple(f'v{i}' for i in range(n)),
    tuple(groups),
    tuple(f's{i}' for i in range(n)),
    tuple(f'd{i}' for i in range(n)),
  )


@pytest.mark.parametrize('seed', range(5))
def test_held_out_groups_are_whole_and_every_class_keeps_training(seed):
  # Forty videos of four classes; each group has videos of two classes.
  rng = np.random.default_rng(seed)
  labels = np.arange(40) % 4
  groups = [f'g{c % 2}{rng.integers(6)}' for c in labels]
  videos = video_set(labels, groups)
  train, validation = video_sets.hold_out(videos, 0.25, seed)
  assert not set(train.groups) & set(validation.groups)
  assert sorted((*train.ids, *validation.ids)) == sorted(videos.ids)
  assert set(train.labels) == {0, 1, 2, 3}
  assert len(validation) > 0
  # All columns were cut alike.
  for part in (train, validation):
    for row, label, name, group, source, digest in zip(
      part.rows,
      part.labels,
      part.ids,
      part.groups,
      part.sources,
      part.digests,
      strict=True,
    ):
      i = row // 2
      assert (label, name, group) == (labels[i], f'v{i}', groups[i])
      assert (source, digest) == (f's{i}', f'd{i}')


def test_share_held_out_is_about_the_one_asked_for():
  videos = video_set(np.arange(100) % 5, [f'g{i}' for i in range(100)])
  _, validation = video_sets.hold_out(videos, 0.2, 0)
  assert collections.Counter(validation.labels.tolist()) == dict.fromkeys(
    range(5), 4
  )


def test_class_of_one_group_is_never_held_out():
  videos = video_set([0] * 6 + [1] * 6, ['only'] * 6 + list('abcdef'))
  for seed in range(5):
    train, validation = video_sets.hold_out(videos, 0.5, seed)
    assert set(validation.labels) == {1}
    assert (train.labels == 0).sum() == 6


def test_hold_out_depends_on_the_seed_alone():
  videos = video_set(np.arange(40) % 2, [f'g{i}' for i in range(40)])
  ids = [video_sets.hold_out(videos, 0.2, seed)[1].ids for seed in (0, 0, 1)]
  assert ids[0] == ids[1] != ids[2]


def test_nothing_to_hold_out_raises():
  with pytest.raises(ValueError, match='at least two'):
    video_sets.hold_out(video_set([0, 1], ['a', 'b']), 0.2, 0)


@pytest.mark.parametrize('fraction', [0.0, 1.0, -1, 2])
def test_share_outside_its_range_raises(fraction):
  with pytest.raises(ValueError, match='validation_fraction'):
    video_sets.hold_out(video_set([0, 0], ['a', 'b']), fraction, 0)


def test_videos_of_several_splits_are_one_set():
  index = lambda labels: records.VideoIndex(
    labels, labels, *[('x',) * len(labels)] * 5
  )
  chosen = video_sets.select(
    '/d',
    {'train': index(('box', 'row', 'run')), 'test': index(('row', 'box'))},
    {'train': [0, 2], 'test': [0, 1]},
    ['row', 'box'],
  )
  assert chosen.splits == ('train', 'test', 'test')
  assert chosen.rows.tolist() == [0, 0, 1]
  assert chosen.labels.tolist() == [1, 0, 1]


def test_a_class_without_a_video_is_named():
  videos = video_set([0, 2], ['a', 'b'])
  message = r"/nowhere: no video of \['run'\] in the splits \['videos'\]"
  with pytest.raises(ValueError, match=message):
    video_sets.check_classes(videos, ['row', 'run', 'box'])
  video_sets.check_classes(video_set([1, 0], ['a', 'b']), ['row', 'run'])


def test_sets_are_joined_in_order():
  parts = [video_set([0, 1], ['a', 'b']), video_set([2], ['c'])]
  whole = video_sets.concatenate(parts)
  assert len(whole) == 3 and whole.groups == ('a', 'b', 'c')
  assert whole.labels.tolist() == [0, 1, 2]
  assert whole.rows.tolist() == [0, 2, 0]
  assert whole.ids == ('v0', 'v1', 'v0') and whole.digests[2] == 'd0'


def test_shares_are_rounded_and_at_least_one():
  # 10 and 2 videos, each a session of its own.
  videos = video_set([0] * 10 + [1] * 2, [f'g{i}' for i in range(12)])
  for fraction, held in ((0.01, 1), (0.26, 3), (0.24, 2), (0.9, 9)):
    _, validation = video_sets.hold_out(videos, fraction, 0)
    counts = np.bincount(validation.labels, minlength=2)
    assert counts.tolist() == [held, min(held, 1)]


def test_the_smallest_session_is_held_out_where_none_fits():
  # One video in ten is asked for, and sessions have three, two and five.
  groups = ['big'] * 5 + ['small'] * 2 + ['middle'] * 3
  for seed in range(6):
    _, validation = video_sets.hold_out(video_set([0] * 10, groups), 0.1, seed)
    assert set(validation.groups) == {'small'}


def test_nothing_more_is_held_out_than_was_asked_for():
  rng = np.random.default_rng(0)
  labels = rng.integers(3, size=60)
  groups = [f'g{i}' for i in range(30) for _ in range(2)]
  videos = video_set(labels, groups)
  for seed in range(5):
    _, validation = video_sets.hold_out(videos, 0.3, seed)
    held = np.bincount(validation.labels, minlength=3)
    asked = np.round(0.3 * np.bincount(labels))
    assert (held <= asked).all() and held.sum() >= asked.sum() - 3


@pytest.mark.parametrize('seed', range(4))
def test_halves_share_no_session_and_are_of_one_size(seed):
  labels = np.repeat(np.arange(4), 8)
  groups = [f'{c} {i % 4}' for i, c in enumerate(labels)]
  one, two = video_sets.halve(video_set(labels, groups), seed)
  assert not set(one.groups) & set(two.groups)
  assert sorted((*one.ids, *two.ids)) == sorted(f'v{i}' for i in range(32))
  for half in (one, two):
    assert np.bincount(half.labels).tolist() == [4] * 4


def test_halves_weigh_what_a_session_holds():
  # Two sessions of class 0 and one of two videos of class 1.
  videos = video_set([0, 0, 1, 1], ['a', 'b', 'c', 'c'])
  for seed in range(6):
    one, two = video_sets.halve(videos, seed)
    assert sorted(len(half) for half in (one, two)) == [1, 3]
    assert {0} < {*one.labels, *two.labels}
    assert all(0 in half.labels for half in (one, two))


def test_a_single_session_is_not_halved():
  videos = video_set([0, 0], ['a', 'a'])
  one, two = video_sets.halve(videos, 0)
  assert (len(one), len(two)) == (2, 0)
  one, two = video_sets.halve(videos.subset(np.zeros(2, bool)), 0)
  assert len(one) == len(two) == 0


def test_halves_depend_on_the_seed_alone():
  videos = video_set(np.arange(40) % 2, [f'g{i}' for i in range(40)])
  ids = [video_sets.halve(videos, seed)[0].ids for seed in (0, 0, 1)]
  assert ids[0] == ids[1] != ids[2]


def test_rows_that_were_not_chosen_are_left_out():
  index = records.VideoIndex(
    ('row', 'run', 'row'), ('row', 'run', 'row'), *[tuple('abc')] * 5
  )
  chosen = video_sets.select('/d', {'train': index}, {'train': [2]}, ['row'])
  assert chosen.rows.tolist() == [2] and chosen.dataset_dir == '/d'
  assert chosen.labels.dtype == np.int32
  assert chosen.groups == chosen.sources == chosen.digests == ('c',)
