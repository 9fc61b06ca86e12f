import pytest

from tests.data.datasets import miniatures
from zsar_jax.data import class_names
from zsar_jax.data.datasets import hmdb51

# Names as they are: with spaces, signs and another film's class within.
_VIDEOS = {
  'brush_hair': (
    'Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_fr_goo_0',
    'Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_le_goo_2',
    'April_09_brush_hair_u_nm_np1_ba_goo_0',
  ),
  'cartwheel': (
    'Geena_und_die_Radschl_ge___;-)_cartwheel_f_cm_np1_le_med_3',
    '(Rad)Schlag die Bank!_cartwheel_f_cm_np1_le_med_0',
    'AMADEUS_cartwheel_u_nm_np1_fr_med_1',
  ),
  'drink': (
    'AMADEUS_drink_u_nm_np1_fr_med_11',
    'Goal_1_&_2_drink_h_cm_np3_ri_med_3',
    '#2_Gum_drink_h_nm_np1_fr_med_1',
  ),
}
# What stands beside the three videos of a class, in each split.
_KINDS = {1: '120', 2: '201', 3: '012'}


def make_source(tmp_path):
  """Three classes; one clip damaged, one missing."""
  lists = tmp_path / 'testTrainMulti_7030_splits'
  lists.mkdir()
  for name, stems in _VIDEOS.items():
    for stem in stems:
      if not stem.startswith('#2_Gum'):
        miniatures.put_video(
          tmp_path / name / f'{stem}.avi', damaged=stem.startswith('April')
        )
    for number, kinds in _KINDS.items():
      # Every line of the official files ends in a space.
      text = ''.join(
        f'{stem}.avi {kind} \n' for stem, kind in zip(stems, kinds, strict=True)
      )
      (lists / f'{name}_test_split{number}.txt').write_text(text)
  return tmp_path


@pytest.fixture
def source(tmp_path):
  return make_source(tmp_path)


def _canonical(name):
  return class_names.canonical_name(name)


def test_extracted_archives(source):
  made = hmdb51.read_manifest(str(source))
  assert made.dataset == 'hmdb51'
  assert made.splits == ('videos',)
  assert len(made.class_names) == 51
  assert len(made.entries) == 8
  entries = {entry.id: entry for entry in made.entries}
  assert set(entries) < {
    f'{n}/{s}' for n, stems in _VIDEOS.items() for s in stems
  }
  damaged = {
    i for i, e in entries.items() if not miniatures.is_readable(e.path)
  }
  # The damaged file is listed: checking comes later.
  assert damaged == {'brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0'}
  assert entries[damaged.pop()].label == _canonical('brush_hair')


def test_clips_of_one_film_are_one_group_over_classes(source):
  groups = {e.id: e.group for e in hmdb51.read_manifest(str(source)).entries}
  assert groups['drink/AMADEUS_drink_u_nm_np1_fr_med_11'] == 'AMADEUS'
  assert groups['cartwheel/AMADEUS_cartwheel_u_nm_np1_fr_med_1'] == 'AMADEUS'
  hair = [g for i, g in groups.items() if 'UPDATED' in i]
  assert hair == ['Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!'] * 2
  assert len(set(groups.values())) == 6


def test_name_without_properties_is_its_own_group(source):
  (source / 'testTrainMulti_7030_splits').rename(source.parent / 'aside')
  miniatures.put_video(source / 'drink' / 'my_own_drink.avi')
  groups = {e.id: e.group for e in hmdb51.read_manifest(str(source)).entries}
  assert groups['drink/my_own_drink'] == 'my_own_drink'


def test_official_lists(source):
  made = hmdb51.read_manifest(str(source))
  assert sorted(made.lists) == [
    'test1', 'test2', 'test3', 'train1', 'train2', 'train3',
  ]  # fmt: skip
  assert {len(ids) for ids in made.lists.values()} == {3}
  assert (
    'cartwheel/(Rad)Schlag die Bank!_cartwheel_f_cm_np1_le_med_0'
    in (made.lists['test1'])
  )
  # Beside 0 a video is in neither list.
  in_split = {*made.lists['train1'], *made.lists['test1']}
  assert 'drink/#2_Gum_drink_h_nm_np1_fr_med_1' not in in_split
  assert 'drink/#2_Gum_drink_h_nm_np1_fr_med_1' in made.lists['train2']


