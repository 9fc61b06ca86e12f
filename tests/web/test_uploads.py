import os
import time

import pytest

from zsar_jax.web import limits as limits_lib
from zsar_jax.web import uploads as uploads_lib

_LIMITS = limits_lib.Limits(
  megabytes=0.001, store_megabytes=0.002, keep_minutes=1, hold_minutes=2
)


@pytest.fixture
def uploads(tmp_path):
  folder = tmp_path / 'uploads'
  folder.mkdir()
  return uploads_lib.Uploads(str(folder), _LIMITS)


def put(uploads, name='a/clip.mp4', size=10):
  path = os.path.join(uploads.folder, name)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, 'wb') as f:
    f.write(bytes(size))
  return path


def test_nothing_but_uploads_can_be_named(uploads, tmp_path):
  path = put(uploads)
  assert uploads.resolve(path) == path
  secret = tmp_path / 'secret'
  secret.write_text('secret')
  os.symlink(secret, os.path.join(uploads.folder, 'link'))
  beside = tmp_path / 'uploads_of_others'
  beside.mkdir()
  (beside / 'clip.mp4').write_text('x')
  for other in (
    '/etc/passwd',
    str(secret),
    f'{uploads.folder}/../secret',
    f'{uploads.folder}/link',
    str(beside / 'clip.mp4'),
    uploads.folder,
    f'{uploads.folder}/none.mp4',
    f'{uploads.folder}/a\0b',
    'http://127.0.0.1/x.mp4',
    '',
  ):
    with pytest.raises(ValueError, match='not here any more') as e:
      uploads.resolve(other)
    assert 'secret' not in str(e.value)


def test_a_file_goes_with_the_last_session_that_holds_it(uploads):
  path = put(uploads)
  for session in ('one', 'two'):
    uploads.hold(session, path)
  uploads.hold('one', path)
  uploads.release('one')
  assert os.path.exists(path) and uploads.holds('two', path)
  assert not uploads.holds('one', path)
  other = put(uploads, 'b/clip.mp4')
  uploads.hold('two', other)
  assert not os.path.exists(os.path.dirname(path))
  uploads.release('two')
  uploads.release('never came')
  assert os.listdir(uploads.folder) == []


def test_a_file_that_is_gone_is_let_go(uploads):
  path = put(uploads)
  uploads.hold('one', path)
  os.remove(path)
  uploads.release('one')
  assert not os.path.exists(path)


def test_old_files_that_nobody_holds_are_swept(uploads):
  held, left, new = (put(uploads, f'{n}/clip.mp4') for n in 'abc')
  part = put(uploads, 'tmp_part')
  uploads.hold('one', held)
  for path in (held, left, part):
    os.utime(path, (time.time() - 61,) * 2)
  uploads.sweep()
  exist = [os.path.exists(path) for path in (held, left, new, part)]
  assert exist == [True, False, True, False]
  os.utime(held, (time.time() - 121,) * 2)
  uploads.sweep()
  assert os.listdir(uploads.folder) == ['c']


def test_the_sweeper_sweeps_until_it_is_closed(uploads):
  left = put(uploads)
  os.utime(left, (0, 0))
  sweeper = uploads_lib.Sweeper(uploads, seconds=0.01)
  deadline = time.monotonic() + 5
  while os.path.exists(left) and time.monotonic() < deadline:
    time.sleep(0.01)
  sweeper.close()
  assert not os.path.exists(left)
  put(uploads)
  os.utime(left, (0, 0))
  time.sleep(0.05)
  assert os.path.exists(left)


def test_room_is_reserved_while_uploads_come_in(uploads):
  put(uploads, size=500)
  with uploads.room_for(1000) as first, uploads.room_for(1000) as second:
    assert first and not second
    with uploads.room_for(500) as third:
      assert third
  with uploads.room_for(1500) as again:
    assert again
