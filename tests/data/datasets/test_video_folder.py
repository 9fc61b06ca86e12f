import os
import pathlib
import shutil

import pytest

from tests import videos
from zsar_jax.data.datasets import video_folder


@pytest.fixture(scope='session')
def clip(tmp_path_factory):
  path = tmp_path_factory.mktemp('clip') / 'clip.mp4'
  return videos.write_video(path, videos.numbered_frames(4))


@pytest.fixture
def tree(tmp_path, clip):
  """Makes <tmp_path>/videos with copies of a clip at the given places."""

  def make(*paths, root='videos'):
    for path in paths:
      file = tmp_path / root / path
      file.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(clip, file)
    return str(tmp_path / root)

  return make


def scan(root):
  return [(e.id, e.label, e.source) for e in video_folder.scan_folder(root)]


def write_csv(folder, text, name='list.csv'):
  path = pathlib.Path(folder, name)
  path.write_text(text)
  return str(path)


class TestScanFolder:
  def test_class_and_source_come_from_the_folders(self, tree):
    root = tree(
      'shake_hands/1.mp4',
      'gym/Running/b.avi',
      'gym/Running/a.webm',
      'park/north/running/c',
    )
    assert scan(root) == [
      ('gym/Running/a.webm', 'running', 'gym'),
      ('gym/Running/b.avi', 'running', 'gym'),
      ('park/north/running/c', 'running', 'park/north'),
      ('shake_hands/1.mp4', 'shake hands', ''),
    ]

  def test_each_video_is_its_own_group(self, tree):
    entries = video_folder.scan_folder(tree('a/1.mp4', 'a/2.mp4'))
    assert [e.group for e in entries] == ['a/1.mp4', 'a/2.mp4']
    assert all(os.path.isfile(e.path) for e in entries)

  def test_other_files_are_counted(self, tree, caplog):
    root = tree(
      'walk/1.mp4',
      'walk/notes.TXT',
      'walk/.hidden.mp4',
      '.cache/walk/2.mp4',
      'no_class.mp4',
      'README.md',
    )
    assert [i for i, _, _ in scan(root)] == ['walk/1.mp4']
    assert '1 files outside any class folder' in caplog.text
    assert '2 files of another kind' in caplog.text
    assert '1 hidden files, 1 hidden folders' in caplog.text

  def test_linked_files_are_followed_and_folders_are_not(self, tree, caplog):
    root = tree('walk/1.mp4')
    os.symlink(f'{root}/walk/1.mp4', f'{root}/walk/2.mp4')
    os.symlink(root, f'{root}/loop')
    assert [i for i, _, _ in scan(root)] == ['walk/1.mp4', 'walk/2.mp4']
    assert '1 linked folders' in caplog.text

  def test_names_of_other_alphabets_and_encodings(self, tree):
    root = tree('日本/1.mp4')
    os.mkdir(os.fsencode(root) + b'/caf\xe9')
    shutil.copy(f'{root}/日本/1.mp4', os.fsencode(root) + b'/caf\xe9/\xff.mp4')
    assert scan(root) == [
      ('caf\\xe9/\\xff.mp4', 'caf\\xe9', ''),
      ('日本/1.mp4', '日本', ''),
    ]

  def test_two_spellings_side_by_side(self, tree):
    root = tree('a/shake_hands/1.mp4', 'a/Shake hands/2.mp4')
    with pytest.raises(ValueError, match='both name the class') as error:
      video_folder.scan_folder(root)
    assert 'a/shake_hands' in str(error.value)
    assert 'a/Shake hands' in str(error.value)

  def test_two_spellings_in_two_sources(self, tree):
    root = tree('a/shake_hands/1.mp4', 'b/Shake hands/2.mp4')
    assert {label for _, label, _ in scan(root)} == {'shake hands'}

  def test_empty_class_name(self, tree):
    with pytest.raises(ValueError, match="empty class name '___'"):
      video_folder.scan_folder(tree('___/1.mp4'))

  def test_missing_root(self, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere: no such folder'):
      video_folder.scan_folder(str(tmp_path / 'nowhere'))

  def test_root_is_a_file(self, clip):
    with pytest.raises(ValueError, match='clip.mp4 is not a folder'):
      video_folder.scan_folder(clip)

  def test_no_video(self, tree, tmp_path):
    root = tree('1.mp4', 'walk/notes.txt')
    with pytest.raises(ValueError, match='no video found; expected <folder>'):
      video_folder.scan_folder(root)

  def test_folder_that_may_not_be_read(self, tree):
    root = tree('walk/1.mp4')
    os.chmod(f'{root}/walk', 0)
    try:
      if os.access(f'{root}/walk', os.R_OK):
        pytest.skip('this user may read everything')
      with pytest.raises(PermissionError, match='walk'):
        video_folder.scan_folder(root)
    finally:
      os.chmod(f'{root}/walk', 0o755)


class TestReadCsv:
  def test_columns(self, tree, caplog):
    root = tree('x/1.mp4', 'x/2.mp4', '3.mp4')
    path = write_csv(
      root,
      '\ufeffpath,label,group,fps,source\n'
      './x/1.mp4,Shake_hands,day 1,25,gym\n'
      'x/2.mp4, running,,30,\n'
      '3.mp4,"walking, slowly"\n',
    )
    entries = video_folder.read_csv(path)
    assert [(e.id, e.label, e.group, e.source) for e in entries] == [
      ('3.mp4', 'walking, slowly', '3.mp4', ''),
      ('x/1.mp4', 'shake hands', 'day 1', 'gym'),
      ('x/2.mp4', 'running', 'x/2.mp4', ''),
    ]
    assert all(os.path.isfile(e.path) for e in entries)
    assert 'ignored the columns fps' in caplog.text

  @pytest.mark.parametrize(
    'text, words',
    [
      ('', 'no column path and label'),
      ('file,label\n1.mp4,walk\n', 'no column path; .* found file,label'),
      ('path,label\n', 'lists no video'),
      ('path,label\n1.mp4,\n', 'line 2: the path or the label is empty'),
      ('path,label\n1.mp4\n', 'line 2: the path or the label is empty'),
      ('path,label\n1.mp4,a\n./1.mp4,a\n', "line 3: '1.mp4' is listed a sec"),
      ('path,label\n1.mp4,___\n', "line 2: empty class name '___'"),
      ('path,label\n1.mp4,a b\n2.mp4,a_b\n', 'both name the class'),
    ],
  )
  def test_refusals(self, tree, text, words):
    root = tree('1.mp4', '2.mp4')
    with pytest.raises(ValueError, match=words):
      video_folder.read_csv(write_csv(root, text))

  def test_not_text(self, tmp_path):
    (tmp_path / 'a.csv').write_bytes(b'path,label\n\xff\xfe,walk\n')
    with pytest.raises(ValueError, match='a.csv is not a CSV file in UTF-8'):
      video_folder.read_csv(str(tmp_path / 'a.csv'))

  def test_missing(self, tmp_path):
    with pytest.raises(FileNotFoundError, match='no such CSV file'):
      video_folder.read_csv(str(tmp_path / 'a.csv'))

  def test_none_of_the_files_exists(self, tmp_path):
    path = write_csv(tmp_path, 'path,label\nx/1.mp4,walk\n')
    with pytest.raises(FileNotFoundError, match='relative to the folder'):
      video_folder.read_csv(path)


def test_manifest_is_named_after_the_folder_or_file(tree):
  root = tree('gym/Walk/1.mp4', 'run/2.mp4')
  manifest = video_folder.read_manifest(f'{root}/')
  assert (manifest.dataset, manifest.title) == ('video_folder', 'videos')
  assert manifest.class_names == ('run', 'walk')
  assert [e.split for e in manifest.entries] == ['videos', 'videos']
  path = write_csv(root, 'path,label\nrun/2.mp4,run\n', 'some list.csv')
  manifest = video_folder.read_manifest(path)
  assert manifest.title == 'some list'
  assert [e.id for e in manifest.entries] == ['run/2.mp4']


def test_unknown_labels_are_refused_where_classes_are_given(tree, tmp_path):
  root = tree('1.mp4', '2.mp4')
  path = write_csv(root, 'path,label\n1.mp4,Archery\n2.mp4,archerry\n')
  with pytest.raises(ValueError, match="2.mp4: class 'archerry' is not in"):
    video_folder.read_manifest(path, classes='kinetics400')
  names = tmp_path / 'names.txt'
  names.write_text('archery\n\narcherry\n')
  assert len(video_folder.read_manifest(path, str(names)).entries) == 2
  with pytest.raises(ValueError, match='nearest are kinetics400'):
    video_folder.read_manifest(path, classes='kinetics40')
