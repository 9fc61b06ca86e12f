import dataclasses
import itertools

import numpy as np
import pytest

from zsar_jax.data.datasets import stick_figure_motion as motion
from zsar_jax.data.datasets import stick_figure_nuisance as nuisances

CANONICAL = nuisances.draw_nuisance(0, 0.0)
SLOWEST, FASTEST = (
  dataclasses.replace(CANONICAL, speed=1 + sign * nuisances.SPEED_SPREAD)
  for sign in (-1, 1)
)
ACTIONS = [
  *itertools.product(motion.ARM_VERBS, motion.ARM_PLACES, motion.PERIOD),
  *itertools.product(motion.LEG_VERBS, motion.LEG_PLACES, motion.PERIOD),
]


def _joints(verb, place, manner, nuisance=CANONICAL, times=None):
  attributes = {'verb': verb, 'place': place, 'manner': manner}
  times = nuisance.times() if times is None else times
  return motion.joint_positions(attributes, times, nuisance)


def _moves(track):
  return np.ptp(track, axis=0).max() > 0.05


def _period(verb, place, manner, joint, nuisance):
  """Returns the period of a joint, from upward crossings of its mean."""
  times = np.arange(0.0, 40.0, 0.01)
  track = _joints(verb, place, manner, nuisance, times)[joint]
  height = track[:, 1] - track[:, 1].mean()
  ups = times[1:][(height[:-1] < 0) & (height[1:] >= 0)]
  return np.diff(ups).mean()


def test_every_action_is_finite_and_of_one_length():
  for action in ACTIONS:
    for track in _joints(*action).values():
      assert track.shape == (CANONICAL.num_frames, 2)
      assert np.isfinite(track).all()


@pytest.mark.parametrize('verb', motion.ARM_VERBS)
def test_left_is_the_actors_left_and_only_named_arms_move(verb):
  for place, sides in motion.ARM_PLACES.items():
    joints = _joints(verb, place, 'quickly')
    for side, sign in motion.SIDES.items():
      assert _moves(joints[f'{side}_hand']) == (side in sides)
      # The actor faces us: the actor's left is the image's right.
      out = sign * (joints[f'{side}_hand'] - joints['neck'])[:, 0]
      assert out.max() > 0.05
    assert not _moves(joints['pelvis'])


def test_raising_ends_where_lowering_starts_and_both_end_in_the_clip():
  for seed in range(200):
    nuisance = nuisances.draw_nuisance(seed)
    for manner in motion.TRANSIT:
      up = _joints('raising', 'both arms', manner, nuisance)
      down = _joints('lowering', 'both arms', manner, nuisance)
      offset = nuisances.camera_offset(nuisance.times(), nuisance)
      up, down = up['left_hand'] - offset, down['left_hand'] - offset
      np.testing.assert_allclose(up[-1], down[0], atol=1e-9)
      np.testing.assert_allclose(up[0], down[-1], atol=1e-9)
      assert up[0, 1] - up[-1, 1] > 0.3


@pytest.mark.parametrize('place', motion.LEG_PLACES)
@pytest.mark.parametrize('verb', motion.LEG_VERBS)
def test_travel_goes_the_actors_way(verb, place):
  for manner in motion.PERIOD:
    pelvis = _joints(verb, place, manner)['pelvis']
    distance = pelvis[-1, 0] - pelvis[0, 0]
    assert np.sign(distance) == motion.LEG_PLACES[place]
    assert abs(distance) > 0.15 or place == 'in place'
    np.testing.assert_allclose(
      pelvis[:, 0].mean(), CANONICAL.centre_x, atol=0.01
    )


def test_hopping_moves_the_body_up_and_down_more_than_walking():
  hop, walk = (
    np.ptp(_joints(verb, 'in place', 'quickly')['pelvis'][:, 1])
    for verb in ('hopping', 'walking')
  )
  assert hop > 0.15 > 0.03 > walk


def test_walking_lifts_one_foot_and_hopping_both():
  times = np.linspace(0.0, 2.6, 100)
  for verb, at_once in (('walking', False), ('hopping', True)):
    joints = _joints(verb, 'in place', 'slowly', times=times)
    left, right = (
      CANONICAL.ground_y - joints[f'{side}_foot'][:, 1] > 0.03
      for side in motion.SIDES
    )
    assert left.any() and right.any()
    assert (left & right).any() == at_once


@pytest.mark.parametrize(
  'verb, place, joint',
  [
    ('waving', 'the left arm', 'left_hand'),
    ('swinging', 'the right arm', 'right_hand'),
    ('walking', 'to the left', 'left_foot'),
    ('hopping', 'in place', 'head'),
  ],
)
def test_manners_differ_at_the_extremes_of_speed(verb, place, joint):
  slow = _period(verb, place, 'slowly', joint, FASTEST)
  quick = _period(verb, place, 'quickly', joint, SLOWEST)
  assert slow / quick >= 2.5
  assert quick > 0.75


def test_transit_times_differ_at_the_extremes_of_speed():
  def seconds(manner, nuisance):
    times = np.arange(0.0, 4.0, 0.001)
    hand = _joints('raising', 'both arms', manner, nuisance, times)
    moving = np.abs(np.diff(hand['left_hand'][:, 1])) > 1e-9
    return moving.sum() * 0.001

  assert seconds('slowly', FASTEST) / seconds('quickly', SLOWEST) >= 2.5


def test_travel_speeds_differ_and_drift_is_slower_than_a_third_of_any():
  def speed(manner, nuisance):
    x = _joints('walking', 'to the left', manner, nuisance)['pelvis'][:, 0]
    return (x[-1] - x[0]) / nuisance.times()[-1]

  assert speed('quickly', SLOWEST) / speed('slowly', FASTEST) >= 2.5
  assert nuisances.MAX_DRIFT <= speed('slowly', SLOWEST) / 3


def test_figures_stay_in_the_picture():
  for seed in range(150):
    nuisance = nuisances.draw_nuisance(seed)
    for action in ACTIONS:
      joints = _joints(*action, nuisance)
      radius = motion.head_radius(nuisance)
      head = joints['head']
      assert head.min() > radius and head.max() < 1 - radius, action
      # Quick travel may begin or end with an arm or a knee on the very edge.
      limbs = np.stack(list(joints.values()))
      assert limbs.min() > -0.04 and limbs.max() < 1.04, action


@pytest.mark.parametrize(
  'verb, place, manner',
  [
    ('dancing', 'in place', 'slowly'),
    ('waving', 'in place', 'slowly'),
    ('walking', 'both arms', 'slowly'),
    ('walking', 'in place', 'sadly'),
  ],
)
def test_unknown_actions_raise(verb, place, manner):
  with pytest.raises(ValueError, match='no such action'):
    _joints(verb, place, manner)
