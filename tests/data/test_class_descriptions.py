"""Descriptions of users, and those that ship."""

import json
import os
import re

import pytest

from zsar_jax.data import class_descriptions, class_names
from zsar_jax.data.protocols import known_classes

# Group -> class lists whose names it describes.
LISTS = {
  'kinetics': ('kinetics400', 'kinetics600', 'kinetics700'),
  'ucf101': ('ucf101',),
  'hmdb51': ('hmdb51',),
  'activitynet200': ('activitynet200',),
}
# Who somebody is, and words that say nothing of what is seen.
BANNED = frozenset(
  'man men woman women boy boys girl girls he she his her hers him male males '
  'female females guy guys lady ladies gentleman gentlemen young old elderly '
  'child children kid kids videos footage typically usually '
  'various etc'.split()
)


def write(tmp_path, content):
  path = tmp_path / 'd.json'
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  return str(path)


def test_descriptions_are_read_by_canonical_name(tmp_path):
  path = write(tmp_path, {'Shake_Hands': [' Two people greet. ']})
  described = class_descriptions.read(path)
  assert described == {'shake hands': ('Two people greet.',)}
  # Some editors write a mark at the beginning.
  with_mark = write(tmp_path, '\ufeff{"Rowing": ["Oars."]}')
  assert class_descriptions.read(with_mark) == {'rowing': ('Oars.',)}


def test_a_file_may_say_more_than_the_descriptions(tmp_path):
  content = {'licence': 'CC0-1.0', 'descriptions': {'Rowing': ['Oars.']}}
  path = write(tmp_path, content)
  assert class_descriptions.read(path) == {'rowing': ('Oars.',)}
  # A class of this name is one as any other.
  path = write(tmp_path, {'descriptions': ['A text is read out.']})
  assert list(class_descriptions.read(path)) == ['descriptions']


@pytest.mark.parametrize(
  'content, words',
  [
    ('{', 'not JSON'),
    ('[' * 200_000, 'lie too deep'),
    ([], 'expected an object'),
    ({'rowing': 'x'}, "'rowing' needs a list of sentences"),
    ({'rowing': []}, "'rowing' needs a list of sentences"),
    ({'rowing': ['x', ' ']}, "'rowing' needs a list of sentences"),
    ({'rowing': ['x'], 'Rowing': ['y']}, 'duplicate class name'),
    ('{"rowing": ["x"], "rowing": ["y"]}', "duplicate class name: 'rowing'"),
  ],
)
def test_bad_files_raise_and_say_why(content, words, tmp_path):
  path = write(tmp_path, content)
  with pytest.raises(ValueError, match=words) as error:
    class_descriptions.read(path)
  assert path in str(error.value)


def test_missing_file_raises(tmp_path):
  with pytest.raises(FileNotFoundError, match='does not exist'):
    class_descriptions.read(str(tmp_path / 'none.json'))


def test_a_dataset_has_its_own_sentences_of_a_name_that_others_have_too():
  groups = {name: class_descriptions.group(name) for name in LISTS}
  of_any = class_descriptions.shipped()
  assert of_any['archery'] == groups['kinetics']['archery']
  for dataset, name in (
    ('activitynet', 'activitynet200'),
    ('ucf101', 'ucf101'),
    ('kinetics700_664', 'kinetics'),
  ):
    own = class_descriptions.shipped(dataset)
    assert own.keys() == of_any.keys()
    assert own['archery'] == groups[name]['archery']
  own = class_descriptions.shipped('video_folder')
  assert own['hugging'] != of_any['hugging']
  assert (
    class_descriptions.find('shipped', 'hmdb51')['fencing']
    == (groups['hmdb51']['fencing'])
  )


def test_what_has_no_description_is_named():
  described = {'rowing': ('Oars.',), 'juggling': ('Balls.',)}
  check = class_descriptions.check_some
  assert check(described, ['rowing', 'juggling'], 'shipped') == ''
  assert check(described, ['rowing', 'waving'], 'shipped') == (
    'shipped describes 1 of 2 classes, but not waving'
  )
  # A name that may be meant is told, unless it is a class of its own.
  assert check(described, ['rowing', 'jugling'], 'f.json') == (
    "f.json describes 1 of 2 classes, but not jugling (it has 'juggling')"
  )
  classes = ['rowing', 'juggling', 'jugling']
  assert check(described, classes, 'f.json').endswith('but not jugling')
  with pytest.raises(ValueError, match='f.json .*none of the classes waving'):
    check(described, ['waving'], 'f.json')
  many = [f'class {i}' for i in range(400)]
  with pytest.raises(ValueError, match='class 9 and 390 more$'):
    check(described, many, 'f.json')
  assert check(described, ['rowing', *many], 'f.json').endswith('and 390 more')


@pytest.mark.parametrize('name', class_descriptions.GROUPS)
def test_shipped_files_say_what_they_are(name):
  path = os.path.join(
    os.path.dirname(class_descriptions.__file__),
    'descriptions',
    f'{name}.json',
  )
  with open(path, encoding='ascii') as f:
    content = json.load(f)
  assert set(content) == {'licence', 'about', 'descriptions'}
  assert content['licence'] == 'CC0-1.0' and content['about']
  # Keys are canonical, in order, for short differences.
  names = list(content['descriptions'])
  assert names == class_names.canonical_names(names) == sorted(names)


@pytest.mark.parametrize('group, lists', LISTS.items())
def test_every_class_of_the_lists_is_described_and_nothing_else(group, lists):
  wanted = {name for list_ in lists for name in known_classes.canonical(list_)}
  assert set(class_descriptions.group(group)) == wanted


def _words(text):
  return re.findall(r'[a-z0-9]+', text.lower())


@pytest.mark.parametrize('group', class_descriptions.GROUPS)
def test_sentences_are_short_plain_and_name_no_other_class(group):
  described = class_descriptions.group(group)
  spelt = {name: f' {" ".join(_words(name))} ' for name in described}
  faults = []
  for name, sentences in described.items():
    if not 1 <= len(sentences) <= 3:
      faults.append(f'{name}: {len(sentences)} sentences')
    for sentence in sentences:
      words = sentence.split()
      if not 8 <= len(words) <= 25 or sentence[-1] != '.':
        faults.append(f'{name}: not a sentence of 8 to 25 words: {sentence}')
      if not sentence[0].isupper() or not sentence.isascii():
        faults.append(f'{name}: not a plain sentence: {sentence}')
      told = BANNED.intersection(_words(sentence)) - set(_words(name))
      if told:
        faults.append(f'{name}: says {told}: {sentence}')
      text = f' {" ".join(_words(sentence))} '
      faults += [
        f'{name}: names {other!r}: {sentence}'
        for other, words in spelt.items()
        if words in text and words not in spelt[name]
      ]
  assert not faults, '\n'.join(faults)


def test_no_two_classes_of_a_dataset_are_described_alike():
  for group in class_descriptions.GROUPS:
    texts = [' '.join(s) for s in class_descriptions.group(group).values()]
    assert len(set(texts)) == len(texts), group
