import os

import pytest

from zsar_jax.data.datasets import layouts, manifest
from zsar_jax.data.protocols import known_classes


def _touch(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(b'')
  return path


def test_files_are_found_with_their_folders(tmp_path):
  _touch(tmp_path / 'b' / 'c' / 'x.MP4')
  _touch(tmp_path / 'a.txt')
  _touch(tmp_path / '.hidden' / 'y.mp4')
  _touch(tmp_path / 'b' / '._x.mp4')
  found = layouts.find_files(str(tmp_path), '<layout>')
  assert [file.parts for file in found] == [('a.txt',), ('b', 'c', 'x.MP4')]
  (video,) = layouts.videos_of(found)
  assert video.path == str(tmp_path / 'b' / 'c' / 'x.MP4')
  assert (video.stem, video.suffix) == ('x', '.mp4')
  assert video.folders == ('b', 'c')


def test_links_are_followed_but_not_in_circles(tmp_path):
  _touch(tmp_path / 'disk' / 'x.mp4')
  source = tmp_path / 'source'
  source.mkdir()
  (source / 'train').symlink_to(tmp_path / 'disk')
  (tmp_path / 'disk' / 'up').symlink_to(source)
  found = layouts.find_files(str(source), '<layout>')
  assert [file.parts for file in found] == [('train', 'x.mp4')]


def test_name_that_is_not_utf8_becomes_text(tmp_path):
  name = os.fsdecode(b'caf\xe9.mp4')
  _touch(tmp_path / name)
  (file,) = layouts.find_files(str(tmp_path), '<layout>')
  assert file.parts == ('caf\\xe9.mp4',)
  assert os.path.exists(file.path)


def test_source_that_is_not_a_folder_raises(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such folder; expected <lay>'):
    layouts.find_files(str(tmp_path / 'none'), '<lay>')
  file = _touch(tmp_path / 'file')
  with pytest.raises(ValueError, match='not a folder; expected <lay>'):
    layouts.find_files(str(file), '<lay>')


@pytest.mark.parametrize(
  'list_name, spelling, name',
  [
    ('ucf101', 'HandStandPushups', 'HandstandPushups'),
    ('ucf101', 'yo_yo', 'YoYo'),
    ('hmdb51', 'shake hands', 'shake_hands'),
    ('kinetics700', "massaging_person's_head", "massaging person's head"),
    ('kinetics700', 'massaging_persons_head', "massaging person's head"),
    ('kinetics600', 'petting_animal_not_cat', 'petting animal (not cat)'),
    ('activitynet200', 'Rock_paper_scissors', 'Rock-paper-scissors'),
  ],
)
def test_classes_are_found_in_any_spelling(list_name, spelling, name):
  classes = layouts.ClassList(list_name)
  assert classes.find(spelling) == classes.find(name)
  assert classes.get(spelling, 'here') in classes.names


@pytest.mark.parametrize(
  'name', [n for n in known_classes.list_names() if 'truze' not in n]
)
def test_no_two_classes_are_one_without_spaces(name):
  classes = layouts.ClassList(name)
  found = {classes.find(spelling) for spelling in known_classes.read(name)}
  assert found == set(classes.names)
  assert len(found) == len(known_classes.read(name))


def test_unknown_class_raises_with_the_nearest():
  classes = layouts.ClassList('kinetics400')
  with pytest.raises(
    ValueError,
    match="f.mp4: 'abseilling' is not a class .*nearest.*'abseiling'",
  ):
    classes.get('abseilling', 'f.mp4')
  assert classes.find('abseilling') is None


def test_absent_classes_are_listed():
  classes = layouts.ClassList('hmdb51')
  absent = layouts.absent_classes(classes, set(classes.names) - {'wave'}, 's')
  assert absent == [manifest.MissingVideo('wave/*', 'wave', 's')]


def test_tally_counts_and_names_the_first(caplog):
  tally = layouts.Tally()
  for i in range(7):
    tally.add('odd files', f'{i}.mp4')
  tally.add('even files', 'x')
  assert tally.counts() == {'odd files': 7, 'even files': 1}
  tally.log('/data')
  lines = [record.getMessage() for record in caplog.records]
  assert lines == [
    '/data: left out 1 even files: x',
    '/data: left out 7 odd files: 0.mp4, 1.mp4, 2.mp4, 3.mp4, 4.mp4, ...',
  ]


def _entry(video_id, split):
  return manifest.ManifestEntry(
    f'/{video_id}', video_id, 'wave', 'g', '', split
  )


def test_manifest_is_sorted_and_has_the_used_splits_alone():
  made = layouts.make_manifest(
    'hmdb51',
    '/data/My copy',
    [_entry('b', 'train'), _entry('a', 'train'), _entry('c', 'test')],
    layouts.ClassList('hmdb51'),
    layout='<layout>',
    splits=('train', 'validation', 'test'),
  )
  assert [entry.id for entry in made.entries] == ['c', 'a', 'b']
  assert made.splits == ('train', 'test')
  assert made.title == 'My copy'
  assert len(made.class_names) == 51


def test_no_video_or_one_video_twice_raises():
  classes = layouts.ClassList('hmdb51')
  with pytest.raises(
    ValueError, match='no video of hmdb51 found; expected <l>'
  ):
    layouts.make_manifest('hmdb51', '/data', [], classes, layout='<l>')
  twice = [_entry('a', 'train'), _entry('a', 'test')]
  with pytest.raises(ValueError, match="both the video 'a' of hmdb51"):
    layouts.make_manifest('hmdb51', '/data', twice, classes, layout='<l>')
