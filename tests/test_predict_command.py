"""Tests `predict` on a trained run, and which weights it takes."""

import csv
import dataclasses
import io
import json
import re
import shutil

import pytest

from tests import videos
from tests.commands import run
from zsar_jax import bank, evaluate, predict
from zsar_jax.inference import prototype_bank
from zsar_jax.system import terminal


def test_a_bank_of_other_weights_is_refused(
  workdir, examples, tmp_path, capsys
):
  made = prototype_bank.load_bank(f'{workdir}/bank.safetensors')
  path = str(tmp_path / 'b.safetensors')
  for change, reason in (
    ({'weights_hash': '0123456789ab'}, 'other weights (0123456789ab, here'),
    (
      {'preprocessing': made.preprocessing.replace('32', '64')},
      'other preprocessing (',
    ),
  ):
    prototype_bank.save_bank(dataclasses.replace(made, **change), path)
    code = run(
      predict,
      f'--bank={path}',
      f'--workdir={workdir}',
      f'--video={examples[0]}',
      '--classes=a',
    )
    assert code == 1 and reason in capsys.readouterr().err


def test_an_earlier_checkpoint_stands_in_for_a_damaged_one(
  workdir, tmp_path, examples, capsys
):
  run_dir = tmp_path / 'run'
  shutil.copytree(workdir, run_dir)
  (run_dir / 'checkpoints' / '6' / 'params' / 'manifest.ocdbt').write_bytes(b'')
  flags = f'--video={examples[0]}', '--classes=juggling'
  for entry, more in (
    (predict, flags),
    (evaluate, ()),
    (bank, ('build', f'--output={tmp_path / "x"}')),
  ):
    assert run(entry, f'--workdir={run_dir}', *more) == 1
    error = capsys.readouterr().err
    assert 'checkpoint of step 6 in' in error and '--step=3' in error
    assert 'params/manifest.ocdbt is damaged' in error
    assert error.count('\n') == 1
  assert run(evaluate, f'--workdir={run_dir}', '--step=3') == 0
  # A bank is of one step's weights.
  chosen = f'--workdir={run_dir}', '--step=3'
  assert run(predict, *chosen, *flags) == 1
  assert 'zsar bank build' in capsys.readouterr().err
  built = tmp_path / 'bank.safetensors'
  assert run(bank, 'build', *chosen, f'--output={built}') == 0
  assert run(predict, *chosen, f'--bank={built}', *flags) == 0
  assert run(predict, f'--workdir={run_dir}', '--step=4', *flags) == 1
  assert 'no checkpoint of step 4, only of [3, 6]' in capsys.readouterr().err
  assert run(predict, '--workdir=stick_figures', '--step=4', *flags) == 1
  assert 'is not a run, so it has no --step' in capsys.readouterr().err
  assert run(predict, '--pretrained=x', '--step=4', *flags) == 1
  assert 'is not a run, so it has no --step' in capsys.readouterr().err
  assert run(evaluate, '--embeddings=x', '--step=4') == 1
  assert '--step needs --workdir' in capsys.readouterr().err
  for argv in (
    ('--pretrained=x', '--inner=y'),
    ('--pretrained=x', '--labels=y'),
    ('--scores=x', '--step=0'),
    ('--scores=x', '--dataset=y'),
    ('--compare=x,y', '--mteb=z.json'),
  ):
    assert run(evaluate, *argv) == 1
    flag, source = (text.partition('=')[0] for text in reversed(argv))
    told = capsys.readouterr().err
    assert f'{flag} needs --' in told and f'not {source}' in told


def test_several_videos_and_a_broken_one(workdir, tmp_path, examples, capsys):
  broken = tmp_path / 'broken.mp4'
  broken.write_bytes(b'no video')
  names = tmp_path / 'names.txt'
  names.write_text('juggling\nrowing\n\n')
  code = run(
    predict,
    f'--workdir={workdir}',
    f'--video={examples[0]},{broken},{examples[1]}',
    f'--classes={names}',
    '--csv',
    '--top_k=1',
  )
  out, err = capsys.readouterr()
  rows = list(csv.DictReader(io.StringIO(out)))
  assert [row['video'] for row in rows] == examples[:2]
  assert code == 1 and '1 of 3 videos cannot be used' in err
  assert 'broken.mp4' in err and '3/3' in err
  code = run(
    predict,
    f'--workdir={workdir}',
    f'--video={workdir}/examples/*.mp4',
    '--classes=a,b',
    '--json',
  )
  assert code == 0
  found = json.loads(capsys.readouterr().out)
  assert [p['video'] for p in found] == examples
  code = run(
    predict, f'--workdir={workdir}', '--video=*.nothing', '--classes=a'
  )
  assert code == 1 and 'no file matches' in capsys.readouterr().err


