"""Clips of prepared videos: sampled, decoded, cropped and resized.

The same request gives the same pixels, whatever the order of requests and
with or without a cache.
"""

from collections.abc import Callable
import dataclasses
import functools
import threading
from typing import Any

import numpy as np

from zsar_jax.data import clips, decode, preprocessing, video_transforms
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import video_sets

# Frames of an evaluation clip: as filmed; the first one repeated, which removes
# the motion; or shuffled, which removes the direction of time.
FILMED, FIRST, SHUFFLED = 'filmed', 'first_frame', 'shuffled_frames'


@dataclasses.dataclass(frozen=True, eq=False)
class CachedVideo:
  """A decoded video.

  Attributes:
    frames: uint8 [n, h, w, 3], from `video_transforms.shrink`.
    timestamps: seconds since the first frame at which each appears.
    duration: seconds.
  """

  frames: np.ndarray
  timestamps: np.ndarray
  duration: float


class VideoCache:
  """Decoded videos in memory, up to a limit; never evicts.

  An epoch reads every video once. So the video used longest ago is needed
  next, and evicting it would only cause another miss.

  Attributes:
    is_full: whether a video found no room. Then it is not worth decoding the
      next videos whole.
  """

  def __init__(self, max_bytes: int):
    self.is_full = False
    self._max_bytes = max_bytes
    self._bytes = 0
    self._videos: dict[Any, CachedVideo] = {}
    self._lock = threading.Lock()

  def get(self, key) -> CachedVideo | None:
    """Returns the cached video, or None."""
    return self._videos.get(key)

  def put(self, key, video: CachedVideo) -> None:
    """Keeps a video if there is room."""
    with self._lock:
      if key in self._videos:
        return
      if self._bytes + video.frames.nbytes > self._max_bytes:
        self.is_full = True
        return
      self._videos[key] = video
      self._bytes += video.frames.nbytes


@dataclasses.dataclass(frozen=True)
class TrainView:
  """Random changes to a training clip, beside its instants.

  Attributes:
    crop_area: (low, high) share of the frame that a crop covers.
    crop_aspect: (low, high) width / height of a crop.
    randaugment_layers: see `randaugment`.
    randaugment_magnitude: see `randaugment`.
  """

  crop_area: tuple[float, float] = (0.6, 1.0)
  crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
  randaugment_layers: int = 0
  randaugment_magnitude: float = 9.0


