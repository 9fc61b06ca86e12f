import pytest

from tests.data.datasets import miniatures
from zsar_jax.data import class_names
from zsar_jax.data.datasets import ucf101
from zsar_jax.data.protocols import known_classes, registry

# Class -> its (group, clip)s on disk and, of those, what is in testlist01.
_GROUPS = (1, 8)
_CLASSES = ('ApplyEyeMakeup', 'HandstandPushups', 'YoYo')


def _names(name):
  """The files of a class; those of one class are spelt otherwise."""
  file = name.replace('HandstandPushups', 'HandStandPushups')
  return [
    f'{name}/v_{file}_g{group:02d}_c{clip:02d}.avi'
    for group in _GROUPS
    for clip in (1, 2)
  ]


def _write_lists(folder):
  """The official files, with the line ends and numbers that they have."""
  folder.mkdir(parents=True)
  every = known_classes.read('ucf101')
  (folder / 'classInd.txt').write_text(
    ''.join(f'{i} {name}\r\n' for i, name in enumerate(every, 1)), newline=''
  )
  for number in '123':
    train, test = [], []
    for name in _CLASSES:
      for path in _names(name):
        is_test = ('_g01_' in path) == (number == '1')
        if is_test:
          test.append(path)
        else:
          train.append(f'{path} {every.index(name) + 1}')
    for kind, lines in (('train', train), ('test', test)):
      text = ''.join(f'{line}\r\n' for line in lines)
      (folder / f'{kind}list0{number}.txt').write_text(text, newline='')


def make_source(tmp_path):
  """Three classes; one clip damaged, one missing."""
  for name in _CLASSES:
    for path in _names(name):
      if path != 'YoYo/v_YoYo_g08_c02.avi':
        miniatures.put_video(
          tmp_path / 'UCF-101' / path,
          damaged=path == 'YoYo/v_YoYo_g01_c01.avi',
        )
  _write_lists(tmp_path / 'ucfTrainTestlist')
  return tmp_path


@pytest.fixture
def source(tmp_path):
  return make_source(tmp_path)


def _canonical(name):
  return class_names.canonical_name(name)


def test_extracted_archives(source):
  made = ucf101.read_manifest(str(source))
  assert made.dataset == 'ucf101'
  assert made.splits == ('videos',)
  assert len(made.class_names) == 101
  assert len(made.entries) == 11
  entries = {entry.id: entry for entry in made.entries}
  one = entries['ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02']
  assert one.label == _canonical('ApplyEyeMakeup')
  assert one.group == 'ApplyEyeMakeup g08'
  assert one.is_whole_file
  assert one.path.endswith(
    'UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi'
  )
  readable = {i for i, e in entries.items() if miniatures.is_readable(e.path)}
  # The damaged file is listed: checking comes later.
  assert set(entries) - readable == {'YoYo/v_YoYo_g01_c01'}


def test_files_of_handstand_pushups_are_found_in_other_capitals(source):
  made = ucf101.read_manifest(str(source))
  (label,) = {e.label for e in made.entries if 'Handstand' in e.id}
  assert label == _canonical('HandstandPushups')
  assert 'HandstandPushups/v_HandstandPushups_g01_c01' in made.lists['test1']
  assert not [v for v in made.missing if v.label == label]


def test_official_lists(source):
  made = ucf101.read_manifest(str(source))
  assert sorted(made.lists) == [
    'test1', 'test2', 'test3', 'train1', 'train2', 'train3',
  ]  # fmt: skip
  assert len(made.lists['test1']) == len(made.lists['train1']) == 6
  assert all('_g01_' in video_id for video_id in made.lists['test1'])
  # Ids of missing videos are in the lists all the same.
  assert 'YoYo/v_YoYo_g08_c02' in made.lists['train1']
  assert set(made.lists['test2']) == set(made.lists['train1'])


def test_missing_video_and_absent_classes(source):
  made = ucf101.read_manifest(str(source))
  videos = [video for video in made.missing if not video.id.endswith('/*')]
  assert [(v.id, v.label, v.split) for v in videos] == [
    ('YoYo/v_YoYo_g08_c02', _canonical('YoYo'), 'videos')
  ]
  absent = [video.label for video in made.missing if video.id.endswith('/*')]
  assert len(absent) == 98
  assert _canonical('YoYo') not in absent