def test_missing_video_and_absent_classes(source):
  made = hmdb51.read_manifest(str(source))
  videos = [video for video in made.missing if not video.id.endswith('/*')]
  assert [(v.id, v.label) for v in videos] == [
    ('drink/#2_Gum_drink_h_nm_np1_fr_med_1', 'drink')
  ]
  absent = [video.label for video in made.missing if video.id.endswith('/*')]
  assert len(absent) == 48


@pytest.mark.parametrize('layout', ['videos/{}', '{}/{}'])
def test_deeper_folders(source, layout):
  ids = [entry.id for entry in hmdb51.read_manifest(str(source)).entries]
  for name in _VIDEOS:
    aside = (source / name).rename(source / f'aside_{name}')
    folder = source / layout.format(name, name)
    folder.parent.mkdir(exist_ok=True)
    aside.rename(folder)
  assert [e.id for e in hmdb51.read_manifest(str(source)).entries] == ids


def test_videos_that_no_list_names_are_left_out_and_counted(source, caplog):
  miniatures.put_video(source / 'drink/mine_drink_u_nm_np1_fr_med_0.avi')
  miniatures.put_video(source / 'intro.avi')
  # No list of this class: nothing says that its videos are not official.
  miniatures.put_video(source / 'wave/mine_wave_u_nm_np1_fr_med_0.avi')
  made = hmdb51.read_manifest(str(source))
  assert len(made.entries) == 9
  assert 'left out 1 videos that no official list names: drink/m' in caplog.text
  assert 'left out 1 videos outside any class folder: intro.avi' in caplog.text


def test_without_lists_it_is_said(source, caplog, tmp_path_factory):
  lists = tmp_path_factory.mktemp('lists') / 'splits'
  (source / 'testTrainMulti_7030_splits').rename(lists)
  made = hmdb51.read_manifest(str(source))
  assert len(made.entries) == 8 and not made.lists
  assert 'no official lists' in caplog.text
  assert len(hmdb51.read_manifest(str(source), lists=str(lists)).lists) == 6
  empty = tmp_path_factory.mktemp('empty')
  with pytest.raises(FileNotFoundError, match='no <class>_test_split1.txt'):
    hmdb51.read_manifest(str(source), lists=str(empty))


def test_unknown_class_folder_raises_with_the_nearest(source):
  miniatures.put_video(source / 'brush_hairs' / 'x.avi')
  with pytest.raises(
    ValueError, match="'brush_hairs' is not a class of hmdb51.*'brush hair'"
  ):
    hmdb51.read_manifest(str(source))


def test_list_of_another_format_raises(source):
  path = source / 'testTrainMulti_7030_splits' / 'drink_test_split2.txt'
  path.write_text('AMADEUS_drink_u_nm_np1_fr_med_11.avi 1\nx.avi 3\n')
  with pytest.raises(ValueError, match="split2.txt line 2: 'x.avi 3' is not"):
    hmdb51.read_manifest(str(source))


def test_lists_in_two_places_raise(source):
  folder = source / 'testTrainMulti_7030_splits'
  (source / 'copy').mkdir()
  text = (folder / 'drink_test_split1.txt').read_text()
  (source / 'copy' / 'drink_test_split1.txt').write_text(text)
  with pytest.raises(ValueError, match="'train1' names a video twice"):
    hmdb51.read_manifest(str(source))


def test_video_in_two_places_raises(source):
  miniatures.put_video(
    source / 'more/drink/AMADEUS_drink_u_nm_np1_fr_med_11.avi'
  )
  with pytest.raises(ValueError, match='both the video .*AMADEUS.*: keep one'):
    hmdb51.read_manifest(str(source))
