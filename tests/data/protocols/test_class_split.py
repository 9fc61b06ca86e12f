import json
import os

import pytest

from tests.data.protocols.test_split_file import write
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import (
  bank_protocols,
  class_split,
  known_classes,
  registry,
  split_choice,
  split_file,
)


def columns(labels, groups=None, sources=None):
  n = len(labels)
  return {
    'id': [f'v{i}' for i in range(n)],
    'label': list(labels),
    'group': groups or [f'g{i}' for i in range(n)],
    'source': sources or [''] * n,
    'num_frames': [10] * n,
    'seconds': [1.0] * n,
    'digest': [f'{name} {i}' for i, name in enumerate(labels)],
  }


def dataset(tmp_path, name='folder', **changes):
  """Writes the metadata of a prepared dataset, which protocols read."""
  folder = tmp_path / name / 'config' / '1.0.0'
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
      {'id': 'x', 'label': 'box', 'split': 'videos', 'reason': 'empty'},
      {'id': 'y', 'label': 'row', 'split': 'videos', 'reason': 'empty'},
      {'id': 'z', 'label': 'swim', 'split': 'videos', 'reason': 'empty'},
    ],
  )
  protocol = class_split.make_protocol(
    path, split_choice.SplitChoice(class_split=write(tmp_path, BOX_UNSEEN))
  )
  assert protocol.name == 'folder/config/1.0.0:split/0'
  assert protocol.seen_classes == ('row', 'run')
  assert protocol.unseen_classes == ('box',)
  assert protocol.test.ids == ('v1', 'v4', 'v7', 'v10', 'v13')
  assert protocol.test.labels.tolist() == [0] * 5
  assert len(protocol.train) == 8
  # What is held out watches training, or is kept for GZSL.
  assert len(protocol.validation) == 1 and len(protocol.seen_test) == 1
  held = {*protocol.validation.ids, *protocol.seen_test.ids}
  assert len(held) == 2 and not set(protocol.train.ids) & held
  assert protocol.sources == {'row': 'a', 'box': 'b', 'run': 'a'}
  # Those of seen classes, and of classes that play no part, do not count.
  assert protocol.unreadable_test_labels == (0,)


def test_one_split_of_a_file_says_so_and_all_are_for_banks(tmp_path):
  path = dataset(tmp_path)
  row_unseen = {'seen': ['box', 'run'], 'unseen': ['row']}
  file = write(tmp_path, {'splits': [BOX_UNSEEN, row_unseen]})
  make = lambda index, make=class_split.make_protocols: make(
    path, split_choice.SplitChoice(file, class_split_index=index)
  )
  (one,) = make(1)
  assert one.name == 'folder/config/1.0.0:split/1'
  assert one.unseen_classes == ('row',) and one.part == 'split 1 of 2'
  with pytest.raises(ValueError, match='2 splits, .* give an index, 0 to 1'):
    make(split_file.ALL)
  of_bank = lambda file, index=split_file.ALL: (
    bank_protocols.make_bank_protocols(
      bank_protocols.Seen(('swim',), ''),
      split_choice.SplitChoice(
        file, class_split_index=index, test_dataset_dir=path
      ),
    )
  )
  every = of_bank(file)
  assert [p.unseen_classes for p in every] == [('box',), ('row',)]
  assert [p.part for p in every] == ['split 0 of 2', 'split 1 of 2']
  assert {p.spec_id for p in every} == {'folder/config/1.0.0:split'}
  assert [p.part for p in of_bank(file, 1)] == ['split 1 of 2']
  # A file of one split has no other.
  (alone,) = of_bank(write(tmp_path, BOX_UNSEEN))
  assert alone.name == 'folder/config/1.0.0:split/0' and alone.part == ''


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
  held = (*protocol.validation.labels, *protocol.seen_test.labels)
  assert sorted(held) == [0, 1]
  assert protocol.test.splits == ('test', 'test')


def test_no_split_at_all_raises(tmp_path):
  with pytest.raises(ValueError, match='set data.protocol .* data.class_split'):
    class_split.make_protocol(dataset(tmp_path))


def test_training_alone_has_no_test(tmp_path):
  protocol = class_split.make_protocol(
    dataset(tmp_path), split_choice.SplitChoice(train_only=True)
  )
  assert protocol.test is None and protocol.unseen_classes == ()
  assert protocol.seen_classes == ('box', 'row', 'run')
  assert protocol.name.endswith(':no test')


def test_class_without_videos_raises_and_is_named(tmp_path):
  split = write(tmp_path, {'seen': ['row', 'swim'], 'unseen': ['box']})
  with pytest.raises(ValueError, match=r"no readable video of \['swim'\]"):
    class_split.make_protocol(
      dataset(tmp_path), split_choice.SplitChoice(class_split=split)
    )


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
    class_split.make_protocol(path, split_choice.SplitChoice(class_split=split))


