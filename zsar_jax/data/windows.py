"""Cuts a video into windows that overlap: a whole one, or frames as they come.

Window k starts k strides after the first frame. The last one ends with the
video, so it may start less than a stride after the one before it. `Cutter`
makes the same windows as `plan`, without knowing how long the video will be.
"""

import array
import bisect
from collections.abc import Iterator
import dataclasses
import math

import numpy as np

from zsar_jax.data import clips, preprocessing, video_limits

# Seconds of a window, if training spreads clips over the whole video. About as
# long as a person needs to recognise an action. Our choice.
_WINDOW_SECONDS = 2.0
# Relative: a stride that fits once more but for rounding does not count.
_ROUNDING = 1e-6
# Seconds that a frame may come late. Further back, the clock was set anew.
_MOST_LATE = 5.0
# Bytes of the frames that a window needs.
_MOST_HELD = 1 << 30
# Of these many frames the median gap is known: 9 hours at 30 frames a second,
# longer than a file may last.
_MOST_GAPS = 1 << 20


def window_seconds(
  prep: preprocessing.Preprocessing, window: float, stride: float
) -> float:
  """Returns the length of a window, if the video is long enough for one.

  Args:
    prep: the preprocessing of the weights.
    window: seconds; 0 means the length of a clip in dense sampling, else 2.
    stride: seconds; only checked.

  Raises:
    ValueError: a negative or infinite window or stride.
  """
  if not (0 <= window < math.inf and 0 <= stride < math.inf):
    raise ValueError(
      f'window={window} and stride={stride} must not be negative, but seconds'
    )
  if window:
    return window
  dense = prep.num_frames * prep.frame_stride / prep.sample_fps
  return dense if prep.sampling == 'dense' else _WINDOW_SECONDS


def plan(
  duration: float, window: float, stride: float
) -> tuple[np.ndarray, float]:
  """Plans the windows of a video.

  Args:
    duration: of the video in seconds.
    window: from `window_seconds`; it is cut to the video's length.
    stride: seconds from one start to the next; 0 means half a window.

  Returns:
    The starts in seconds [w], ascending, at least one; and the length of each
    window.
  """
  window = min(window, duration)
  stride = stride or window / 2
  last = duration - window
  count = max(0, math.ceil(last / stride - _ROUNDING)) if last else 0
  return np.append(np.arange(count) * stride, last), window


@dataclasses.dataclass(frozen=True)
class Window:
  """A window with its clip.

  Attributes:
    start: seconds after the first frame.
    end: seconds after the first frame.
    clip: uint8 [t size size 3].
  """

  start: float
  end: float
  clip: np.ndarray


