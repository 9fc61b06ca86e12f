import json
import shutil

import pytest

from zsar_jax.data.datasets import records, stick_figures


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  builder = stick_figures.make_builder(
    tmp_path_factory.mktemp('data'),
    num_seen=2,
    clips_per_class=1,
    test_clips_per_class=1,
    size=32,
  )
  builder.download_and_prepare()
  return str(builder.data_dir)


@pytest.fixture
def copy(built, tmp_path):
  """A copy to be damaged, and how to rewrite its metadata."""
  folder = tmp_path / 'set' / 'config' / '1.0.0'
  shutil.copytree(built, folder)
  path = folder / 'metadata.json'

  def change(edit):
    metadata = json.loads(path.read_text())
    edit(metadata)
    path.write_text(json.dumps(metadata))

  return folder, change


def test_records_are_those_of_the_index(built):
  for split, n in (('train', 2), ('validation', 2), ('test', 12)):
    source = records.open_split(built, split)
    assert len(source) == len(source.index) == n
    for i in range(n):
      video = source.open(i)
      assert video.name == source.index.ids[i]
      assert video.duration == pytest.approx(source.index.seconds[i])
      assert len(video.timestamps) == source.index.num_frames[i]
      assert source.read_file(i) == video.data


def test_index_columns_round_trip():
  index = records.VideoIndex(
    ('a', 'b'),
    ('row', 'box'),
    ('g', 'h'),
    ('', ''),
    (10, 20),
    (0.5, 2.0),
    ('0a', '0b'),
  )
  assert records.VideoIndex.from_columns(index.to_columns()) == index
  assert len(index) == 2


def test_columns_of_unequal_length_raise():
  with pytest.raises(ValueError, match='unequal length'):
    records.VideoIndex(('a',), ('b', 'c'), ('d',), ('',), (1,), (1.0,), ('0a',))


def test_folder_without_a_dataset_raises(tmp_path):
  with pytest.raises(FileNotFoundError, match='zsar prepare'):
    records.read_metadata(str(tmp_path))
  with pytest.raises(FileNotFoundError, match='zsar prepare'):
    records.open_split(str(tmp_path / 'none'), 'train')


def test_dataset_without_metadata_raises(copy):
  folder, _ = copy
  (folder / 'metadata.json').unlink()
  with pytest.raises(FileNotFoundError, match='no metadata.json'):
    records.open_split(str(folder), 'train')


def test_dataset_of_another_program_raises(copy):
  folder, change = copy
  change(lambda metadata: metadata.pop('videos'))
  with pytest.raises(FileNotFoundError, match='lists no videos'):
    records.read_metadata(str(folder))


def test_missing_split_raises_and_shows_those_there(built):
  with pytest.raises(ValueError, match="'valid', only .'test', 'train'"):
    records.open_split(built, 'valid')


def test_number_of_records_that_is_not_the_metadata_s_raises(copy):
  folder, change = copy

  def drop_last(metadata):
    for column in metadata['videos']['train'].values():
      column.pop()

  change(drop_last)
  with pytest.raises(ValueError, match='2 records but metadata lists 1'):
    records.open_split(str(folder), 'train')


def test_record_that_is_not_the_metadata_s_raises(copy):
  folder, change = copy
  change(lambda metadata: metadata['videos']['train']['id'].reverse())
  source = records.open_split(str(folder), 'train')
  with pytest.raises(ValueError, match='record 0 is .* is damaged'):
    source.open(0)


@pytest.mark.parametrize('version', [None, 1, 3])
def test_records_of_another_format_version_raise(copy, version):
  folder, change = copy
  change(lambda metadata: metadata.update(format_version=version))
  with pytest.raises(ValueError, match='prepare the dataset again'):
    records.read_metadata(str(folder))
