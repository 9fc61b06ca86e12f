import pathlib
import subprocess
import sys

from absl import flags
from ml_collections import config_dict, config_flags
import pytest

from tests import videos
from zsar_jax import cli, prepare
from zsar_jax.data.datasets import records


@pytest.fixture
def folder(tmp_path):
  root = tmp_path / 'my videos'
  for i, name in enumerate(['gym/walk/1.mp4', 'gym/walk/2.mp4', 'run/1.avi']):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    videos.write_video(path, videos.numbered_frames(4 + i))
  (root / 'run/empty.mp4').write_bytes(b'')
  return root


def arguments(folder, **more):
  named = dict(
    dataset='video_folder', source=folder, data_dir=folder.parent / 'data'
  )
  return ['prepare'] + [f'--{k}={v}' for k, v in {**named, **more}.items()]


class TestMain:
  def test_says_what_it_did(self, folder, capsys):
    prepare.main(arguments(folder))
    out = capsys.readouterr().out.splitlines()
    assert out[0] == 'left out: run/empty.mp4 is empty (0 bytes)'
    assert out[1] == '3 videos, 2 classes, 2 sources; 1 files left out'
    assert out[2].startswith('prepared in ') and 'KiB)' in out[2]
    dataset_dir = out[2].split(': ')[1].rsplit(' (', 1)[0]
    assert len(records.open_split(dataset_dir, 'videos')) == 3

  def test_twice_in_one_process_with_other_flags(self, folder, capsys):
    prepare.main(arguments(folder))
    first = capsys.readouterr().out
    prepare.main(arguments(folder))
    again = capsys.readouterr().out
    assert 'already prepared' in again
    assert first.splitlines()[:2] == again.splitlines()[:2]
    other = folder.parent / 'other'
    prepare.main(arguments(folder, data_dir=other))
    assert f'{other}/video_folder/my_videos_' in capsys.readouterr().out

  def test_progress_bar_when_asked(self, folder, capsys):
    prepare.main([*arguments(folder), '--progress'])
    assert 'checking videos: 100%' in capsys.readouterr().err

  @pytest.mark.parametrize(
    'argv, words',
    [
      (['--dataset=ucf'], 'video_folder'),
      ([], '--source is missing'),
      (['--source=/nowhere'], '/nowhere: no such folder'),
      (['--source=/nowhere.csv'], 'no such CSV file'),
      (['--sorce=x'], 'sorce'),
      (['video_folder'], 'arguments not understood: video_folder'),
      (['--source=x', '--option=a'], 'not name=value'),
      (['--source=.', '--option=colour=1'], 'colour'),
    ],
  )
  def test_mistakes_end_in_one_line(self, argv, words, capsys):
    assert cli.exit_code(prepare.main, ['prepare', *argv]) == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('error: ') and words in captured.err
    assert 'Traceback' not in captured.err

  def test_traceback_on_request(self):
    argv = ['prepare', '--source=/nowhere', '--traceback']
    with pytest.raises(FileNotFoundError):
      cli.exit_code(prepare.main, argv)

  def test_help(self, capsys):
    with pytest.raises(SystemExit) as exit_:
      prepare.main(['prepare', '--help'])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert prepare.__doc__ in out and '--source' in out

  def test_as_a_program(self, tmp_path):
    def run(*argv):
      return subprocess.run(
        [sys.executable, '-m', 'zsar_jax.prepare', *argv],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=pathlib.Path(__file__).parents[1],
      )

    videos.write_video(tmp_path / '1.mp4', videos.numbered_frames(4))
    (tmp_path / 'list.csv').write_text('path,label\n1.mp4,walk\n')
    good = run(f'--source={tmp_path}/list.csv', f'--data_dir={tmp_path}/data')
    assert good.returncode == 0, good.stderr
    assert good.stderr == ''
    assert good.stdout.startswith('1 videos, 1 classes')
    bad = run('--source=/nowhere')
    assert bad.returncode == 1
    assert bad.stderr.startswith('error: /nowhere: no such folder')
    assert len(bad.stderr.splitlines()) == 1


class TestCli:
  def test_config_overrides_come_from_argv(self, tmp_path):
    (tmp_path / 'config.py').write_text(
      'from ml_collections import config_dict\n'
      'def get_config():\n'
      '  return config_dict.ConfigDict(dict(steps=1, model=dict(width=8)))\n'
    )

    def main(argv):
      values = cli.new_flags()
      config_flags.DEFINE_config_file(
        'config', None, 'Config.', flag_values=values, sys_argv=argv
      )
      flags.DEFINE_string('source', 'none', 'Clashes.', flag_values=values)
      cli.parse(values, argv)
      return values.config, values.source

    config = f'--config={tmp_path}/config.py'
    got, source = main(['p', config, '--config.model.width=16', '--source=a'])
    assert (got.steps, got.model.width, source) == (1, 16, 'a')
    got, source = main(['p', config, '--config.steps=5'])
    assert (got.steps, got.model.width, source) == (5, 8, 'none')
    assert isinstance(got, config_dict.ConfigDict)
    with pytest.raises(flags.Error):
      main(['p', config, '--nonsense'])
    with pytest.raises(ValueError, match='not understood: stray'):
      main(['p', config, 'stray'])

  def test_only_users_mistakes_are_caught(self, capsys):
    def raises(error):
      def main(argv):
        raise error

      return main

    assert cli.exit_code(raises(PermissionError('x: not yours')), ['p']) == 1
    assert capsys.readouterr().err == 'error: x: not yours\n'
    for error in (KeyError('k'), TypeError('t'), RuntimeError('r')):
      with pytest.raises(type(error)):
        cli.exit_code(raises(error), ['p'])
    assert cli.exit_code(lambda argv: None, ['p']) == 0

  def test_no_flag_is_global(self):
    cli.parse(cli.new_flags(), ['p'])
    assert 'source' not in flags.FLAGS
    assert 'traceback' not in flags.FLAGS
