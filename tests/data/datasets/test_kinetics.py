import csv

import pytest

from tests.data.datasets import miniatures
from zsar_jax.data import class_names
from zsar_jax.data.datasets import kinetics
from zsar_jax.data.protocols import known_classes

# Clip -> class and split as the CSV files write them.
_CLIPS = {
  '0347ZoDXyP0_000095_000105': ('abseiling', 'train'),
  '_-jXp_9Wk-E_000000_000010': ('tai chi', 'train'),
  '3yaoNwz99xM_000062_000072': ('petting animal (not cat)', 'train'),
  'a_b-c_D0123_000009_000019': ('abseiling', 'val'),
  'QVwJ1rMWzXs_000003_000013': ('tai chi', 'val'),
  'zzzzzzzzzzz_000100_000110': ('abseiling', 'test'),
}
_MISSING = 'Gone0000000_000005_000015'
_DAMAGED = 'QVwJ1rMWzXs_000003_000013'


def _write_csv(path, split, clips, *, withheld=False):
  """An official CSV file: that of test has no labels while withheld."""
  columns = ['youtube_id', 'time_start', 'time_end', 'split']
  if not withheld:
    columns = ['label', *columns, 'is_cc']
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'w', newline='') as f:
    writer = csv.DictWriter(f, columns, extrasaction='ignore')
    writer.writeheader()
    for clip, label in clips.items():
      youtube, start, end = clip.rsplit('_', 2)
      writer.writerow(
        {
          'label': label,
          'youtube_id': youtube,
          'time_start': int(start),
          'time_end': int(end),
          'split': split,
          'is_cc': 0,
        }
      )


def _write_all_csv(folder, name='{}.csv', **options):
  for split in ('train', 'val', 'test'):
    clips = {c: label for c, (label, s) in _CLIPS.items() if s == split}
    if split == 'train':
      clips[_MISSING] = 'abseiling'
    _write_csv(folder / name.format(split), split, clips, **options)


def _write_folders(root, names=('train', 'val', 'test'), separator=' '):
  """<split>/<class>/<clip>.mp4"""
  for clip, (label, split) in _CLIPS.items():
    folder = names[('train', 'val', 'test').index(split)]
    miniatures.put_video(
      root / folder / label.replace(' ', separator) / f'{clip}.mp4',
      damaged=clip == _DAMAGED,
    )


def _write_flat(root):
  for clip in _CLIPS:
    miniatures.put_video(root / 'clips' / f'{clip}.mp4')


def _found(made):
  """Clip -> (label, split)."""
  return {entry.id: (entry.label, entry.split) for entry in made.entries}


def _expected(clips=_CLIPS):
  splits = {'train': 'train', 'val': 'validation', 'test': 'test'}
  return {
    clip: (class_names.canonical_name(_CLIPS[clip][0]), splits[_CLIPS[clip][1]])
    for clip in clips
  }


def _missing_clips(made):
  return [
    (video.id, video.label, video.split)
    for video in made.missing
    if not video.id.endswith('/*')
  ]


@pytest.mark.parametrize(
  'names, separator',
  [
    (('train', 'val', 'test'), ' '),
    (('train_256', 'val_256', 'test_256'), '_'),
    (('k600/training', 'k600/validate', 'k600/testing'), ' '),
    (('kinetics700_train', 'kinetics700_validation', 'test'), '_'),
  ],
)
def test_class_folders(tmp_path, names, separator):
  _write_folders(tmp_path, names, separator)
  made = kinetics.read_manifest(str(tmp_path), 'kinetics600')
  assert made.dataset == 'kinetics600'
  assert made.splits == ('train', 'validation', 'test')
  assert len(made.class_names) == 600
  assert _found(made) == _expected()
  groups = {entry.id: entry.group for entry in made.entries}
  assert groups['_-jXp_9Wk-E_000000_000010'] == '_-jXp_9Wk-E'
  assert groups['a_b-c_D0123_000009_000019'] == 'a_b-c_D0123'
  # No CSV file: of the clips nothing is known to be missing.
  assert _missing_clips(made) == []
  assert len(made.missing) == 597
  damaged = {e.id for e in made.entries if not miniatures.is_readable(e.path)}
  # The damaged file is listed: checking comes later.
  assert damaged == {_DAMAGED}


