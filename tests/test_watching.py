"""`predict --stream`, `--render` and `--subtitles` as a user types them."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from tests import videos
import zsar_jax
from zsar_jax import cli, predict
from zsar_jax.data import decode, stream_source

_CLASSES = 'juggling', 'walking to the right slowly'
_FLAGS = '--workdir=stick_figures', f'--classes={",".join(_CLASSES)}'


def run(*argv):
  return cli.exit_code(predict.main, ['predict', *_FLAGS, *map(str, argv)])


@pytest.fixture(scope='module')
def film(tmp_path_factory):
  folder = tmp_path_factory.mktemp('film')
  frames = videos.numbered_frames(90, 48, 64)
  frames[:, 8:40, 20:30] = 255 - frames[:, 8:40, 20:30]
  return videos.write_video(folder / 'film.mkv', frames, fps=15)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
  monkeypatch.setattr(stream_source, '_FILE_PATIENCE', 0.2)


def test_a_stream_says_what_the_file_says(film, capsys):
  assert run(f'--stream={film}', '--json', '--window=1') == 0
  out, err = capsys.readouterr()
  rows = [json.loads(line) for line in out.splitlines()]
  assert 'no training class had: juggling' in err
  assert f'alone: if {film} shows anything else' in err
  model = zsar_jax.load('stick_figures').add_classes(_CLASSES)
  wanted = list(model.windows(film, window=1, batch_size=1))
  windows = [row for row in rows if row['kind'] == 'window']
  assert len(windows) == 11
  assert [
    (w['start'], w['end'], w['name'], w['score'], w['none_of_these'])
    for w in windows
  ] == [(w.start, w.end, w.name, w.score, w.none_of_these) for w in wanted]
  assert [w['ranking'] for w in windows] == [
    [list(pair) for pair in w.ranking] for w in wanted
  ]
  segments = [row for row in rows if row['kind'] == 'segment']
  assert segments[0]['start'] == 0 and segments[-1]['end'] == pytest.approx(6)


def test_a_stream_for_people_and_for_spreadsheets(film, capsys):
  assert run(f'--stream={film}') == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines and all(' - ' in line and '%' in line for line in lines)
  assert run(f'--stream={film}', '--csv') == 0
  rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline='')))
  kinds = {row['kind'] for row in rows}
  assert kinds == {'window', 'segment'}
  last = [row for row in rows if row['kind'] == 'segment'][-1]
  assert float(last['end']) == pytest.approx(6)


def test_ctrl_c_ends_a_stream_that_has_no_end(film, tmp_path, capsys):
  fifo = str(tmp_path / 'fifo')
  os.mkfifo(fifo)
  told = threading.Event()

  def feed():
    with open(fifo, 'wb') as pipe, open(film, 'rb') as f:
      pipe.write(f.read())
      pipe.flush()
      # The writer stays: only Ctrl-C ends it.
      told.wait(60)

  printed = predict.prediction_text.of_event

  def of_event(*args):
    told.is_set() or os.kill(os.getpid(), signal.SIGINT)
    told.set()
    return printed(*args)

  before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
  threading.Thread(target=feed, daemon=True).start()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(predict.prediction_text, 'of_event', of_event)
    assert run(f'--stream={fifo}', '--json', '--window=1') == 0
  rows = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
  # What was seen is told to its end.
  assert rows[0]['kind'] == 'window' and rows[-1]['kind'] == 'segment'
  after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
  assert after == before


def test_a_stream_that_breaks_off_says_what_it_saw(tmp_path, capsys):
  path = str(tmp_path / 'v.ts')
  with open(path, 'wb') as f:
    for size in (48, 64):
      part = tmp_path / 'part.ts'
      videos.write_video(part, videos.numbered_frames(60, size))
      f.write(part.read_bytes())
  assert run(f'--stream={path}', '--json', '--window=1') == 1
  out, err = capsys.readouterr()
  assert 'changes its frame size from 64x48 to 64x64' in err
  rows = [json.loads(line) for line in out.splitlines()]
  assert rows[-1]['kind'] == 'segment' and 1.5 < rows[-1]['end'] < 2.1


def test_errors_about_times_name_the_stream(tmp_path, capsys):
  path = tmp_path / 'one frame.mkv'
  videos.write_video(path, videos.numbered_frames(1, 48))
  assert run(f'--stream={path}') == 1
  assert f'{path} ended after a single frame' in capsys.readouterr().err


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--stream=camera:98'], 'no camera camera:98'),
    (['--stream=none.mkv'], 'none.mkv does not exist; expected camera:0'),
    (['--stream={text}'], 'is not a video'),
    ([], 'give either --video or --stream'),
    (['--stream=-', '--video={film}'], 'give either --video or --stream'),
    (['--stream={film}', '--explain'], 'it takes no --explain'),
    (['--stream={film}', '--reject_below=0.5'], 'it takes no --reject_below'),
    (['--stream={film}', '--render=o.mp4'], '--render needs --segments'),
    (['--video={film}', '--render=o.mp4'], '--render needs --segments'),
    (['--video={film}', '--subtitles=o.srt'], '--subtitles needs --segments'),
    (
      ['--video={film},{text}', '--segments', '--render=o.mp4'],
      '--video with one video',
    ),
    (['--segments', '--render=o.avi'], '--render=o.avi: expected .mp4 or .mkv'),
    (['--segments', '--subtitles=o.txt'], 'o.txt: expected .srt or .vtt'),
    (['--segments', '--render={film}'], 'is there already'),
    (['--segments', '--subtitles=none/o.srt'], 'the folder of --subtitles='),
    (['--segments', '--subtitles={link}.srt'], 'is there already'),
    (
      ['--segments', f'--render={"long" * 70}.mp4'],
      '.mp4 cannot be written: File name too long',
    ),
  ],
)
def test_mistakes_are_told_before_the_model_is_loaded(
  flags, message, film, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(predict, '_load', lambda *_: pytest.fail('too late'))
  text = tmp_path / 'text.mkv'
  text.write_text('no video ' * 99)
  link = tmp_path / 'link'
  (tmp_path / 'link.srt').symlink_to('nowhere.srt')
  if flags[:1] == ['--segments']:
    flags = ['--video={film}', *flags]
  flags = [flag.format(film=film, text=text, link=link) for flag in flags]
  assert run(*flags) == 1
  assert message in capsys.readouterr().err


def test_names_are_written_into_a_video_and_its_subtitles(
  film, tmp_path, capsys
):
  out, subtitles = tmp_path / 'out.mp4', tmp_path / 'out.srt'
  code = run(
    f'--video={film}',
    '--segments',
    f'--render={out}',
    f'--subtitles={subtitles}',
    '--json',
  )
  printed, err = capsys.readouterr()
  assert code == 0 and f'writing {out}' in err
  segments = json.loads(printed)['segments']
  text = subtitles.read_text(encoding='utf-8')
  assert text.count('-->') == len(segments) and segments[0]['name'] in text
  shown, info = decode.decode_all(str(out), 'out')
  assert info.duration == pytest.approx(6, abs=0.01)
  assert shown.shape[0] == 90 and shown.shape[1] > 240
  assert sorted(os.listdir(tmp_path)) == ['out.mp4', 'out.srt']


def test_files_are_written_though_nobody_reads_the_text(film, tmp_path):
  out, subtitles = tmp_path / 'out.mp4', tmp_path / 'out.srt'
  read, write = os.pipe()
  os.close(read)
  child = subprocess.run(
    [
      sys.executable,
      '-m',
      'zsar_jax.predict',
      *_FLAGS,
      f'--video={film}',
      '--segments',
      f'--render={out}',
      f'--subtitles={subtitles}',
    ],
    stdout=write,
    stderr=subprocess.PIPE,
    text=True,
    timeout=55,
  )
  os.close(write)
  assert child.returncode == 141, child.stderr  # the reader has left
  assert '-->' in subtitles.read_text(encoding='utf-8')
  assert decode.decode_all(str(out), 'out')[0].shape[0] == 90
