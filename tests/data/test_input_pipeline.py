import itertools

import numpy as np
import pytest

from zsar_jax import preprocessing
from zsar_jax.data import input_pipeline
from zsar_jax.data.datasets import stick_figures
from zsar_jax.data.protocols import class_split

SIZE, FRAMES, BATCH = 24, 4, 4


@pytest.fixture(scope='module')
def protocol(tmp_path_factory):
  builder = stick_figures.make_builder(
    tmp_path_factory.mktemp('data'),
    num_seen=4,
    clips_per_class=3,
    test_clips_per_class=1,
    size=32,
  )
  builder.download_and_prepare()
  return class_split.make_protocol(str(builder.data_dir))


def make_reader(protocol, videos=None, cache=None, **changes):
  return input_pipeline.ClipReader(
    protocol.train if videos is None else videos,
    protocol.dataset_dir,
    preprocessing.Preprocessing(
      **{
        'size': SIZE,
        'short_side': 28,
        'mean': (0.5, 0.5, 0.5),
        'std': (0.25, 0.25, 0.25),
        'num_frames': FRAMES,
        'sampling': 'uniform',
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


def take(n, protocol, *, reader=None, **kwargs):
  batches = input_pipeline.train_batches(
    make_reader(protocol) if reader is None else reader,
    protocol.seen_classes,
    **{'batch_size': BATCH, 'seed': 0, 'num_threads': 2, **kwargs},
  )
  return list(itertools.islice(batches, n))


def assert_equal(a, b):
  assert set(a) == set(b)
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], name)


@pytest.fixture(scope='module')
def stream(protocol):
  """Five batches of the uninterrupted stream: one epoch is three."""
  return take(5, protocol)


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
  one = class_split.VideoSet(
    'train',
    protocol.train.rows[:1],
    protocol.train.labels[:1],
    protocol.train.ids[:1],
    protocol.train.groups[:1],
  )
  (batch,) = take(1, protocol, reader=make_reader(protocol, one))
  # The one video, four epochs in a batch.
  for a, b in itertools.combinations(batch['video'], 2):
    assert (a != b).any()


@pytest.mark.parametrize('cache_bytes', [2**30, 100_000, 0])
def test_cache_does_not_change_pixels(cache_bytes, stream, protocol):
  # Enough for all videos, for some and for none.
  cache = input_pipeline.VideoCache(cache_bytes)
  reader = make_reader(protocol, cache=cache)
  for cached, plain in zip(
    take(5, protocol, reader=reader), stream, strict=True
  ):
    assert_equal(cached, plain)
  for i in range(len(reader)):
    np.testing.assert_array_equal(
      reader.eval_clip(i, num_views=2),
      make_reader(protocol).eval_clip(i, num_views=2),
    )


def test_cache_keeps_what_fits_and_never_more():
  frames = np.zeros((1, 10, 10, 3), np.uint8)  # 300 bytes
  cache = input_pipeline.VideoCache(700)
  for key in 'abc':
    cache.put(key, frames + ord(key), info=key)
  assert cache.get('a')[1] == 'a' and cache.get('b')[1] == 'b'
  assert cache.get('c') is None
  # A second put of the same video takes no room.
  cache = input_pipeline.VideoCache(700)
  for key in 'aab':
    cache.put(key, frames, info=key)
  assert cache.get('b') is not None


def test_cached_video_is_decoded_once(protocol, monkeypatch):
  calls = []
  decode_frames = input_pipeline.decode.decode_frames

  def counting(*args, **kwargs):
    calls.append(args[2])
    return decode_frames(*args, **kwargs)

  monkeypatch.setattr(input_pipeline.decode, 'decode_frames', counting)
  reader = make_reader(protocol, cache=input_pipeline.VideoCache(2**30))
  for _ in range(3):
    reader.eval_clip(0)
  assert calls == [protocol.train.ids[0]]


@pytest.mark.parametrize('mirror', [True, False])
def test_classes_with_a_side_are_never_mirrored(mirror, protocol):
  allowed = {}

  class Reader:
    """Takes down what it is asked for."""

    videos = protocol.train

    def __len__(self):
      return len(self.videos)

    def train_clip(self, i, rng, *, crop_area, mirror_allowed):
      allowed.setdefault(int(self.videos.labels[i]), set()).add(mirror_allowed)
      return np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8)

  names = ('hopping', 'swipe left', 'turning clockwise', 'brightening')
  batches = input_pipeline.train_batches(
    Reader(), names, batch_size=BATCH, seed=0, mirror=mirror, num_threads=1
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
        batch_size=12,
        seed=0,
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
  none = class_split.VideoSet(
    'train', np.array([], int), np.array([], int), (), ()
  )
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


def test_views_are_different_instants(protocol):
  reader = make_reader(protocol, protocol.test)
  views = reader.eval_clip(0, num_views=3)
  assert views.shape == (3, FRAMES, SIZE, SIZE, 3)
  for a, b in itertools.combinations(views, 2):
    assert (a != b).any()


def test_first_frame_is_repeated_to_the_end(protocol):
  reader = make_reader(protocol, protocol.test)
  moving, still = (
    next(
      input_pipeline.eval_batches(
        reader,
        batch_size=12,
        num_views=2,
        first_frame=first_frame,
        num_threads=2,
      )
    )['video']
    for first_frame in (False, True)
  )
  np.testing.assert_array_equal(
    still, np.repeat(moving[:, :, :1], FRAMES, axis=2)
  )
  assert (moving[:, :, 1:] != still[:, :, 1:]).any()


def test_dense_sampling_reaches_the_reader(protocol):
  uniform = make_reader(protocol).eval_clip(0)
  dense = make_reader(protocol, sampling='dense').eval_clip(0)
  slower = make_reader(protocol, sampling='dense', frame_stride=4).eval_clip(0)
  assert (uniform != dense).any() and (dense != slower).any()
