import pytest

from zsar_jax.data.protocols import known_classes

_SIZES = {
  'activitynet200': 200,
  'hmdb51': 51,
  'kinetics400': 400,
  'kinetics600': 600,
  'kinetics600_er_split1': 160,
  'kinetics600_er_split2': 160,
  'kinetics600_er_split3': 160,
  'kinetics700': 700,
  'kinetics700_587': 587,
  'kinetics700_664': 664,
  'truze_hmdb51': 22,
  'truze_ucf101': 31,
  'ucf101': 101,
}


def test_every_list_has_its_size_in_canonical_names_too():
  assert known_classes.list_names() == sorted(_SIZES)
  for name, size in _SIZES.items():
    assert len(known_classes.read(name)) == size
    assert len(set(known_classes.canonical(name))) == size


@pytest.mark.parametrize(
  'part, whole',
  [
    ('kinetics700_587', 'kinetics700_664'),
    ('kinetics700_664', 'kinetics700'),
    ('kinetics600_er_split1', 'kinetics600'),
    ('kinetics600_er_split2', 'kinetics600'),
    ('kinetics600_er_split3', 'kinetics600'),
    ('truze_ucf101', 'ucf101'),
    ('truze_hmdb51', 'hmdb51'),
  ],
)
def test_part_is_spelt_and_ordered_as_the_whole(part, whole):
  members = set(known_classes.read(part))
  in_order = [name for name in known_classes.read(whole) if name in members]
  assert list(known_classes.read(part)) == in_order


def test_unknown_list_raises():
  with pytest.raises(ValueError, match="'kinetics500'; known are activitynet"):
    known_classes.read('kinetics500')


def test_ucf101_counts_cover_the_dataset():
  counts = known_classes.ucf101_video_counts()
  assert tuple(sorted(counts)) == known_classes.canonical('ucf101')
  assert sum(counts.values()) == 13320
  assert min(counts.values()) == 100
  assert max(counts.values()) == 167


@pytest.mark.parametrize(
  'name', ['kinetics400', 'kinetics600', 'kinetics700', 'ucf101', 'hmdb51']
)
def test_lists_are_those_of_the_facts(name, protocol_facts):
  path = protocol_facts / 'derived' / f'{name}.txt'
  assert list(known_classes.read(name)) == path.read_text().splitlines()


def test_names_out_of_a_file_or_a_list(tmp_path):
  path = tmp_path / 'mine.txt'
  path.write_text('JugglingBalls\n\n  yo_yo \n')
  read = known_classes.read_file_or_list
  assert read(str(path)) == ['juggling balls', 'yo yo']
  assert sorted(read('hmdb51')) == list(known_classes.canonical('hmdb51'))
  message = 'a class list; nearest are ucf101$'
  with pytest.raises(ValueError, match=message):
    read('ucf102')
  three = 'nearest are kinetics[0-9]+, kinetics[0-9]+, kinetics[0-9]+$'
  with pytest.raises(ValueError, match=three):
    read('kinetics500')
  with pytest.raises(ValueError, match='is neither a file nor a class list$'):
    read('?')
