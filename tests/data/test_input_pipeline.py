import dataclasses
import itertools
import re

import numpy as np
import pytest

from tests import videos
from zsar_jax.data import (
  clip_reader,
  datasets,
  decode,
  input_pipeline,
  preprocessing,
)
from zsar_jax.data.datasets import stick_figures
from zsar_jax.data.protocols import class_split, split_choice

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
  one = protocol.train.subset(np.arange(len(protocol.train)) == 0)
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
  def video(value):
    frames = np.full((1, 10, 10, 3), value, np.uint8)  # 300 bytes
    return clip_reader.CachedVideo(frames, np.zeros(1), 1.0)

  cache = input_pipeline.VideoCache(700)
  for key in 'abc':
    cache.put(key, video(ord(key)))
  assert cache.get('b').frames[0, 0, 0, 0] == ord('b')
  assert cache.get('c') is None and cache.is_full
  # A second put of the same video takes no room.
  cache = input_pipeline.VideoCache(700)
  for key in 'aab':
    cache.put(key, video(0))
  assert cache.get('b') is not None and not cache.is_full


@pytest.mark.parametrize('room', [2**30, 1])
def test_cached_video_is_decoded_once_and_whole_only_while_there_is_room(
  room, protocol, monkeypatch
):
  asked = []
  decode_frames = decode.decode_frames

  def counting(video, indices, *args, **kwargs):
    asked.append(len(indices))
    return decode_frames(video, indices, *args, **kwargs)

  monkeypatch.setattr(decode, 'decode_frames', counting)
  reader = make_reader(protocol, cache=input_pipeline.VideoCache(room))
  for _ in range(3):
    reader.eval_clip(0)
  if room > 1:
    assert len(asked) == 1 and asked[0] > FRAMES
  else:
    # The first miss finds out that there is none.
    assert asked[0] > FRAMES and asked[1:] == [FRAMES, FRAMES]


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


def test_views_are_different_instants(protocol):
  reader = make_reader(protocol, protocol.test)
  views = reader.eval_clip(0, num_views=3)
  assert views.shape == (3, FRAMES, SIZE, SIZE, 3)
  for a, b in itertools.combinations(views, 2):
    assert (a != b).any()


def test_frames_are_repeated_or_shuffled(protocol):
  reader = make_reader(protocol, protocol.test)
  moving, still, shuffled, again = (
    next(
      input_pipeline.eval_batches(
        reader,
        batch_size=12,
        num_views=2,
        frames=frames,
        num_threads=2,
      )
    )['video']
    for frames in ('filmed', 'first_frame', *['shuffled_frames'] * 2)
  )
  np.testing.assert_array_equal(
    still, np.repeat(moving[:, :, :1], FRAMES, axis=2)
  )
  assert (moving[:, :, 1:] != still[:, :, 1:]).any()
  np.testing.assert_array_equal(shuffled, again)
  in_order = lambda clips: np.sort(clips.sum(axis=(-1, -2, -3)), axis=-1)
  np.testing.assert_array_equal(in_order(shuffled), in_order(moving))
  assert (shuffled != moving).any()


def test_dense_sampling_reaches_the_reader(protocol):
  uniform = make_reader(protocol).eval_clip(0)
  dense = make_reader(protocol, sampling='dense').eval_clip(0)
  slower = make_reader(protocol, sampling='dense', frame_stride=4).eval_clip(0)
  assert (uniform != dense).any() and (dense != slower).any()


def test_views_are_clips_by_crops(protocol):
  reader = make_reader(protocol, protocol.test)
  views = reader.eval_clip(0, num_views=4, num_crops=3)
  assert views.shape == (12, FRAMES, SIZE, SIZE, 3)
  # Square videos: the crops of a clip are alike, the clips are not.
  np.testing.assert_array_equal(views[0], views[2])
  assert (views[0] != views[3]).any()
  (batch,) = input_pipeline.eval_batches(
    reader, batch_size=12, num_views=4, num_crops=3, num_threads=2
  )
  np.testing.assert_array_equal(batch['video'][0], views)


def test_crops_reach_both_ends_of_a_wide_video(tmp_path):
  frames = np.zeros((8, 32, 64, 3), np.uint8)
  frames[:, :, 32:] = 200
  (tmp_path / 'v/a').mkdir(parents=True)
  (tmp_path / 'v/b').mkdir()
  for name in ('a/1', 'a/2', 'b/1', 'b/2'):
    videos.write_video(tmp_path / f'v/{name}.mp4', frames)
  builder = datasets.make_builder(
    'video_folder', str(tmp_path / 'data'), str(tmp_path / 'v')
  )
  datasets.prepare(builder)
  everything = class_split.make_protocol(
    str(builder.data_dir), split_choice.SplitChoice(train_only=True)
  )
  reader = make_reader(everything)
  left, _, right = reader.eval_clip(0, num_crops=3)
  assert left[:, :, :20].max() < 30 and right[:, :, 4:].min() > 170


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


def test_both_storages_give_the_same_clips(tmp_path):
  frames = videos.numbered_frames(20, 32, 40)
  for name in ('a/1', 'a/2', 'b/1', 'b/2'):
    path = tmp_path / f'v/{name}.mp4'
    path.parent.mkdir(parents=True, exist_ok=True)
    videos.write_video(path, frames, fps=10)
  batches = {}
  for kind in ('video', 'frames'):
    builder = datasets.make_builder(
      'video_folder', str(tmp_path / 'data'), str(tmp_path / 'v'), kind=kind
    )
    datasets.prepare(builder)
    everything = class_split.make_protocol(
      str(builder.data_dir), split_choice.SplitChoice(train_only=True)
    )
    (batches[kind],) = take(
      1, everything, reader=make_reader(everything, sampling='dense')
    )
  pixels = [batches[kind].pop('video') for kind in batches]
  assert_equal(batches['video'], batches['frames'])
  assert np.abs(pixels[0].astype(int) - pixels[1]).mean() < 2