def test_several_videos_are_named_and_classes_warned_of_once(
  workdir, tmp_path, examples, capsys
):
  odd = str(tmp_path / 'a\x1b[2J\nb.mp4')
  shutil.copy(examples[1], odd)
  short = videos.write_video(
    tmp_path / 'short.mp4', videos.numbered_frames(3, 32, 32), fps=10
  )
  paths = [examples[0], odd, str(short)]
  flags = (
    f'--workdir={workdir}',
    f'--video={",".join(paths)}',
    '--classes=juggling,rowing',
    '--top_k=1',
  )
  assert run(predict, *flags, '--reject_below=0.5') == 0
  out, err = capsys.readouterr()
  shown = [
    paths[0],
    odd.replace('\x1b', r'\x1b').replace('\n', r'\n'),
    paths[2],
  ]
  lines = out.splitlines()
  places = [lines.index(name) for name in shown]
  assert places == sorted(places)
  # Of the classes and of answers at this threshold: once, for all videos.
  assert out.count('words that no training class had') == 1
  assert lines.index(next(x for x in lines if 'no training class' in x)) == 0
  assert out.count('measured on') <= 1
  # Of one video: below its name.
  warnings = [i for i, x in enumerate(lines) if 'fewer than the 4' in x]
  assert warnings and min(warnings) > places[2]
  for i in places:
    assert any(x.startswith('  1. ') for x in lines[i + 1 : i + 4])
  assert '\x1b' not in out + err and f'2/3 {shown[1]}' in err
  # One video needs no name; programs get all names as they are.
  assert run(predict, *flags[:1], f'--video={odd}', *flags[2:]) == 0
  assert shown[1] not in capsys.readouterr().out
  assert run(predict, *flags, '--csv') == 0
  rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline='')))
  assert [row['video'] for row in rows] == paths
  assert run(predict, *flags, '--segments') == 0
  out, err = capsys.readouterr()
  assert err.count('words that no training class had') == 1
  assert out.splitlines()[0] == paths[0] and '\x1b' not in out + err


def test_names_of_any_script_stand_in_one_column(workdir, examples, capsys):
  flags = f'--workdir={workdir}', f'--video={examples[0]}'
  assert run(predict, *flags, '--classes=跑步,juggling,태권도') == 0
  lines = capsys.readouterr().out.splitlines()
  ranked = [line for line in lines if 'transfer ' in line]
  before = [re.split(r' +[\d.]+%  transfer', line)[0] for line in ranked]
  assert {terminal.width(x) for x in before} == {5 + 4, 5 + 6, 5 + 8}
  columns = [terminal.width(line.partition('%')[0]) for line in ranked]
  assert len(ranked) == 3 and len(set(columns)) == 1


def test_explain_names_the_seen_classes(workdir, examples, capsys):
  flags = f'--workdir={workdir}', f'--video={examples[0]}', '--classes=juggling'
  assert run(predict, *flags) == 0
  assert '<-' not in capsys.readouterr().out
  assert run(predict, *flags, '--explain', '--reject_below=0.5') == 0
  out = capsys.readouterr().out
  assert '<- ' in out and 'answer: ' in out
  assert 'words that no training class had: juggling' in out


def test_segments_cover_a_long_video(workdir, tmp_path, capsys):
  frames = videos.numbered_frames(40, 32, 32)
  path = videos.write_video(tmp_path / 'long.mp4', frames, fps=10)
  code = run(
    predict,
    f'--workdir={workdir}',
    f'--video={path}',
    '--classes=juggling,rowing',
    '--segments',
    '--window=1',
    '--json',
  )
  out, err = capsys.readouterr()
  assert code == 0, err
  found = json.loads(out)
  assert found['video'] == path and found['weights'] == 'random'
  assert found['probabilities'].startswith('calibrated on ')
  assert any('rendered stick figures' in text for text in found['warnings'])
  segments = found['segments']
  assert segments[0]['start'] == 0
  assert segments[-1]['end'] == pytest.approx(4.0)
  for a, b in zip(segments[:-1], segments[1:], strict=True):
    assert a['end'] == b['start'] and a['name'] != b['name']
  assert 'window 7/7' in err and 'trained on rendered stick figures' in err
