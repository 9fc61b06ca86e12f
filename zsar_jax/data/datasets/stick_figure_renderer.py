"""Draws pictures from a stick figure's joints, and encodes them as an mp4."""

from collections.abc import Callable, Mapping, Sequence
import io
from typing import NamedTuple

import av
import cv2
import numpy as np

from zsar_jax.data.datasets import records
from zsar_jax.data.datasets import stick_figure_motion as motion
from zsar_jax.data.datasets import stick_figure_nuisance as nuisances

# Frames are drawn larger and averaged down: OpenCV's thicknesses are whole
# pixels, which at the final size would quantise an actor's build.
_SUPERSAMPLING = 2
# Drawing coordinates are fixed point, in 1/16 pixel.
_SHIFT = 4
# The texture's border in picture widths, more than the drift can uncover.
_MARGIN = 0.06
_KEYFRAME_INTERVAL = 12

_LIMBS = (
  ('left_shoulder', 'right_shoulder'),
  ('left_hip', 'right_hip'),
  *((f'{s}_shoulder', f'{s}_elbow', f'{s}_hand') for s in motion.SIDES),
  *((f'{s}_hip', f'{s}_knee', f'{s}_foot') for s in motion.SIDES),
)


class _Layer(NamedTuple):
  """Things of one colour and size, drawn over the layers before.

  Attributes:
    points: polylines [f k 2], or the centres of discs [f 1 2], in picture
      widths.
    color: red, green, blue in [0, 1].
    size: a polyline's thickness or a disc's radius, in picture widths.
  """

  points: Sequence[np.ndarray]
  color: tuple[float, float, float]
  size: float


def _layers(
  joints: Mapping[str, np.ndarray], nuisance: nuisances.Nuisance
) -> list[_Layer]:
  """Returns the layers of the figure, from back to front."""

  def path(names):
    return np.stack([joints[name] for name in names], axis=1)

  thickness = nuisance.thickness
  radius = motion.head_radius(nuisance)
  head = joints['head'][:, None]
  hands = [path([f'{side}_hand']) for side in motion.SIDES]
  eyes = [head + radius * np.array([x, -0.2]) for x in (-0.4, 0.4)]
  mouth = head + radius * np.array([[-0.35, 0.45], [0.35, 0.45]])
  figure, face = nuisance.figure_color, nuisance.face_color
  return [
    _Layer([path(limb) for limb in _LIMBS], figure, thickness),
    _Layer([path(('neck', 'pelvis'))], figure, 2.0 * thickness),
    _Layer([head], figure, radius),
    _Layer(hands, figure, 0.8 * thickness),
    _Layer(eyes, face, 0.2 * radius),
    _Layer([mouth], face, 0.25 * radius),
  ]


def _painters(
  layers: Sequence[_Layer], pixels: int
) -> list[Callable[[np.ndarray, int], None]]:
  """Makes functions (canvas, frame number) that each draw a layer in place."""
  one = 1 << _SHIFT

  def painter(layer):
    # In OpenCV whole numbers are the centres of pixels, not their corners.
    points = [
      np.round((p * pixels - 0.5) * one).astype(np.int32) for p in layer.points
    ]
    color = [round(255 * c) for c in layer.color]
    how = (cv2.LINE_AA, _SHIFT)
    if points[0].shape[1] > 1:
      thickness = max(1, round(layer.size * pixels))

      def paint(canvas, i):
        lines = [p[i] for p in points]
        cv2.polylines(canvas, lines, False, color, thickness, *how)
    else:
      radius = round(layer.size * pixels * one)
      centres = [p[:, 0].tolist() for p in points]

      def paint(canvas, i):
        for centre in centres:
          cv2.circle(canvas, centre[i], radius, color, cv2.FILLED, *how)

    return paint

  return [painter(layer) for layer in layers]


def _background(nuisance: nuisances.Nuisance, pixels: int) -> np.ndarray:
  """Draws smooth noise and a few flat shapes, uint8 [pixels pixels 3]."""
  rng = np.random.default_rng(nuisance.texture_seed)
  cells = int(rng.integers(3, 10))
  texture = rng.uniform(-1.0, 1.0, (cells, cells, 3)).astype(np.float32)
  texture = cv2.resize(texture, (pixels, pixels))
  for _ in range(rng.integers(2, 7)):
    shade = rng.uniform(-1.0, 1.0, 3).tolist()
    x, y, width, height = rng.integers(0, pixels, 4).tolist()
    if rng.uniform() < 0.5:
      corner = (x + width // 3, y + height // 3)
      cv2.rectangle(texture, (x, y), corner, shade, cv2.FILLED)
    else:
      axes = (1 + width // 5, 1 + height // 5)
      cv2.ellipse(texture, (x, y), axes, 0, 0, 360, shade, cv2.FILLED)
  color = np.array(nuisance.background_color, np.float32)
  picture = color + nuisance.texture_contrast * texture
  return np.clip(255.0 * picture, 0.0, 255.0).astype(np.uint8)


def draw_frames(
  attributes: Mapping[str, str],
  nuisance: nuisances.Nuisance,
  size: int,
) -> np.ndarray:
  """Draws a clip.

  Args:
    attributes: the action's `verb`, `place` and `manner`.
    nuisance: of the clip.
    size: picture width and height in pixels.

  Returns:
    RGB frames, uint8 [f size size 3].

  Raises:
    ValueError: there is no such action.
  """
  times = nuisance.times()
  joints = motion.joint_positions(attributes, times, nuisance)
  pixels = size * _SUPERSAMPLING
  painters = _painters(_layers(joints, nuisance), pixels)
  background = _background(nuisance, round(pixels * (1.0 + 2.0 * _MARGIN)))
  # The drift moves the picture, so the window moves the other way.
  middle = (background.shape[0] - 1) / 2
  centres = middle - pixels * nuisances.camera_offset(times, nuisance)

  frames = np.empty((len(times), size, size, 3), np.uint8)
  for i, centre in enumerate(centres):
    canvas = cv2.getRectSubPix(background, (pixels, pixels), centre)
    for paint in painters:
      paint(canvas, i)
    cv2.resize(canvas, (size, size), frames[i], interpolation=cv2.INTER_AREA)
  return frames


def encode_mp4(frames: np.ndarray, fps: int) -> bytes:
  """Encodes frames as an H.264 mp4 with a comment that it is rendered.

  The same frames give the same bytes. The container's `comment` is
  `records.RENDERED_TAG`.

  Args:
    frames: RGB, uint8 [f h w 3], h and w even.
    fps: frames per second.

  Returns:
    The file's bytes.
  """
  file = io.BytesIO()
  # One thread: clips are encoded side by side, and more threads would make
  # the bytes depend on the machine.
  options = {'preset': 'ultrafast', 'crf': '20', 'threads': '1'}
  with av.open(file, 'w', format='mp4') as container:
    container.metadata['comment'] = records.RENDERED_TAG
    stream = container.add_stream('libx264', rate=fps, options=options)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = 'yuv420p'
    stream.codec_context.gop_size = _KEYFRAME_INTERVAL
    for picture in frames:
      frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return file.getvalue()


def render_clip(
  attributes: Mapping[str, str],
  nuisance: nuisances.Nuisance,
  size: int,
) -> bytes:
  """Draws a clip and encodes it; see `draw_frames` and `encode_mp4`."""
  return encode_mp4(draw_frames(attributes, nuisance, size), nuisance.fps)
