"""Batches for training and evaluation: their order, hosts and balance."""

import dataclasses
import itertools

import numpy as np
import pytest

from tests.data.batches import (
  BATCH,
  FRAMES,
  SIZE,
  assert_equal,
  make_reader,
  plan,
  take,
)
from zsar_jax.data import (
  input_pipeline,
)


def test_batches_have_the_promised_content(stream, protocol):
  for step, batch in enumerate(stream):
    assert batch['video'].shape == (BATCH, FRAMES, SIZE, SIZE, 3)
    assert batch['video'].dtype == np.uint8
    assert batch['label'].dtype == batch['index'].dtype == np.int32
    np.testing.assert_array_equal(
      batch['index'], np.arange(BATCH) + step * BATCH
    )
  # An epoch brings every video once.
  labels = np.concatenate([batch['label'] for batch in stream[:3]])
  np.testing.assert_array_equal(np.sort(labels), np.sort(protocol.train.labels))


@pytest.mark.parametrize('num_hosts', [2, 4])
def test_hosts_do_not_change_the_global_batches(num_hosts, stream, protocol):
  of_hosts = [
    take(3, protocol, num_hosts=num_hosts, host=host)
    for host in range(num_hosts)
  ]
  for whole, *parts in zip(stream, *of_hosts, strict=False):
    assert parts[0]['video'].shape[0] == BATCH // num_hosts
    joined = {
      name: np.concatenate([part[name] for part in parts]) for name in whole
    }
    assert_equal(joined, whole)


@pytest.mark.parametrize('start, num_hosts', [(2, 1), (4, 1), (2, 2)])
def test_resumed_stream_is_the_uninterrupted_one(
  start, num_hosts, stream, protocol
):
  # Onto another number of hosts, too.
  of_hosts = [
    take(5 - start, protocol, start_step=start, num_hosts=num_hosts, host=host)
    for host in range(num_hosts)
  ]
  for whole, *parts in zip(stream[start:], *of_hosts, strict=True):
    joined = {
      name: np.concatenate([part[name] for part in parts]) for name in whole
    }
    assert_equal(joined, whole)


def test_seed_decides_order_and_augmentation(stream, protocol):
  assert_equal(take(1, protocol)[0], stream[0])
  other = take(3, protocol, seed=1)
  assert any(
    (a['label'] != b['label']).any()
    for a, b in zip(stream, other, strict=False)
  )
  assert (other[0]['video'] != stream[0]['video']).any()


def test_augmentation_differs_between_epochs(protocol):
  one = protocol.train.subset(np.arange(len(protocol.train)) == 0)
  (batch,) = take(1, protocol, reader=make_reader(protocol, one))
  # The one video, four epochs in a batch.
  for a, b in itertools.combinations(batch['video'], 2):
    assert (a != b).any()


@pytest.mark.parametrize('mirror', [True, False])
def test_classes_with_a_side_are_never_mirrored(mirror, protocol):
  allowed = {}

  class Reader:
    """Records the requests."""

    videos = protocol.train

    def __len__(self):
      return len(self.videos)

    def train_clip(self, i, rng, view, mirror_allowed):
      allowed.setdefault(int(self.videos.labels[i]), set()).add(mirror_allowed)
      return np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8)

  names = ('hopping', 'swipe left', 'turning clockwise', 'brightening')
  batches = input_pipeline.train_batches(
    Reader(), names, plan(), mirror=mirror, num_threads=1
  )
  for _ in range(3):  # an epoch
    next(batches)
  assert allowed == {0: {mirror}, 1: {False}, 2: {False}, 3: {mirror}}


def test_mirroring_reaches_the_pixels(protocol):
  names = ('hopping',) * 4
  batches = {
    mirror: next(
      input_pipeline.train_batches(
        make_reader(protocol),
        names,
        plan(batch_size=12),
        mirror=mirror,
        num_threads=2,
      )
    )['video']
    for mirror in (True, False)
  }
  turned = [
    (a == b[:, :, ::-1]).all() and (a != b).any()
    for a, b in zip(batches[True], batches[False], strict=True)
  ]
  same = [
    (a == b).all() for a, b in zip(batches[True], batches[False], strict=True)
  ]
  # Each is either the same or its mirror image, and both occur.
  assert sum(turned) + sum(same) == 12 and any(turned) and any(same)


