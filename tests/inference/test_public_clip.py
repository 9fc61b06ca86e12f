"""A CLIP as it comes: `predict --pretrained`, without a bank."""

import json
import shutil

import numpy as np
import pytest

from tests import videos
from tests.pretrained import test_video, tiny_weights
import zsar_jax
from zsar_jax import cli, predict
from zsar_jax.data import user_videos
from zsar_jax.inference import action_model, public_folders, public_sides

NAMES = ['juggling', 'arm wrestling', 'jump rope']


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return tiny_weights.write_clip(tmp_path_factory.mktemp('weights') / 'clip')


@pytest.fixture(scope='module')
def clip(directory):
  return public_folders.open_sides(directory, directory, num_frames=4)


@pytest.fixture
def model(clip):
  return action_model.ActionModel(clip, None)


@pytest.fixture
def video(tmp_path):
  return videos.write_video(tmp_path / 'clip.mp4', videos.blocks())


def test_prediction_is_nearest_by_cosine(model, clip, video):
  model.add_classes(['Juggling', 'Arm_Wrestling', 'jump rope'])
  prediction = model.predict(video)
  assert sorted(r.name for r in prediction.ranking) == sorted(NAMES)
  assert prediction.warnings == ()
  embedding = clip.encode_videos(
    user_videos.read_views(video, clip.prep).clips[None]
  )[0][0, 0]
  by_name = dict(zip(NAMES, embeddings_of(clip, NAMES), strict=True))
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


def embeddings_of(clip, names):
  return clip.encode_class_names(names)['embedding']


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
    logits, clip.text.scale * (embeddings @ text.T).mean(axis=1), atol=1e-4
  )


