"""One visitor's camera at a time, without a browser."""

import base64

import cv2
import numpy as np
import pytest

from zsar_jax.inference import action_model
from zsar_jax.web import desk as desk_lib
from zsar_jax.web import drawing
from zsar_jax.web import limits as limits_lib
from zsar_jax.web import watching as watching_lib

_NAMES = ['juggling', 'rowing']
_LIMITS = limits_lib.Limits(minutes=1.0)


@pytest.fixture(scope='module')
def desk():
  model = action_model.load('stick_figures')
  return desk_lib.Desk(model, 'figures', _LIMITS)


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def watching(desk, clock):
  made = watching_lib.Watching(desk, _LIMITS, clock)
  yield made
  made.close()


def picture(number=0, height=48, width=64):
  rgb = np.random.default_rng(number).integers(
    0, 255, (height, width, 3), np.uint8
  )
  jpeg = base64.b64encode(cv2.imencode('.jpg', rgb)[1].tobytes()).decode()
  return f'data:image/jpeg;base64,{jpeg}'


def look(watching, clock, session='a', names=_NAMES, seconds=6.0):
  """What is seen in some seconds of pictures, ten in each."""
  found = []
  for i in range(round(10 * seconds)):
    clock.now += 0.1
    found.append(watching.see(session, picture(i), lambda: names))
  return found


def test_a_camera_is_named_until_it_stops(watching, clock):
  found = look(watching, clock)
  assert found[0].window is None and not found[0].is_new
  assert 'first answer' in drawing.watching_html(None, ())
  told = [seen for seen in found if seen.is_new]
  assert len(told) == 4
  assert set(found[-1].window.probabilities) == set(_NAMES)
  assert any('rendered stick figures' in x for x in found[-1].warnings)
  last = watching.stop('a')
  assert last.segments[0].end == pytest.approx(6, abs=0.01)
  html = drawing.watching_html(last.window, last.segments)
  assert 'What happened before' in html and last.window.name in html
  assert watching.stop('a') is None


def test_the_names_of_videos_stay_their_own(desk, watching, clock):
  desk._choose_from(['bowling'])
  found = look(watching, clock, seconds=2.5)
  assert desk._model.classes == ('bowling',)
  assert set(found[-1].window.probabilities) == set(_NAMES)


def test_a_second_camera_is_refused_until_the_first_is_gone(watching, clock):
  look(watching, clock, 'a', seconds=1)
  with pytest.raises(desk_lib.Refused, match='Somebody else'):
    look(watching, clock, 'b', seconds=1)
  # Whoever is refused cannot end it.
  assert watching.stop('b') is None
  look(watching, clock, 'a', seconds=1)
  watching.stop('a')
  look(watching, clock, 'b', seconds=1)
  # One that falls silent frees it by itself.
  with pytest.raises(desk_lib.Refused, match='Somebody else'):
    look(watching, clock, 'a', seconds=1)
  clock.now += 10
  look(watching, clock, 'a', seconds=1)
  with pytest.raises(desk_lib.Refused, match='Somebody else'):
    look(watching, clock, 'b', seconds=1)


def test_children_go_with_their_cameras(watching, clock):
  look(watching, clock, seconds=0.2)
  (child,) = watching._watch.pool._children
  look(watching, clock, names=['bowling'], seconds=0.2)
  assert child._process.returncode is not None
  assert watching._watch.names == ('bowling',)
  (child,) = watching._watch.pool._children
  watching.close()
  assert child._process.returncode is not None


def test_nobody_keeps_the_camera_for_ever(watching, clock):
  look(watching, clock, seconds=1)
  clock.now += 60
  with pytest.raises(desk_lib.Refused, match='for 1 min'):
    look(watching, clock, seconds=1)
  look(watching, clock, seconds=1)


@pytest.mark.parametrize(
  'sent, message',
  [
    (None, 'something else than JPEG'),
    ('data:image/png;base64,aaaa', 'something else than JPEG'),
    ('data:image/jpeg;base64,aaaa', 'the camera: is no JPEG'),
    ('data:image/jpeg;base64,§', 'the camera: is no JPEG'),
    (picture()[:200], 'the camera: is no JPEG'),
    (picture(height=50), 'changes the size of its pictures'),
    (picture(height=4000, width=4000), 'has frames of 4000x4000; the limit'),
  ],
)
def test_pictures_that_cannot_be_used(watching, sent, message):
  watching.see('a', picture(), lambda: _NAMES)
  with pytest.raises(desk_lib.Refused, match=message):
    watching.see('a', sent, lambda: _NAMES)


def test_names_are_looked_at(watching):
  def none():
    raise ValueError('Type at least one name')

  with pytest.raises(ValueError, match='at least one name'):
    watching.see('a', picture(), none)
