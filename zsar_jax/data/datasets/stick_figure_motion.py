"""Computes a stick figure's joints over time.

An action is a verb, a place and a manner; a place is either an arm or a
direction. The actor faces the camera. Left and right are the actor's: the left
arm is on the image's right, and an actor that walks to the left walks there.

Positions are in picture widths, origin at the top left, y down. Angles are in
radians from straight down and grow outwards. For the actor's left limbs that is
towards the image's right, and for the right limbs towards its left. [f] is the
number of given times.
"""

from collections.abc import Mapping

import numpy as np

from zsar_jax.data.datasets import stick_figure_nuisance as nuisances

# Manner is a duration, not a look. Even at the extremes of the speed factor
# slow and quick differ 2.5 times. Quick stays at 0.8 s: a model sees about ten
# frames of a clip, so a shorter period would alias.
PERIOD = {'slowly': 2.6, 'quickly': 0.8}  # Seconds per cycle.
TRANSIT = {'slowly': 1.7, 'quickly': 0.5}  # Seconds per raising or lowering.
# Picture widths per cycle of a travelling actor: 0.07 or 0.23 per second.
STRIDE = 0.18

SIDES = {'left': 1.0, 'right': -1.0}  # The sign of image x.
ARM_VERBS = ('waving', 'raising', 'lowering', 'swinging')
LEG_VERBS = ('walking', 'hopping')
ARM_PLACES = {
  'the left arm': ('left',),
  'the right arm': ('right',),
  'both arms': ('left', 'right'),
}
LEG_PLACES = {'to the left': 1.0, 'to the right': -1.0, 'in place': 0.0}

# Lengths in units of the actor's height.
_THIGH, _SHIN = 0.24, 0.22
_SHOULDERS_ABOVE_HIPS = 0.33
_HIP_HALF_WIDTH = 0.05
_SHOULDER_HALF_WIDTH = 0.11
_UPPER_ARM = _FOREARM = 0.19
_HEAD_RADIUS = 0.105
_REST_ANGLE = np.radians(9.0)
_RAISED_ANGLE = np.radians(171.0)


