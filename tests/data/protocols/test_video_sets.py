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