@pytest.mark.parametrize('place', ['.', 'annotations'])
@pytest.mark.parametrize('name', ['{}.csv', 'kinetics_600_{}.csv'])
def test_flat_files_and_csv(tmp_path, place, name):
  _write_flat(tmp_path)
  _write_all_csv(tmp_path / place, name)
  made = kinetics.read_manifest(str(tmp_path), 'kinetics600')
  assert _found(made) == _expected()
  assert _missing_clips(made) == [(_MISSING, 'abseiling', 'train')]


def test_csv_elsewhere(tmp_path):
  _write_flat(tmp_path / 'source')
  _write_all_csv(tmp_path / 'lists')
  source = str(tmp_path / 'source')
  for annotations, expected in (
    ('lists', _CLIPS),
    ('lists/val.csv', [c for c in _CLIPS if _CLIPS[c][1] == 'val']),
  ):
    made = kinetics.read_manifest(
      source, 'kinetics600', annotations=str(tmp_path / annotations)
    )
    assert _found(made) == _expected(expected)
  with pytest.raises(FileNotFoundError, match='none: no such CSV file or fold'):
    kinetics.read_manifest(
      source, 'kinetics600', annotations=str(tmp_path / 'none')
    )


def test_with_folders_the_csv_says_what_is_missing(tmp_path, caplog):
  _write_folders(tmp_path)
  _write_all_csv(tmp_path)
  miniatures.put_video(
    tmp_path / 'train/abseiling/notlisted00_000000_000010.mp4'
  )
  made = kinetics.read_manifest(str(tmp_path), 'kinetics600')
  assert _found(made) == _expected()
  assert _missing_clips(made) == [(_MISSING, 'abseiling', 'train')]
  assert 'left out 1 clips that no CSV file names: notlisted00' in caplog.text


def test_csv_of_one_split_leaves_the_others_to_the_folders(tmp_path):
  _write_folders(tmp_path)
  _write_all_csv(tmp_path)
  (tmp_path / 'train.csv').unlink()
  (tmp_path / 'test.csv').unlink()
  made = kinetics.read_manifest(str(tmp_path), 'kinetics600')
  assert _found(made) == _expected()


def test_withheld_labels_are_left_out_and_counted(tmp_path, caplog):
  _write_flat(tmp_path)
  _write_all_csv(tmp_path)
  clips = {c: '' for c, (_, s) in _CLIPS.items() if s == 'test'}
  _write_csv(tmp_path / 'test.csv', 'test', clips, withheld=True)
  made = kinetics.read_manifest(str(tmp_path), 'kinetics600')
  assert _found(made) == _expected(
    [c for c in _CLIPS if _CLIPS[c][1] != 'test']
  )
  assert made.splits == ('train', 'validation')
  assert 'left out 1 clips whose label is withheld: zzzz' in caplog.text


@pytest.mark.parametrize('dataset', ['kinetics700_664', 'kinetics700_587'])
def test_parts_of_kinetics700_leave_classes_out(tmp_path, caplog, dataset):
  # Both a class that UCF101 has and one that only ActivityNet has.
  labels = ('archery', 'zumba', 'abseiling')
  for i, label in enumerate(labels):
    clip = f'clip000000{i}_000000_000010.mp4'
    miniatures.put_video(tmp_path / 'train' / label / clip)
  made = kinetics.read_manifest(str(tmp_path), dataset)
  kept = {'zumba', 'abseiling'} & set(known_classes.read(dataset))
  assert {entry.label for entry in made.entries} == kept
  assert len(kept) == (2 if dataset == 'kinetics700_664' else 1)
  assert made.dataset == dataset
  assert len(made.class_names) == int(dataset[-3:])
  left_out = 3 - len(kept)
  assert f'left out {left_out} clips of classes that {dataset}' in caplog.text


def test_missing_clips_are_of_the_kept_classes(tmp_path):
  _write_csv(
    tmp_path / 'train.csv',
    'train',
    {
      'here0000000_000000_000010': 'abseiling',
      'gone0000000_000000_000010': 'archery',
      'gone0000001_000000_000010': 'abseiling',
    },
  )
  miniatures.put_video(tmp_path / 'here0000000_000000_000010.mp4')
  made = kinetics.read_manifest(str(tmp_path), 'kinetics700_664')
  assert _missing_clips(made) == [
    ('gone0000001_000000_000010', 'abseiling', 'train')
  ]


