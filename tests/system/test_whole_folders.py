import os
import stat

import pytest

from zsar_jax.system import whole_folders


def write(folder, name, text='x'):
  with open(os.path.join(folder, name), 'w') as f:
    f.write(text)


@pytest.mark.parametrize('resumes', [False, True])
def test_a_folder_appears_when_it_is_whole(resumes, tmp_path):
  path = tmp_path / 'parent' / 'new'
  with whole_folders.making(f'{path}/', resumes) as folder:
    write(folder, 'a')
    assert not path.exists()
  assert [p.name for p in path.iterdir()] == ['a']
  assert [p.name for p in path.parent.iterdir()] == ['new']
  # Others may read it as they may read any folder.
  other = tmp_path / 'other'
  other.mkdir()
  assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)
  with (
    pytest.raises(FileExistsError, match='new exists: name a new folder'),
    whole_folders.making(str(path), resumes),
  ):
    pytest.fail('it is there')


def test_nothing_is_left_where_it_fails(tmp_path):
  with (
    pytest.raises(KeyboardInterrupt),
    whole_folders.making(str(tmp_path / 'new')) as folder,
  ):
    write(folder, 'a')
    raise KeyboardInterrupt
  assert not list(tmp_path.iterdir())


def test_the_next_one_goes_on(tmp_path):
  path = str(tmp_path / 'new')
  making = lambda: whole_folders.making(path, resumes=True)
  with pytest.raises(ValueError), making():
    raise ValueError
  assert not list(tmp_path.iterdir())  # nothing was written
  with pytest.raises(ValueError), making() as folder:
    write(folder, 'a', 'kept')
    raise ValueError
  assert os.listdir(tmp_path) == ['new.unfinished']
  with making() as folder:
    write(folder, 'b')
  assert os.listdir(tmp_path) == ['new']
  with open(f'{path}/a') as f:
    assert f.read() == 'kept'
  assert os.path.exists(f'{path}/b')