def test_videos_that_no_list_names_are_left_out_and_counted(source, caplog):
  miniatures.put_video(source / 'UCF-101/YoYo/v_YoYo_g26_c01.avi')
  miniatures.put_video(source / 'UCF-101/YoYo/holiday.avi')
  made = ucf101.read_manifest(str(source))
  assert len(made.entries) == 11
  assert 'left out 1 videos that no official list names' in caplog.text
  assert 'left out 1 videos not named v_<Class>_gXX_cYY' in caplog.text


def test_without_lists_all_videos_are_taken_and_it_is_said(source, caplog):
  (source / 'ucfTrainTestlist').rename(source.parent / f'{source.name}_lists')
  made = ucf101.read_manifest(str(source))
  assert len(made.entries) == 11
  assert not made.lists
  assert all(video.id.endswith('/*') for video in made.missing)
  assert 'no official lists' in caplog.text
  assert '3 classes do not have 25 groups' in caplog.text
  again = ucf101.read_manifest(
    str(source), lists=str(source.parent / f'{source.name}_lists')
  )
  assert len(again.lists) == 6


def test_test_lists_alone_leave_no_video_out(source):
  for path in (source / 'ucfTrainTestlist').glob('trainlist*'):
    path.unlink()
  (source / 'ucfTrainTestlist' / 'testlist02.txt').unlink()
  (source / 'ucfTrainTestlist' / 'testlist03.txt').unlink()
  made = ucf101.read_manifest(str(source))
  assert sorted(made.lists) == ['test1']
  assert len(made.entries) == 11


def test_transcoded_copy_has_the_ids_of_the_original(source):
  ids = [entry.id for entry in ucf101.read_manifest(str(source)).entries]
  for path in source.glob('UCF-101/*/*.avi'):
    path.rename(path.with_suffix('.mp4'))
  copy = ucf101.read_manifest(str(source))
  assert [entry.id for entry in copy.entries] == ids


def test_the_registry_says_what_lacks(source):
  made = ucf101.read_manifest(str(source))
  metadata = {
    'dataset': made.dataset,
    'videos': {
      'videos': {
        'id': [entry.id for entry in made.entries],
        'label': [entry.label for entry in made.entries],
      }
    },
    'lists': made.lists,
    'unreadable': [],
    'missing': [
      {'id': video.id, 'label': video.label, 'split': video.split}
      for video in made.missing
    ],
  }
  spec = registry.get('ucf101/official-test-lists')
  problems = registry.check(spec, metadata)
  assert problems[0].startswith('test1: 98 classes without a video: ')
  assert problems[1] == (
    'test1: 6 videos, expected 3783 (0 unreadable, 0 missing)'
  )
  assert 'it is not the official one' in problems[2]
  assert 'test2: 5 videos, expected 3734 (0 unreadable, 1 missing)' in problems


@pytest.mark.parametrize(
  'file, text, message',
  [
    ('testlist01.txt', 'YoYo/yoyo.avi', 'line 1: .*is not <Class>/v_<Class>'),
    ('classInd.txt', '1 ApplyEyeMakup', "line 1: .*nearest are 'apply eye ma"),
    ('classInd.txt', '1 YoYo', '1 classes, expected the 101'),
  ],
)
def test_list_of_another_format_raises(source, file, text, message):
  (source / 'ucfTrainTestlist' / file).write_text(text)
  with pytest.raises(ValueError, match=message):
    ucf101.read_manifest(str(source))


def test_wrong_sources_raise(source, tmp_path):
  with pytest.raises(FileNotFoundError, match='no such folder; expected'):
    ucf101.read_manifest(str(tmp_path / 'none'))
  empty = tmp_path / 'empty'
  empty.mkdir()
  with pytest.raises(ValueError, match='no video of ucf101 found; expected'):
    ucf101.read_manifest(str(empty))
  with pytest.raises(FileNotFoundError, match='no trainlist01.txt'):
    ucf101.read_manifest(str(source), lists=str(empty))
  miniatures.put_video(source / 'copy/v_YoYo_g01_c02.avi')
  with pytest.raises(ValueError, match='both the video .*_g01_c02.*: keep one'):
    ucf101.read_manifest(str(source))


def test_unknown_class_in_a_file_name_raises(source):
  miniatures.put_video(source / 'UCF-101/YoYos/v_YoYos_g01_c01.avi')
  with pytest.raises(ValueError, match=f"nearest are '{_canonical('YoYo')}'"):
    ucf101.read_manifest(str(source))
