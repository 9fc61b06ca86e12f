import errno
import os
import pathlib
import signal
import sys
import threading
import time

import pytest

from tests import processes, videos
from zsar_jax.data import decode, isolated, transcode
from zsar_jax.data.datasets import manifest as manifest_lib
from zsar_jax.data.datasets import staging

FRAMES = transcode.Storage(kind='frames')


@pytest.fixture(scope='module')
def entries(tmp_path_factory):
  folder = tmp_path_factory.mktemp('v')
  made = []
  for i in range(4):
    path = videos.write_video(
      folder / f'{i}.mp4', videos.numbered_frames(4 + i)
    )
    made.append(manifest_lib.ManifestEntry(path, f'{i}.mp4', 'walk', f'g{i}'))
  return made


def stage(entries, data_dir, storage=FRAMES, **kwargs):
  return staging.stage(
    entries, str(data_dir), storage, workers=2, show_progress=False, **kwargs
  )


def cached(data_dir):
  return sorted(pathlib.Path(data_dir).rglob('*.safetensors'))


def test_each_video_is_done_once(entries, tmp_path):
  first = stage(entries, tmp_path)
  assert [s.num_frames for s in first] == [4, 5, 6, 7]
  assert not any(s.reason or s.is_reused for s in first)
  assert len(cached(tmp_path)) == 4
  again = stage(entries, tmp_path)
  assert all(s.is_reused for s in again)
  assert [s.digest for s in again] == [s.digest for s in first]
  content = again[1].read()
  assert content['spans'].max() == len(content['jpegs'])


def test_bytes_not_paths_are_what_counts(entries, tmp_path):
  stage(entries[:1], tmp_path)
  copy = tmp_path / 'copy.mp4'
  copy.write_bytes(pathlib.Path(entries[0].path).read_bytes())
  moved = manifest_lib.ManifestEntry(str(copy), 'x', 'run', 'g')
  assert stage([moved], tmp_path)[0].is_reused
  with open(copy, 'ab') as f:
    f.write(b'\0')
  assert not stage([moved], tmp_path)[0].is_reused


def test_settings_and_stretches_have_entries_of_their_own(entries, tmp_path):
  stretch = manifest_lib.ManifestEntry(
    entries[3].path, 's', 'walk', 'g', start=0.05
  )
  stage([entries[3]], tmp_path)
  assert not stage([stretch], tmp_path)[0].is_reused
  other = transcode.Storage(kind='frames', quality=50)
  assert not stage([entries[3]], tmp_path, other)[0].is_reused
  assert len(cached(tmp_path)) == 3


def test_kept_bytes_are_read_from_the_source_and_verified(tmp_path):
  path = tmp_path / 'a.mp4'
  videos.write_video(path, videos.numbered_frames(5))
  entry = manifest_lib.ManifestEntry(str(path), 'a', 'walk', 'g')
  (staged,) = stage([entry], tmp_path / 'data', transcode.Storage())
  assert staged.read() == {'video': path.read_bytes()}
  assert staged.cache_path == ''
  with open(path, 'ab') as f:
    f.write(b'\0')
  with pytest.raises(ValueError, match='a.mp4 has changed since'):
    staged.read()


def test_verdicts_are_kept_but_for_those_of_a_bad_moment(
  entries, tmp_path, monkeypatch
):
  bad = tmp_path / 'bad.mp4'
  bad.write_bytes(b'no video')
  gone = manifest_lib.ManifestEntry('/nowhere.mp4', 'gone', 'walk', 'g')
  listed = [manifest_lib.ManifestEntry(str(bad), 'bad', 'walk', 'g'), gone]
  first = stage(listed, tmp_path)
  assert 'is not a video' in first[0].reason
  assert first[1].reason == 'does not exist' and first[1].digest == ''
  again = stage(listed, tmp_path)
  assert again[0].reason == first[0].reason and again[0].is_reused

  def too_slow(self, task, kwargs, *, name, deadline):
    raise decode.VideoError(name, f'took {deadline} s', transient=True)

  with monkeypatch.context() as patch:
    patch.setattr(isolated.Pool, 'run', too_slow)
    (slow,) = stage(entries[:1], tmp_path, deadline=7.0)
  assert slow.reason == 'took 7.0 s'
  (retried,) = stage(entries[:1], tmp_path)
  assert retried.reason == '' and not retried.is_reused