def _arm_angles(
  verb: str, manner: str, times: np.ndarray, nuisance: nuisances.Nuisance
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the angles of upper arm and forearm of an acting arm, [f] each."""
  if verb in ('raising', 'lowering'):
    seconds = TRANSIT[manner] / nuisance.speed
    progress = np.clip((times - nuisance.delay) / seconds, 0.0, 1.0)
    if verb == 'lowering':
      progress = 1.0 - progress
    # Half a cosine: starts and stops without a jerk.
    eased = 0.5 - 0.5 * np.cos(np.pi * progress)
    angle = _REST_ANGLE + eased * (_RAISED_ANGLE - _REST_ANGLE)
    return angle, angle
  swing = np.sin(_phase(manner, times, nuisance)) * nuisance.amplitude
  if verb == 'waving':
    upper = np.full_like(times, np.radians(105.0))
    return upper, np.radians(164.0) + np.radians(42.0) * swing
  angle = np.radians(40.0) + np.radians(50.0) * swing  # Swinging.
  return angle, angle


def _phase(
  manner: str, times: np.ndarray, nuisance: nuisances.Nuisance
) -> np.ndarray:
  """Returns the angle of a cyclic motion in radians, [f]."""
  cycles = times * nuisance.speed / PERIOD[manner] + nuisance.phase
  return 2.0 * np.pi * cycles


def _leg_motion(
  verb: str, direction: float, phase: np.ndarray, amplitude: float
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
  """Returns thigh and shin angles by side, and the feet's height, [f] each.

  The height is that of the lower foot above the ground, in units of the
  actor's height.
  """
  if verb == 'walking':
    legs = {}
    for side, sign in SIDES.items():
      # The legs lift in turn. Lifted, a leg of a travelling actor swings
      # ahead; on the ground it is left behind.
      lift = np.maximum(sign * np.sin(phase), 0.0)
      scissor = -sign * direction * np.radians(22.0) * np.cos(phase)
      ahead = direction or sign  # Knees point outwards in place.
      thigh = scissor + ahead * np.radians(58.0) * lift
      shin = scissor - ahead * np.radians(40.0) * lift
      legs[side] = (sign * amplitude * thigh, sign * amplitude * shin)
    return legs, np.zeros_like(phase)
  # Hopping: half a cycle crouching, half in the air; the legs are straight
  # only between the two.
  wave = amplitude * np.sin(phase)
  crouch, flight = np.maximum(-wave, 0.0), np.maximum(wave, 0.0)
  bend = np.radians(54.0) * crouch + np.radians(12.0) * flight
  return dict.fromkeys(SIDES, (bend, -bend)), 0.13 * flight


def _step(angle: np.ndarray, sign: float, length: float) -> np.ndarray:
  """Returns the vector along a limb of one side, [f 2]."""
  return length * np.stack([sign * np.sin(angle), np.cos(angle)], axis=-1)


def joint_positions(
  attributes: Mapping[str, str], times: np.ndarray, nuisance: nuisances.Nuisance
) -> dict[str, np.ndarray]:
  """Computes where every joint is at each time.

  Args:
    attributes: the action's `verb`, `place` and `manner`.
    times: seconds since the clip began, float [f].
    nuisance: of the clip.

  Returns:
    Joint name -> [f 2], x and y in picture widths with the camera's drift
    applied. The joints are `head` (its centre), `neck`, `pelvis` and, with
    the actor's `left_` or `right_` in front, `shoulder`, `elbow`, `hand`,
    `hip`, `knee` and `foot`.

  Raises:
    ValueError: the verb is unknown, or does not go with the place or manner.
  """
  verb, place, manner = (attributes[k] for k in ('verb', 'place', 'manner'))
  places = {
    **dict.fromkeys(ARM_VERBS, ARM_PLACES),
    **dict.fromkeys(LEG_VERBS, LEG_PLACES),
  }
  if place not in places.get(verb, ()) or manner not in PERIOD:
    raise ValueError(f'no such action: {verb!r}, {place!r}, {manner!r}')

  times = np.asarray(times, np.float64)
  still = np.zeros_like(times)
  hanging = (still + _REST_ANGLE, still + _REST_ANGLE)
  arms = dict.fromkeys(SIDES, hanging)
  legs = dict.fromkeys(SIDES, (still + np.radians(5.0), still))
  jump, travel = still, still
  if verb in ARM_VERBS:
    acting = _arm_angles(verb, manner, times, nuisance)
    for side in ARM_PLACES[place]:
      arms[side] = acting
  else:
    direction = LEG_PLACES[place]
    phase = _phase(manner, times, nuisance)
    legs, jump = _leg_motion(verb, direction, phase, nuisance.amplitude)
    for side, sign in SIDES.items():
      # Arms go against the legs in a walk, and flare together in a hop.
      swing = -sign * np.sin(phase) if verb == 'walking' else np.sin(phase)
      upper = np.radians(16.0) + np.radians(10.0) * swing
      arms[side] = (upper, 0.5 * upper)
    speed = direction * STRIDE * nuisance.speed / PERIOD[manner]
    travel = speed * (times - nuisance.duration / 2)

  return _assemble(arms, legs, jump, travel, times, nuisance)


def _assemble(arms, legs, jump, travel, times, nuisance):
  """Computes joint positions from angles, jump heights and travel [f]."""
  height = nuisance.height
  thigh = _THIGH * nuisance.leg_length * height
  shin = _SHIN * nuisance.leg_length * height
  # The lower foot stands on the ground, or is as high as the jump.
  reach = np.maximum(
    *(
      thigh * np.cos(upper) + shin * np.cos(lower)
      for upper, lower in legs.values()
    )
  )
  pelvis = np.stack(
    [
      nuisance.centre_x + travel,
      nuisance.ground_y - height * jump - reach,
    ],
    axis=-1,
  )
  pelvis += nuisances.camera_offset(times, nuisance)
  across, up = np.array([1.0, 0.0]), np.array([0.0, -1.0])
  neck = pelvis + height * _SHOULDERS_ABOVE_HIPS * up
  joints = {
    'pelvis': pelvis,
    'neck': neck,
    'head': neck + (0.03 * height + head_radius(nuisance)) * up,
  }
  half_shoulders = _SHOULDER_HALF_WIDTH * nuisance.shoulder_width * height
  upper_arm = _UPPER_ARM * nuisance.arm_length * height
  forearm = _FOREARM * nuisance.arm_length * height
  for side, sign in SIDES.items():
    shoulder = neck + sign * half_shoulders * across
    elbow = shoulder + _step(arms[side][0], sign, upper_arm)
    hip = pelvis + sign * _HIP_HALF_WIDTH * height * across
    knee = hip + _step(legs[side][0], sign, thigh)
    joints |= {
      f'{side}_shoulder': shoulder,
      f'{side}_elbow': elbow,
      f'{side}_hand': elbow + _step(arms[side][1], sign, forearm),
      f'{side}_hip': hip,
      f'{side}_knee': knee,
      f'{side}_foot': knee + _step(legs[side][1], sign, shin),
    }
  return joints


def head_radius(nuisance: nuisances.Nuisance) -> float:
  """Returns the radius of the actor's head in picture widths."""
  return _HEAD_RADIUS * nuisance.head_size * nuisance.height
