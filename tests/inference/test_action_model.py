"""Tests the uses of a trained model from Python."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import videos
import zsar_jax
from zsar_jax.data import user_videos
from zsar_jax.data.decode import VideoError
from zsar_jax.inference import action_model
from zsar_jax.parallel import sharding
from zsar_jax.zeroshot import calibration


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


def test_nothing_is_no_model():
  for nothing in ('', None):
    with pytest.raises(ValueError, match='needs a model: .*stick_figures'):
      zsar_jax.load(nothing)


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


def test_one_path_is_no_list_of_paths(workdir, examples):
  model = zsar_jax.load(workdir).add_classes(['juggling', 'hopping'])
  with pytest.raises(ValueError, match='expected a list of paths'):
    next(model.predict_many(examples[0]))


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