def test_class_both_seen_and_unseen_in_a_dataset_raises(tmp_path):
  path = dataset(tmp_path, seen_classes=['row'], unseen_classes=['row'])
  with pytest.raises(ValueError, match='both seen and unseen'):
    class_split.make_protocol(path)


def truze(tmp_path, **changes):
  """UCF101 with two videos of every class."""
  names = known_classes.canonical('ucf101')
  ucf = columns([name for name in names for _ in range(2)])
  return dataset(
    tmp_path, 'ucf101', dataset='ucf101', videos={'videos': ucf}, **changes
  )


def test_a_registered_protocol_brings_its_classes(tmp_path):
  path = truze(tmp_path)
  protocol = class_split.make_protocol(
    path, split_choice.SplitChoice(protocol='ucf101/truze')
  )
  spec = registry.get('ucf101/truze')
  assert (protocol.name, protocol.hash) == (spec.id, spec.hash)
  assert protocol.seen_classes == spec.splits[0].seen
  assert len(protocol.unseen_classes) == 31 and len(protocol.test) == 62
  (alone,) = class_split.make_protocols(
    path, split_choice.SplitChoice(protocol='ucf101/truze')
  )
  assert alone.hash == spec.hash


def test_one_split_of_several_within_a_dataset(tmp_path):
  path = truze(tmp_path)
  make = lambda i: class_split.make_protocol(
    path,
    split_choice.SplitChoice(
      protocol='ucf101/half-class-seed0-9', class_split_index=i
    ),
  )
  first, second = make(0), make(1)
  assert first.name == 'ucf101/half-class-seed0-9[seed0]'
  assert first.part == 'split 0 of 10'
  assert len(first.unseen_classes) == 50 and len(first.seen_classes) == 51
  assert not set(first.unseen_classes) & set(first.seen_classes)
  assert first.hash != second.hash
  with pytest.raises(ValueError, match='has splits 0 to 9, not 10'):
    make(10)


def test_official_lists_choose_the_videos(tmp_path):
  lists = {f'test{i}': ['v0', 'v2'] for i in (1, 2, 3)}
  lost = [
    {'id': 'v0', 'label': 'archery', 'split': 'videos', 'reason': 'empty'},
    {'id': 'v5', 'label': 'archery', 'split': 'videos', 'reason': 'empty'},
  ]
  path = truze(tmp_path, lists=lists, unreadable=lost)
  kinetics = dataset(tmp_path, 'k', videos={'videos': columns(['a', 'b'] * 5)})
  with pytest.raises(ValueError, match='no video of'):
    class_split.make_protocols(
      kinetics,
      split_choice.SplitChoice(
        protocol='ucf101/official-test-lists', test_dataset_dir=path
      ),
    )
  lists = {
    f'test{i}': [f'v{2 * j + i % 2}' for j in range(101)] for i in (1, 2, 3)
  }
  os.remove(f'{path}/metadata.json')
  os.rmdir(path)
  path = truze(tmp_path, lists=lists, unreadable=lost)
  made = class_split.make_protocols(
    kinetics,
    split_choice.SplitChoice(
      protocol='ucf101/official-test-lists', test_dataset_dir=path
    ),
  )
  assert [len(p.test) for p in made] == [101, 101, 101]
  assert made[0].test.ids[0] == 'v1' and made[1].test.ids[0] == 'v0'
  # v5 is on the first list, v0 on the second.
  assert [len(p.unreadable) for p in made] == [1, 1, 1]
  assert made[0].unreadable[0]['id'] == 'v5'


def test_whole_dataset_unseen_leaves_nothing_to_train_on(tmp_path):
  with pytest.raises(ValueError, match='none is left to train on'):
    class_split.make_protocol(
      truze(tmp_path),
      split_choice.SplitChoice(protocol='ucf101/all-classes-all-videos'),
    )


def test_protocol_of_another_dataset_raises(tmp_path):
  path = truze(tmp_path)
  with pytest.raises(ValueError, match='tests on hmdb51, but .* is ucf101'):
    class_split.make_protocol(
      path, split_choice.SplitChoice(protocol='hmdb51/truze')
    )
  with pytest.raises(ValueError, match='are both given'):
    class_split.make_protocol(
      path,
      split_choice.SplitChoice(protocol='ucf101/truze', class_split='x.json'),
    )