class Cutter:
  """Cuts windows out of frames that come one by one.

  Frames may be missing. A frame that comes late is put into its place, unless
  the windows that it belongs to are cut already: then it is left out. Memory
  holds the frames of one window.
  """

  def __init__(
    self,
    prep: preprocessing.Preprocessing,
    window: float = 0.0,
    stride: float = 0.0,
    *,
    skip_gaps: bool = False,
    name: str = 'the stream',
  ):
    """Starts without frames.

    Args:
      prep: the preprocessing of the weights.
      window: seconds; see `window_seconds`.
      stride: seconds; see `plan`.
      skip_gaps: leave out windows in which no frame appears. A source that
        does not wait makes such gaps where the reader is too slow.
      name: what to call the frames' source in an error.

    Raises:
      ValueError: a negative window or stride.
    """
    self._window = window_seconds(prep, window, stride)
    self._stride_wanted = stride
    self._stride = stride or self._window / 2
    self._prep, self._skip_gaps, self._name = prep, skip_gaps, name
    self._origin: float | None = None
    # Seconds after the first frame, sorted, and the frames.
    self._times: list[float] = []
    self._views: list[np.ndarray] = []
    self._gaps = array.array('d')
    self._next = 0
    self._count = 0

  def add(self, seconds: float, view: np.ndarray) -> Iterator[Window]:
    """Takes a frame.

    Args:
      seconds: when it appears, counted from anywhere.
      view: uint8 [size size 3].

    Yields:
      Windows that are complete, in order. Take all of them before the next
      frame.

    Raises:
      ValueError: the time is no number, goes back or jumps ahead too far; or
        a window has too many frames for the memory.
    """
    self._place(seconds, view)
    newest = self._times[-1]
    while self._next < (newest - self._window) / self._stride - _ROUNDING:
      start = self._next * self._stride
      indices = self._indices(start, self._window)
      if indices is None:
        break
      if not (self._skip_gaps and self._is_gap(start)):
        yield self._cut(start, self._window, indices)
      self._next += 1
    self._forget(newest)

  def finish(self) -> Iterator[Window]:
    """Yields the windows that are left: there are no more frames.

    Raises:
      ValueError: there were fewer than two frames.
    """
    if self._count < 2:
      after = 'after a single frame' if self._count else 'without a frame'
      raise ValueError(
        f'{self._name} ended {after}; an action needs at least 2 to show motion'
      )
    gaps = np.concatenate([self._gaps, np.diff(self._times)])
    duration = self._times[-1] + float(np.median(gaps))
    starts, window = plan(duration, self._window, self._stride_wanted)
    for start in starts[self._next :].tolist():
      if self._skip_gaps and self._is_gap(start):
        continue
      yield self._cut(start, window, self._indices(start, window, last=True))

  def _place(self, seconds: float, view: np.ndarray) -> None:
    """Puts a frame where it belongs in time."""
    if not math.isfinite(seconds):
      raise ValueError(
        f'{self._name}: a frame at {seconds} s; expected a number of seconds'
      )
    self._origin = seconds if self._origin is None else self._origin
    at = seconds - self._origin
    newest = self._times[-1] if self._times else at
    if at < newest - _MOST_LATE:
      raise ValueError(
        f'{self._name}: the timestamps go back from {newest:.3f} to '
        f'{at:.3f} s after the first frame; a new recording needs a new stream'
      )
    if at > newest + video_limits.DEFAULT_LIMITS.max_seconds:
      raise ValueError(
        f'{self._name}: the timestamps jump from {newest:.3f} to {at:.3f} s '
        'after the first frame; expected seconds'
      )
    if at < (self._times[0] if self._times else at):
      return  # too late for any window
    if (len(self._views) + 1) * view.nbytes > _MOST_HELD:
      raise ValueError(
        f'{self._name}: a window of {self._window:g} s has over '
        f'{len(self._views)} frames, more than memory is meant for; choose a '
        'shorter window'
      )
    place = bisect.bisect_right(self._times, at)
    self._times.insert(place, at)
    self._views.insert(place, view)
    self._count += 1

  def _indices(
    self, start: float, window: float, last: bool = False
  ) -> np.ndarray | None:
    """Which of the held frames a window shows; None if later ones may."""
    sampling = self._prep.clip_sampling
    if (
      not last
      and clips.last_instant(start, window, sampling) >= (self._times[-1])
    ):
      return None
    times = np.array(self._times)
    return clips.sample_window(times, start, window, sampling)

  def _cut(self, start: float, window: float, indices: np.ndarray) -> Window:
    clip = np.stack([self._views[i] for i in indices])
    return Window(start, start + window, clip)

  def _is_gap(self, start: float) -> bool:
    place = bisect.bisect_left(self._times, start)
    appears = place < len(self._times) and (
      self._times[place] <= start + self._window
    )
    return not appears

  def _forget(self, newest: float) -> None:
    """Drops frames that neither the next nor the last window can show."""
    needed = min(self._next * self._stride, newest - self._window)
    # The one before is on display when the window starts.
    unused = bisect.bisect_right(self._times, needed) - 1
    if unused <= 0:
      return
    if len(self._gaps) < _MOST_GAPS:
      self._gaps.extend(np.diff(self._times[: unused + 1]).tolist())
    del self._times[:unused], self._views[:unused]
