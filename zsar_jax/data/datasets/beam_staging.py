"""Runs the first stage of preparation on many machines, by Apache Beam.

zsar prepare --dataset=kinetics700 --source=DIR --data_dir=DIR \
  --storage=frames --beam_flag=--runner=DirectRunner

One DoFn calls the same function as `staging.stage`, so the cache is the same.
One machine then packs the dataset from that cache. Every worker must see the
videos and the cache, on a local or a mounted path.

Beam is not among the requirements, because it needs older versions of some.
Install `.[beam]` in an environment of its own. We ran this with the direct
runner. Others take the same flags and are untested.
"""

from collections.abc import Iterator, Sequence
import os

from zsar_jax.data import isolated, transcode
from zsar_jax.data.datasets import manifest as manifest_lib
from zsar_jax.data.datasets import staging


def stage_with_beam(
  entries: Sequence[manifest_lib.ManifestEntry],
  data_dir: str,
  storage: transcode.Storage,
  deadline: float,
  beam_flags: Sequence[str] = (),
) -> None:
  """Stages videos on a Beam runner.

  Args:
    entries: the videos.
    data_dir: folder of the cache; every worker must see it.
    storage: how to store the videos.
    deadline: time limit of one video in seconds.
    beam_flags: of Beam's pipeline.
  """
  import apache_beam as beam
  from apache_beam.options import pipeline_options

  class Stage(beam.DoFn):
    """Stages a video; one child process a worker thread."""

    def setup(self):
      self._pool = isolated.Pool(1)

    def process(
      self, entry: manifest_lib.ManifestEntry
    ) -> Iterator[tuple[str, int]]:
      staged = staging.stage_video(entry, folder, storage, self._pool, deadline)
      yield 'unusable' if staged.reason else 'usable', 1

    def teardown(self):
      self._pool.close()

  folder = staging.staging_dir(data_dir, storage)
  os.makedirs(folder, exist_ok=True)
  options = pipeline_options.PipelineOptions(list(beam_flags))
  with beam.Pipeline(options=options) as pipeline:
    (
      pipeline
      | beam.Create(list(entries))
      | beam.Reshuffle()
      | beam.ParDo(Stage())
      | beam.CombinePerKey(sum)
      | beam.Map(lambda pair: print(f'{pair[1]} videos are {pair[0]}'))
    )