class TestLeaks:
  def make(self, tmp_path, labels=('rope climbing', 'yoga', 'jog'), **kwargs):
    kinetics = dataset(
      tmp_path, 'k', videos={'videos': columns(list(labels) * 5)}
    )
    ucf = columns(['climbing a rope', 'rowing'])
    other = dataset(tmp_path, 'other', videos={'videos': ucf})
    split = write(
      tmp_path, {'seen': ['jog'], 'unseen': ['climbing a rope', 'rowing']}
    )
    return class_split.make_protocol(
      kinetics,
      split_choice.SplitChoice(
        class_split=split, test_dataset_dir=other, **kwargs
      ),
    )

  def test_are_refused(self, tmp_path):
    with pytest.raises(ValueError, match="seen 'rope climbing'") as error:
      self.make(tmp_path)
    assert 'data.allow_leaks=True' in str(error.value)

  def test_allowed_ones_are_recorded(self, tmp_path):
    protocol = self.make(tmp_path, allow_leaks=True)
    assert [leak.unseen for leak in protocol.leaks] == ['climbing a rope']
    assert 'rope climbing' in protocol.seen_classes

  def test_leaking_classes_may_be_left_out(self, tmp_path):
    protocol = self.make(tmp_path, drop_leaking=True)
    assert protocol.seen_classes == ('jog', 'yoga')
    assert protocol.dropped_classes == ('rope climbing',)
    assert protocol.leaks == ()

  def test_equal_names_between_datasets(self, tmp_path):
    with pytest.raises(ValueError, match="name: seen 'rowing'"):
      self.make(tmp_path, labels=('rowing', 'yoga'))

  def test_trained_classes_alone_count_as_seen(self, tmp_path):
    protocol = self.make(tmp_path, seen_classes=('jog', 'yoga'))
    assert protocol.seen_classes == ('jog', 'yoga')

  def test_same_video_in_training_and_test(self, tmp_path):
    videos = columns(['row', 'run', 'box'] * 4)
    videos['digest'][0] = videos['digest'][2] = 'same'
    path = dataset(tmp_path, videos={'videos': videos})
    split = write(tmp_path, BOX_UNSEEN)
    with pytest.raises(ValueError, match='v0 is v2'):
      class_split.make_protocol(
        path, split_choice.SplitChoice(class_split=split, seed=1)
      )
    protocol = class_split.make_protocol(
      path,
      split_choice.SplitChoice(class_split=split, seed=1, drop_leaking=True),
    )
    assert 'v0' not in protocol.train.ids and 'v2' in protocol.test.ids

  def test_further_protocols_must_not_be_leaked_into(self, tmp_path):
    everything = 'ucf101/all-classes-all-videos'
    kinetics = dataset(
      tmp_path, 'k', videos={'videos': columns(['tai chi', 'yoga', 'jog'] * 5)}
    )
    make = lambda **kwargs: class_split.make_protocol(
      kinetics,
      split_choice.SplitChoice(
        train_only=True, strict_for=(everything,), **kwargs
      ),
    )
    with pytest.raises(ValueError, match="seen 'tai chi'"):
      make()
    assert make(drop_leaking=True).seen_classes == ('jog', 'yoga')
    assert [leak.seen for leak in make(allow_leaks=True).leaks] == ['tai chi']

  def test_one_model_may_have_seen_nothing_of_any_split(self, tmp_path):
    ucf = truze(tmp_path)
    spec = registry.get('ucf101/half-class-seed0-9')
    later = next(
      n for n in spec.splits[1].unseen if n not in spec.splits[0].unseen
    )
    kinetics = dataset(
      tmp_path, 'k', videos={'videos': columns([later, 'yoga', 'jog'] * 5)}
    )
    how = dict(protocol=spec.id, test_dataset_dir=ucf)
    # It leaks into another split than the first.
    with pytest.raises(ValueError, match=f'name: seen {later!r}'):
      class_split.make_protocol(kinetics, split_choice.SplitChoice(**how))
    first = class_split.make_protocol(
      kinetics, split_choice.SplitChoice(drop_leaking=True, **how)
    )
    assert first.seen_classes == ('jog', 'yoga')
    # What was trained on cannot be dropped afterwards.
    with pytest.raises(ValueError, match=f'name: seen {later!r}'):
      class_split.make_protocols(
        kinetics,
        split_choice.SplitChoice(
          seen_classes=(later, 'yoga'), drop_leaking=True, **how
        ),
      )
    made = class_split.make_protocols(
      kinetics,
      split_choice.SplitChoice(
        seen_classes=('jog', 'yoga'), drop_leaking=True, **how
      ),
    )
    assert len(made) == 10 and {p.spec_hash for p in made} == {spec.hash}
    allowed = class_split.make_protocols(
      kinetics, split_choice.SplitChoice(allow_leaks=True, **how)
    )
    assert [bool(p.leaks) for p in allowed] == [
      later in split.unseen for split in spec.splits
    ]
