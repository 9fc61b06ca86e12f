"""Compares storages of a prepared dataset: disk space and reading speed.

python -m benchmarks.storages [--source=FOLDER] [--rounds=5]

Predicted before the first run: frames take several times the disk space of
re-encoded videos and are read several times as fast; re-encoding takes the
longest to prepare, keeping the files the shortest.

2026-11-24, two cores of an AMD EPYC, 5 rounds:

| storage | MiB a video | videos/s prepared | clips/s read, a core |
|---|---|---|---|
| video, bytes as they are | 0.20 | 32.9 | 38.3 |
| video, re-encoded | 0.60 | 5.3 | 35.4 |
| frames | 2.81 | 11.8 | 88.7 |

The prediction was wrong in two ways. Re-encoding needs more disk space, because
the source is not larger than the result and has fewer keyframes. And many
keyframes hardly help here: clips of 2.6 s out of 10 s touch most of the groups
of pictures.
"""

import os
import statistics
import tempfile
import time

from absl import app, flags

from benchmarks import moving_texture
from zsar_jax.data import clips, datasets, video_transforms
from zsar_jax.data.datasets import records

_SOURCE = flags.DEFINE_string(
  'source', '', 'Folder of videos; by default the script makes 20 of 10 s.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Interleaved readings.')
_STORAGES = {
  'video, bytes as they are': {},
  'video, re-encoded': {'reencode': True},
  'frames': {'kind': 'frames'},
}
_SIZE, _NUM_FRAMES = 224, 16


def read_clips(source: records.VideoSource) -> float:
  """Returns the seconds to read the middle clip of every video, one thread."""
  began = time.perf_counter()
  for i in range(len(source)):
    video = source.open(i)
    indices = clips.sample_dense(
      video.timestamps, video.duration, _NUM_FRAMES, 4, 25
    )
    video.decode(
      indices,
      lambda rgb: video_transforms.resize_frame(
        video_transforms.square(rgb, min(rgb.shape[:2])), _SIZE, _SIZE
      ),
    )
  return time.perf_counter() - began


def main(argv: list[str]) -> None:
  """Prepares a folder in every storage and prints the table."""
  del argv
  with tempfile.TemporaryDirectory() as work:
    folder = _SOURCE.value
    if not folder:
      folder = f'{work}/videos'
      os.makedirs(f'{folder}/moving')
      for i in range(20):
        moving_texture.write_clip(f'{folder}/moving/{i}.mp4', i)
    sources, sizes, rates = {}, {}, {}
    for name, options in _STORAGES.items():
      builder = datasets.make_builder(
        'video_folder', f'{work}/data', folder, **options
      )
      began = time.perf_counter()
      datasets.prepare(builder)
      seconds = time.perf_counter() - began
      (split,) = records.read_metadata(builder.data_dir)['videos']
      sources[name] = records.open_split(builder.data_dir, split)
      rates[name] = len(sources[name]) / seconds
      sizes[name] = builder.info.dataset_size / len(sources[name]) / 2**20
    times = {name: [] for name in sources}
    for _ in range(_ROUNDS.value):
      for name, source in sources.items():
        times[name].append(read_clips(source))
    print(
      '| storage | MiB a video | videos/s prepared | clips/s read, a core |'
    )
    print('|---|---|---|---|')
    for name, source in sources.items():
      read = len(source) / statistics.median(times[name])
      print(f'| {name} | {sizes[name]:.2f} | {rates[name]:.1f} | {read:.1f} |')


if __name__ == '__main__':
  app.run(main)
