import csv
import dataclasses
import json
import re

import pytest

from zsar_jax.data import class_names
from zsar_jax.data.protocols import known_classes, published, registry, specs

# What was measured must not change under a name that results carry.
_HASHES = {
  'activitynet/all-classes': '9d92caf34a34',
  'activitynet/half-class-seed0-9': '4765f60153f8',
  'hmdb51/all-classes-all-videos': 'd69157d7a2c2',
  'hmdb51/half-class-seed0-9': '3302bd8c4fa8',
  'hmdb51/official-test-lists': '1bf9a68329c5',
  'hmdb51/truze': 'c69fbcfa4d2f',
  'kinetics600/er-split1-3': '2a262b692272',
  'kinetics600/er-split1-3-validation': '07004c2f9d42',
  'ucf101/all-classes-all-videos': '6d79bcf8b674',
  'ucf101/half-class-seed0-9': '34408f141e46',
  'ucf101/official-test-lists': '443a95b27bd6',
  'ucf101/truze': '2bc256ab5363',
}


def _keys(names):
  return sorted(re.sub('[^a-z0-9]', '', name.lower()) for name in names)


def test_every_id_keeps_its_hash():
  assert {i: registry.get(i).hash for i in registry.ids()} == _HASHES


@pytest.mark.parametrize(
  'protocol_id, splits, unseen, videos',
  [
    (
      'ucf101/half-class-seed0-9',
      10,
      50,
      [6619, 6526, 6660, 6884, 6626, 6448, 6690, 6552, 6633, 6762],
    ),
    ('hmdb51/half-class-seed0-9', 10, 25, [None] * 10),
    ('activitynet/half-class-seed0-9', 10, 100, [None] * 10),
    ('activitynet/all-classes', 1, 200, [None]),
    ('ucf101/all-classes-all-videos', 1, 101, [13320]),
    ('hmdb51/all-classes-all-videos', 1, 51, [6766]),
    ('ucf101/official-test-lists', 3, 101, [3783, 3734, 3696]),
    ('hmdb51/official-test-lists', 3, 51, [1530] * 3),
    ('ucf101/truze', 1, 31, [3965]),
    ('hmdb51/truze', 1, 22, [None]),
    ('kinetics600/er-split1-3', 3, 160, [None] * 3),
    ('kinetics600/er-split1-3-validation', 3, 160, [None] * 3),
  ],
)
def test_counts(protocol_id, splits, unseen, videos):
  spec = registry.get(protocol_id)
  assert spec.id == protocol_id
  assert spec.dataset == protocol_id.partition('/')[0]
  assert len(spec.splits) == splits
  for split in spec.splits:
    assert len(set(split.unseen)) == unseen
    assert split.unseen == tuple(sorted(split.unseen))
  assert [split.num_videos for split in spec.splits] == videos


def test_truze_brings_its_seen_classes():
  for dataset, seen in (('ucf101', 70), ('hmdb51', 29)):
    (split,) = registry.get(f'{dataset}/truze').splits
    assert len(split.seen) == seen
    whole = known_classes.canonical(dataset)
    assert sorted(split.seen + split.unseen) == list(whole)


@pytest.mark.parametrize(
  'dataset, key',
  [
    ('ucf101', 'ucf101'),
    ('hmdb51', 'hmdb51'),
    ('activitynet', 'activitynet200'),
  ],
)
def test_half_classes_are_those_of_the_facts(dataset, key, protocol_facts):
  path = protocol_facts / 'derived' / 'half_class_splits_seed0-9.json'
  facts = json.loads(path.read_text())[key]['splits']
  spec = registry.get(f'{dataset}/half-class-seed0-9')
  assert len(facts) == len(spec.splits) == 10
  for fact, split in zip(facts, spec.splits, strict=True):
    assert split.name == f'seed{fact["seed"]}'
    assert _keys(split.unseen) == _keys(fact['test_classes'])


def test_half_classes_do_not_depend_on_the_order_of_the_list():
  names = list(known_classes.read('ucf101'))
  drawn = published.half_class_split(names, 3)
  assert published.half_class_split(names[::-1], 3) == drawn
  assert published.half_class_split(names, 4) != drawn


def test_er_splits_are_those_of_the_facts(protocol_facts):
  folder = protocol_facts / 'k600_er'
  words = json.loads((folder / 'classes620_label_defn.json').read_text())
  indices = json.loads((folder / 'tst_class_idxs.json').read_text())
  spec = registry.get('kinetics600/er-split1-3')
  for i, split in enumerate(spec.splits):
    by_index = [words[k]['word'] for k in indices[i]]
    assert _keys(split.unseen) == _keys(by_index)
    with open(protocol_facts / 'vifi' / f'ZS_split{i + 1}_K600.csv') as f:
      by_name = [row['name'] for row in csv.DictReader(f)]
    assert _keys(split.unseen) == _keys(by_name)
    # None of the 400 classes of Kinetics-400 is unseen.
    trained = {words[k]['word'] for k in range(400)}
    assert trained.isdisjoint(by_index)
    assert _keys(trained) == _keys(known_classes.read('kinetics400'))


def _truze_names(text, kind):
  (found,) = re.findall(
    rf'{kind} \(\d+ classes\):(.*?)\.\s*(?:\n|$)', text, re.S
  )
  return [name.strip() for name in found.split(',')]


