"""Limits on videos, and the error when a video exceeds them."""

import dataclasses
import time

from zsar_jax.system import terminal

_PIXELS_4K = 4096 * 2304


class VideoError(ValueError):
  """A video that cannot be used; the message names it and says why.

  Attributes:
    name: the video.
    reason: why it cannot be used, to be read after the name.
    transient: whether another try might succeed: it ran into a deadline, or
      the process that decoded it died.
  """

  def __init__(self, name: str, reason: str, transient: bool = False):
    # All go to the base class, so that the error survives pickling.
    super().__init__(name, reason, transient)
    self.name = name
    self.reason = reason
    self.transient = transient

  def __str__(self):
    return f'{terminal.visible_name(self.name)}: {self.reason}'


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits on a video; beyond them a `VideoError` is raised.

  These do not bound a single call of FFmpeg (opening a file, decoding one
  packet). For untrusted files see `isolated`.

  Attributes:
    max_seconds: duration of the video.
    max_pixels: of a frame, height times width.
    max_decoded_bytes: of the transformed frames that a call returns.
    deadline: wall-clock seconds of one call.
  """

  max_seconds: float = 3 * 3600.0
  max_pixels: int = _PIXELS_4K
  max_decoded_bytes: int = 4 << 30
  deadline: float = 300.0


DEFAULT_LIMITS = Limits()


class Guard:
  """Holds one call on one video to its limits."""

  def __init__(self, name: str, limits: Limits):
    """Starts the clock.

    Args:
      name: what to call the video in an error.
      limits: of the call.
    """
    self.name = name
    self.limits = limits
    self._end = time.monotonic() + limits.deadline

  def check_time(self) -> None:
    """Raises a transient VideoError once the deadline has passed."""
    if time.monotonic() > self._end:
      raise VideoError(
        self.name,
        f'took longer than {self.limits.deadline:g} s to decode and was '
        'given up',
        transient=True,
      )

  def check_size(self, height: int, width: int) -> None:
    """Raises VideoError if a frame has too many pixels."""
    if height * width > self.limits.max_pixels:
      raise VideoError(
        self.name,
        f'has frames of {width}x{height}; the limit is '
        f'{self.limits.max_pixels} pixels',
      )

  def check_seconds(self, seconds: float) -> None:
    """Raises VideoError if the video is too long."""
    if seconds > self.limits.max_seconds:
      raise VideoError(
        self.name,
        f'lasts {seconds:.0f} s; the limit is {self.limits.max_seconds:g} s',
      )

  def check_bytes(self, num_bytes: int) -> None:
    """Raises VideoError if decoded frames would take too much memory."""
    if num_bytes > self.limits.max_decoded_bytes:
      raise VideoError(
        self.name,
        f'would take {num_bytes} bytes decoded; the limit is '
        f'{self.limits.max_decoded_bytes}',
      )
