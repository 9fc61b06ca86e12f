"""From prepared records to uint8 batches, in an order hosts do not change.

Training: `MapDataset.range(n).seed().shuffle().repeat().random_map()
.batch()[start * H + h :: H]`. The batches are cut before they are dealt to
hosts, and every random choice is keyed by the global index, so that the same
seed gives the same global batches for any number of hosts, and the step
number is the loader's whole state.

Workers are threads: PyAV and cv2 release the interpreter lock, and threads
leave nothing behind when a trainer is killed.
"""

from collections.abc import Iterator
import functools
import threading
from typing import Any

import numpy as np

from zsar_jax import preprocessing
from zsar_jax.data import class_names, clips, decode, video_transforms
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import class_split


class VideoCache:
  """Decoded videos in memory, up to a limit; never evicts.

  An epoch touches every video once, so the one used longest ago is the one
  needed next: evicting it would only make room for another miss.
  """

  def __init__(self, max_bytes: int):
    self._max_bytes = max_bytes
    self._bytes = 0
    self._videos: dict[Any, Any] = {}
    self._lock = threading.Lock()

  def get(self, key):
    """The cached video, or None."""
    return self._videos.get(key)

  def put(self, key, frames: np.ndarray, info: decode.VideoInfo) -> None:
    """Keeps a video if there is room."""
    with self._lock:
      if key in self._videos or self._bytes + frames.nbytes > self._max_bytes:
        return
      self._videos[key] = frames, info
      self._bytes += frames.nbytes


def _sample(
  info: decode.VideoInfo, prep: preprocessing.Preprocessing, **how
) -> np.ndarray:
  """Frame indices [t] of a clip; `how` as of `clips.sample_indices`."""
  return clips.sample_indices(
    info.timestamps,
    info.duration,
    sampling=prep.sampling,
    num_frames=prep.num_frames,
    frame_stride=prep.frame_stride,
    sample_fps=prep.sample_fps,
    **how,
  )


def _shrink(prep: preprocessing.Preprocessing):
  """Resizes a frame to the short side that the weights want."""
  return functools.partial(
    video_transforms.resize_short_side, short_side=prep.short_side
  )


def _view_indices(
  info: decode.VideoInfo, prep: preprocessing.Preprocessing, num_views: int
) -> np.ndarray:
  """Frame indices [v t] of the fixed views of a video."""
  return np.stack(
    [
      _sample(info, prep, view=view, num_views=num_views)
      for view in range(num_views)
    ]
  )


def read_views(
  path: str, prep: preprocessing.Preprocessing, num_views: int = 1
) -> tuple[np.ndarray, list[str]]:
  """The fixed views of a video file that was not prepared.

  Args:
    path: of the file.
    prep: what the weights want.
    num_views: temporal views.

  Returns:
    uint8 [v t size size 3], and warnings.

  Raises:
    VideoError: the file cannot be used.
  """
  info = decode.check_video(path, path)
  warnings = []
  frames_there = len(info.timestamps)
  if frames_there < prep.num_frames:
    warnings.append(
      f'{path} has {frames_there} frames, fewer than the {prep.num_frames} of '
      'a clip: some are repeated'
    )
  indices = _view_indices(info, prep, num_views)
  frames = decode.decode_frames(
    path, indices.reshape(-1), path, transform=_shrink(prep), info=info
  )
  frames = video_transforms.eval_transform(frames, prep.size)
  return frames.reshape(num_views, -1, *frames.shape[1:]), warnings


class ClipReader:
  """Clips of a set of videos, by position in the set.

  With or without a cache, and in any order, the same request gives the same
  pixels.

  Attributes:
    videos: the set.
  """

  def __init__(
    self,
    videos: class_split.VideoSet,
    dataset_dir: str,
    prep: preprocessing.Preprocessing,
    cache: VideoCache | None = None,
  ):
    self.videos = videos
    self._source = records.open_split(dataset_dir, videos.split)
    self._prep = prep
    self._cache = cache

  def __len__(self) -> int:
    return len(self.videos)

  def _frames(self, i: int, choose) -> np.ndarray:
    """Frames [t h w 3] at the indices that choose(info) names."""
    key = self.videos.split, int(self.videos.rows[i])
    cached = self._cache.get(key) if self._cache is not None else None
    if cached is not None:
      frames, info = cached
      return frames[choose(info)]
    video = self._source.open(key[1])
    if self._cache is None:
      return video.decode(choose(video), _shrink(self._prep))
    frames = video.decode(range(len(video.timestamps)), _shrink(self._prep))
    self._cache.put(key, frames, video.info)
    return frames[choose(video)]

  def train_clip(
    self,
    i: int,
    rng: np.random.Generator,
    *,
    crop_area: tuple[float, float],
    mirror_allowed: bool,
  ) -> np.ndarray:
    """A random clip: random instants, crop and mirroring.

    Args:
      i: position in the set.
      rng: decides everything random.
      crop_area: (low, high) share of the square that a crop covers.
      mirror_allowed: mirror half of the clips.

    Returns:
      uint8 [t size size 3].
    """
    frames = self._frames(
      i,
      lambda info: _sample(info, self._prep, rng=rng),
    )
    return video_transforms.train_transform(
      frames,
      rng,
      size=self._prep.size,
      area=crop_area,
      mirror_allowed=mirror_allowed,
    )

  def eval_clip(
    self, i: int, num_views: int = 1, first_frame: bool = False
  ) -> np.ndarray:
    """The fixed views of a video.

    Args:
      i: position in the set.
      num_views: temporal views.
      first_frame: repeat each view's first frame to the end: what is left
        when the motion is taken away.

    Returns:
      uint8 [v t size size 3].
    """

    def choose(info):
      indices = _view_indices(info, self._prep, num_views)
      if first_frame:
        indices = np.repeat(indices[:, :1], indices.shape[1], axis=1)
      return indices.reshape(-1)

    frames = video_transforms.eval_transform(
      self._frames(i, choose), self._prep.size
    )
    return frames.reshape(num_views, -1, *frames.shape[1:])