def test_a_name_is_the_mean_of_its_prompts(clip, directory):
  text = embeddings_of(clip, NAMES)
  alone = embeddings_of(clip, NAMES[:1])
  np.testing.assert_allclose(alone, text[:1], atol=1e-6)
  prompts = [
    public_sides.open_text(directory, [prompt]).embed_names(NAMES[:1])[0]
    for prompt in public_sides.CLIP_PROMPTS
  ]
  mean = np.mean(prompts, axis=0)
  np.testing.assert_allclose(text[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_frames_are_normalised_as_the_weights_want(clip, tmp_path):
  assert clip.prep.size == clip.prep.short_side == 32
  assert clip.prep.mean == (0.48, 0.46, 0.41)
  white = np.full((1, 1, 1, 32, 32, 3), 255, np.uint8)
  before, _ = clip.encode_videos(white)
  path = tiny_weights.write_clip(tmp_path / 'clip')
  tiny_weights.write_json(
    tmp_path / 'clip/preprocessor_config.json',
    {**tiny_weights.PREPROCESSOR, 'image_mean': [0.1, 0.9, 0.5]},
  )
  other = public_folders.open_sides(path, path)
  assert not np.allclose(other.encode_videos(white)[0], before, atol=1e-3)


def test_clip_is_resized_and_cropped_in_the_middle(clip, video):
  views = user_videos.read_views(video, clip.prep)
  assert views.clips.shape == (1, 4, 32, 32, 3)
  assert views.clips.dtype == np.uint8 and views.warnings == ()


def test_the_api_takes_weights_too(directory, video):
  loaded = zsar_jax.load_pretrained(directory).add_classes(NAMES)
  assert loaded.bank is None and loaded.warnings == []
  assert loaded.explain() == dict.fromkeys(NAMES, ())
  # Eight frames by default, where the other takes four.
  prediction = loaded.predict(video)
  assert prediction.answer == prediction.ranking[0].name
  loaded.clear_classes()
  with pytest.raises(ValueError, match='call add_classes first'):
    loaded.predict(video)


def test_short_video_is_warned_of(model, tmp_path):
  path = videos.write_video(tmp_path / 'short.mp4', videos.numbered_frames(2))
  prediction = model.add_classes(NAMES).predict(path)
  assert 'has 2 frames, fewer than the 4' in prediction.warnings[0]


def run(*argv):
  return cli.exit_code(predict.main, ['predict', *argv])


def test_command_prints_json(directory, video, capsys):
  flags = (f'--pretrained={directory}', f'--video={video}')
  assert run(*flags, '--classes=juggling,Arm_Wrestling', '--json') == 0
  answer = json.loads(capsys.readouterr().out)
  assert {r['name'] for r in answer['ranking']} == {'juggling', 'arm wrestling'}
  assert sum(r['probability'] for r in answer['ranking']) == pytest.approx(1)
  assert answer['probabilities'].startswith('not calibrated')
  digest = answer['weights'].removeprefix('video=clip:').partition(',')[0]
  assert answer['weights'] == f'video=clip:{digest}, text=clip:{digest}'
  assert len(digest) == 8 and answer['none_of_these'] is None


def test_command_prints_a_table(directory, video, capsys):
  flags = (f'--pretrained={directory}', f'--video={video}')
  assert run(*flags, '--classes=juggling,rowing', '--explain') == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 3 and '%  name ' in lines[0]
  assert 'transfer' not in lines[0] and '<-' not in lines[0]
  assert lines[2].startswith('probabilities: not calibrated')


def test_several_videos_and_segments(directory, video, tmp_path, capsys):
  flags = f'--pretrained={directory}', '--classes=juggling,rowing', '--json'
  second = shutil.copy(video, tmp_path / 'second.mp4')
  assert run(*flags, f'--video={video},{second}') == 0
  first, again = json.loads(capsys.readouterr().out)
  assert first['ranking'] == again['ranking']
  assert run(*flags, f'--video={video}', '--segments') == 0
  out, err = capsys.readouterr()
  one = json.loads(out)
  assert run(*flags, f'--video={video},{second}', '--segments') == 0
  several = json.loads(capsys.readouterr().out)
  assert [x['video'] for x in several] == [video, str(second)]
  assert several[0] == one and one['weights'] == first['weights']
  segments = one['segments']
  assert {s['name'] for s in segments} <= {'juggling', 'rowing'}
  assert 0.5 <= segments[0]['score'] <= 1
  assert 'warning: probabilities: not calibrated' in err


@pytest.mark.parametrize(
  'flags, reason',
  [
    ([], 'give either --workdir'),
    (['--workdir=a', '--pretrained=b'], 'give either --workdir'),
    (['--pretrained=/nowhere'], '/nowhere do not exist'),
    (
      ['--pretrained=CLIP', '--reject_below=0.5'],
      'cannot reject without a calibration',
    ),
    (['--pretrained=BERT'], "model_type is 'bert'"),
    (['--pretrained=VIT'], 'has no text side: build a bank with'),
  ],
)
def test_bad_weights_and_flags(flags, reason, directory, tmp_path, capsys):
  if flags == ['--pretrained=VIT']:
    test_video.write_vit(tmp_path / 'VIT')
    tiny_weights.write_json(
      tmp_path / 'VIT/preprocessor_config.json',
      {'size': 24, 'image_mean': [0.5] * 3, 'image_std': [0.5] * 3},
    )
  if flags == ['--pretrained=BERT']:
    tiny_weights.write_bert(tmp_path / 'BERT')
  for name, path in (
    ('CLIP', directory),
    ('VIT', tmp_path / 'VIT'),
    ('BERT', tmp_path / 'BERT'),
  ):
    flags = [flag.replace(f'={name}', f'={path}') for flag in flags]
  assert run(*flags, f'--video={__file__}', '--classes=a') == 1
  assert reason in capsys.readouterr().err


def test_names_are_needed(directory, capsys):
  assert run(f'--pretrained={directory}', f'--video={__file__}') == 1
  assert '--pretrained needs --classes' in capsys.readouterr().err


def test_name_that_is_too_long_is_named(model):
  before = model.classes
  # The limit is the encoder's own: no key of a config changes it.
  with pytest.raises(
    ValueError,
    match="^class 'word word .*: text .* 98 tokens, .*=40; shorten it$",
  ):
    model.add_classes(['row', 'word ' * 20])
  with pytest.raises(
    ValueError, match="^class 'row': text 'oar oar .*; shorten it$"
  ):
    model.add_classes(['arm', 'row'], descriptions={'row': ['oar ' * 40]})
  assert model.classes == before
  assert 'row' not in model.recognizer.texts.descriptions
