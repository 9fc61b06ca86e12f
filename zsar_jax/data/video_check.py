"""Checks whether a whole video can be used: decodes it from end to end."""

import av

from zsar_jax.data.upright import displayed_size, size_change
from zsar_jax.data.video_file import (
  VideoInfo,
  declared_frames,
  decode_on,
  open_video,
  read_packets,
  reason_of,
  too_many_missing,
  unsupported,
)
from zsar_jax.data.video_limits import (
  DEFAULT_LIMITS,
  Guard,
  Limits,
  VideoError,
)


def check_video(
  video: bytes | str, name: str, *, limits: Limits = DEFAULT_LIMITS
) -> VideoInfo:
  """Decodes a whole video to learn whether it can be used.

  Args:
    video: the file's content, or its path.
    name: what to call the video in an error.
    limits: bounds on the video.

  Returns:
    The video's frame times and keyframes.

  Raises:
    VideoError: the video is missing, empty, no video, or in a form that this
      FFmpeg cannot read. Or it has a single frame, changes its frame size,
      does not decode without an error, or is outside the limits. Or it lacks
      more than a tenth, or more than one second, of the frames it declares.
  """
  guard = Guard(name, limits)
  with open_video(video, guard) as (container, stream):
    info, num_discarded = read_packets(container, stream, guard)
    declared = declared_frames(container, stream, info, num_discarded)
  with open_video(video, guard) as (container, stream):
    decoded = 0
    first_size = None
    try:
      for frame in decode_on(container, stream, guard):
        guard.check_size(frame.height, frame.width)
        size = displayed_size(frame)
        first_size = first_size or size
        if size != first_size:
          raise VideoError(name, size_change(first_size, size))
        decoded += not frame.is_corrupt
    except av.FFmpegError as e:
      reason = (
        f'is damaged: decoding stops after {decoded} frames ({reason_of(e)})'
      )
      raise VideoError(name, unsupported(e, video, container) or reason) from e
  missing = declared - decoded
  if too_many_missing(missing, declared, info):
    raise VideoError(
      name, f'is cut off or damaged: {decoded} of {declared} frames decode'
    )
  if decoded < 2:
    raise VideoError(
      name, f'has {decoded} frame; an action needs at least 2 to show motion'
    )
  return info
