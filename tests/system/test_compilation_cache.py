"""Tests the compilation cache, and what a prediction compiles and loads."""

import json
import os
import pathlib
import sys
import types

import pytest

from tests import processes
from zsar_jax.inference import model_files
from zsar_jax.system import compilation_cache

_ROOT = pathlib.Path(__file__).parents[2]
_FOLDER = 'JAX_COMPILATION_CACHE_DIR'
_LEAST = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
_OWN = compilation_cache.VARIABLE
# Libraries that a prediction with plain files must not load.
_IDLE = (
  'scipy',
  'sklearn',
  'orbax',
  'optax',
  'tensorflow',
  'tensorflow_datasets',
  'matplotlib',
  'cv2',
  'grain',
)


class _Config:
  """Stands for `jax.config`."""

  def __init__(self, folder=None):
    self.jax_compilation_cache_dir = folder
    self.jax_persistent_cache_min_compile_time_secs = 1.0

  def update(self, name, value):
    assert hasattr(self, name)
    setattr(self, name, value)


@pytest.fixture
def jax_config(monkeypatch, tmp_path):
  """The configuration of a JAX that was imported already; no variables."""
  for name in (_FOLDER, _LEAST, _OWN):
    # Set first, so that monkeypatch restores them after the test.
    monkeypatch.setenv(name, '')
    monkeypatch.delenv(name)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'caches'))
  config = _Config()
  monkeypatch.setitem(sys.modules, 'jax', types.SimpleNamespace(config=config))
  return config


def test_the_flag_goes_before_the_variable():
  assert compilation_cache.asked_for(None, {}) is None
  assert compilation_cache.asked_for(None, {_OWN: 'a'}) == 'a'
  assert compilation_cache.asked_for('b', {_OWN: 'a'}) == 'b'
  assert compilation_cache.asked_for('off', {_OWN: 'a'}) == 'off'
  # Empty means off as well.
  assert compilation_cache.asked_for(None, {_OWN: ''}) == 'off'
  assert compilation_cache.asked_for('', {_OWN: 'a'}) == 'off'


def test_the_default_is_in_the_cache_folder_of_the_user(monkeypatch):
  default = compilation_cache.default_folder
  assert default({'XDG_CACHE_HOME': '/c'}) == '/c/zsar_jax/xla'
  monkeypatch.setenv('HOME', '/home/she')
  for variables in ({}, {'XDG_CACHE_HOME': ''}, {'XDG_CACHE_HOME': 'c'}):
    assert default(variables) == '/home/she/.cache/zsar_jax/xla'
  monkeypatch.setenv('HOME', 'nowhere')
  assert default({}) is None


def test_programs_are_kept_by_default(jax_config, tmp_path, capsys):
  compilation_cache.use(None)
  folder = jax_config.jax_compilation_cache_dir
  assert os.path.dirname(folder) == str(tmp_path / 'caches/zsar_jax/xla')
  assert os.listdir(folder) == []
  assert jax_config.jax_persistent_cache_min_compile_time_secs == 0
  # Children go the same way.
  assert os.environ[_FOLDER] == folder and os.environ[_LEAST] == '0'
  assert capsys.readouterr() == ('', '')


def test_jax_is_not_imported_for_it(jax_config, monkeypatch, tmp_path):
  monkeypatch.delitem(sys.modules, 'jax')
  compilation_cache.use(str(tmp_path / 'mine'))
  assert 'jax' not in sys.modules
  assert os.path.dirname(os.environ[_FOLDER]) == str(tmp_path / 'mine')


@pytest.mark.parametrize('where', ['variable', 'configuration'])
def test_what_jax_was_told_stays(jax_config, monkeypatch, tmp_path, where):
  if where == 'variable':
    monkeypatch.setenv(_FOLDER, '/theirs')
  jax_config.jax_compilation_cache_dir = '/theirs'
  compilation_cache.use(None)
  compilation_cache.use('off')
  compilation_cache.stop_default(None)
  assert jax_config.jax_compilation_cache_dir == '/theirs'
  assert jax_config.jax_persistent_cache_min_compile_time_secs == 1
  assert not (tmp_path / 'caches').exists()
  # Unless another folder is asked for.
  compilation_cache.use(str(tmp_path / 'mine'))
  assert jax_config.jax_compilation_cache_dir != '/theirs'


def test_machines_keep_their_programs_apart(jax_config, monkeypatch, tmp_path):
  folders = set()
  for flags in ('sse avx avx512f', 'sse avx', None):
    info = tmp_path / 'cpuinfo'
    if flags is None:
      info.unlink()
    else:
      info.write_text(f'processor\t: 0\nMHz\t: 9\nflags\t\t: {flags}\n\n')
    monkeypatch.setattr(compilation_cache, '_CPU_INFO', str(info))
    compilation_cache.use(str(tmp_path / 'mine'))
    folders.add(jax_config.jax_compilation_cache_dir)
  assert len(folders) == 3


def test_several_processes_keep_nothing_unasked(jax_config, tmp_path):
  compilation_cache.use(None)
  compilation_cache.stop_default(None)
  assert jax_config.jax_compilation_cache_dir is None
  assert _FOLDER not in os.environ
  mine = str(tmp_path / 'mine')
  compilation_cache.use(mine)
  compilation_cache.stop_default(mine)
  assert jax_config.jax_compilation_cache_dir.startswith(mine)


