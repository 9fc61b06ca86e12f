"""Makes small videos whose frames can be told apart by their brightness."""

import fractions

import av
import numpy as np

# Levels 16 apart survive compression at the quality used here.
LEVEL = 16


def numbered_frames(n, height=48, width=64):
  """n flat grey frames; `frame_numbers` reads i modulo 15 off the i-th."""
  levels = (np.arange(n) % 15 * LEVEL + LEVEL // 2).astype(np.uint8)
  return np.broadcast_to(
    levels[:, None, None, None], (n, height, width, 3)
  ).copy()


def frame_numbers(frames):
  """Which of the `numbered_frames` these are, modulo 15."""
  return (frames.mean(axis=(1, 2, 3)) // LEVEL).astype(int).tolist()


def write_video(
  path,
  frames,
  *,
  fps=30,
  codec='libx264',
  gop=12,
  b_frames=2,
  times=None,
  rotation=0,
  options=None,
):
  """Encodes uint8 RGB frames [n, h, w, 3]; the suffix names the container.

  Args:
    path: file to write.
    frames: the frames.
    fps: frames per second.
    codec: FFmpeg's name of the encoder.
    gop: most frames from one keyframe to the next.
    b_frames: most B-frames in a row.
    times: seconds at which the frames appear (a multiple of 1 ms), for a
      varying rate; i / fps by default.
    rotation: the rotation tag, counterclockwise degrees.
    options: further options of the encoder.

  Returns:
    `path` as text.
  """
  options = dict(options or {})
  if codec == 'libx264':
    # No keyframes at scene cuts, and B-frames wherever allowed: the groups
    # are the same whatever the frames show.
    options.setdefault('preset', 'veryfast')
    options.setdefault('x264-params', 'scenecut=0:b-adapt=0')
  rate = fractions.Fraction(fps).limit_denominator(1001)
  if times is None:
    ticks, clock = range(len(frames)), 1 / rate
  else:
    ticks = [round(t * 1000) for t in times]
    clock = fractions.Fraction(1, 1000)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=rate)
    stream.bit_rate = 4_000_000  # So that brightness survives.
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = 'rgb8' if codec == 'gif' else 'yuv420p'
    stream.codec_context.gop_size = gop
    if codec in ('libx264', 'mpeg4'):
      stream.codec_context.max_b_frames = b_frames
    stream.codec_context.options = options
    stream.codec_context.time_base = clock
    if rotation:
      stream.set_display_rotation(rotation)
    for tick, rgb in zip(ticks, frames, strict=True):
      frame = av.VideoFrame.from_ndarray(rgb, format='rgb24')
      frame.pts = tick
      frame.time_base = clock
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return str(path)
