"""Reads clips of a user's own video file.

The file is untrusted, so a child process decodes it; see `isolated`.
"""

from collections.abc import Iterator
import dataclasses
import functools
import os
from typing import Any

import numpy as np

from zsar_jax.data import (
  clips,
  decode,
  isolated,
  preprocessing,
  video_transforms,
)
from zsar_jax.data import windows as windows_lib
from zsar_jax.system import terminal

_TASK = 'zsar_jax.data.user_videos:views_task'
_PLAN_TASK = 'zsar_jax.data.user_videos:plan_task'
_WINDOWS_TASK = 'zsar_jax.data.user_videos:windows_task'
# Seconds. A film takes minutes; a decoder that takes longer than this hangs.
DEADLINE = 600.0


@dataclasses.dataclass(frozen=True)
class Views:
  """The clips of a video.

  Attributes:
    clips: uint8 [v t size size 3], all spatial crops of the first temporal
      clip, then those of the second, ...
    comment: the comment in the file's container.
    warnings: for the user.
    times: seconds [clips t] at which the frames of each temporal clip appear.
  """

  clips: np.ndarray
  comment: str
  warnings: tuple[str, ...]
  times: np.ndarray


def read_views(
  path: str,
  prep: preprocessing.Preprocessing,
  num_views: int = 1,
  num_crops: int = 1,
  deadline: float = DEADLINE,
) -> Views:
  """Reads the fixed views of a video file that was not prepared.

  Args:
    path: of the file.
    prep: the preprocessing of the weights.
    num_views: temporal clips.
    num_crops: squares of each, spread along the longer side.
    deadline: time limit in seconds.

  Returns:
    The views.

  Raises:
    VideoError: the file cannot be used, takes too long, or crashes the
      decoder.
  """
  facts, (content,) = isolated.run(
    _TASK,
    {
      'path': path,
      'prep': prep.to_json(),
      'num_views': num_views,
      'num_crops': num_crops,
    },
    name=path,
    deadline=deadline,
  )
  shape = (num_views * num_crops, prep.num_frames, prep.size, prep.size, 3)
  return Views(
    np.frombuffer(content, np.uint8).reshape(shape),
    facts['comment'],
    tuple(facts['warnings']),
    np.array(facts['times']),
  )


def views_task(
  path: str, prep: str, num_views: int, num_crops: int
) -> tuple[dict[str, Any], list[np.ndarray]]:
  """Does the work of `read_views` in the child; `prep` is JSON."""
  prep = preprocessing.Preprocessing.from_json(prep)
  info = decode.check_video(path, path)
  warnings = []
  if len(info.timestamps) < prep.num_frames:
    warnings.append(
      f'{terminal.visible_name(path)} has {len(info.timestamps)} frames, '
      f'fewer than the {prep.num_frames} of a clip: some are repeated'
    )
  indices = clips.sample_views(
    info.timestamps, info.duration, prep.clip_sampling, num_views
  )

  crops = lambda frame: video_transforms.frame_views(frame, prep, num_crops)

  frames = decode.decode_frames(
    path, indices.reshape(-1), path, transform=crops, info=info
  )  # [clips*t crops size size 3]
  views = frames.reshape(*indices.shape, *frames.shape[1:]).swapaxes(1, 2)
  facts = {
    'comment': decode.read_comment(path, path),
    'warnings': warnings,
    'times': info.timestamps[indices].tolist(),
  }
  return facts, [np.ascontiguousarray(views)]


@dataclasses.dataclass(frozen=True)
class Windows:
  """How a long video is cut into windows.

  Attributes:
    path: of the file.
    starts: seconds [w], ascending; the last window ends with the video.
    window: length of each in seconds.
    comment: the comment in the file's container.
  """

  path: str
  starts: np.ndarray
  window: float
  comment: str

  @property
  def ends(self) -> np.ndarray:
    """Seconds [w]."""
    return self.starts + self.window


def plan_windows(
  path: str,
  prep: preprocessing.Preprocessing,
  window: float = 0.0,
  stride: float = 0.0,
  deadline: float = DEADLINE,
) -> Windows:
  """Cuts a video into windows that overlap.

  Args:
    path: of the file.
    prep: the preprocessing of the weights.
    window: seconds; see `windows.window_seconds`.
    stride: seconds; see `windows.plan`.
    deadline: time limit in seconds to read the video's index.

  Returns:
    The windows, at least one.

  Raises:
    VideoError: the file cannot be used.
    ValueError: a negative window or stride.
  """
  window = windows_lib.window_seconds(prep, window, stride)
  facts, _ = isolated.run(
    _PLAN_TASK, {'path': path}, name=path, deadline=deadline
  )
  starts, window = windows_lib.plan(facts['duration'], window, stride)
  return Windows(path, starts, window, facts['comment'])


def read_windows(
  windows: Windows,
  prep: preprocessing.Preprocessing,
  batch_size: int = 16,
  deadline: float = DEADLINE,
) -> Iterator[np.ndarray]:
  """Reads the windows' clips in batches, so that memory stays bounded.

  Args:
    windows: from `plan_windows`.
    prep: the preprocessing of the weights.
    batch_size: windows at a time.
    deadline: time limit of a batch in seconds.

  Yields:
    uint8 [b 1 t size size 3], in order; the last batch may be smaller.

  Raises:
    VideoError: the file cannot be used.
  """
  shape = (1, prep.num_frames, prep.size, prep.size, 3)
  batches = [
    windows.starts[first : first + batch_size]
    for first in range(0, len(windows.starts), batch_size)
  ]

  def read(starts):
    return isolated.run(
      _WINDOWS_TASK,
      {
        'path': windows.path,
        'prep': prep.to_json(),
        'starts': starts.tolist(),
        'window': windows.window,
      },
      name=windows.path,
      deadline=deadline,
    )

  jobs = (functools.partial(read, starts) for starts in batches)
  # One is decoded while the one before it is encoded. More children would each
  # read the index of a long file anew.
  results = isolated.read_ahead(jobs, workers=1, ahead=1)
  for starts, (_, (content,)) in zip(batches, results, strict=True):
    yield np.frombuffer(content, np.uint8).reshape(len(starts), *shape)


@functools.lru_cache(maxsize=2)
def _info(path: str, size: int, changed: int):
  """Reads a file's index; a child that stays reads it once."""
  del size, changed  # keys of the cache: another file has others
  return decode.check_video(path, path)


def read_info_once(path: str):
  """Checks a file, for tasks in a child; see `decode.check_video`."""
  if not os.path.exists(path):
    return decode.check_video(path, path)  # says so
  status = os.stat(path)
  return _info(path, status.st_size, status.st_mtime_ns)


def plan_task(path: str) -> tuple[dict[str, Any], list[np.ndarray]]:
  """Does the work of `plan_windows` in the child."""
  info = read_info_once(path)
  facts = {
    'duration': float(info.duration),
    'comment': decode.read_comment(path, path),
  }
  return facts, []


def windows_task(
  path: str, prep: str, starts: list[float], window: float
) -> tuple[dict[str, Any], list[np.ndarray]]:
  """Does the work of a batch of `read_windows` in the child; `prep` is JSON."""
  prep = preprocessing.Preprocessing.from_json(prep)
  info = read_info_once(path)
  indices = np.stack(
    [
      clips.sample_window(info.timestamps, start, window, prep.clip_sampling)
      for start in starts
    ]
  )

  view = functools.partial(video_transforms.middle_view, prep=prep)
  frames = decode.decode_frames(
    path, indices.reshape(-1), path, transform=view, info=info
  )
  return {}, [np.ascontiguousarray(frames)]
