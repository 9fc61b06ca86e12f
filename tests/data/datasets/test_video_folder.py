import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests import videos
from zsar_jax.data import datasets
from zsar_jax.data.datasets import records, video_folder


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


def prepare(data_dir, source):
  builder = datasets.make_builder(
    'video_folder', str(data_dir), source=source, show_progress=False
  )
  return builder, datasets.prepare(builder)


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


class TestConfigName:
  def test_a_copy_has_the_same_name(self, tree, tmp_path):
    root = tree('walk/1.mp4', 'run/2.mp4')
    os.mkdir(tmp_path / 'elsewhere')
    copy = shutil.copytree(root, tmp_path / 'elsewhere' / 'videos')
    for file in copy.rglob('*.mp4'):
      os.utime(file, (0, 0))
    name = video_folder.make_config(root).name
    assert name == video_folder.make_config(str(copy)).name
    assert name.startswith('videos_') and len(name) == len('videos_') + 12

  def test_any_change_has_another_name(self, tree):
    root = tree('walk/1.mp4', 'run/2.mp4')
    names = {video_folder.make_config(root).name}
    tree('walk/3.mp4')
    names.add(video_folder.make_config(root).name)
    os.rename(f'{root}/run', f'{root}/jog')
    names.add(video_folder.make_config(root).name)
    with open(f'{root}/jog/2.mp4', 'r+b') as f:
      f.write(b'x')
    names.add(video_folder.make_config(root).name)
    assert len(names) == 4

  def test_odd_folder_names(self, tree):
    root = tree('walk/1.mp4', root='My Videos (2)!')
    assert video_folder.make_config(root).name.startswith('my_videos_2_')
    root = tree('walk/1.mp4', root='日本')
    assert video_folder.make_config(root).name.startswith('videos_')