def _read_options(num_threads: int, prefetch: int = 4):
  import grain

  return grain.ReadOptions(
    num_threads=num_threads, prefetch_buffer_size=max(prefetch, num_threads)
  )


def train_batches(
  reader: ClipReader,
  seen_classes: tuple[str, ...],
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  num_hosts: int = 1,
  host: int = 0,
  crop_area: tuple[float, float] = (0.6, 1.0),
  mirror: bool = True,
  num_threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
  """Endless training batches of this host.

  Args:
    reader: of the training videos.
    seen_classes: names in label order; a class whose name has a side is
      never mirrored.
    batch_size: of the global batch; the hosts must divide it.
    seed: of order and augmentation.
    start_step: the first step's number: resuming starts here.
    num_hosts: hosts that share the batch.
    host: this one.
    crop_area: see `ClipReader.train_clip`.
    mirror: whether to mirror at all.
    num_threads: decoding threads.

  Yields:
    `video` uint8 [b/H t size size 3], `label` int32 [b/H], `index` int32
    [b/H]: the example's position in the global stream.

  Raises:
    ValueError: the hosts do not divide the batch, or there are no videos.
  """
  import grain

  if batch_size % num_hosts:
    raise ValueError(
      f'train.batch_size={batch_size} is not divisible by {num_hosts} hosts'
    )
  if not len(reader):
    raise ValueError('no training videos')
  may_mirror = np.array(
    [mirror and not class_names.has_side(name) for name in seen_classes]
  )
  labels = reader.videos.labels

  class Clip(grain.transforms.RandomMap):
    """One augmented example."""

    def random_map(self, i: int, rng: np.random.Generator):
      label = labels[i]
      return {
        'video': reader.train_clip(
          i,
          rng,
          crop_area=crop_area,
          mirror_allowed=bool(may_mirror[label]),
        ),
        'label': np.int32(label),
      }

  def with_index(index: int, example: dict[str, Any]):
    # int32 wraps after two billion examples; it only keys random draws.
    return {**example, 'index': np.int64(index).astype(np.int32)}

  dataset = (
    grain.MapDataset.range(len(reader))
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(Clip())
    .map_with_index(with_index)
    .batch(batch_size // num_hosts, drop_remainder=True)
  )[start_step * num_hosts + host :: num_hosts]
  return iter(dataset.to_iter_dataset(_read_options(num_threads)))


def eval_batches(
  reader: ClipReader,
  *,
  batch_size: int,
  num_views: int = 1,
  first_frame: bool = False,
  num_threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
  """Every video once, in order; the last batch is padded.

  Args:
    reader: of the videos.
    batch_size: of every batch.
    num_views: see `ClipReader.eval_clip`.
    first_frame: see `ClipReader.eval_clip`.
    num_threads: decoding threads.

  Yields:
    `video` uint8 [b v t size size 3], `label` int32 [b], `position` int32
    [b] in the set (beyond its end on padding), `example_mask` bool [b], False
    on padding.
  """
  import grain

  total = -(-len(reader) // batch_size) * batch_size
  # Padding is black: nothing is decoded for it.
  blank = np.zeros_like(reader.eval_clip(0, num_views))

  def example(i: int):
    real = i < len(reader)
    return {
      'video': (reader.eval_clip(i, num_views, first_frame) if real else blank),
      'label': np.int32(reader.videos.labels[i] if real else 0),
      'position': np.int32(i),
      'example_mask': np.bool_(real),
    }

  dataset = (
    grain.MapDataset.range(total)
    .map(example)
    .batch(batch_size, drop_remainder=True)
  )
  return iter(dataset.to_iter_dataset(_read_options(num_threads)))