def test_full_disk_leaves_nothing_half_written(entries, tmp_path, monkeypatch):
  stage(entries[:2], tmp_path)
  done = cached(tmp_path)

  def full(fd):
    raise OSError(errno.ENOSPC, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(os, 'fsync', full)
    with pytest.raises(
      OSError, match='no space left .*finished videos are kept'
    ):
      stage(entries, tmp_path)
  assert cached(tmp_path) == done
  assert not list(tmp_path.rglob('*.tmp'))
  assert [s.is_reused for s in stage(entries, tmp_path)] == [
    True,
    True,
    False,
    False,
  ]


def test_a_failure_does_not_wait_for_the_videos_under_way(
  entries, tmp_path, monkeypatch
):
  closed, waited = threading.Event(), []

  class Pool(isolated.Pool):
    def run(self, task, kwargs, *, name, deadline):
      if name == '0.mp4':
        raise OSError(errno.ENOSPC, 'No space left on device')
      if not closed.wait(5):
        waited.append(name)
      raise decode.VideoError(name, 'was given up', transient=True)

    def close(self):
      closed.set()
      super().close()

  monkeypatch.setattr(isolated, 'Pool', Pool)
  with pytest.raises(OSError, match='No space left'):
    stage(entries, tmp_path)
  assert not waited
  assert not cached(tmp_path)


def test_a_source_that_fails_while_it_is_read_is_tried_again(
  entries, tmp_path, monkeypatch
):
  def fail(self, task, kwargs, *, name, deadline):
    raise OSError(errno.EIO, 'Input/output error', kwargs['path'])

  with monkeypatch.context() as patch:
    patch.setattr(isolated.Pool, 'run', fail)
    (failed,) = stage(entries[:1], tmp_path)
  assert failed.reason == 'cannot be read (Input/output error)'
  assert stage(entries[:1], tmp_path)[0].reason == ''


def test_only_what_is_named_is_removed(entries, tmp_path):
  staged = stage(entries, tmp_path)
  gone = manifest_lib.ManifestEntry('/nowhere.mp4', 'gone', 'walk', 'g')
  (missing,) = stage([gone], tmp_path)
  staging.remove([staged[0], missing, staged[0]], str(tmp_path), FRAMES)
  kept = [s.is_reused for s in stage(entries, tmp_path)]
  assert kept == [False, True, True, True]
  staging.remove(staged, str(tmp_path), FRAMES)
  assert os.listdir(tmp_path) == []


def test_leftovers_of_dead_processes_are_removed(entries, tmp_path):
  with processes.start([sys.executable, '-c', '']) as dead:
    dead.wait(processes.DEADLINE)
  folder = pathlib.Path(staging.staging_dir(str(tmp_path), FRAMES))
  (folder / 'ab').mkdir(parents=True)
  name = f'ab.safetensors.{staging._HOST}'
  left = folder / 'ab' / f'{name}.{dead.pid}.1.tmp'
  ours = folder / 'ab' / f'{name}.{os.getpid()}.1.tmp'
  elsewhere = folder / 'ab' / f'ab.safetensors.other.{dead.pid}.1.tmp'
  for path in (left, ours, elsewhere):
    path.write_bytes(b'half')
  stage(entries[:1], tmp_path)
  assert not left.exists() and ours.exists() and elsewhere.exists()


def test_killed_at_work_it_goes_on_where_it_was(tmp_path):
  (tmp_path / 'v').mkdir()
  made = []
  for i in range(30):
    path = videos.write_video(
      tmp_path / 'v' / f'{i}.mp4', videos.numbered_frames(20 + i, 120, 160)
    )
    made.append(manifest_lib.ManifestEntry(path, str(i), 'walk', str(i)))
  code = f"""
from zsar_jax.data import transcode
from zsar_jax.data.datasets import staging, video_folder
entries = [
  staging.manifest_lib.ManifestEntry(f'{tmp_path}/v/{{i}}.mp4', str(i), 'walk',
                                     str(i)) for i in range(30)]
staging.stage(entries, {str(tmp_path)!r}, transcode.Storage(kind='frames'),
              workers=1, show_progress=False)
"""
  with processes.start([sys.executable, '-c', code]) as run:
    until = time.monotonic() + processes.DEADLINE
    while len(cached(tmp_path)) < 5 and time.monotonic() < until:
      time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
  done = len(cached(tmp_path))
  assert 5 <= done < 30
  staged = stage(made, tmp_path)
  assert sum(s.is_reused for s in staged) == done
  assert [s.num_frames for s in staged] == [20 + i for i in range(30)]
  assert not list(tmp_path.rglob('*.tmp'))