class ClipReader:
  """Reads clips of a set of videos, by position in the set.

  Attributes:
    videos: the set.
  """

  def __init__(
    self,
    videos: video_sets.VideoSet,
    prep: preprocessing.Preprocessing,
    cache: VideoCache | None = None,
  ):
    self.videos = videos
    self._sources = {
      split: records.open_split(videos.dataset_dir, split)
      for split in dict.fromkeys(videos.splits)
    }
    self._prep = prep
    self._cache = cache
    self._shrink = functools.partial(video_transforms.shrink, prep=prep)

  def __len__(self) -> int:
    return len(self.videos)

  def train_clip(
    self,
    i: int,
    rng: np.random.Generator,
    view: TrainView,
    mirror_allowed: bool,
  ) -> np.ndarray:
    """Reads a random clip: random instants, crop, mirroring and operations.

    Args:
      i: position in the set.
      rng: decides everything random.
      view: ranges of the random changes.
      mirror_allowed: whether to mirror half of the clips.

    Returns:
      uint8 [t size size 3].

    Raises:
      VideoError: the video does not decode.
      ValueError: its record is damaged.
    """
    video = self._open(i)
    indices = self._sample(video, rng=rng)
    crop = video_transforms.RandomView(
      rng,
      size=self._prep.size,
      area=view.crop_area,
      aspect=view.crop_aspect,
      mirror_allowed=mirror_allowed,
      method=self._prep.resize,
    )
    clip = self._decode(video, indices, crop)
    if not view.randaugment_layers:
      return clip
    from zsar_jax.data import randaugment

    return randaugment.randaugment(
      clip, rng, view.randaugment_layers, view.randaugment_magnitude
    )

  def eval_clip(
    self,
    i: int,
    num_views: int = 1,
    frames: str = FILMED,
    num_crops: int = 1,
  ) -> np.ndarray:
    """Reads the fixed views of a video.

    Args:
      i: position in the set.
      num_views: temporal clips.
      frames: FILMED, FIRST or SHUFFLED.
      num_crops: squares of each clip, spread along the longer side.

    Returns:
      uint8 [v t size size 3], v = num_views * num_crops: all crops of the
      first clip, then those of the second, ...

    Raises:
      VideoError: the video does not decode.
      ValueError: its record is damaged.
    """
    return self.eval_example(i, num_views, frames, num_crops)[0]

  def eval_example(
    self, i: int, num_views: int, frames: str, num_crops: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Reads the views of `eval_clip`, and the video's shape and duration.

    Returns:
      The views, and float32 [2]: log of width / height, and log of the
      duration in seconds.
    """
    video = self._open(i)
    indices = np.stack(
      [
        self._sample(video, view=view, num_views=num_views)
        for view in range(num_views)
      ]
    )
    if frames == FIRST:
      indices = np.repeat(indices[:, :1], indices.shape[1], axis=1)
    elif frames == SHUFFLED:
      # A video is shuffled alike in every set.
      rng = np.random.default_rng(int(self.videos.rows[i]))
      indices = rng.permuted(indices, axis=1)
    shapes = set()

    def crops(frame):
      shapes.add(frame.shape[:2])
      return video_transforms.eval_views(frame, self._prep, num_crops)

    # [clips*t crops size size 3]
    pixels = self._decode(video, indices.reshape(-1), crops)
    height, width = max(shapes)
    metadata = np.log([width / height, max(video.duration, 1e-3)])
    pixels = pixels.reshape(*indices.shape, *pixels.shape[1:])
    pixels = pixels.swapaxes(1, 2)
    views = pixels.reshape(-1, *pixels.shape[2:])
    return views, metadata.astype(np.float32)

  def blank_clip(self, num_views: int) -> np.ndarray:
    """Makes black views in place of a video that cannot be read."""
    size = self._prep.size
    return np.zeros((num_views, self._prep.num_frames, size, size, 3), np.uint8)

  def _open(self, i: int):
    """Opens a video: decoded from the cache, or else its stored file."""
    split, row = self.videos.splits[i], int(self.videos.rows[i])
    # One cache serves several sets.
    key = self.videos.dataset_dir, split, row
    if self._cache is None:
      return self._sources[split].open(row)
    cached = self._cache.get(key)
    if cached is not None:
      return cached
    video = self._sources[split].open(row)
    if self._cache.is_full:
      return video
    frames = video.decode(range(len(video.timestamps)), self._shrink)
    cached = CachedVideo(frames, video.timestamps, video.duration)
    self._cache.put(key, cached)
    return cached

  def _sample(self, video, **how) -> np.ndarray:
    """Returns frame indices [t] of a clip; `how` goes to `sample_indices`."""
    return clips.sample_indices(
      video.timestamps, video.duration, self._prep.clip_sampling, **how
    )

  def _decode(
    self,
    video,
    indices: np.ndarray,
    view: Callable[[np.ndarray], np.ndarray],
  ) -> np.ndarray:
    """Returns the frames at `indices` [k], each through `view`: [k ...]."""
    if isinstance(video, CachedVideo):
      wanted, inverse = np.unique(indices, return_inverse=True)
      out = np.stack([view(video.frames[k]) for k in wanted])
      return out if np.array_equal(wanted, indices) else out[inverse]
    return video.decode(indices, lambda frame: view(self._shrink(frame)))


# Errors when a record is read. `VideoError` is a ValueError.
READ_ERRORS = (decode.VideoError, ValueError, OSError)
