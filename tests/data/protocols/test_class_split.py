import collections
import json

import numpy as np
import pytest

from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import class_split


def write(tmp_path, content):
  path = tmp_path / 'split.json'
  text = content if isinstance(content, str) else json.dumps(content)
  path.write_text(text)
  return str(path)


ONE = {'seen': ['Rowing', 'arm_wrestling'], 'unseen': ['BenchPress']}


def test_plain_split_is_canonical_and_sorted(tmp_path):
  assert class_split.read_class_split(write(tmp_path, ONE)) == (
    ['arm wrestling', 'rowing'],
    ['bench press'],
  )


def test_one_of_several_splits(tmp_path):
  other = {'seen': ['a'], 'unseen': ['b']}
  path = write(tmp_path, {'splits': [ONE, other], 'note': 'x'})
  assert class_split.read_class_split(path, 1) == (['a'], ['b'])


@pytest.mark.parametrize('index', [-1, 2])
def test_split_that_is_not_there_raises(index, tmp_path):
  path = write(tmp_path, {'splits': [ONE, ONE]})
  with pytest.raises(ValueError, match=f'has splits 0 to 1, not {index}'):
    class_split.read_class_split(path, index)


@pytest.mark.parametrize(
  'content, message',
  [
    ('{"seen": [', 'not JSON'),
    ([ONE], 'expected an object'),
    ({'seen': ['a']}, 'expected an object'),
    ({'splits': [['a'], ['b']]}, 'expected an object'),
    ({'splits': {'0': ONE}}, '"splits" is not a list'),
    ({'seen': 'rowing', 'unseen': ['b']}, '"seen" is not a list'),
    ({'seen': ['a'], 'unseen': [1]}, '"unseen" is not a list of class names'),
    ({'seen': [], 'unseen': ['b']}, 'seen: no class names given'),
    ({'seen': ['a'], 'unseen': []}, 'unseen: no class names given'),
    ({'seen': ['a', ' '], 'unseen': ['b']}, 'seen: empty class name'),
    (
      {'seen': ['ArmCurl', 'arm_curl'], 'unseen': ['b']},
      "'ArmCurl' and 'arm_curl' are both 'arm curl'",
    ),
    (
      {'seen': ['a', 'ArmCurl'], 'unseen': ['arm curl']},
      r"both seen and unseen: \['arm curl'\]",
    ),
  ],
)
def test_bad_split_file_raises_and_says_why(content, message, tmp_path):
  path = write(tmp_path, content)
  with pytest.raises(ValueError, match=message) as e:
    class_split.read_class_split(path)
  assert path in str(e.value)


def test_missing_split_file_raises(tmp_path):
  with pytest.raises(FileNotFoundError, match='does not exist'):
    class_split.read_class_split(str(tmp_path / 'none.json'))


def video_set(labels, groups):
  n = len(labels)
  return class_split.VideoSet(
    'videos',
    np.arange(n) * 2,
    np.array(labels),
    tuple(f'v{i}' for i in range(n)),
    tuple(groups),
  )


@pytest.mark.parametrize('seed', range(5))
def test_held_out_groups_are_whole_and_every_class_keeps_training(seed):
  # Forty videos of four classes; each group has videos of two classes.
  rng = np.random.default_rng(seed)
  labels = np.arange(40) % 4
  groups = [f'g{c % 2}{rng.integers(6)}' for c in labels]
  videos = video_set(labels, groups)
  train, validation = class_split.hold_out(videos, 0.25, seed)
  assert not set(train.groups) & set(validation.groups)
  assert sorted((*train.ids, *validation.ids)) == sorted(videos.ids)
  assert set(train.labels) == {0, 1, 2, 3}
  assert len(validation) > 0
  # All columns were cut alike.
  for part in (train, validation):
    for row, label, name, group in zip(
      part.rows, part.labels, part.ids, part.groups, strict=True
    ):
      i = row // 2
      assert (label, name, group) == (labels[i], f'v{i}', groups[i])


def test_share_held_out_is_about_the_one_asked_for():
  videos = video_set(np.arange(100) % 5, [f'g{i}' for i in range(100)])
  _, validation = class_split.hold_out(videos, 0.2, 0)
  assert collections.Counter(validation.labels.tolist()) == dict.fromkeys(
    range(5), 4
  )


def test_class_of_one_group_is_never_held_out():
  videos = video_set([0] * 6 + [1] * 6, ['only'] * 6 + list('abcdef'))
  for seed in range(5):
    train, validation = class_split.hold_out(videos, 0.5, seed)
    assert set(validation.labels) == {1}
    assert (train.labels == 0).sum() == 6


def test_hold_out_depends_on_the_seed_alone():
  videos = video_set(np.arange(40) % 2, [f'g{i}' for i in range(40)])
  ids = [class_split.hold_out(videos, 0.2, seed)[1].ids for seed in (0, 0, 1)]
  assert ids[0] == ids[1] != ids[2]


