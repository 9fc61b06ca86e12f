"""Clips of a dataset: what is cached, which frames and which crops."""

import itertools

import numpy as np
import pytest

from tests import videos
from tests.data.batches import FRAMES, SIZE, assert_equal, make_reader, take
from zsar_jax.data import (
  clip_reader,
  datasets,
  decode,
  input_pipeline,
)
from zsar_jax.data.protocols import class_split, split_choice


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
