"""Compares our clip reader with decord and OpenCV, with one thread each.

```
pip install decord opencv-python-headless
python -m benchmarks.decode --rounds=15
```

Each reader opens the file and returns a clip of 16 frames as RGB
[16, 256, 340, 3]. Ours also reads the timestamps and chooses the frames, by
`read_info`, `clips.sample_*` and `decode_frames`. The others get the indices.
decord reads the batch. OpenCV grabs every frame up to the last one and
retrieves those of the clip. Readers take turns in every round. The script makes
the videos: H.264, 10 s, 300 frames of 340x256.

Predicted before the first run: for dense clips about equal to decord at every
keyframe interval; for uniform clips with a keyframe every 250 frames equal,
since all frames must be decoded; OpenCV slower wherever seeking helps.

2026-11-24, two cores of an AMD EPYC, 15 rounds:

```
clip     keyframes  ours ms  decord ms  OpenCV ms  fastest other/ours
uniform         12     48.8       63.4       71.5                1.30
dense           12     14.5       14.4       41.1                0.99
uniform        250     45.9       55.2       50.4                1.10
dense          250     27.4       31.7       27.1                0.99
```
"""

import argparse
import functools
import os
import statistics
import tempfile
import time

import av
import numpy as np

from zsar_jax.data import clips, decode

NUM_FRAMES = 16
_FPS = 30
_INTERVALS = (12, 250)


def write_clip(path: str, keyframe_interval: int) -> None:
  """Writes ten seconds of a moving texture, 300 frames of 340x256, H.264."""
  rng = np.random.default_rng(0)
  # Coarse and fine detail, about as hard to compress as a filmed scene.
  coarse = np.kron(rng.integers(0, 200, (40, 50, 3)), np.ones((16, 16, 1)))
  texture = coarse + rng.integers(0, 24, (640, 800, 3))
  texture = np.clip(texture, 0, 255).astype(np.uint8)
  with av.open(path, 'w') as container:
    stream = container.add_stream('libx264', rate=_FPS)
    stream.width, stream.height, stream.pix_fmt = 340, 256, 'yuv420p'
    stream.codec_context.gop_size = keyframe_interval
    stream.codec_context.options = {'preset': 'medium', 'crf': '23'}
    for i in range(10 * _FPS):
      top = int(150 + 140 * np.sin(i / 30))
      left = int(200 + 190 * np.cos(i / 40))
      frame = np.ascontiguousarray(texture[top : top + 256, left : left + 340])
      frame = av.VideoFrame.from_ndarray(frame, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def read_ours(path: str, sampling: str) -> np.ndarray:
  """Reads a clip with this package's reader."""
  info = decode.read_info(path, path)
  indices = clip_indices(info, sampling)
  return decode.decode_frames(path, indices, path, info=info)


def clip_indices(info: decode.VideoInfo, sampling: str) -> np.ndarray:
  """Returns the clip's frame indices; dense clips take every second frame."""
  if sampling == 'uniform':
    return clips.sample_uniform(info.timestamps, info.duration, NUM_FRAMES)
  return clips.sample_dense(info.timestamps, info.duration, NUM_FRAMES, 2, _FPS)


def read_decord(path: str, indices: np.ndarray) -> np.ndarray:
  """Reads the same clip with decord."""
  import decord

  return decord.VideoReader(path, num_threads=1).get_batch(indices).asnumpy()


def read_opencv(path: str, indices: np.ndarray) -> np.ndarray:
  """Reads the same clip with OpenCV."""
  import cv2

  capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
  frames = {}
  for i in range(indices[-1] + 1):
    capture.grab()
    if i in indices:
      frames[i] = cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
  capture.release()
  return np.stack([frames[i] for i in indices])


def compare(path: str, sampling: str, rounds: int) -> list[float]:
  """Returns median milliseconds of ours, decord and OpenCV, in turns.

  Args:
    path: path of a video.
    sampling: 'uniform' or 'dense'.
    rounds: number of times that each reads.

  Raises:
    RuntimeError: the readers return different frames.
  """
  indices = clip_indices(decode.read_info(path, path), sampling)
  readers = (
    functools.partial(read_ours, path, sampling),
    functools.partial(read_decord, path, indices),
    functools.partial(read_opencv, path, indices),
  )
  ours, *others = (reader().astype(int) for reader in readers)
  for other in others:
    # The same frames, up to the interpolation of colours.
    if (difference := np.abs(ours - other).mean()) > 2:
      raise RuntimeError(f'{path}: frames differ by {difference:.1f} levels')
  seconds = [[] for _ in readers]
  for _ in range(rounds):
    for own, reader in zip(seconds, readers, strict=True):
      began = time.perf_counter()
      reader()
      own.append(time.perf_counter() - began)
  return [1000 * statistics.median(s) for s in seconds]


def main() -> None:
  """Reads the flags, runs, prints a table."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--rounds', type=int, default=15)
  args = parser.parse_args()
  print('clip     keyframes  ours ms  decord ms  OpenCV ms  fastest other/ours')
  with tempfile.TemporaryDirectory() as folder:
    for interval in _INTERVALS:
      path = os.path.join(folder, f'{interval}.mp4')
      write_clip(path, interval)
      for sampling in ('uniform', 'dense'):
        ms = compare(path, sampling, args.rounds)
        print(
          f'{sampling:8} {interval:9}  {ms[0]:7.1f}  {ms[1]:9.1f}  '
          f'{ms[2]:9.1f}  {min(ms[1:]) / ms[0]:18.2f}'
        )


if __name__ == '__main__':
  main()
