import json
import os

import numpy as np
import pytest

from tests import videos
from tests.pretrained import tiny_weights
from zsar_jax import cli, predict
from zsar_jax.data import user_videos
from zsar_jax.inference import frozen_clip

NAMES = ['juggling', 'arm wrestling', 'jump rope']


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return tiny_weights.write_clip(tmp_path_factory.mktemp('weights') / 'clip')


@pytest.fixture(scope='module')
def clip(directory):
  return frozen_clip.FrozenClip.from_directory(directory, num_frames=4)


@pytest.fixture
def video(tmp_path):
  rng = np.random.default_rng(0)
  # Blocks of eight pixels survive compression.
  frames = rng.integers(0, 255, (10, 6, 9, 3), np.uint8)
  frames = frames.repeat(8, axis=1).repeat(8, axis=2)
  return videos.write_video(tmp_path / 'clip.mp4', frames)


def test_prediction_is_nearest_by_cosine(clip, video):
  prediction = clip.predict(video, ['Juggling', 'Arm_Wrestling', 'jump rope'])
  assert sorted(r.name for r in prediction.ranking) == sorted(NAMES)
  assert prediction.warnings == ()
  embedding = clip.encode_videos(
    user_videos.read_views(video, clip.prep).clips[None]
  )[0][0, 0]
  by_name = dict(zip(NAMES, clip.class_embeddings(NAMES), strict=True))
  scores = np.array([r.score for r in prediction.ranking])
  assert (np.diff(scores) <= 0).all() and scores[0] > scores[-1]
  for ranked in prediction.ranking:
    assert ranked.score == pytest.approx(
      float(embedding @ by_name[ranked.name]), abs=1e-5
    )
  unnormalised = np.exp(np.exp(2.0) * scores)
  np.testing.assert_allclose(
    [r.probability for r in prediction.ranking],
    unnormalised / unnormalised.sum(),
    rtol=1e-4,
  )


def test_video_is_the_mean_of_its_frames(clip):
  rng = np.random.default_rng(0)
  views = rng.integers(0, 255, (2, 1, 3, 32, 32, 3), np.uint8)
  whole, _ = clip.encode_videos(views)
  frames, logits = clip.encode_videos(views.reshape(2, 3, 1, 32, 32, 3))
  assert logits.shape == (2, 0)
  mean = frames.mean(axis=1)
  mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
  np.testing.assert_allclose(whole[:, 0], mean, atol=1e-5)


def test_logits_are_scaled_cosines_averaged_over_views(clip):
  rng = np.random.default_rng(0)
  views = rng.integers(0, 255, (2, 3, 1, 32, 32, 3), np.uint8)
  out = clip.encoders.videos(views, NAMES)
  embeddings, logits = out['embedding'], out['match']
  text = clip.encoders.class_embeddings(NAMES)
  np.testing.assert_allclose(np.linalg.norm(text, axis=-1), 1, rtol=1e-6)
  np.testing.assert_allclose(
    logits, clip.scale * (embeddings @ text.T).mean(axis=1), atol=1e-4
  )


def test_a_name_is_the_mean_of_its_prompts(clip):
  text = clip.class_embeddings(NAMES)
  alone = clip.class_embeddings(NAMES[:1])
  np.testing.assert_allclose(alone, text[:1], atol=1e-6)
  ids, mask = clip._tokenize([p.format(NAMES[0]) for p in frozen_clip.PROMPTS])
  prompts = clip._encode_text({'params': clip._params}, ids, mask)['embedding']
  mean = np.asarray(prompts).mean(axis=0)
  np.testing.assert_allclose(text[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_frames_are_normalised_as_the_weights_want(clip, directory):
  assert clip.prep.size == clip.prep.short_side == 32
  assert clip.prep.mean == (0.48, 0.46, 0.41)
  white = np.full((1, 1, 1, 32, 32, 3), 255, np.uint8)
  before, _ = clip.encode_videos(white)
  path = os.path.join(directory, 'preprocessor_config.json')
  with open(path) as f:
    content = json.load(f)
  try:
    with open(path, 'w') as f:
      json.dump({**content, 'image_mean': [0.1, 0.9, 0.5]}, f)
    other = frozen_clip.FrozenClip.from_directory(directory)
  finally:
    with open(path, 'w') as f:
      json.dump(content, f)
  assert not np.allclose(other.encode_videos(white)[0], before, atol=1e-3)


def test_clip_is_resized_and_cropped_in_the_middle(clip, video):
  views = user_videos.read_views(video, clip.prep)
  assert views.clips.shape == (1, 4, 32, 32, 3)
  assert views.clips.dtype == np.uint8 and views.warnings == ()


def test_short_video_is_warned_of(clip, tmp_path):
  path = videos.write_video(tmp_path / 'short.mp4', videos.numbered_frames(2))
  prediction = clip.predict(path, NAMES)
  assert 'has 2 frames, fewer than the 4' in prediction.warnings[0]


def run(*argv):
  return cli.exit_code(predict.main, ['predict', *argv])


def test_command_prints_json(directory, video, capsys):
  flags = (f'--pretrained={directory}', f'--video={video}')
  assert run(*flags, '--classes=juggling,Arm_Wrestling', '--json') == 0
  answer = json.loads(capsys.readouterr().out)
  assert {r['name'] for r in answer['ranking']} == {'juggling', 'arm wrestling'}
  assert sum(r['probability'] for r in answer['ranking']) == pytest.approx(1)


def test_command_prints_a_table(directory, video, capsys):
  flags = (f'--pretrained={directory}', f'--video={video}')
  assert run(*flags, '--classes=juggling,rowing') == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 2 and 'cosine' in lines[0] and lines[0].endswith('%')


@pytest.mark.parametrize(
  'flags, reason',
  [
    ([], 'give either --workdir'),
    (['--workdir=a', '--pretrained=b'], 'give either --workdir'),
    (['--pretrained=/nowhere'], '/nowhere do not exist'),
  ],
)
def test_command_needs_one_source_of_weights(flags, reason, capsys):
  assert run(*flags, f'--video={__file__}', '--classes=a') == 1
  assert reason in capsys.readouterr().err


def test_name_that_is_too_long_is_named(clip, video):
  with pytest.raises(ValueError, match='tokens, more than token_length=40'):
    clip.predict(video, ['word ' * 20])