def test_hosts_that_do_not_divide_the_batch_raise(protocol):
  with pytest.raises(ValueError, match='train.batch_size=4 is not divisible'):
    take(1, protocol, num_hosts=3)


def test_no_videos_raise(protocol):
  none = protocol.train.subset(np.zeros(len(protocol.train), bool))
  with pytest.raises(ValueError, match='no training videos'):
    take(1, protocol, reader=make_reader(protocol, none))


@pytest.mark.parametrize('batch_size', [1, 5, 12, 16])
def test_evaluation_brings_every_video_once_in_order(batch_size, protocol):
  reader = make_reader(protocol, protocol.test)
  batches = list(
    input_pipeline.eval_batches(reader, batch_size=batch_size, num_threads=2)
  )
  assert {len(b['video']) for b in batches} == {batch_size}
  mask = np.concatenate([b['example_mask'] for b in batches])
  # Twelve videos; padding stands at the end.
  assert len(mask) < 12 + batch_size
  assert mask[:12].all() and not mask[12:].any()
  position = np.concatenate([b['position'] for b in batches])[mask]
  np.testing.assert_array_equal(position, np.arange(12))
  labels = np.concatenate([b['label'] for b in batches])[mask]
  np.testing.assert_array_equal(labels, protocol.test.labels)
  clips = np.concatenate([b['video'] for b in batches])
  assert clips.dtype == np.uint8
  assert clips.shape[1:] == (1, FRAMES, SIZE, SIZE, 3)
  for i in range(12):
    np.testing.assert_array_equal(clips[i], reader.eval_clip(i))


VIEWS = input_pipeline.TrainView(randaugment_layers=2)


@pytest.mark.parametrize(
  'options',
  [
    {'balance': 'class'},
    {'balance': 'source'},
    {'balance': 'source+class'},
    {'view': VIEWS},
  ],
)
def test_hosts_and_resuming_change_nothing_under_any_option(options, protocol):
  whole = take(4, protocol, **options)
  for num_hosts in (2, 4):
    parts = [
      take(2, protocol, num_hosts=num_hosts, host=h, start_step=2, **options)
      for h in range(num_hosts)
    ]
    for i, batch in enumerate(whole[2:]):
      joined = {k: np.concatenate([p[i][k] for p in parts]) for k in batch}
      assert_equal(joined, batch)


def test_randaugment_changes_pixels_and_nothing_else(stream, protocol):
  augmented = take(2, protocol, view=VIEWS)
  for a, b in zip(augmented, stream, strict=False):
    np.testing.assert_array_equal(a['label'], b['label'])
    assert (a['video'] != b['video']).any()


def few_of_class_0(protocol):
  """One video of class 0, three of each other class; two sources."""
  train = protocol.train
  first = np.flatnonzero(train.labels == 0)[1:]
  keep = ~np.isin(np.arange(len(train)), first)
  train = train.subset(keep)
  sources = tuple('a' if label < 3 else 'b' for label in train.labels)
  return dataclasses.replace(train, sources=sources)


@pytest.mark.parametrize(
  'balance, share',
  [
    ('class', [1 / 4, 1 / 4, 1 / 4, 1 / 4]),
    ('source', [1 / 14, 3 / 14, 3 / 14, 1 / 2]),
    ('source+class', [1 / 6, 1 / 6, 1 / 6, 1 / 2]),
  ],
)
def test_balance(balance, share, protocol):
  reader = make_reader(protocol, few_of_class_0(protocol))
  batches = take(84, protocol, reader=reader, balance=balance)
  labels = np.concatenate([b['label'] for b in batches])
  counts = np.bincount(labels, minlength=4) / len(labels)
  np.testing.assert_allclose(counts, share, atol=0.03)
  # Every video of a pool gets its turn.
  assert len(np.unique(np.concatenate([b['record_id'] for b in batches]))) == 10


def test_unknown_balance_raises(protocol):
  with pytest.raises(ValueError, match="data.balance='clas'"):
    take(1, protocol, balance='clas')
