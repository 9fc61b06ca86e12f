"""Batches where some videos do not decode."""

import re

import numpy as np
import pytest

from tests.data.batches import assert_equal, make_reader, take
from zsar_jax.data import (
  decode,
  input_pipeline,
)


class Damaged(input_pipeline.ClipReader):
  """A reader of videos some of which do not decode."""

  bad = ()

  def _open(self, i):
    if i in self.bad:
      raise decode.VideoError(self.videos.ids[i], 'is a test')
    return super()._open(i)


def damaged_reader(protocol, *bad):
  reader = make_reader(protocol)
  reader.__class__ = Damaged
  reader.bad = bad
  return reader


def test_failed_record_is_replaced_by_the_next_and_counted(protocol, stream):
  reader = damaged_reader(protocol, 3, 4)
  batches = take(3, protocol, reader=reader, max_failed_share=1.0)
  rows = np.concatenate([b['record_id'] for b in batches])
  failed = np.concatenate([b['num_failed'] for b in batches])
  wanted = np.concatenate([b['record_id'] for b in stream[:3]])
  np.testing.assert_array_equal(failed, (wanted == 3) * 2 + (wanted == 4))
  np.testing.assert_array_equal(
    rows, np.where((wanted == 3) | (wanted == 4), 5, wanted)
  )
  labels = np.concatenate([b['label'] for b in batches])
  np.testing.assert_array_equal(labels, protocol.train.labels[rows])
  # Where nothing failed, nothing changed.
  same = failed == 0
  pixels = lambda b: np.concatenate([x['video'] for x in b])
  np.testing.assert_array_equal(pixels(batches)[same], pixels(stream[:3])[same])


def test_failures_do_not_depend_on_the_hosts(protocol):
  take_bad = lambda n, **how: take(
    n,
    protocol,
    reader=damaged_reader(protocol, 3, 7),
    max_failed_share=1.0,
    **how,
  )
  whole = take_bad(3)
  parts = [take_bad(3, num_hosts=2, host=h) for h in range(2)]
  for i, batch in enumerate(whole):
    joined = {k: np.concatenate([p[i][k] for p in parts]) for k in batch}
    assert_equal(joined, batch)


def test_too_many_failures_stop_the_run_and_are_named(protocol):
  reader = damaged_reader(protocol, 3)
  name = re.escape(protocol.train.ids[3])
  with pytest.raises(ValueError, match=f'max_failed_share=0.01: {name} is a t'):
    take(100, protocol, reader=reader)


def test_five_in_a_row_that_fail_raise(protocol):
  reader = damaged_reader(protocol, 2, 3, 4, 5, 6)
  with pytest.raises(ValueError, match='cannot be read'):
    take(3, protocol, reader=reader, max_failed_share=1.0)


def test_evaluation_replaces_nothing(protocol):
  reader = damaged_reader(protocol, 1)
  batches = list(
    input_pipeline.eval_batches(reader, batch_size=5, num_threads=1)
  )
  readable = np.concatenate([b['readable'] for b in batches])
  real = np.concatenate([b['example_mask'] for b in batches])
  assert readable.sum() == 11 and not readable[1] and real.sum() == 12
  labels = np.concatenate([b['label'] for b in batches])[real]
  np.testing.assert_array_equal(labels, protocol.train.labels)
  assert (batches[0]['video'][1] == 0).all()
