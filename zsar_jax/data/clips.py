"""Which frames of a video make a clip: pure functions of its timestamps.

Frames are chosen by time, never by counting. Videos come at 6 to 60 frames
a second and some at a varying rate: a stride counted in frames would show
the same movement fast in one video and slow in the next, so that a class
such as "walking slowly" could not be told from "walking".

Three ways to choose:

* uniform: the whole video, `num_frames` instants at equal distances. Speed
  depends on the video's length; nothing is missed.
* segment: likewise, but in training each instant lies anywhere in its own of
  `num_frames` equal segments (TSN, Wang et al. 2016): more varied, and the
  movement is not even. The same as uniform in evaluation.
* dense: `num_frames` steps of `frame_stride / sample_fps` seconds. Speed is
  true; a long video is seen in part.

The frame of an instant is the one on display then: the last that began at or
before it.

```python
info = decode.read_info(video, name)
indices = sample_indices(info.timestamps, info.duration, sampling='dense',
                         num_frames=16, frame_stride=2, sample_fps=30)
frames = decode.decode_frames(video, indices, name, info=info)
```
"""

import numpy as np

# Instants are sums of floats, timestamps whole ticks of a clock: an instant
# that means "when frame 3 begins" may come out a rounding error too early,
# and this much later is still far below any frame's length.
_ROUNDING = 1e-6


def _frames_on_display(
  timestamps: np.ndarray, instants: np.ndarray
) -> np.ndarray:
  """Indices of the frames shown at `instants`, both in seconds."""
  indices = np.searchsorted(timestamps, instants + _ROUNDING, 'right') - 1
  return np.clip(indices, 0, len(timestamps) - 1)


def _check(
  timestamps: np.ndarray, num_frames: int, view: int, num_views: int
) -> None:
  if len(timestamps) == 0:
    raise ValueError('a video without frames cannot be sampled')
  if num_frames < 1:
    raise ValueError(f'num_frames must be at least 1, got {num_frames}')
  if not 0 <= view < num_views:
    raise ValueError(f'view {view} of {num_views} does not exist')


def sample_uniform(
  timestamps: np.ndarray,
  duration: float,
  num_frames: int,
  rng: np.random.Generator | None = None,
  view: int = 0,
  num_views: int = 1,
) -> np.ndarray:
  """Frames at equal distances over the whole video.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds, the end of the last frame.
    num_frames: frames of the clip.
    rng: for training: a random offset, the same for all frames. None, for
      evaluation, takes (view + 0.5) / num_views of the distance.
    view: which of the `num_views` evaluation clips; without effect when
      `rng` is given.
    num_views: evaluation clips per video; a single one takes the middle of
      each segment.

  Returns:
    int64 [num_frames], sorted; frames repeat in a video of fewer frames.

  Raises:
    ValueError: no timestamps, `num_frames` below 1, or no such view.
  """
  _check(timestamps, num_frames, view, num_views)
  within = (view + 0.5) / num_views if rng is None else rng.random()
  instants = (np.arange(num_frames) + within) * (duration / num_frames)
  return _frames_on_display(timestamps, instants)


def sample_segments(
  timestamps: np.ndarray,
  duration: float,
  num_frames: int,
  rng: np.random.Generator | None = None,
  view: int = 0,
  num_views: int = 1,
) -> np.ndarray:
  """One frame out of each of `num_frames` equal segments of the video.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds, the end of the last frame.
    num_frames: frames of the clip.
    rng: for training: a random instant within each segment. None, for
      evaluation, is `sample_uniform`.
    view: see `sample_uniform`.
    num_views: see `sample_uniform`.

  Returns:
    int64 [num_frames], sorted; frames repeat in a video of fewer frames.

  Raises:
    ValueError: see `sample_uniform`.
  """
  if rng is None:
    return sample_uniform(
      timestamps, duration, num_frames, None, view, num_views
    )
  _check(timestamps, num_frames, view, num_views)
  within = rng.random(num_frames)
  instants = (np.arange(num_frames) + within) * (duration / num_frames)
  return _frames_on_display(timestamps, instants)