def test_a_folder_that_cannot_be_written_is_warned_of(
  jax_config, tmp_path, capsys
):
  (tmp_path / 'file').touch()
  compilation_cache.use(str(tmp_path / 'file/folder'))
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('warning: compiled programs cannot be kept in')
  assert str(tmp_path / 'file/folder') in line and 'Not a directory' in line
  assert jax_config.jax_compilation_cache_dir is None
  assert _FOLDER not in os.environ


@pytest.mark.parametrize('flag', ['off', ''])
def test_nothing_is_kept_where_it_is_off(jax_config, tmp_path, flag):
  compilation_cache.use(flag)
  assert jax_config.jax_compilation_cache_dir is None
  assert _FOLDER not in os.environ
  assert not (tmp_path / 'caches').exists()


def test_programs_unused_for_longest_go_when_the_folder_is_full(
  jax_config, monkeypatch, tmp_path
):
  mine = tmp_path / 'mine [1]'
  compilation_cache.use(str(mine))
  here = pathlib.Path(jax_config.jax_compilation_cache_dir)
  there, foreign = mine / '0123abcd', mine / 'sub'
  there.mkdir()
  foreign.mkdir()
  paths = [here / 'a-cache', there / 'b-cache', here / 'c-cache']
  # Days since each was written, and since it was read.
  ages = [(9, 1), (5, 5), (3, 6)]
  others = [foreign / 'd-cache', here / 'notes']
  for path, (written, read) in zip(
    paths + others, ages + [(20, 20)] * 2, strict=True
  ):
    path.write_bytes(bytes(100))
    now = path.stat().st_mtime
    os.utime(path, (now - 86400 * read, now - 86400 * written))
  monkeypatch.setattr(compilation_cache, '_MOST_BYTES', 300)
  compilation_cache.use(str(mine))
  assert all(path.exists() for path in paths)
  monkeypatch.setattr(compilation_cache, '_MOST_BYTES', 299)
  compilation_cache.use(str(mine))
  assert [path.exists() for path in paths] == [True, False, True]
  monkeypatch.setattr(compilation_cache, '_MOST_BYTES', 100)
  compilation_cache.use(str(mine))
  assert [path.exists() for path in paths] == [True, False, False]
  assert all(path.exists() for path in others)


# Prints what was loaded after the command's own output.
_PREDICT = """
import json
import sys
from zsar_jax import cli, predict
try:
  cli.run(predict.main)
except SystemExit as e:
  loaded = sorted({name.partition('.')[0] for name in sys.modules})
  print(json.dumps([e.code, loaded]))
"""


def _predict(tmp_path, *flags):
  """Runs a command; returns exit code, loaded libraries, output, errors."""
  environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path / 'caches')}
  for name in (_FOLDER, _LEAST, _OWN):
    environment.pop(name, None)
  environment.update(
    PYTHONPATH=str(_ROOT), JAX_DISABLE_MOST_OPTIMIZATIONS='true'
  )
  done = processes.run(
    [sys.executable, '-c', _PREDICT, *flags], cwd=_ROOT, env=environment
  )
  assert done.returncode == 0, done.stderr
  *lines, last = done.stdout.splitlines()
  return *json.loads(last), lines, done.stderr


def _programs(tmp_path):
  return sorted(tmp_path.glob('caches/zsar_jax/xla/*/*-cache'))


def test_a_prediction_compiles_two_programs_once_and_loads_little(tmp_path):
  folder = model_files.resolve('stick_figures')
  (example, *_) = sorted(pathlib.Path(folder, 'examples').glob('*.mp4'))
  flags = (
    '--workdir=stick_figures',
    f'--video={example}',
    '--classes=juggling,rowing',
    '--explain',
  )
  code, loaded, first, errors = _predict(tmp_path, *flags)
  assert (code, errors) == (0, '') and 'jax' in loaded
  assert not set(_IDLE) & set(loaded)
  # One for names, one for videos: the rest is no program.
  programs = _programs(tmp_path)
  assert len(programs) == 2, programs
  code, _, again, errors = _predict(tmp_path, *flags)
  assert (code, errors) == (0, '') and again == first
  assert _programs(tmp_path) == programs
  # And where nothing can be kept.
  code, _, without, errors = _predict(
    tmp_path, *flags, f'--compilation_cache={example}/folder'
  )
  assert (code, without) == (0, first)
  assert errors.count('cannot be kept') == len(errors.splitlines()) == 1


@pytest.mark.parametrize(
  'flags, message',
  [
    (('--video=none.mp4', '--classes=a'), '--video=none.mp4 does not exist'),
    (('--video={},b.mp4', '--classes=a'), '--video=b.mp4 does not exist'),
    (('--video={}', '--classes=a.txt'), '--classes=a.txt does not exist'),
  ],
)
def test_a_missing_file_is_found_before_jax_is_loaded(tmp_path, flags, message):
  flags = [flag.format(__file__) for flag in flags]
  code, loaded, _, errors = _predict(
    tmp_path, '--workdir=stick_figures', *flags
  )
  assert (code, errors) == (1, f'error: {message}\n')
  assert 'jax' not in loaded
