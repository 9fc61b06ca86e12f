"""The registry beside prepared data."""

import dataclasses

import pytest

from zsar_jax.data.protocols import registry

_CLASSES = ('bowling', 'juggling', 'rowing')


def _metadata(**changes):
  videos = [f'{name}/{i}.avi' for name in _CLASSES for i in range(2)]
  columns = {
    'id': videos,
    'label': [video.partition('/')[0] for video in videos],
  }
  return {
    'dataset': 'sports',
    'videos': {'videos': columns},
    'lists': {'test1': [videos[0], videos[2], 'juggling/9.avi']},
    'unreadable': [],
    'missing': [],
  } | changes


def _spec(**split):
  split = {
    'name': 'one',
    'seen': ('bowling',),
    'unseen': ('juggling', 'rowing'),
  } | split
  return registry.ProtocolSpec(
    id='sports/one',
    dataset='sports',
    splits=(registry.SplitSpec(**split),),
    source='a test',
  )


def _select(spec, metadata):
  return registry.select_videos(spec.splits[0], metadata)


def test_complete_data_has_no_problem():
  assert registry.check(_spec(num_videos=4), _metadata()) == []


def test_all_videos_of_the_unseen_classes():
  assert _select(_spec(), _metadata()) == {'videos': [2, 3, 4, 5]}


def test_videos_of_an_official_list():
  assert _select(_spec(videos='list:test1'), _metadata()) == {'videos': [2]}


def test_videos_of_a_prepared_split():
  videos = _metadata()['videos']['videos']
  metadata = _metadata(videos=dict.fromkeys(('train', 'test', 'other'), videos))
  chosen = _select(_spec(videos='split:test'), metadata)
  assert chosen == {'train': [], 'test': [2, 3, 4, 5], 'other': []}


@pytest.mark.parametrize(
  'rule, message',
  [
    ('list:test2', r"no official list 'test2', only \['test1'\]"),
    ('split:test', r"no split 'test', only \['videos'\]"),
  ],
)
def test_absent_list_or_split(rule, message):
  with pytest.raises(ValueError, match=message):
    _select(_spec(videos=rule), _metadata())
  (problem,) = registry.check(_spec(videos=rule), _metadata())
  assert problem.startswith('one: the prepared dataset has no')


def test_other_dataset_is_a_problem():
  (problem,) = registry.check(_spec(), _metadata(dataset='dances'))
  assert problem == "it is 'dances', sports/one tests on 'sports'"


def test_absent_classes_are_named():
  spec = _spec(seen=('judo',), unseen=('rowing', 'waltz'))
  (problem,) = registry.check(spec, _metadata())
  assert problem == 'one: 2 classes without a video: waltz, judo'


def test_missing_and_unreadable_videos_are_counted():
  metadata = _metadata(
    missing=[
      {'id': 'juggling/9.avi', 'label': 'juggling', 'split': 'videos'},
      {'id': 'bowling/9.avi', 'label': 'bowling', 'split': 'videos'},
    ],
    unreadable=[
      {'id': 'x', 'label': 'rowing', 'split': 'videos', 'reason': 'cut'}
    ],
  )
  (problem,) = registry.check(_spec(num_videos=6), metadata)
  assert problem == 'one: 4 videos, expected 6 (1 unreadable, 1 missing)'


def test_list_that_is_not_the_official_one():
  metadata = _metadata()
  digest = registry.list_digest(metadata['lists']['test1'])
  spec = _spec(videos='list:test1', unseen=('juggling',), list_digest=digest)
  assert registry.check(spec, metadata) == []
  metadata['lists']['test1'].pop()
  (problem,) = registry.check(spec, metadata)
  assert problem.endswith('it is not the official one')


def test_every_split_is_checked():
  spec = _spec(num_videos=5)
  spec = dataclasses.replace(
    spec, splits=(*spec.splits, dataclasses.replace(spec.splits[0], name='two'))
  )
  problems = registry.check(spec, _metadata())
  assert [problem[:3] for problem in problems] == ['one', 'two']


@pytest.mark.parametrize('dataset', ['dances', 'tennis'])
def test_any_other_dataset_is_a_problem(dataset):
  (problem,) = registry.check(_spec(), _metadata(dataset=dataset))
  assert problem.startswith(f'it is {dataset!r}')


def test_ten_absent_classes_are_named_and_more_are_not():
  names = tuple(f'c{i:02d}' for i in range(11))
  for n, ending in ((10, 'c09'), (11, 'c09 ...')):
    (problem,) = registry.check(_spec(seen=None, unseen=names[:n]), _metadata())
    assert problem.startswith(f'one: {n} classes without a video: c00, c01')
    assert problem.endswith(f'c08, {ending}')


@pytest.mark.parametrize('expected', [3, 5])
def test_too_many_videos_are_a_problem_as_too_few(expected):
  (problem,) = registry.check(_spec(num_videos=expected), _metadata())
  assert problem == (
    f'one: 4 videos, expected {expected} (0 unreadable, 0 missing)'
  )


@pytest.mark.parametrize('digest', ['0' * 12, 'f' * 12])
def test_any_other_digest_is_a_problem(digest):
  spec = _spec(videos='list:test1', unseen=('juggling',), list_digest=digest)
  (problem,) = registry.check(spec, _metadata())
  assert digest in problem


def test_a_list_counts_for_the_unseen_classes_alone():
  metadata = _metadata()
  metadata['lists']['test1'] = metadata['videos']['videos']['id']
  assert _select(_spec(videos='list:test1'), metadata) == {
    'videos': [2, 3, 4, 5]
  }
