"""Compares the input pipeline with tf.data, with the same decoder.

```
python -m benchmarks.input_pipeline --rounds=9
```

Both make batches of 8 clips of 16 frames of 224 pixels from prepared records,
with two threads. Ours is `input_pipeline.train_batches`. The peer is
`tf.data.Dataset.map(tf.py_function)` around the same reader's `train_clip`,
shuffled, with two calls at a time, batched and prefetched. Loaders take turns
in every round. The script makes the videos: 10 s, 340x256, 25 frames per
second, as mp4 with a keyframe every 12 frames, and as 100 JPEG images per
record.

Predicted before the first run: about equal to tf.data in each row, because the
decoder is most of the work; `frames` above 100 clips/s on two cores, three
quarters of it JPEG decoding; `video` a fifth of that or less, and slower if the
clip is spread over the whole video.

2026-11-24, two cores of an AMD EPYC (clips/s, a core, tf.data, ours / tf.data
with the spread over rounds):

```
video    dense      63.3    31.7       63.8          1.01 (0.88 - 1.02)
video    segment    39.0    19.5       41.5          0.96 (0.92 - 1.01)
frames   dense     157.6    78.8      153.6          1.02 (0.97 - 1.05)
frames   segment   154.8    77.4      149.8          1.03 (1.03 - 1.04)

ms a clip, one thread
video    dense    record 0.6  crop 2.0  batch 0.9  decode 21.8  rest 3.0
video    segment  record 0.8  crop 2.3  batch 0.2  decode 40.1  rest 2.9
frames   dense    record 1.4  crop 1.9  batch 0.1  decode 6.4  rest 0.2
frames   segment  record 1.5  crop 2.1  batch 0.1  decode 6.4  rest 0.2
```
"""

import argparse
from collections.abc import Iterator
import cProfile
import itertools
import os
import pstats
import statistics
import tempfile
import time

from absl import flags
import numpy as np

from benchmarks import moving_texture
from zsar_jax.data import datasets, input_pipeline, preprocessing
from zsar_jax.data.protocols import class_split, split_choice

BATCH, THREADS = 8, 2
CLIP = 16, 224, 224, 3
_VIEW = input_pipeline.TrainView(crop_area=(0.3, 1.0))
_STORAGES = {'video': {}, 'frames': {'kind': 'frames'}}
_SAMPLINGS = ('dense', 'segment')
# Batches per measurement, which takes a few seconds.
_NUM_BATCHES = {'video': 4, 'frames': 24}


def prepare(folder: str, num_videos: int) -> dict[str, class_split.Protocol]:
  """Makes videos and prepares them in both storages.

  Args:
    folder: folder for the videos.
    num_videos: number of videos, at least 8, one batch.

  Returns:
    Storage -> a protocol with these training videos.
  """
  for i in range(num_videos):
    path = os.path.join(folder, 'videos', 'ab'[i % 2], f'{i}.mp4')
    os.makedirs(os.path.dirname(path), exist_ok=True)
    moving_texture.write_clip(path, i, gop=12)
  protocols = {}
  for name, options in _STORAGES.items():
    builder = datasets.make_builder(
      'video_folder', f'{folder}/data', f'{folder}/videos', **options
    )
    datasets.prepare(builder)
    protocols[name] = class_split.make_protocol(
      str(builder.data_dir), split_choice.SplitChoice(train_only=True)
    )
  return protocols


def make_reader(
  protocol: class_split.Protocol, sampling: str
) -> input_pipeline.ClipReader:
  """Returns a reader of clips of 16 frames; dense ones take every fourth."""
  return input_pipeline.ClipReader(
    protocol.train,
    preprocessing.Preprocessing(
      size=224,
      short_side=256,
      mean=(0.5, 0.5, 0.5),
      std=(0.25, 0.25, 0.25),
      num_frames=16,
      sampling=sampling,
      frame_stride=4,
      sample_fps=25.0,
      inputs='rgb',
      token_length=16,
      vocabulary_hash='',
    ),
  )


def our_batches(
  protocol: class_split.Protocol, sampling: str
) -> Iterator[np.ndarray]:
  """Yields batches uint8 [8 16 224 224 3] from this package's loader."""
  for batch in input_pipeline.train_batches(
    make_reader(protocol, sampling),
    protocol.seen_classes,
    input_pipeline.BatchPlan(batch_size=BATCH, seed=0),
    view=_VIEW,
    num_threads=THREADS,
  ):
    yield batch['video']


def tf_data_batches(
  protocol: class_split.Protocol, sampling: str
) -> Iterator[np.ndarray]:
  """Returns the same batches from tf.data."""
  import tensorflow as tf

  reader = make_reader(protocol, sampling)

  def read(i):
    rng = np.random.default_rng(int(i))
    row = int(i) % len(reader)
    return reader.train_clip(row, rng, _VIEW, mirror_allowed=True)

  options = tf.data.Options()
  options.threading.private_threadpool_size = THREADS
  dataset = (
    tf.data.Dataset.from_tensor_slices(np.arange(len(reader)))
    .shuffle(len(reader))
    .repeat()
    .map(
      lambda i: tf.py_function(read, [i], tf.uint8),
      num_parallel_calls=THREADS,
      deterministic=True,
    )
    .batch(BATCH, drop_remainder=True)
    .prefetch(1)
    .with_options(options)
  )
  return dataset.as_numpy_iterator()