def test_other_suffixes_and_unpadded_times(tmp_path):
  miniatures.put_video(tmp_path / 'train/abseiling/0347ZoDXyP0_95_105.webm')
  miniatures.put_video(tmp_path / 'train/abseiling/thumbnail.mkv')
  (tmp_path / 'train/abseiling/0347ZoDXyP0_95_105.mp4.part').write_bytes(b'')
  (entry,) = kinetics.read_manifest(str(tmp_path)).entries
  assert entry.id == '0347ZoDXyP0_000095_000105'


def test_corrected_copy_replaces_a_damaged_clip(tmp_path, caplog):
  _write_flat(tmp_path)
  _write_all_csv(tmp_path)
  corrected = miniatures.put_video(
    tmp_path / 'replacement_for_corrupted' / f'{_DAMAGED}.mp4'
  )
  made = kinetics.read_manifest(str(tmp_path), 'kinetics600')
  (path,) = [entry.path for entry in made.entries if entry.id == _DAMAGED]
  assert path == str(corrected)
  assert 'left out 1 second files of a clip: clips/QVwJ' in caplog.text


def test_clip_listed_twice_keeps_its_first_line(tmp_path, caplog):
  _write_flat(tmp_path)
  _write_all_csv(tmp_path)
  _write_csv(
    tmp_path / 'val_more.csv', 'val', {'a_b-c_D0123_000009_000019': 'tai chi'}
  )
  made = kinetics.read_manifest(str(tmp_path), 'kinetics600')
  assert _found(made)['a_b-c_D0123_000009_000019'] == (
    'abseiling',
    'validation',
  )
  assert 'left out 1 further lines of a listed clip: a_b-c' in caplog.text


def test_other_csv_files_are_ignored(tmp_path, caplog):
  _write_folders(tmp_path)
  (tmp_path / 'kinetics_600_labels.csv').write_text('id,name\n0,abseiling\n')
  made = kinetics.read_manifest(str(tmp_path), 'kinetics600')
  assert len(made.entries) == len(_CLIPS)
  assert 'not an official CSV file, ignored' in caplog.text
  with pytest.raises(ValueError, match='expected the columns .* found id,name'):
    kinetics.read_manifest(
      str(tmp_path),
      'kinetics600',
      annotations=str(tmp_path / 'kinetics_600_labels.csv'),
    )


@pytest.mark.parametrize(
  'row, message',
  [
    (
      'abseilin,abc,0,10,train',
      "train.csv, abc: 'abseilin' is not a class .*abse",
    ),
    (
      'abseiling,abc,zero,10,train',
      'abc: time_start or time_end is not a number',
    ),
    ('abseiling,abc,0', 'abc: time_start or time_end is not a number'),
    ('abseiling,abc,0,10,holdout', "found the split 'holdout'"),
    (
      'abseiling,,0,10,train',
      'a row without youtube_id: expected a youtube_id',
    ),
    ('abs\xe9iling,abc,0,10,train', 'is not a CSV file in UTF-8'),
  ],
)
def test_row_of_another_format_raises(tmp_path, row, message):
  _write_flat(tmp_path)
  text = f'label,youtube_id,time_start,time_end,split\n{row}\n'
  (tmp_path / 'train.csv').write_bytes(text.encode('latin-1'))
  with pytest.raises(ValueError, match=message):
    kinetics.read_manifest(str(tmp_path), 'kinetics600')


@pytest.mark.parametrize(
  'path, message',
  [
    ('train/abseilin/x_0_1.mp4', "'abseilin' is not a class .*'abseiling'"),
    ('abseiling/x_0_1.mp4', 'expected one split .* found none'),
    ('train/val/abseiling/x_0_1.mp4', "found \\['train', 'validation'\\]"),
    ('x_0_1.mp4', 'no class folder and no CSV file; expected'),
    ('train/abseiling/x.mp4', 'no video of kinetics400 found; expected'),
  ],
)
def test_other_layouts_raise(tmp_path, path, message):
  miniatures.put_video(tmp_path / path)
  with pytest.raises(ValueError, match=message):
    kinetics.read_manifest(str(tmp_path))


def test_wrong_arguments_raise(tmp_path):
  with pytest.raises(ValueError, match="'kinetics500'; known are kinetics400"):
    kinetics.read_manifest(str(tmp_path), 'kinetics500')
  with pytest.raises(FileNotFoundError, match='no such folder; expected'):
    kinetics.read_manifest(str(tmp_path / 'none'))
