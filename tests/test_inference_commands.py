"""Tests the uses of a trained model, from commands and from Python."""

import csv
import dataclasses
import glob
import io
import json
import os
import re
import shutil

import jax
import numpy as np
import pytest

from tests import tiny, videos
import zsar_jax
from zsar_jax import bank, cli, evaluate, main, predict
from zsar_jax.data import user_videos
from zsar_jax.data.decode import VideoError
from zsar_jax.evaluation import results, score_files
from zsar_jax.inference import action_model, model_files, prototype_bank
from zsar_jax.parallel import sharding
from zsar_jax.system import terminal
from zsar_jax.zeroshot import calibration


@pytest.fixture(scope='module')
def workdir(tiny_run, tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'tiny'
  return str(shutil.copytree(tiny_run, path))


@pytest.fixture(scope='module')
def examples(workdir):
  return sorted(glob.glob(f'{workdir}/examples/*.mp4'))


def run(entry, *argv):
  return cli.exit_code(entry.main, [entry.__name__, *map(str, argv)])


def read(path):
  with open(path) as f:
    return json.load(f)


def test_second_evaluation_reads_no_video(workdir, capsys, monkeypatch):
  first = read(os.path.join(workdir, 'results.json'))
  from zsar_jax.data import clip_reader

  def no_video(*_):
    raise AssertionError('a video was read')

  monkeypatch.setattr(clip_reader.ClipReader, 'eval_example', no_video)
  assert run(evaluate, f'--workdir={workdir}') == 0
  (path,) = glob.glob(f'{workdir}/evaluations/*/results.json')
  assert f'written to {path}' in capsys.readouterr().out
  again = read(path)
  # Bit-equal.
  assert again['rows'] == first['rows'] and again['paired'] == first['paired']
  assert again['facts'] == first['facts']


def test_predictions_are_the_scores_behind_the_rows(workdir):
  first = read(os.path.join(workdir, 'results.json'))
  scores = score_files.read_scores(f'{workdir}/predictions.safetensors')
  assert scores.protocol_hash == first['protocol_hash']
  labels = np.array([scores.class_names.index(x) for x in scores.labels])
  right = scores.scores['transfer'].argmax(1) == labels
  row = next(
    r
    for r in first['rows']
    if (r['method'], r['metric']) == ('transfer', 'top1')
  )
  assert row['value'] == pytest.approx(right.mean())


def test_outputs_are_never_replaced_unasked(workdir, tmp_path, capsys):
  output = tmp_path / 'results.json'
  flags = f'--workdir={workdir}', f'--output={output}'
  assert run(evaluate, *flags) == 0
  assert (tmp_path / 'predictions.safetensors').exists()
  assert run(evaluate, *flags) == 1
  assert 'already exists' in capsys.readouterr().err
  assert run(evaluate, *flags, '--overwrite') == 0
  # Found before any work, even before the workdir is read.
  assert run(evaluate, '--workdir=nowhere', f'--report={tmp_path}') == 1
  assert 'is a folder' in capsys.readouterr().err


def test_report_is_written(workdir, tmp_path):
  path = tmp_path / 'report.html'
  assert run(evaluate, f'--workdir={workdir}', f'--report={path}') == 0
  html = path.read_text()
  assert html.count('data:image/jpeg;base64,') > 3  # thumbnails
  assert '<section id="gzsl">' in html


def test_runs_are_compared_by_their_predictions(workdir, tmp_path, capsys):
  a = f'{workdir}/predictions.safetensors'
  b = str(tmp_path / 'b.safetensors')
  scores = score_files.read_scores(a)
  fusion = {'transfer': scores.scores['fusion']}
  score_files.write_scores(dataclasses.replace(scores, scores=fusion), b)
  assert run(evaluate, f'--compare={a},{b}') == 0
  out = capsys.readouterr().out
  rows = {
    (r['method'], r['metric']): r['value']
    for r in read(f'{workdir}/results.json')['rows']
  }
  gain = rows['fusion', 'per_class'] - rows['transfer', 'per_class']
  assert f'{100 * gain:+5.1f}' in out and 'p (Holm)' in out
  assert run(evaluate, f'--compare={a}') == 1
  assert 'two files' in capsys.readouterr().err


def test_scores_of_others_give_the_same_rows(workdir, tmp_path, capsys):
  path = f'{workdir}/predictions.safetensors'
  scores = score_files.read_scores(path)
  labels = tmp_path / 'labels.csv'
  with open(labels, 'w', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(['id', 'label', 'group'])
    writer.writerows(
      zip(scores.video_ids, scores.labels, scores.groups, strict=True)
    )
  output = tmp_path / 'out' / 'results.json'
  mteb = tmp_path / 'mteb.json'
  code = run(
    evaluate,
    f'--scores={path}',
    f'--labels={labels}',
    f'--output={output}',
    f'--mteb={mteb}',
  )
  assert code == 0
  (in_mteb,) = read(mteb)['scores']['test']
  ours = {
    (r['method'], r['metric']): r
    for r in read(f'{workdir}/results.json')['rows']
  }
  main = ours['transfer', 'top1']['value']
  assert in_mteb['main_score'] == pytest.approx(main)
  for row in read(output)['rows']:
    theirs = ours[row['method'], row['metric']]
    for key in ('value', 'low', 'high', 'n_videos'):
      assert row[key] == pytest.approx(theirs[key]), (row, key)
  assert run(evaluate, f'--scores={path}') == 1
  assert '--labels is missing' in capsys.readouterr().err
  assert run(evaluate, f'--scores={path}', f'--workdir={workdir}') == 1
  assert 'give one of' in capsys.readouterr().err


def test_settings_are_chosen_on_inner_draws(
  workdir, tiny_run, tmp_path, capsys
):
  inner = []
  for draw in range(2):
    inner.append(str(tmp_path / f'inner{draw}'))
    code = run(
      main,
      *tiny.flags(),
      f'--workdir={inner[-1]}',
      f'--config.data.inner_draw={draw}',
      '--config.data.inner_share=0.5',
    )
    assert code == 0
  run_dir = tmp_path / 'run'
  shutil.copytree(tiny_run, run_dir)
  code = run(evaluate, f'--workdir={run_dir}', f'--inner={",".join(inner)}')
  assert code == 0, capsys.readouterr().err
  choice = read(run_dir / 'choice.json')
  assert all('#inner' in name for name in choice['chosen_on'])
  assert len(choice['compared']) > 3
  # From now on results and predictions follow it, and say so.
  assert run(evaluate, f'--workdir={run_dir}') == 0
  paths = glob.glob(f'{run_dir}/evaluations/*/results.json')
  content = read(paths[0])
  assert content['settings_from'] == choice['chosen_on']
  made = prototype_bank.load_bank(str(run_dir / 'bank.safetensors'))
  assert made.calibration['measured_on'].startswith('pseudo-unseen classes')
  # A run that is none of its inner draws is refused.
  assert run(evaluate, f'--workdir={run_dir}', f'--inner={workdir}') == 1
  assert 'is no inner draw' in capsys.readouterr().err
  assert run(evaluate, f'--workdir={inner[0]}', f'--inner={inner[1]}') == 1
  assert 'was not trained on' in capsys.readouterr().err


def test_three_lines_of_python(workdir, examples):
  model = zsar_jax.load(workdir)
  model.add_classes(['Juggling', 'waving_both_arms_slowly'])
  prediction = model.predict(examples[0])
  assert {r.name for r in prediction.ranking} == {
    'juggling',
    'waving both arms slowly',
  }
  total = sum(r.probability for r in prediction.ranking)
  assert total + prediction.none_of_these == pytest.approx(1)
  with pytest.raises(ValueError, match="added already: .'juggling'"):
    model.add_classes(['juggling'])


def test_classes_may_come_in_any_order_and_one_by_one(workdir, examples):
  names = ['juggling', 'rowing a boat', 'hopping to the left slowly']
  at_once = zsar_jax.load(workdir).add_classes(names).predict(examples[0])
  model = zsar_jax.load(workdir)
  for name in names[::-1]:
    model.add_classes([name])
  one_by_one = model.predict(examples[0])
  for a, b in zip(at_once.ranking, one_by_one.ranking, strict=True):
    assert a.name == b.name and a.score == pytest.approx(b.score, abs=1e-5)


def test_a_model_without_classes_says_so(workdir, examples):
  model = zsar_jax.load(workdir)
  with pytest.raises(ValueError, match='call add_classes first'):
    model.predict(examples[0])
  with pytest.raises(ValueError, match=r'reject_below=2 is not in \[0, 1\]'):
    model.add_classes(['a']).predict(examples[0], reject_below=2)


def sure_calibration(threshold=0.0):
  """A calibration that is sure above a score, and rejects below it."""
  rng = np.random.default_rng(0)
  labels = np.arange(200) % 8
  scores = 0.01 * rng.normal(size=(200, 8)) + threshold - 0.5
  scores[np.arange(200), labels] += 1
  return calibration.fit(scores, labels, measured_on='a test').to_dict()


def test_below_the_threshold_none_of_these_is_the_answer(workdir, examples):
  loaded = zsar_jax.load(workdir)
  for threshold, answer in ((-5.0, 'juggling'), (5.0, 'none of these')):
    changed = dataclasses.replace(
      loaded.bank, calibration=sure_calibration(threshold)
    )
    model = action_model.ActionModel(loaded.recognizer, changed)
    model.add_classes(['juggling'])
    prediction = model.predict(examples[0], reject_below=0.5)
    assert prediction.answer == answer
    assert 'measured on a test' in prediction.risk
  assert prediction.probabilities == 'calibrated on a test'
  bare = dataclasses.replace(loaded.bank, calibration=None)
  model = action_model.ActionModel(loaded.recognizer, bare)
  model.add_classes(['juggling'])
  prediction = model.predict(examples[0])
  assert prediction.ranking[0].probability is None
  assert 'the bank has no calibration' in prediction.probabilities
  with pytest.raises(ValueError, match='without a calibration'):
    model.predict(examples[0], reject_below=0.5)


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
  assert 'zsar_jax.bank build' in capsys.readouterr().err
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


def test_windows_are_where_they_say(workdir, tmp_path):
  prep = zsar_jax.load(workdir).recognizer.prep
  path = videos.write_video(
    tmp_path / 'v.mp4', videos.numbered_frames(50, 32, 32), fps=10
  )
  windows = user_videos.plan_windows(path, prep, window=1.0, stride=0.8)
  np.testing.assert_allclose(windows.starts, [0, 0.8, 1.6, 2.4, 3.2, 4.0])
  clips = list(user_videos.read_windows(windows, prep, batch_size=4))
  assert [len(c) for c in clips] == [4, 2]
  for start, clip in zip(windows.starts, np.concatenate(clips), strict=True):
    numbers = videos.frame_numbers(clip[0])
    instants = start + (np.arange(4) + 0.5) / 4
    if prep.sampling == 'dense':
      step = prep.frame_stride / prep.sample_fps
      instants = start + step * np.arange(4)
    wanted = np.minimum(np.floor(10 * instants + 1e-6), 49).astype(int)
    # Numbers start anew after 15 frames.
    assert numbers == (wanted % 15).tolist()
  short = user_videos.plan_windows(path, prep, window=99)
  assert len(short.starts) == 1 and short.window == pytest.approx(5.0)
  with pytest.raises(ValueError, match='must not be negative'):
    user_videos.plan_windows(path, prep, window=-1)
  with pytest.raises(VideoError, match='does not exist'):
    user_videos.plan_windows(str(tmp_path / 'none.mp4'), prep)


def test_a_bank_is_found_by_its_model(workdir, tmp_path, capsys):
  for name, path in (
    ('stick_figures', model_files.resolve('stick_figures')),
    (workdir, workdir),
  ):
    shown = []
    for given in (name, f'{path}/bank.safetensors'):
      assert run(bank, 'show', given) == 0, capsys.readouterr().err
      shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and 'seen classes' in shown[0]
  added = tmp_path / 'added.safetensors'
  flags = '--classes=juggling', f'--output={added}'
  assert run(bank, 'add', 'stick_figures', *flags) == 0
  assert prototype_bank.load_bank(str(added)).added_classes == ('juggling',)


def test_nothing_is_no_model():
  for nothing in ('', None):
    with pytest.raises(ValueError, match='needs a model: .*stick_figures'):
      zsar_jax.load(nothing)


def test_bank_is_built_shown_added_to_and_merged(workdir, tmp_path, capsys):
  own, built = f'{workdir}/bank.safetensors', tmp_path / 'built.safetensors'
  code = run(
    bank,
    'build',
    f'--workdir={workdir}',
    f'--output={built}',
    '--licence=CC-BY-4.0',
  )
  assert code == 0, capsys.readouterr().err
  a, b = (prototype_bank.load_bank(str(p)) for p in (own, built))
  np.testing.assert_array_equal(a.seen_prototypes, b.seen_prototypes)
  assert a.weights_hash == b.weights_hash and b.licence == 'CC-BY-4.0'
  added = tmp_path / 'added.safetensors'
  code = run(
    bank,
    'add',
    built,
    f'--workdir={workdir}',
    '--classes=Juggling,rowing',
    f'--output={added}',
  )
  assert code == 0
  assert 'juggling  <- ' in capsys.readouterr().out
  assert run(bank, 'show', added) == 0
  out = capsys.readouterr().out
  assert 'by name alone  juggling' in out and 'CC-BY-4.0' in out
  merged = tmp_path / 'merged.safetensors'
  assert run(bank, 'merge', built, added, f'--output={merged}') == 0
  m = prototype_bank.load_bank(str(merged))
  assert m.seen_classes == a.seen_classes
  np.testing.assert_allclose(m.seen_prototypes, a.seen_prototypes, atol=1e-6)
  assert m.counts.tolist() == (2 * a.counts).tolist()
  capsys.readouterr()
  # Without --classes those that were added are what is chosen from.
  example = glob.glob(f'{workdir}/examples/*.mp4')[0]
  flags = f'--bank={added}', f'--workdir={workdir}', f'--video={example}'
  assert run(predict, *flags, '--json') == 0
  ranked = json.loads(capsys.readouterr().out)['ranking']
  assert {r['name'] for r in ranked} == {'juggling', 'rowing'}


@pytest.mark.parametrize(
  'argv,reason',
  [
    ([], 'give a command: one of'),
    (['show'], 'show needs a bank file'),
    (['merge', 'a', '--output=o'], 'at least two banks'),
    (['build', '--output=o'], 'build needs --workdir'),
    (['add', 'a'], 'add needs --output'),
    (['add', 'a', '--output=o'], '--classes is empty'),
    (['show', 'nowhere'], 'nowhere does not exist'),
  ],
)
def test_bank_commands_say_what_they_need(
  argv, reason, capsys, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  assert run(bank, *argv) == 1
  assert reason in capsys.readouterr().err


def test_outputs_that_cannot_be_written_are_found_first(tmp_path):
  path = tmp_path / 'file'
  results.check_output(str(path))
  assert not path.exists() and not list(tmp_path.iterdir())
  path.write_text('x')
  with pytest.raises(FileExistsError, match='--overwrite'):
    results.check_output(str(path))
  results.check_output(str(path), overwrite=True)
  assert path.read_text() == 'x'
  with pytest.raises(OSError):
    results.check_output(str(path / 'below'))


def test_kept_tokens_are_matched_as_the_videos_were(workdir):
  recognizer = zsar_jax.load(workdir).recognizer
  prep = recognizer.prep
  rng = np.random.default_rng(0)
  shape = (3, 2, prep.num_frames, prep.size, prep.size, 3)
  clips = rng.integers(0, 256, size=shape, dtype=np.uint8)
  names = ['juggling', 'rowing', 'waving both arms slowly']
  out = recognizer.encoders.videos(clips, names)
  again = recognizer.match_tokens(np.asarray(out['tokens']), names)
  # Tokens are kept in half precision.
  np.testing.assert_allclose(again, out['match'], atol=5e-3)
  assert np.ptp(np.asarray(out['match'])) > 0


def test_videos_are_encoded_alike_alone_and_in_batches(workdir, examples):
  names = ['juggling', 'waving both arms slowly', 'hopping']
  model = zsar_jax.load(workdir).add_classes(names)
  together = list(model.predict_many(examples[:9]))
  assert [p.video for p in together] == examples[:9]
  for path, prediction in zip(examples[:9], together, strict=True):
    alone = model.predict(path)
    scores = lambda p: {r.name: r.score for r in p.ranking}
    assert scores(alone) == pytest.approx(scores(prediction), abs=1e-5)
    assert alone.none_of_these == pytest.approx(
      prediction.none_of_these, abs=1e-4
    )


def test_embeddings_agree_on_one_device_and_on_eight(workdir, monkeypatch):
  eight = zsar_jax.load(workdir).recognizer
  devices = jax.devices()[:1]
  make_mesh = sharding.make_mesh
  monkeypatch.setattr(
    sharding, 'make_mesh', lambda sizes: make_mesh(sizes, devices)
  )
  one = zsar_jax.load(workdir).recognizer
  assert one.weights_hash == eight.weights_hash
  prep, rng = one.prep, np.random.default_rng(0)
  shape = (16, 1, prep.num_frames, prep.size, prep.size, 3)
  clips = rng.integers(0, 256, size=shape, dtype=np.uint8)
  names = ['juggling', 'rowing']
  a, b = one.encode_videos(clips, names), eight.encode_videos(clips, names)
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)
  # And in other batches.
  parts = [one.encode_videos(clips[i : i + 5])[0] for i in (0, 5, 10)]
  np.testing.assert_allclose(np.concatenate(parts), a[0][:15], atol=1e-5)
  text = [r.encode_class_names(names)['embedding'] for r in (one, eight)]
  np.testing.assert_allclose(*text, atol=1e-5)