class TestBuilder:
  def test_records(self, tree, tmp_path):
    root = tree('gym/walk/1.mp4', 'run/2.mp4')
    builder, written = prepare(tmp_path / 'data', root)
    assert written
    source = records.open_split(builder.data_dir, 'videos')
    assert source.index == records.VideoIndex(
      ids=('gym/walk/1.mp4', 'run/2.mp4'),
      labels=('walk', 'run'),
      groups=('gym/walk/1.mp4', 'run/2.mp4'),
      sources=('gym', ''),
    )
    for i, video_id in enumerate(source.index.ids):
      assert source[i]['video'] == pathlib.Path(root, video_id).read_bytes()
    assert builder.info.features['label'].names == ['run', 'walk']
    metadata = records.read_metadata(builder.data_dir)
    assert metadata['domain'] == records.FILMED_DOMAIN
    assert metadata['unreadable'] == []
    assert metadata['class_attributes'] == {}
    assert metadata['seen_classes'] == metadata['unseen_classes'] == []

  def test_csv_groups(self, tree, tmp_path):
    path = write_csv(
      tree('1.mp4', '2.mp4'),
      'path,label,group\n1.mp4,walk,day 1\n2.mp4,walk,day 1\n',
    )
    builder, _ = prepare(tmp_path / 'data', path)
    index = records.open_split(builder.data_dir, 'videos').index
    assert index.groups == ('day 1', 'day 1')

  def test_bad_files_are_listed_and_stop_nothing(self, tree, tmp_path):
    root = tree('walk/1.mp4', 'walk/3.mp4')
    pathlib.Path(root, 'walk/2.mp4').write_bytes(b'')
    pathlib.Path(root, 'walk/4').write_text('no video')
    os.symlink('/nowhere', f'{root}/walk/5.mp4')
    builder, _ = prepare(tmp_path / 'data', root)
    source = records.open_split(builder.data_dir, 'videos')
    assert source.index.ids == ('walk/1.mp4', 'walk/3.mp4')
    assert source[1]['id'] == 'walk/3.mp4'
    unreadable = records.read_metadata(builder.data_dir)['unreadable']
    assert [(u['id'], u['label']) for u in unreadable] == [
      ('walk/2.mp4', 'walk'),
      ('walk/4', 'walk'),
      ('walk/5.mp4', 'walk'),
    ]
    reasons = [u['reason'] for u in unreadable]
    assert reasons[0] == 'is empty (0 bytes)'
    assert 'is not a video' in reasons[1]
    assert reasons[2] == 'does not exist'

  def test_class_without_a_usable_clip(self, tree, tmp_path):
    root = tree('walk/1.mp4')
    os.mkdir(f'{root}/run')
    pathlib.Path(root, 'run/2.mp4').write_bytes(b'')
    with pytest.raises(ValueError, match="'run' .* run/2.mp4 is empty"):
      prepare(tmp_path / 'data', root)
    assert not list((tmp_path / 'data').rglob('*.array_record*'))
    assert not list((tmp_path / 'data').rglob('incomplete*'))

  def test_nothing_is_redone(self, tree, tmp_path, monkeypatch):
    root = tree('walk/1.mp4')
    first, written = prepare(tmp_path / 'data', root)
    assert written
    monkeypatch.setattr(video_folder, 'check_files', None)
    second, written = prepare(tmp_path / 'data', root)
    assert not written
    assert second.data_dir == first.data_dir

  def test_two_folders_of_one_name_do_not_mix(self, tree, tmp_path):
    first, _ = prepare(tmp_path / 'data', tree('walk/1.mp4', root='a/videos'))
    second, _ = prepare(tmp_path / 'data', tree('run/1.mp4', root='b/videos'))
    labels = [
      records.open_split(b.data_dir, 'videos').index.labels
      for b in (first, second)
    ]
    assert labels == [('walk',), ('run',)]

  def test_quiet(self, tree, tmp_path, capfd):
    prepare(tmp_path / 'data', tree('walk/1.mp4'))
    assert capfd.readouterr() == ('', '')

  def test_tensorflow_is_not_imported(self, tree, tmp_path):
    root = tree('walk/1.mp4')
    code = f"""
import sys
from zsar_jax.data import datasets
from zsar_jax.data.datasets import records
builder = datasets.make_builder('video_folder', {str(tmp_path)!r},
                                source={root!r})
datasets.prepare(builder)
assert len(records.open_split(builder.data_dir, 'videos')[0]['video'])
assert 'tensorflow' not in sys.modules
assert 'jax' not in sys.modules
"""
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)


class TestRegistry:
  def test_unknown_dataset(self):
    with pytest.raises(ValueError, match='known are stick_figures, video_fol'):
      datasets.make_builder('ucf', '/tmp')

  def test_unknown_option(self, tree):
    with pytest.raises(ValueError, match='video_folder.*colour'):
      datasets.make_builder('video_folder', '/tmp', source='x', colour=1)

  def test_default_data_dir(self, tree, tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'default'))
    builder = datasets.make_builder('video_folder', source=tree('walk/1.mp4'))
    assert builder.data_dir.startswith(str(tmp_path / 'default'))


def test_real_clips(tmp_path):
  folder = os.path.join(os.environ.get('ZSAR_TEST_DATA', ''), 'minizsar')
  if not os.path.isdir(folder):
    pytest.skip('ZSAR_TEST_DATA names no folder with minizsar')
  classes = ('utinteraction/hugging', 'egogestar/swiping_left')
  for name in classes:
    shutil.copytree(f'{folder}/{name}', tmp_path / 'some' / name)
  builder, _ = prepare(tmp_path / 'data', str(tmp_path / 'some'))
  index = records.open_split(builder.data_dir, 'videos').index
  files = [f for c in classes for f in os.listdir(f'{folder}/{c}')]
  assert len(index) == len(files)
  assert set(zip(index.sources, index.labels, strict=True)) == {
    ('utinteraction', 'hugging'),
    ('egogestar', 'swiping left'),
  }
  assert records.read_metadata(builder.data_dir)['unreadable'] == []