def test_nothing_to_hold_out_raises():
  with pytest.raises(ValueError, match='at least two'):
    class_split.hold_out(video_set([0, 1], ['a', 'b']), 0.2, 0)


@pytest.mark.parametrize('fraction', [0.0, 1.0, -1, 2])
def test_share_outside_its_range_raises(fraction):
  with pytest.raises(ValueError, match='validation_fraction'):
    class_split.hold_out(video_set([0, 0], ['a', 'b']), fraction, 0)


def columns(labels, groups=None, sources=None):
  n = len(labels)
  return {
    'id': [f'v{i}' for i in range(n)],
    'label': list(labels),
    'group': groups or [f'g{i}' for i in range(n)],
    'source': sources or [''] * n,
    'num_frames': [10] * n,
    'seconds': [1.0] * n,
    'digest': [f'{i:032x}' for i in range(n)],
  }


def dataset(tmp_path, **changes):
  """A prepared dataset as far as protocols look at it: its metadata."""
  folder = tmp_path / 'folder' / 'config' / '1.0.0'
  folder.mkdir(parents=True)
  metadata = {
    'format_version': records.FORMAT_VERSION,
    'storage': {'kind': 'video'},
    'domain': 'filmed video',
    'dataset': 'video_folder',
    'lists': {},
    'missing': [],
    'videos': {'videos': columns(['row', 'box', 'run'] * 5)},
    'unreadable': [],
    'class_attributes': {},
    'seen_classes': [],
    'unseen_classes': [],
    **changes,
  }
  (folder / 'metadata.json').write_text(json.dumps(metadata))
  return str(folder)


BOX_UNSEEN = {'seen': ['row', 'run'], 'unseen': ['box']}


def test_split_file_decides_whose_videos_are_whose(tmp_path):
  path = dataset(
    tmp_path,
    videos={
      'videos': columns(['row', 'box', 'run'] * 5, sources=['a', 'b', 'a'] * 5)
    },
    unreadable=[
      {'id': 'x', 'label': 'box', 'reason': 'empty'},
      {'id': 'y', 'label': 'row', 'reason': 'empty'},
      {'id': 'z', 'label': 'swim', 'reason': 'empty'},
    ],
  )
  protocol = class_split.make_protocol(
    path, class_split=write(tmp_path, BOX_UNSEEN)
  )
  assert protocol.name == 'folder/config/1.0.0:split/0'
  assert protocol.seen_classes == ('row', 'run')
  assert protocol.unseen_classes == ('box',)
  assert protocol.test.ids == ('v1', 'v4', 'v7', 'v10', 'v13')
  assert protocol.test.labels.tolist() == [0] * 5
  assert len(protocol.train) == 8 and len(protocol.validation) == 2
  assert not set(protocol.train.ids) & set(protocol.validation.ids)
  assert protocol.sources == {'row': 'a', 'box': 'b', 'run': 'a'}
  # Those of seen classes, and of classes that play no part, do not count.
  assert protocol.unreadable_test_labels == (0,)


def test_dataset_may_bring_its_own_split(tmp_path):
  path = dataset(
    tmp_path,
    videos={
      'train': columns(['row', 'run', 'row']),
      'validation': columns(['run', 'row']),
      'test': columns(['box', 'box']),
    },
    seen_classes=['run', 'row'],
    unseen_classes=['box'],
  )
  protocol = class_split.make_protocol(path)
  assert protocol.name == 'folder/config/1.0.0'
  assert protocol.seen_classes == ('row', 'run')
  assert protocol.train.labels.tolist() == [0, 1, 0]
  assert protocol.validation.labels.tolist() == [1, 0]
  assert protocol.test.split == 'test' and len(protocol.test) == 2


def test_no_split_at_all_raises(tmp_path):
  with pytest.raises(ValueError, match='set data.class_split'):
    class_split.make_protocol(dataset(tmp_path))


def test_class_without_videos_raises_and_is_named(tmp_path):
  split = write(tmp_path, {'seen': ['row', 'swim'], 'unseen': ['box']})
  with pytest.raises(ValueError, match=r"no readable video of \['swim'\]"):
    class_split.make_protocol(dataset(tmp_path), class_split=split)


def test_class_without_videos_where_they_are_needed_raises(tmp_path):
  # The split file trains on a class that the dataset has in its test split.
  path = dataset(
    tmp_path,
    videos={
      'train': columns(['row', 'run']),
      'validation': columns(['row']),
      'test': columns(['box']),
    },
  )
  split = write(tmp_path, {'seen': ['row', 'box'], 'unseen': ['run']})
  with pytest.raises(ValueError, match=r"no video of \['box'\].*'train'"):
    class_split.make_protocol(path, class_split=split)


def test_class_both_seen_and_unseen_in_a_dataset_raises(tmp_path):
  path = dataset(tmp_path, seen_classes=['row'], unseen_classes=['row'])
  with pytest.raises(ValueError, match='both seen and unseen'):
    class_split.make_protocol(path)
