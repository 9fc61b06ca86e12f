"""The differences between two stick figure clips of one class.

These are the actor's build, position and pace, the colours, the background and
the camera's drift. All are drawn from an integer seed that does not depend on
the action. So none of them reveals the class.

Lengths are in picture widths (pictures are square), origin at the top left,
y down.
"""

import dataclasses

import numpy as np

CLIP_SECONDS = 2.4
DURATION_SPREAD = 0.05
FRAME_RATES = (20, 24, 25, 30)
# Small enough that the slowest quick action is 2.5 times as fast as the
# fastest slow one; see `stick_figure_motion`.
SPEED_SPREAD = 0.1
# Widths per second: less than a third of the slowest walk.
MAX_DRIFT = 0.02

_RGB = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Nuisance:
  """All that varies between clips of one class.

  Attributes:
    seed: the integer that all values were drawn from.
    duration: length of the clip in seconds.
    fps: frames per second.
    speed: factor on the rate of every motion, 1 +- SPEED_SPREAD.
    phase: where a cyclic motion starts, in cycles, [0, 1).
    delay: seconds before a raising or lowering starts.
    amplitude: factor on the extent of cyclic motions.
    centre_x: x of the middle of the actor's path.
    ground_y: y of the ground under the actor.
    height: the actor's height in picture widths.
    arm_length: factor on the usual length.
    leg_length: factor on the usual length.
    head_size: factor on the usual radius.
    shoulder_width: factor on the usual width.
    thickness: of a limb, in picture widths.
    drift_x: camera drift in picture widths per second.
    drift_y: camera drift in picture widths per second.
    figure_color: red, green, blue in [0, 1].
    face_color: red, green, blue in [0, 1].
    background_color: red, green, blue in [0, 1].
    texture_contrast: largest deviation of the background from its colour.
    texture_seed: seed of the background's texture.
  """

  seed: int
  duration: float
  fps: int
  speed: float
  phase: float
  delay: float
  amplitude: float
  centre_x: float
  ground_y: float
  height: float
  arm_length: float
  leg_length: float
  head_size: float
  shoulder_width: float
  thickness: float
  drift_x: float
  drift_y: float
  figure_color: _RGB
  face_color: _RGB
  background_color: _RGB
  texture_contrast: float
  texture_seed: int

  @property
  def num_frames(self) -> int:
    """Number of frames of the clip."""
    return round(self.duration * self.fps)

  def times(self) -> np.ndarray:
    """Returns the seconds of each frame since the first, float64 [f]."""
    return np.arange(self.num_frames) / self.fps


def _color(luma: float, chroma: np.ndarray) -> _RGB:
  """Converts a luma and a (blue, red) difference to RGB in [0, 1], BT.601."""
  blue, red = chroma
  rgb = luma + np.array(
    [
      1.402 * red,
      -0.344 * blue - 0.714 * red,
      1.772 * blue,
    ]
  )
  r, g, b = np.clip(rgb, 0.0, 1.0).round(4).tolist()
  return r, g, b


def _lumas(
  background: float, contrast: float, is_dark_figure: bool
) -> tuple[float, float, float]:
  """Returns the lumas of background, figure and face, each in [0, 1].

  Args:
    background: the luma behind a light figure.
    contrast: how much lighter than it the figure is.
    is_dark_figure: whether light and dark are exchanged.
  """
  figure = background + contrast
  lumas = np.array([background, figure, figure - 0.5])
  return tuple((1.0 - lumas if is_dark_figure else lumas).tolist())


def draw_nuisance(seed: int, strength: float = 1.0) -> Nuisance:
  """Draws a clip's nuisance, independent of the action.

  Args:
    seed: a non-negative integer; the same seed gives the same nuisance.
    strength: the share of the full spread in [0, 1]. 0 is one canonical
      figure on a plain background for every seed.

  Returns:
    The nuisance. Luma of figure and background differ by about 0.4 or more.

  Raises:
    ValueError: `strength` is outside [0, 1].
  """
  # Beyond 1 manners would overlap and figures would leave the picture.
  if not 0.0 <= strength <= 1.0:
    raise ValueError(f'nuisance strength {strength} is not in [0, 1]')
  rng = np.random.default_rng(seed)

  # The same draws at any strength, so a seed is always the same actor, only
  # closer to the canonical one.
  def around(middle: float, spread: float) -> float:
    return middle + strength * spread * rng.uniform(-1.0, 1.0)

  def chroma() -> np.ndarray:
    return strength * rng.uniform(-0.14, 0.14, size=2)

  is_dark_figure = rng.uniform() < 0.5 * strength
  background_luma, figure_luma, face_luma = _lumas(
    background=around(0.26, 0.12),
    contrast=around(0.52, 0.08),
    is_dark_figure=is_dark_figure,
  )
  usual_rate, rate = rng.uniform() >= strength, int(rng.choice(FRAME_RATES))
  drift_angle = rng.uniform(0.0, 2.0 * np.pi)
  drift = strength * MAX_DRIFT * rng.uniform()
  return Nuisance(
    seed=seed,
    duration=around(CLIP_SECONDS, CLIP_SECONDS * DURATION_SPREAD),
    fps=25 if usual_rate else rate,
    speed=around(1.0, SPEED_SPREAD),
    phase=strength * rng.uniform(),
    delay=around(0.2, 0.1),
    amplitude=around(1.0, 0.12),
    centre_x=around(0.5, 0.05),
    ground_y=around(0.91, 0.02),
    height=around(0.68, 0.05),
    arm_length=around(1.0, 0.08),
    leg_length=around(1.0, 0.08),
    head_size=around(1.0, 0.12),
    shoulder_width=around(1.0, 0.15),
    thickness=around(0.045, 0.009),
    drift_x=float(drift * np.cos(drift_angle)),
    drift_y=float(drift * np.sin(drift_angle)),
    figure_color=_color(figure_luma, chroma()),
    face_color=_color(face_luma, chroma()),
    background_color=_color(background_luma, chroma()),
    texture_contrast=strength * rng.uniform(0.04, 0.12),
    texture_seed=int(rng.integers(2**31)),
  )


def camera_offset(times: np.ndarray, nuisance: Nuisance) -> np.ndarray:
  """Returns how far the camera's drift has moved the picture, [f 2].

  It is zero in the middle of the clip, so that the actor's mean position
  does not depend on it.
  """
  drift = np.array([nuisance.drift_x, nuisance.drift_y])
  return (times - nuisance.duration / 2)[:, None] * drift
