import csv
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest

from tests import processes, videos
from zsar_jax.data import datasets, decode, stored_videos, transcode
from zsar_jax.data.datasets import manifest as manifest_lib
from zsar_jax.data.datasets import packed_videos, records


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


def make_builder(data_dir, source, **options):
  return datasets.make_builder(
    'video_folder', str(data_dir), source, show_progress=False, **options
  )


def prepare(data_dir, source, **options):
  builder = make_builder(data_dir, source, **options)
  return builder, datasets.prepare(builder)


class TestName:
  def name(self, root, **options):
    return make_builder('/nowhere', root, **options).builder_config.name

  def test_a_copy_has_the_same_name(self, tree, tmp_path):
    root = tree('walk/1.mp4', 'run/2.mp4')
    os.mkdir(tmp_path / 'elsewhere')
    copy = shutil.copytree(root, tmp_path / 'elsewhere' / 'videos')
    for file in copy.rglob('*.mp4'):
      os.utime(file, (0, 0))
    assert self.name(root) == self.name(str(copy))
    assert self.name(root).startswith('videos_')

  def test_any_change_has_another_name(self, tree):
    root = tree('walk/1.mp4', 'run/2.mp4')
    names = {self.name(root), self.name(root, kind='frames')}
    names.add(self.name(root, kind='frames', fps=5.0))
    tree('walk/3.mp4')
    names.add(self.name(root))
    os.rename(f'{root}/run', f'{root}/jog')
    names.add(self.name(root))
    with open(f'{root}/jog/2.mp4', 'r+b') as f:
      f.write(b'x')
    names.add(self.name(root))
    assert len(names) == 6

  def test_odd_folder_names(self, tree):
    root = tree('walk/1.mp4', root='My Videos (2)!')
    assert self.name(root).startswith('my_videos_2_')
    root = tree('walk/1.mp4', root='日本')
    assert self.name(root).startswith('videos_')


