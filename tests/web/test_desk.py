import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from tests import videos
from tests.pretrained import tiny_weights
from zsar_jax.inference import action_model, model_files
from zsar_jax.web import desk as desk_lib
from zsar_jax.web import limits as limits_lib

_LIMITS = limits_lib.Limits(megabytes=0.2, minutes=0.2)
_NAMES = ['waving the right arm slowly', 'walking to the right slowly']


@pytest.fixture(scope='module')
def desk():
  model = action_model.load('stick_figures')
  return desk_lib.Desk(model, 'figures', _LIMITS)


@pytest.fixture
def example(tmp_path):
  path = next(p for p in model_files.examples() if 'waving_the_right' in p)
  return str(shutil.copy(path, tmp_path / 'clip.mp4'))


def test_an_answer_has_all_that_the_page_shows(desk, example, tmp_path):
  answer = desk.answer(example, _NAMES)
  assert {ranked.name for ranked in answer.prediction.ranking} == {*_NAMES}
  assert answer.prediction.video == 'clip.mp4'
  assert not answer.is_long and 2 < answer.duration < 3
  seconds = [frame[0] for frame in answer.frames]
  assert len(seconds) == 8 and seconds == sorted(seconds)
  assert 0 <= seconds[0] < seconds[-1] < answer.duration
  picture = cv2.imdecode(np.frombuffer(answer.frames[0][1], np.uint8), 1)
  assert picture.shape == (48, 48, 3)
  assert len(answer.risks) == 101
  assert 'answers at 0.29 or more, ' in answer.reliability(0.29)
  assert str(tmp_path) not in repr(answer)


def test_names_come_and_go_without_loading_again(desk, example):
  for names in (['rowing', 'juggling'], ['rowing', _NAMES[0]]):
    answer = desk.answer(example, names)
    assert sorted(r.name for r in answer.prediction.ranking) == sorted(names)


def test_a_long_video_has_segments(desk, tmp_path):
  frames = videos.numbered_frames(30 * 6)
  path = videos.write_video(tmp_path / 'long.mp4', frames)
  answer = desk.answer(path, _NAMES)
  assert answer.is_long
  (warning,) = [w for w in answer.prediction.warnings if 'long.mp4' in w]
  assert str(tmp_path) not in warning
  seen = []
  found = desk.segments(path, _NAMES, lambda *done: seen.append(done))
  assert found[0].start == 0
  assert found[-1].end == pytest.approx(answer.duration)
  assert seen[-1] == (5, 5)

  def leave(done, total):
    raise desk_lib.Gone

  with pytest.raises(desk_lib.Gone):
    desk.segments(path, _NAMES, leave)
  os.remove(path)
  with pytest.raises(desk_lib.Refused, match='not here any more|not exist'):
    desk.segments(path, _NAMES, leave)


@pytest.mark.parametrize('content', [b'', b'no video', b'\0' * 5000])
def test_what_is_no_video_is_said(desk, content, tmp_path):
  path = tmp_path / 'notes.mp4'
  path.write_bytes(content)
  with pytest.raises(desk_lib.Refused, match='notes.mp4') as e:
    desk.answer(str(path), _NAMES)
  assert str(tmp_path) not in str(e.value)


def test_limits_hold(desk, example, tmp_path):
  large = tmp_path / 'large.mp4'
  large.write_bytes(bytes(300_000))
  with pytest.raises(desk_lib.Refused, match='at most 0.2 MB'):
    desk.answer(str(large), _NAMES)
  frames = videos.numbered_frames(26)
  path = videos.write_video(tmp_path / 'slow.mp4', frames, fps=2)
  with pytest.raises(desk_lib.Refused, match='at most 0.2 min'):
    desk.answer(path, _NAMES)
  with pytest.raises(desk_lib.Refused, match='cannot read a name') as e:
    desk.answer(example, ['word ' * 30])
  assert 'preprocessing' not in str(e.value)
  with pytest.raises(desk_lib.Refused, match='not here any more'):
    desk.answer(str(tmp_path / 'gone.mp4'), _NAMES)
  with pytest.raises(desk_lib.Refused, match='cannot be read'):
    desk.answer(str(pathlib.Path(example) / 'x'), _NAMES)


def test_public_weights_have_shares_and_no_risk(tmp_path):
  weights = tiny_weights.write_clip(tmp_path / 'clip')
  model = action_model.load_pretrained(weights)
  desk = desk_lib.Desk(model, 'CLIP', _LIMITS)
  assert not desk.is_calibrated
  frames = videos.numbered_frames(30)
  path = videos.write_video(tmp_path / 'short.mp4', frames)
  answer = desk.answer(path, ['juggling', 'rowing'])
  ranking = answer.prediction.ranking
  assert sum(ranked.probability for ranked in ranking) == pytest.approx(1)
  assert answer.prediction.none_of_these is None
  assert answer.risks == () and 'not calibrated' in answer.reliability(0.5)
