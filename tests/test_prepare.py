import pathlib
import sys

from absl import flags
from ml_collections import config_dict, config_flags
import pytest

from tests import processes, videos
from tests.data.datasets import test_ucf101
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
    assert out[2].startswith('storage video, ') and 'KiB' in out[2]
    assert out[3].startswith('prepared in ')
    dataset_dir = out[3].split(': ')[1]
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

  def test_many_bad_files_are_not_all_printed(self, folder, capsys):
    for i in range(30):
      (folder / f'run/bad{i:02d}.mp4').write_bytes(b'')
    prepare.main(arguments(folder))
    out = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('left out: ') for line in out) == 20
    assert out[20].startswith('and 11 more, listed under "unreadable" in ')
    assert out[21].endswith('31 files left out')

  def test_frames_are_stored_when_asked(self, folder, capsys):
    argv = arguments(folder, storage='frames', fps=5, quality=70, workers=1)
    prepare.main(argv)
    dataset_dir = capsys.readouterr().out.splitlines()[-1].split(': ')[1]
    storage = records.read_metadata(dataset_dir)['storage']
    assert storage['kind'] == 'frames'
    assert storage['fps'] == 5.0 and storage['quality'] == 70
    assert len(records.open_split(dataset_dir, 'videos').open(0).timestamps)

  def test_stages_may_be_run_apart(self, folder, capsys):
    argv = [*arguments(folder), '--reencode']
    prepare.main([*argv, '--stage_only'])
    out = capsys.readouterr().out.splitlines()
    assert out == [
      'cannot be used: run/empty.mp4 is empty (0 bytes)',
      'staged 4 videos, 0 of them in an earlier run; 1 cannot be used',
    ]
    prepare.main([*argv, '--stage_only'])
    assert ' 4 of them in an earlier run' in capsys.readouterr().out
    prepare.main(argv)
    assert 'prepared in' in capsys.readouterr().out

  def test_missing_videos_of_a_fixed_archive(self, tmp_path, capsys):
    root = test_ucf101.make_source(tmp_path)
    argv = ['prepare', '--dataset=ucf101', f'--source={root}']
    argv.append(f'--data_dir={tmp_path}/data')
    assert cli.exit_code(prepare.main, argv) == 1
    assert (
      'to continue without them: --allow_missing' in capsys.readouterr().err
    )
    assert cli.exit_code(prepare.main, [*argv, '--allow_missing']) == 0
    out = capsys.readouterr().out
    assert ' are missing:' in out and 'prepared in' in out

  @pytest.mark.parametrize(
    'argv, words',
    [
      (['--dataset=ucf'], 'did you mean ucf101'),
      (['--storage=mp4'], 'storage'),
      (['--source=.', '--quality=0'], 'quality=0'),
      ([], '--source is missing'),
      (['--source=/nowhere'], '/nowhere: no such folder'),
      (['--source=/nowhere.csv'], 'no such CSV file'),
      (['--sorce=x'], 'sorce'),
      (['--dataset=stick_figures', '--stage_only'], 'has no video files'),
      (['video_folder'], 'arguments not understood: video_folder'),
      (['--source=x', '--option=a'], 'not name=value'),
      (['--source=.', '--option=colour=1'], 'no option colour'),
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
      return processes.run(
        [sys.executable, '-m', 'zsar_jax.prepare', *argv],
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
    assert cli.exit_code(raises(KeyboardInterrupt), ['p']) == 130
    assert capsys.readouterr().err == 'interrupted\n'

  def test_no_flag_is_global(self):
    cli.parse(cli.new_flags(), ['p'])
    assert 'source' not in flags.FLAGS
    assert 'traceback' not in flags.FLAGS