def clips_per_second(batches: Iterator[np.ndarray], num_batches: int) -> float:
  """Returns the rate of a loader after its first batches.

  Args:
    batches: a new loader.
    num_batches: number of batches to count, after one uncounted batch per
      thread.

  Returns:
    Clips per second.

  Raises:
    ValueError: a batch has another shape.
  """
  for batch in itertools.islice(batches, THREADS):
    if batch.shape != (BATCH, *CLIP):
      raise ValueError(f'a batch is {batch.shape}, not {(BATCH, *CLIP)}')
  began = time.perf_counter()
  for _ in itertools.islice(batches, num_batches):
    pass
  return BATCH * num_batches / (time.perf_counter() - began)


def wait_until_idle() -> None:
  """Waits until the threads of the last loader have stopped."""
  while True:
    before = time.process_time()
    time.sleep(0.1)
    if time.process_time() - before < 0.01:
      return


def compare(
  protocol: class_split.Protocol, sampling: str, rounds: int, num_batches: int
) -> tuple[list[float], list[float]]:
  """Measures the rates of ours and of tf.data, in turns.

  Args:
    protocol: the videos.
    sampling: sampling of the clips.
    rounds: number of measurements of each.
    num_batches: batches per measurement.

  Returns:
    Clips per second of ours and of tf.data, in each round.
  """
  rates = [], []
  for _ in range(rounds):
    for own, loader in zip(rates, (our_batches, tf_data_batches), strict=True):
      batches = loader(protocol, sampling)
      own.append(clips_per_second(batches, num_batches))
      del batches
      wait_until_idle()
  return rates


def profile(
  storage: str, protocol: class_split.Protocol, sampling: str, num_clips: int
) -> dict[str, float]:
  """Measures the milliseconds per clip of each part, in one thread.

  Args:
    storage: 'video' or 'frames'.
    protocol: the videos.
    sampling: sampling of the clips.
    num_clips: number of clips, a multiple of the batch size.

  Returns:
    Part -> milliseconds, and those of the rest.
  """
  reader = make_reader(protocol, sampling)
  profiler = cProfile.Profile()
  profiler.enable()
  for first in range(0, num_clips, BATCH):
    clips = [
      reader.train_clip(i % len(reader), np.random.default_rng(i), _VIEW, True)
      for i in range(first, first + BATCH)
    ]
    np.stack(clips)
  profiler.disable()
  stats = pstats.Stats(profiler)

  def spent(module: str, function: str) -> float:
    return sum(
      cumulative
      for (path, _, name), (_, _, _, cumulative, _) in stats.stats.items()
      if path.endswith(module) and name == function
    )

  seconds = {
    'record': spent('records.py', '_record'),
    'times': spent('decode.py', 'read_info'),
    # Frames are cropped and resized as soon as they are decoded.
    'crop, resize': spent('clip_reader.py', '<lambda>'),
    'batch': spent('shape_base.py', 'stack'),
  }
  within = seconds['crop, resize']
  if storage == 'frames':
    within += seconds['record']
  seconds['decode'] = spent('stored_videos.py', 'decode') - within
  seconds['the rest'] = stats.total_tt - sum(seconds.values())
  return {part: 1000 * s / num_clips for part, s in seconds.items()}


def main() -> None:
  """Parses the flags, measures and prints two tables."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--videos', type=int, default=16)
  args = parser.parse_args()
  # Grain does not work until absl's flags are parsed.
  flags.FLAGS.mark_as_parsed()
  with tempfile.TemporaryDirectory() as folder:
    protocols = prepare(folder, args.videos)
    rows = list(itertools.product(protocols, _SAMPLINGS))
    print(
      f'{THREADS} threads, {os.cpu_count()} cores; medians of '
      f'{args.rounds} rounds\n'
      'storage  clip     ours/s  a core  tf.data/s  ours/tf.data (spread)'
    )
    for storage, sampling in rows:
      ours, peer = compare(
        protocols[storage],
        sampling,
        args.rounds,
        num_batches=_NUM_BATCHES[storage],
      )
      ratios = sorted(a / b for a, b in zip(ours, peer, strict=True))
      rate = statistics.median(ours)
      print(
        f'{storage:7}  {sampling:7}  {rate:6.1f}  {rate / THREADS:6.1f}  '
        f'{statistics.median(peer):9.1f}  {statistics.median(ratios):12.2f} '
        f'({ratios[0]:.2f} - {ratios[-1]:.2f})',
        flush=True,
      )
    print('\nms a clip, one thread')
    for storage, sampling in rows:
      parts = profile(storage, protocols[storage], sampling, 8 * BATCH)
      print(
        f'{storage:7}  {sampling:7}  '
        + '  '.join(f'{part} {ms:.1f}' for part, ms in parts.items())
      )


if __name__ == '__main__':
  main()
