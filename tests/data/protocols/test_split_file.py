import json

import pytest

from zsar_jax.data.protocols import split_file


def write(tmp_path, content):
  path = tmp_path / 'split.json'
  text = content if isinstance(content, str) else json.dumps(content)
  path.write_text(text)
  return str(path)


ONE = {'seen': ['Rowing', 'arm_wrestling'], 'unseen': ['BenchPress']}


def test_plain_split_is_canonical_and_sorted(tmp_path):
  assert split_file.read_class_split(write(tmp_path, ONE)) == (
    ['arm wrestling', 'rowing'],
    ['bench press'],
  )


def test_one_of_several_splits(tmp_path):
  other = {'seen': ['a'], 'unseen': ['b']}
  path = write(tmp_path, {'splits': [ONE, other], 'note': 'x'})
  assert split_file.read_class_split(path, 1) == (['a'], ['b'])


def test_splits_are_counted(tmp_path):
  assert split_file.count_splits(write(tmp_path, ONE)) == 1
  assert split_file.count_splits(write(tmp_path, {'splits': [ONE] * 3})) == 3


def test_an_index_is_a_number_or_all():
  assert split_file.read_index('3') == 3
  assert split_file.read_index('all') == split_file.ALL
  for text in ('-1', 'every', '1.5', ''):
    with pytest.raises(ValueError, match="a number from 0, or 'all'"):
      split_file.read_index(text)


@pytest.mark.parametrize('index', [-1, 2])
def test_split_that_is_not_there_raises(index, tmp_path):
  path = write(tmp_path, {'splits': [ONE, ONE]})
  with pytest.raises(ValueError, match=f'has splits 0 to 1, not {index}'):
    split_file.read_class_split(path, index)


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
    split_file.read_class_split(path)
  assert path in str(e.value)


def test_missing_split_file_raises(tmp_path):
  with pytest.raises(FileNotFoundError, match='does not exist'):
    split_file.read_class_split(str(tmp_path / 'none.json'))
