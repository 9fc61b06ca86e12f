"""Tests the commands as a user types them, from rendering to prediction."""

import glob
import json
import os

import numpy as np
import pytest

from tests import tiny, videos
from tests.commands import run
from tests.data.datasets import miniatures
from zsar_jax import evaluate, main, predict, prepare, protocols
from zsar_jax.data import class_names
from zsar_jax.data.protocols import known_classes, registry


def test_evaluate_repeats_the_table_of_training(workdir, tmp_path, capsys):
  output = str(tmp_path / 'again.json')
  assert run(evaluate, f'--workdir={workdir}', f'--output={output}') == 0
  assert 'transfer' in capsys.readouterr().out
  with (
    open(output) as again,
    open(os.path.join(workdir, 'results.json')) as first,
  ):
    assert json.load(again)['rows'] == json.load(first)['rows']


def test_evaluate_on_another_dataset(workdir, tmp_path, capsys):
  folder, split = filmed_folder(tmp_path)
  data_dir = f'--data_dir={tmp_path / "data"}'
  assert run(prepare, f'--source={folder}', data_dir) == 0
  (dataset,) = glob.glob(f'{tmp_path}/data/video_folder/*/*')
  assert dataset in capsys.readouterr().out
  code = run(
    evaluate,
    f'--workdir={workdir}',
    f'--dataset={dataset}',
    f'--class_split={split}',
  )
  assert code == 0
  assert 'nearest_name' in capsys.readouterr().out


def test_main_trains_on_a_folder_of_clips(tmp_path, capsys):
  folder, split = filmed_folder(tmp_path)
  data_dir = f'--data_dir={tmp_path / "data"}'
  assert run(prepare, f'--source={folder}', data_dir) == 0
  (dataset,) = glob.glob(f'{tmp_path}/data/video_folder/*/*')
  code = run(
    main,
    *tiny.flags(),
    '--config.preprocessing.token_length=24',
    f'--config.data.dataset_dir={dataset}',
    f'--config.data.class_split={split}',
    f'--workdir={tmp_path / "run"}',
  )
  assert code == 0, capsys.readouterr().err
  out = capsys.readouterr().out
  # Two sources: the scene alone is a shortcut, so both tables are shown.
  assert 'same_source_per_class' in out and 'floor_source_only' in out


def test_predict_ranks_names_never_trained_on(workdir, capsys):
  names = ['waving both arms slowly', 'juggling', 'Arm_Wrestling']
  example = glob.glob(f'{workdir}/examples/*.mp4')[0]
  code = run(
    predict,
    f'--workdir={workdir}',
    f'--video={example}',
    f'--classes={",".join(names)}',
    '--json',
  )
  assert code == 0
  answer = json.loads(capsys.readouterr().out)
  ranked = [candidate['name'] for candidate in answer['ranking']]
  assert sorted(ranked) == sorted(
    ['waving both arms slowly', 'juggling', 'arm wrestling']
  )
  scores = [candidate['score'] for candidate in answer['ranking']]
  assert scores == sorted(scores, reverse=True)
  for candidate in answer['ranking']:
    weights = [weight for _, weight in candidate['composited_from']]
    assert len(weights) == 3 and 0 < sum(weights) <= 1 + 1e-6
  probabilities = [candidate['probability'] for candidate in answer['ranking']]
  assert sum(probabilities) + answer['none_of_these'] == pytest.approx(1)
  # No training class had these words; the video is a drawing; there were few
  # videos to calibrate on.
  few, warning = sorted(answer['warnings'], key=lambda text: 'had:' in text)
  assert 'a rough guess' in few
  assert 'had: juggling, arm, wrestling' in warning or (
    'had: juggling, wrestling' in warning
  )


def test_predict_warns_when_the_video_is_not_a_drawing(
  workdir, tmp_path, capsys
):
  path = videos.write_video(tmp_path / 'filmed.mp4', videos.numbered_frames(20))
  assert predict_on(workdir, path) == 0
  assert 'trained on rendered stick figures alone' in capsys.readouterr().out


def test_predict_takes_a_video_shorter_than_a_clip(workdir, tmp_path, capsys):
  path = videos.write_video(tmp_path / 'short.mp4', videos.numbered_frames(2))
  assert predict_on(workdir, path) == 0
  assert 'fewer than the 4 of a clip' in capsys.readouterr().out


