"""Batches of a small dataset of stick figures."""

import dataclasses
import itertools

import numpy as np

from zsar_jax.data import (
  input_pipeline,
  preprocessing,
)

SIZE, FRAMES, BATCH = 24, 4, 4


def make_reader(protocol, videos=None, cache=None, **changes):
  return input_pipeline.ClipReader(
    protocol.train if videos is None else videos,
    preprocessing.Preprocessing(
      **{
        'size': SIZE,
        'short_side': 28,
        'mean': (0.5, 0.5, 0.5),
        'std': (0.25, 0.25, 0.25),
        'num_frames': FRAMES,
        'sampling': 'segment',
        'frame_stride': 2,
        'sample_fps': 12.0,
        'inputs': 'rgb',
        'token_length': 16,
        'vocabulary_hash': '',
        **changes,
      }
    ),
    cache,
  )


def plan(batch_size=BATCH, seed=0, **changes):
  return input_pipeline.BatchPlan(batch_size, seed, **changes)


_PLANNED = [f.name for f in dataclasses.fields(input_pipeline.BatchPlan)]


def take(n, protocol, *, reader=None, **kwargs):
  planned = {name: kwargs.pop(name) for name in _PLANNED if name in kwargs}
  batches = input_pipeline.train_batches(
    make_reader(protocol) if reader is None else reader,
    protocol.seen_classes,
    plan(**planned),
    **{'num_threads': 2, **kwargs},
  )
  return list(itertools.islice(batches, n))


def assert_equal(a, b):
  assert set(a) == set(b)
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], name)