class TestBuilder:
  def test_records(self, tree, tmp_path):
    root = tree('gym/walk/1.mp4', 'run/2.mp4')
    builder, written = prepare(tmp_path / 'data', root)
    assert written
    source = records.open_split(builder.data_dir, 'videos')
    index = source.index
    assert index.ids == index.groups == ('gym/walk/1.mp4', 'run/2.mp4')
    assert index.labels == ('walk', 'run')
    assert index.sources == ('gym', '')
    assert index.num_frames == (4, 4)
    assert index.seconds == pytest.approx((4 / 30, 4 / 30))
    # Copies of one file.
    assert index.digests[0] == index.digests[1] and len(index.digests[0]) == 32
    for i, video_id in enumerate(index.ids):
      assert source.read_file(i) == pathlib.Path(root, video_id).read_bytes()
    assert builder.info.features['label'].names == ['run', 'walk']
    metadata = records.read_metadata(builder.data_dir)
    assert metadata['domain'] == records.FILMED_DOMAIN
    assert metadata['dataset'] == 'video_folder'
    assert metadata['storage']['kind'] == 'video'
    assert metadata['unreadable'] == metadata['missing'] == []
    assert metadata['class_attributes'] == metadata['lists'] == {}
    assert metadata['seen_classes'] == metadata['unseen_classes'] == []

  def test_csv_groups(self, tree, tmp_path):
    path = pathlib.Path(tree('1.mp4', '2.mp4'), 'list.csv')
    path.write_text(
      'path,label,group\n1.mp4,walk,day 1\n2.mp4,walk,day 1\n',
    )
    builder, _ = prepare(tmp_path / 'data', str(path))
    index = records.open_split(builder.data_dir, 'videos').index
    assert index.groups == ('day 1', 'day 1')

  def test_storages_show_the_same(self, tmp_path):
    frames = videos.numbered_frames(30, 64, 96)
    os.makedirs(tmp_path / 'v/walk')
    videos.write_video(tmp_path / 'v/walk/1.mp4', frames, fps=10)
    videos.write_video(tmp_path / 'v/walk/2.mp4', frames[:7], fps=10)
    shown = {}
    for name, options in {
      'bytes': {},
      'encoded': dict(reencode=True),
      # Several records a video.
      'frames': dict(kind='frames', frames_per_record=12),
    }.items():
      builder, _ = prepare(tmp_path / 'data', str(tmp_path / 'v'), **options)
      source = records.open_split(builder.data_dir, 'videos')
      assert source.index.num_frames == (30, 7)
      shown[name] = []
      for i, count in enumerate(source.index.num_frames):
        video = source.open(i)
        np.testing.assert_allclose(
          video.timestamps, np.arange(count) / 10, atol=1e-3
        )
        assert video.duration == pytest.approx(count / 10, abs=1e-3)
        shown[name].append(video.decode(range(count)))
        mixed = video.decode([count - 1, 0, 3])
        np.testing.assert_array_equal(mixed, shown[name][i][[-1, 0, 3]])
    assert len({builder.data_dir for builder in [builder]}) == 1
    for name in ('encoded', 'frames'):
      for a, b in zip(shown['bytes'], shown[name], strict=True):
        assert np.abs(a.astype(int) - b).mean() < 2

  def test_bad_files_are_listed_and_stop_nothing(self, tree, tmp_path):
    root = tree('walk/1.mp4', 'walk/3.mp4')
    pathlib.Path(root, 'walk/2.mp4').write_bytes(b'')
    pathlib.Path(root, 'walk/4').write_text('no video')
    os.symlink('/nowhere', f'{root}/walk/5.mp4')
    builder, _ = prepare(tmp_path / 'data', root)
    source = records.open_split(builder.data_dir, 'videos')
    assert source.index.ids == ('walk/1.mp4', 'walk/3.mp4')
    assert source.open(1).name == 'walk/3.mp4'
    unreadable = records.read_metadata(builder.data_dir)['unreadable']
    assert [(u['id'], u['label'], u['split']) for u in unreadable] == [
      ('walk/2.mp4', 'walk', 'videos'),
      ('walk/4', 'walk', 'videos'),
      ('walk/5.mp4', 'walk', 'videos'),
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

  def test_nothing_is_redone(self, tree, tmp_path, monkeypatch):
    root = tree('walk/1.mp4')
    first, written = prepare(tmp_path / 'data', root)
    assert written
    monkeypatch.setattr(packed_videos.PackedVideos, 'stage', None)
    second, written = prepare(tmp_path / 'data', root)
    assert not written
    assert second.data_dir == first.data_dir

  def test_staging_goes_when_packed_unless_it_is_kept(self, tree, tmp_path):
    root = tree('walk/1.mp4')
    prepare(tmp_path / 'data', root, kind='frames')
    assert not list((tmp_path / 'data').rglob('*.safetensors'))
    prepare(tmp_path / 'data', root, reencode=True, keep_staging=True)
    assert len(list((tmp_path / 'data').rglob('*.safetensors'))) == 1

  def test_an_interrupted_build_packs_again(self, tree, tmp_path, monkeypatch):
    root = tree('walk/1.mp4', 'walk/2.mp4')
    builder = make_builder(tmp_path / 'data', root)

    def stop(self, videos):
      yield from ()
      raise KeyboardInterrupt

    with monkeypatch.context() as patch:
      patch.setattr(packed_videos.PackedVideos, '_generate_examples', stop)
      with pytest.raises(KeyboardInterrupt):
        datasets.prepare(builder)
    # What kill -9 leaves: TFDS had no time to tidy up.
    config_dir = pathlib.Path(builder.data_dir).parent
    leftover = config_dir / f'incomplete.ABC123_{builder.version}'
    leftover.mkdir(parents=True, exist_ok=True)
    (leftover / 'part').write_bytes(b'x')
    builder, written = prepare(tmp_path / 'data', root)
    assert written
    assert os.listdir(config_dir) == [str(builder.version)]
    assert len(records.open_split(builder.data_dir, 'videos')) == 2

  def test_staging_of_another_dataset_stays(self, tree, tmp_path):
    other = tree('run/1.mp4', root='other')
    with open(f'{other}/run/1.mp4', 'ab') as f:
      f.write(bytes(8))
    other = make_builder(tmp_path / 'data', other, reencode=True)
    other.stage()
    prepare(tmp_path / 'data', tree('walk/1.mp4'), reencode=True)
    assert [video.is_reused for video in other.stage()] == [True]

  def test_full_disk_while_packing(self, tree, tmp_path, monkeypatch):
    root = tree('walk/1.mp4', 'walk/2.mp4')
    builder = make_builder(tmp_path / 'data', root)

    def full(path, examples):
      with open(path, 'wb') as f:
        f.write(bytes(10))
      raise RuntimeError('write() failed: No space left on device; at byte 10')

    with monkeypatch.context() as patch:
      patch.setattr(
        'tensorflow_datasets.core.file_adapters.ArrayRecordFileAdapter'
        '.write_examples',
        full,
      )
      with pytest.raises(OSError, match='no space left for .*nothing was wri'):
        datasets.prepare(builder)
    with pytest.raises(FileNotFoundError):
      records.open_split(builder.data_dir, 'videos')
    builder, written = prepare(tmp_path / 'data', root)
    assert written
    assert len(records.open_split(builder.data_dir, 'videos')) == 2

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
assert len(records.open_split(builder.data_dir, 'videos').read_file(0))
assert 'tensorflow' not in sys.modules
assert 'jax' not in sys.modules
"""
    done = processes.run([sys.executable, '-c', code])
    assert done.returncode == 0, done.stderr


class TestSplitsAndMissing:
  def manifest(self, clip, dataset='kinetics400', missing=()):
    entry = lambda i, split, **k: manifest_lib.ManifestEntry(
      clip, f'v{i}', 'walk', f'g{i}', split=split, **k
    )
    return manifest_lib.Manifest(
      dataset=dataset,
      title='K',
      entries=(entry(0, 'train'), entry(1, 'validation', end=0.1)),
      class_names=('run', 'walk'),
      missing=tuple(manifest_lib.MissingVideo(*m) for m in missing),
      lists={'test1': ('v1', 'gone')},
      splits=('train', 'validation'),
    )

  def build(self, tmp_path, manifest, **options):
    builder = packed_videos.make_builder(
      str(tmp_path), manifest, transcode.Storage(), **options
    )
    return builder

  def test_splits_lists_and_stretches(self, clip, tmp_path):
    builder = self.build(tmp_path, self.manifest(clip))
    datasets.prepare(builder)
    assert f'{tmp_path}/kinetics400/k_' in str(builder.data_dir)
    train = records.open_split(builder.data_dir, 'train')
    cut = records.open_split(builder.data_dir, 'validation')
    assert train.index.num_frames == (4,) and cut.index.num_frames == (3,)
    assert train.index.digests != cut.index.digests
    assert len(cut.open(0).timestamps) == 3
    metadata = records.read_metadata(builder.data_dir)
    assert metadata['lists'] == {'test1': ['v1', 'gone']}

  def test_missing_videos_are_said_and_listed(self, clip, tmp_path):
    gone = [(f'x{i}', 'walk', 'train') for i in range(12)]
    builder = self.build(tmp_path, self.manifest(clip, missing=gone))
    lines = builder.check_missing()
    assert lines[0].startswith('12 of 14 videos')
    assert lines[1:12] == [f'  x{i}' for i in range(10)] + ['  and 2 more']
    listed = pathlib.Path(builder.missing_path).read_text().splitlines()
    assert len(listed) == 12 and listed[11] == 'train\twalk\tx11'
    assert builder.missing_path in lines[-1]
    datasets.prepare(builder)
    missing = records.read_metadata(builder.data_dir)['missing']
    assert missing[0] == {'id': 'x0', 'label': 'walk', 'split': 'train'}

  @pytest.mark.parametrize(
    'dataset, missing, words',
    [
      ('ucf101', ('x0', 'walk', 'train'), '1 of 3 videos'),
      ('kinetics400', ('run/*', 'run', 'train'), 'no video at all of .* run'),
    ],
  )
  def test_what_must_be_there_is_asked_for(
    self, clip, tmp_path, dataset, missing, words
  ):
    manifest = self.manifest(clip, dataset, [missing])
    with pytest.raises(ValueError, match=words) as error:
      self.build(tmp_path, manifest).check_missing()
    assert '--allow_missing' in str(error.value)
    allowed = self.build(tmp_path, manifest, allow_missing=True)
    assert len(allowed.check_missing()) == 3

  def test_nothing_missing_says_nothing(self, clip, tmp_path):
    assert self.build(tmp_path, self.manifest(clip)).check_missing() == []


class TestRegistry:
  def test_unknown_dataset(self):
    with pytest.raises(ValueError, match='did you mean ucf101'):
      datasets.make_builder('ucf', '/tmp')

  def test_all_datasets_have_a_manifest_or_are_rendered(self):
    assert len(datasets.builder_names()) == 10
    for name in set(datasets.builder_names()) - {'stick_figures'}:
      with pytest.raises((FileNotFoundError, ValueError), match='/nowhere'):
        datasets.make_builder(name, '/tmp', '/nowhere')

  def test_unknown_option(self):
    with pytest.raises(ValueError, match='video_folder.*colour'):
      datasets.make_builder('video_folder', '/tmp', source='x', colour=1)
    with pytest.raises(ValueError, match='stick_figures.*colour.*num_seen'):
      datasets.make_builder('stick_figures', '/tmp', colour=1)

  def test_default_data_dir(self, tree, tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'default'))
    builder = datasets.make_builder('video_folder', source=tree('walk/1.mp4'))
    assert builder.data_dir.startswith(str(tmp_path / 'default'))


@pytest.mark.parametrize('kind', transcode.KINDS)
def test_real_clips(test_data, tmp_path, kind):
  folder = test_data / 'minizsar'
  with open(folder / 'manifest.csv', newline='') as f:
    rows = {row['file']: row for row in csv.DictReader(f)}
  assert len(rows) == 583
  if kind == 'frames':
    # Which files are readable all of them say as videos. To make frames of
    # every fifth shows what becomes of the frames.
    rows = {name: rows[name] for name in sorted(rows)[::5]}
    every, folder = folder, tmp_path / 'fifth'
    for name in rows:
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(every / name, folder / name)
  builder, _ = prepare(tmp_path, str(folder), kind=kind)
  source = records.open_split(builder.data_dir, 'videos')
  assert records.read_metadata(builder.data_dir)['unreadable'] == []
  assert len(source) == len(rows)
  expected = tuple(int(rows[i]['frames']) for i in source.index.ids)
  assert source.index.num_frames == expected
  for i in range(0, len(source), 25 if kind == 'video' else 5):
    video = source.open(i)
    if kind == 'video':
      assert len(video.timestamps) == expected[i]
      continue
    count = stored_videos.num_stored_frames(source.index.seconds[i], 10.0)
    assert len(video.timestamps) == count
    path = str(folder / source.index.ids[i])
    info = decode.read_info(path, path)
    at = np.searchsorted(info.timestamps, video.timestamps + 1e-6, 'right') - 1
    original = decode.decode_frames(path, at, path, info=info)
    stored = video.decode(range(count))
    assert np.abs(stored.astype(int) - original).mean() < 4
