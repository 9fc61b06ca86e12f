"""Makes small videos whose frames can be told apart by their brightness."""

import fractions
import multiprocessing
import subprocess

import av
import numpy as np
import pytest

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


def blocks(n=10, height=48, width=72, seed=0):
  """Frames of random blocks of eight pixels, which survive compression."""
  rng = np.random.default_rng(seed)
  frames = rng.integers(0, 255, (n, height // 8, width // 8, 3), np.uint8)
  return frames.repeat(8, axis=1).repeat(8, axis=2)


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


def write_video_apart(path, frames, **kwargs):
  """`write_video` in a child process, for encoders that harm theirs.

  Started by root, SVT-AV1 puts its process, for good, before all others of the
  machine (SCHED_FIFO, priority 99). Other threads and children then wait for a
  core that is never free.

  Args:
    path: file to write.
    frames: the frames.
    **kwargs: of `write_video`.

  Returns:
    `path` as text.
  """
  child = multiprocessing.get_context('spawn').Process(
    target=write_video, args=(path, frames), kwargs=kwargs
  )
  child.start()
  child.join(60)
  child.kill()  # nothing, unless it hangs
  child.join()
  assert child.exitcode == 0
  return str(path)


def write_video_by_program(path, frames, *, fps, codec, pixel_format):
  """Encodes uint8 RGB frames [n, h, w, 3] with the FFmpeg program.

  An encoder that aborts (libx265 at 10 bits) ends the program, not the tests.

  Args:
    path: file to write.
    frames: the frames.
    fps: frames per second.
    codec: FFmpeg's name of the encoder.
    pixel_format: FFmpeg's name of the encoded pixels.

  Returns:
    `path` as text. The test is skipped where there is no program.
  """
  imageio_ffmpeg = pytest.importorskip('imageio_ffmpeg')
  height, width = frames.shape[1:3]
  raw = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}']
  encoded = ['-c:v', codec, '-pix_fmt', pixel_format, '-b:v', '4M']
  subprocess.run(
    [
      *(imageio_ffmpeg.get_ffmpeg_exe(), '-v', 'error', '-y'),
      *(*raw, '-r', str(fps), '-i', '-', *encoded, str(path)),
    ],
    input=frames.tobytes(),
    timeout=60,
    check=True,
  )
  return str(path)