@pytest.mark.parametrize(
  'content, reason',
  [
    (None, 'does not exist'),
    (b'', 'is empty (0 bytes)'),
    (b'just text\n' * 50, 'is not a video'),
    ('truncated', 'is not a video, or it is cut off'),
    ('one frame', 'has 1 frame; an action needs at least 2'),
  ],
)
def test_predict_says_what_is_wrong_with_a_video(
  workdir, tmp_path, capsys, content, reason
):
  path = str(tmp_path / 'bad.mp4')
  if content == 'one frame':
    videos.write_video(path, videos.numbered_frames(1))
  elif content == 'truncated':
    videos.write_video(path, videos.numbered_frames(40))
    with open(path, 'rb+') as f:
      f.truncate(os.path.getsize(path) // 2)
  elif content is not None:
    with open(path, 'wb') as f:
      f.write(content)
  assert predict_on(workdir, path) == 1
  error = capsys.readouterr().err
  assert path in error and reason in error


@pytest.mark.parametrize(
  'classes, reason',
  [
    ('', '--classes is empty'),
    (' , ', 'empty class name'),
    ('a,,b', 'empty class name'),
    ('shake hands,Shake_Hands', "duplicate class name: 'shake hands'"),
    ('word ' * 40, 'tokens, more than token_length'),
  ],
)
def test_predict_refuses_bad_class_names(workdir, capsys, classes, reason):
  example = glob.glob(f'{workdir}/examples/*.mp4')[0]
  assert predict_on(workdir, example, classes) == 1
  assert reason in capsys.readouterr().err


def test_an_unfinished_workdir_is_named(tmp_path, capsys):
  assert predict_on(tmp_path / 'none', __file__) == 1
  assert 'none holds no checkpoint' in capsys.readouterr().err


@pytest.mark.parametrize(
  'flags, reason',
  [
    (['--config.optim.learning_rat=1'], 'no such key: learning_rat '),
    (['--config.optim.learning_rat=1'], 'Did you mean learning_rate '),
    (['--config.nope.depth=1'], 'no such key: nope'),
    (['--config.train.num_steps=many'], 'num_steps=many'),
    (['--config.preprocessing.num_frames=3'], 'frames 3 % 2 != 0'),
    # A sequence that is given twice grows.
    (['--config.model.video.tubelet_size=(2,8,8)'], 'must be (frames, height'),
    (['--config.model.video.num_heads=5'], '5 heads do not divide'),
    (['--config.preprocessing.inputs=flow'], "inputs='flow' is not one of"),
    (['--config.mesh.fsdp=5'], 'does not fit 8 devices'),
    (['--config.train.batch_size=6'], 'batch_size=6 does not divide'),
    (['--config.data.dataset_dir=/nowhere'], '/nowhere holds no prepared'),
    (['--config.vocabulary=/nowhere.txt'], '/nowhere.txt does not exist'),
  ],
)
def test_main_refuses_a_bad_config_before_it_writes(
  tmp_path, capsys, flags, reason
):
  workdir = tmp_path / 'run'
  assert run(main, *tiny.flags(), *flags, f'--workdir={workdir}') == 1
  assert reason in capsys.readouterr().err
  # After a bad config, the corrected one must work in the same workdir.
  assert not workdir.exists()


def test_main_refuses_a_config_that_does_not_load(tmp_path, capsys):
  workdir = f'--workdir={tmp_path / "run"}'
  assert run(main, '--config=nowhere.py', workdir) == 1
  assert 'nowhere.py' in capsys.readouterr().err
  assert run(main, f'--config={tiny.ROOT}/configs/demo.py:big', workdir) == 1
  assert "'big' is not known; known: ['smoke']" in capsys.readouterr().err
  bad = tmp_path / 'bad.py'
  bad.write_text(
    'from zsar_jax import config_utils\n'
    'def get_config():\n'
    '  c = config_utils.default_config()\n'
    '  c.train.num_step = 3\n'
    '  return c\n'
  )
  assert run(main, f'--config={bad}', workdir) == 1
  assert 'num_step' in capsys.readouterr().err


def predict_on(workdir, path, classes='a,b'):
  return run(
    predict, f'--workdir={workdir}', f'--video={path}', f'--classes={classes}'
  )


def filmed_folder(tmp_path):
  """Two places with three classes each, one bad file, and a split file."""
  rng = np.random.default_rng(0)
  names = {
    'gym': ['lifting weights', 'climbing rope', 'jumping'],
    'street': ['riding bike', 'walking dog', 'sweeping'],
  }
  folder = tmp_path / 'clips'
  for source, classes in names.items():
    for name in classes:
      place = folder / source / name.replace(' ', '_')
      place.mkdir(parents=True)
      for i in range(4):
        frames = rng.integers(0, 255, (6, 48, 64, 3), np.uint8)
        videos.write_video(place / f'{i}.mp4', frames)
  (folder / 'gym' / 'jumping' / 'broken.mp4').write_bytes(b'not a video')
  split = tmp_path / 'split.json'
  seen = [classes[0] for classes in names.values()]
  unseen = [c for classes in names.values() for c in classes[1:]]
  split.write_text(json.dumps({'seen': seen, 'unseen': unseen}))
  return folder, split


@pytest.fixture(scope='module')
def ucf101(tmp_path_factory):
  """A prepared UCF101 of one tiny video for each unseen class of TruZe."""
  folder = tmp_path_factory.mktemp('ucf101')
  spec = registry.get('ucf101/truze')
  spelling = {
    class_names.canonical_name(n): n for n in known_classes.read('ucf101')
  }
  for name in spec.splits[0].unseen:
    word = spelling[name]
    miniatures.put_video(folder / f'v/{word}/v_{word}_g01_c01.avi')
  argv = [f'--source={folder}/v', f'--data_dir={folder}/data']
  assert run(prepare, '--dataset=ucf101', '--allow_missing', *argv) == 0
  (dataset,) = glob.glob(f'{folder}/data/ucf101/*/*')
  return dataset


def test_evaluate_by_a_registered_protocol(workdir, ucf101, tmp_path, capsys):
  output = str(tmp_path / 'results.json')
  argv = (
    f'--workdir={workdir}',
    f'--dataset={ucf101}',
    '--protocol=ucf101/truze',
    f'--output={output}',
  )
  assert run(evaluate, *argv) == 0
  assert 'protocol: ucf101/truze' in capsys.readouterr().out
  with open(output) as f:
    content = json.load(f)
  spec = registry.get('ucf101/truze')
  assert (content['protocol'], content['protocol_hash']) == (spec.id, spec.hash)
  rows = {(r['method'], r['metric']): r for r in content['rows']}
  assert rows['transfer', 'top1']['n_classes'] == 31
  assert rows['transfer', 'top1']['n_videos'] == 31
  # Validation is on the run's own classes still.
  assert rows['seen', 'seen_val_top1']['n_classes'] == 6
  # What was measured by another protocol does not compare with it.
  code = run(protocols, 'compare', output, f'{workdir}/results.json')
  assert code == 1
  assert 'cannot be compared' in capsys.readouterr().err


def test_evaluate_refuses_protocols_that_do_not_fit(workdir, ucf101, capsys):
  for argv, words in (
    (['--protocol=hmdb51/truze'], 'tests on hmdb51'),
    (['--protocol=ucf101/truz'], 'nearest are ucf101/truze'),
    (['--protocol=ucf101/all-classes-all-videos'], 'no readable video of'),
    (['--protocol=ucf101/truze', '--class_split=x.json'], 'either'),
  ):
    argv = [f'--workdir={workdir}', f'--dataset={ucf101}', *argv]
    assert run(evaluate, *argv) == 1
    assert words in capsys.readouterr().err


def test_training_on_what_leaks_into_the_test(ucf101, tmp_path, capsys):
  folder = tmp_path / 'v'
  for name in ('playing the sitar', 'rowing', 'yoga', 'jogging'):
    for i in range(2):
      miniatures.put_video(folder / f'{name}/{i}.mp4')
  assert run(prepare, f'--source={folder}', f'--data_dir={tmp_path}/data') == 0
  (dataset,) = glob.glob(f'{tmp_path}/data/video_folder/*/*')
  argv = [
    *tiny.flags(),
    '--config.preprocessing.token_length=24',
    f'--config.data.dataset_dir={dataset}',
    f'--config.data.test_dataset_dir={ucf101}',
    '--config.data.protocol=ucf101/truze',
    '--config.train.num_steps=2',
  ]
  assert run(main, *argv, f'--workdir={tmp_path}/refused') == 1
  error = capsys.readouterr().err
  assert "seen 'rowing', unseen 'rowing'" in error
  assert "seen 'playing the sitar', unseen 'playing sitar'" in error
  assert not os.path.exists(tmp_path / 'refused')

  allowed = tmp_path / 'allowed'
  argv_allowed = [*argv, '--config.data.allow_leaks=True']
  assert run(main, *argv_allowed, f'--workdir={allowed}') == 0
  out = capsys.readouterr().out
  assert 'NOT STRICT: 2 leaks' in out and 'top1_without_leaks' in out
  with open(allowed / 'results.json') as f:
    assert len(json.load(f)['leaks']) == 2

  dropped = tmp_path / 'dropped'
  argv_dropped = [*argv, '--config.data.drop_leaking=True']
  assert run(main, *argv_dropped, f'--workdir={dropped}') == 0
  out = capsys.readouterr().out
  assert "left out, because they leak: ['playing the sitar', 'rowing']" in out
  assert 'NOT STRICT' not in out
  # The run that dropped them is strict on every later evaluation too.
  assert run(evaluate, f'--workdir={dropped}') == 0