def test_truze_is_that_of_the_facts(protocol_facts):
  text = (protocol_facts / 'truze' / 'ZSL.txt').read_text()
  corrections = {
    'Basketball Shooting': 'Basketball',
    'Salsa Spins': 'SalsaSpin',
    'Swing Basketball': 'swing_baseball',
  }
  ucf, hmdb = text.split('##HMDB51')
  for dataset, part in (('ucf101', ucf), ('hmdb51', hmdb)):
    (split,) = registry.get(f'{dataset}/truze').splits
    seen = [corrections.get(n, n) for n in _truze_names(part, 'Training')]
    assert _keys(split.seen) == _keys(seen)
    assert _keys(split.unseen) == _keys(_truze_names(part, 'Testing'))


@pytest.mark.parametrize(
  'dataset, folder', [('ucf101', 'ucf'), ('hmdb51', 'hmdb')]
)
def test_test_lists_are_those_of_the_facts(dataset, folder, protocol_facts):
  spec = registry.get(f'{dataset}/official-test-lists')
  for i, split in enumerate(spec.splits, 1):
    lines = (protocol_facts / 'vifi' / folder / f'val{i}.txt').read_text()
    names = [line.rsplit(' ', 1)[0] for line in lines.splitlines()]
    assert len(names) == split.num_videos
    assert registry.list_digest(names) == split.list_digest


def test_list_digest_is_of_file_names_alone():
  digest = registry.list_digest
  assert digest(['B/b_1.avi', 'A/a_1']) == digest(['a_1.mp4', 'c/B_1'])
  assert digest(['a_1', 'b_1']) != digest(['a_1', 'b_2'])


@pytest.mark.parametrize(
  'wrong, nearest',
  [
    ('ucf101/half-class-seed0-10', 'ucf101/half-class-seed0-9'),
    ('hmdb51/true-ze', 'hmdb51/truze'),
    ('kinetics600/er', 'kinetics600/er-split1-3'),
  ],
)
def test_unknown_id_raises_with_the_nearest(wrong, nearest):
  with pytest.raises(ValueError, match=f'nearest are .*{nearest}'):
    registry.get(wrong)


def test_id_like_no_other_raises_with_all():
  with pytest.raises(ValueError, match='known are .*ucf101/truze'):
    registry.get('?')


def test_video_folder_id_asks_for_the_file():
  with pytest.raises(ValueError, match='give the file'):
    registry.get('video_folder/split')


def test_hash_is_of_what_is_measured_and_of_no_spelling():
  split = registry.SplitSpec('a', None, ('tai chi', 'yo yo'))
  spec = registry.ProtocolSpec('x/y', 'x', (split,), 'nobody')

  def hash_of(**changes):
    in_split = {f.name for f in dataclasses.fields(split)} & set(changes)
    of_split = {name: changes.pop(name) for name in in_split}
    splits = (dataclasses.replace(split, **of_split),)
    return dataclasses.replace(spec, splits=splits, **changes).hash

  same = spec.hash
  assert re.fullmatch('[0-9a-f]{12}', same)
  for changes in (
    {'unseen': ('yoyo', 'taichi')},
    {'source': 'somebody'},
    {'num_videos': 3},
    {'name': 'b'},
  ):
    assert hash_of(**changes) == same
  for changes in (
    {'unseen': ('tai chi',)},
    {'seen': ('archery',)},
    {'videos': 'list:test1'},
    {'dataset': 'z'},
    {'averaging': specs.MEAN_OVER_SPLITS},
    {'candidates': 'all classes'},
  ):
    assert hash_of(**changes) != same


def test_describe_names_all_that_matters():
  text = registry.describe(registry.get('ucf101/official-test-lists'))
  for part in (
    '443a95b27bd6',
    'test3',
    '3696',
    'list:test2',
    'any',
    'mean over',
  ):
    assert part in text


def test_split_file(tmp_path):
  pairs = [
    {'seen': ['Rowing'], 'unseen': ['ShakeHands']},
    {'seen': ['shake_hands'], 'unseen': ['rowing', 'judo']},
  ]
  path = tmp_path / 'mine.json'
  path.write_text(json.dumps({'splits': pairs}))
  every = registry.from_split_file(path)
  assert every.id == 'video_folder/mine'
  assert every.averaging == specs.MEAN_OVER_SPLITS
  assert [s.unseen for s in every.splits] == [
    tuple(class_names.canonical_names(['ShakeHands'])),
    ('judo', 'rowing'),
  ]
  one = registry.from_split_file(path, 1)
  assert one.id == 'video_folder/mine/1'
  assert one.splits == every.splits[1:]
  assert one.averaging == specs.ONE_SPLIT
  assert one.hash != every.hash
  path.write_text(json.dumps(pairs[1]))
  alone = registry.from_split_file(path)
  assert alone.splits[0].unseen == one.splits[0].unseen
  assert alone.hash == one.hash
  with pytest.raises(FileNotFoundError):
    registry.from_split_file(tmp_path / 'none.json')


def test_at_most_three_ids_are_named_as_the_nearest():
  with pytest.raises(ValueError, match='nearest are ([^,]*, ){2}[^,]*$'):
    registry.get('ucf101/half-class-seed0-10')


def test_notes_are_described_where_there_are_any():
  split = registry.SplitSpec('a', ('box', 'row'), ('tai chi',))
  spec = registry.ProtocolSpec('x/y', 'x', (split,), 'nobody')
  assert 'notes' not in registry.describe(spec)
  noted = registry.describe(dataclasses.replace(spec, notes='beware'))
  assert 'notes       beware' in noted
  # Two seen classes, one unseen, and nobody knows how many videos.
  assert noted.splitlines()[-1].split() == ['a', '2', '1', '?', 'all']
