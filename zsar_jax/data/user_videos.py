"""A user's own video file, as clips.

It may be anything, so it is decoded in a child process; see `isolated`.
"""

import dataclasses
from typing import Any

import numpy as np

from zsar_jax import preprocessing
from zsar_jax.data import clips, decode, isolated, video_transforms

_TASK = 'zsar_jax.data.user_videos:views_task'
# A film takes minutes; what takes longer than this hangs.
DEADLINE = 600.0


@dataclasses.dataclass(frozen=True)
class Views:
  """The clips of a video.

  Attributes:
    clips: uint8 [v t size size 3], all spatial crops of the first temporal
      clip, then those of the second, ...
    comment: what the file's container says of it.
    warnings: what the user should know.
  """

  clips: np.ndarray
  comment: str
  warnings: tuple[str, ...]


def read_views(
  path: str,
  prep: preprocessing.Preprocessing,
  num_views: int = 1,
  num_crops: int = 1,
  deadline: float = DEADLINE,
) -> Views:
  """The fixed views of a video file that was not prepared.

  Args:
    path: of the file.
    prep: what the weights want.
    num_views: temporal clips.
    num_crops: squares of each, spread along the longer side.
    deadline: seconds that it may take.

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
  )


def views_task(
  path: str, prep: str, num_views: int, num_crops: int
) -> tuple[dict[str, Any], list[np.ndarray]]:
  """What the child does for `read_views`; `prep` is JSON."""
  prep = preprocessing.Preprocessing.from_json(prep)
  info = decode.check_video(path, path)
  warnings = []
  if len(info.timestamps) < prep.num_frames:
    warnings.append(
      f'{path} has {len(info.timestamps)} frames, fewer than the '
      f'{prep.num_frames} of a clip: some are repeated'
    )
  indices = np.stack(
    [
      clips.sample_indices(
        info.timestamps,
        info.duration,
        sampling=prep.sampling,
        num_frames=prep.num_frames,
        frame_stride=prep.frame_stride,
        sample_fps=prep.sample_fps,
        view=view,
        num_views=num_views,
      )
      for view in range(num_views)
    ]
  )

  def crops(frame):
    frame = video_transforms.resize_short_side(frame, prep.short_side)
    return np.stack(
      [
        video_transforms.eval_view(frame, prep.size, crop, num_crops)
        for crop in range(num_crops)
      ]
    )

  frames = decode.decode_frames(
    path, indices.reshape(-1), path, transform=crops, info=info
  )  # [clips*t crops size size 3]
  views = frames.reshape(*indices.shape, *frames.shape[1:]).swapaxes(1, 2)
  facts = {'comment': decode.read_comment(path, path), 'warnings': warnings}
  return facts, [np.ascontiguousarray(views)]