def sample_dense(
  timestamps: np.ndarray,
  duration: float,
  num_frames: int,
  frame_stride: float,
  sample_fps: float,
  rng: np.random.Generator | None = None,
  view: int = 0,
  num_views: int = 1,
) -> np.ndarray:
  """A stretch of the video at true speed.

  The stretch is `num_frames` steps of frame_stride / sample_fps seconds, and
  each step shows the frame in its middle.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds, the end of the last frame.
    num_frames: frames of the clip.
    frame_stride: step between frames, counted at `sample_fps`.
    sample_fps: the nominal frame rate, per second; what the video's own rate
      is does not matter.
    rng: for training: the stretch begins anywhere it fits. None for
      evaluation.
    view: which of the `num_views` evaluation clips; without effect when
      `rng` is given.
    num_views: evaluation clips per video, spread evenly from the video's
      beginning to its end; a single one is centred.

  Returns:
    int64 [num_frames], sorted. A stretch longer than the video begins with
    it, and repeats its last frame where there is no more.

  Raises:
    ValueError: no timestamps, `num_frames` below 1, a stride or rate that
      is not positive, or no such view.
  """
  _check(timestamps, num_frames, view, num_views)
  if not (frame_stride > 0 and sample_fps > 0):
    raise ValueError(
      'frame_stride and sample_fps must be positive, got '
      f'{frame_stride} and {sample_fps}'
    )
  step = frame_stride / sample_fps
  room = max(duration - num_frames * step, 0.0)
  if rng is not None:
    start = rng.uniform(0, room)
  elif num_views == 1:
    start = room / 2
  else:
    start = room * view / (num_views - 1)
  instants = start + (np.arange(num_frames) + 0.5) * step
  return _frames_on_display(timestamps, instants)


# Those that see the whole video.
_WHOLE = {'uniform': sample_uniform, 'segment': sample_segments}


def sample_indices(
  timestamps: np.ndarray,
  duration: float,
  *,
  sampling: str,
  num_frames: int,
  frame_stride: float,
  sample_fps: float,
  rng: np.random.Generator | None = None,
  view: int = 0,
  num_views: int = 1,
) -> np.ndarray:
  """Chooses a clip's frames the way the config names.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds, the end of the last frame.
    sampling: 'uniform', 'segment' or 'dense'; see the module docstring.
    num_frames: frames of the clip.
    frame_stride: see `sample_dense`; 'dense' only.
    sample_fps: see `sample_dense`; 'dense' only.
    rng: given for training (random), None for evaluation (fixed).
    view: which evaluation clip.
    num_views: evaluation clips per video.

  Returns:
    int64 [num_frames], sorted frame indices.

  Raises:
    ValueError: an unknown `sampling`, or see the two functions.
  """
  if sampling in _WHOLE:
    return _WHOLE[sampling](
      timestamps, duration, num_frames, rng, view, num_views
    )
  if sampling == 'dense':
    return sample_dense(
      timestamps,
      duration,
      num_frames,
      frame_stride,
      sample_fps,
      rng,
      view,
      num_views,
    )
  raise ValueError(
    f"sampling must be 'uniform', 'segment' or 'dense', got {sampling!r}"
  )


def sample_window(
  timestamps: np.ndarray,
  start: float,
  window: float,
  *,
  sampling: str,
  num_frames: int,
  frame_stride: int,
  sample_fps: float,
) -> np.ndarray:
  """The frames of one window of a long video.

  Args:
    timestamps: seconds at which each frame appears, ascending [n].
    start: of the window, seconds after the first frame.
    window: its length in seconds.
    sampling: 'dense' takes a frame every frame_stride / sample_fps seconds
      from the start; others spread the frames over the window.
    num_frames: t.
    frame_stride: see the module docstring.
    sample_fps: likewise.

  Returns:
    int [t].

  Raises:
    ValueError: no frames.
  """
  _check(timestamps, num_frames, 0, 1)
  k = np.arange(num_frames)
  if sampling == 'dense':
    instants = start + k * frame_stride / sample_fps
  else:
    instants = start + (k + 0.5) * window / num_frames
  return _frames_on_display(timestamps, instants)
