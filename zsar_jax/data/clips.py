"""Which frames of a video make a clip: pure functions of its timestamps.

Frames are chosen by time, not by number. Videos have 6 to 60 frames a second,
and some a varying rate. A stride counted in frames would show the same
movement fast in one video and slow in the next. Then no model could tell
"walking slowly" from "walking".

Four ways to choose:

* uniform: the whole video, `num_frames` instants at equal distances. Speed
  depends on the video's length; the clip covers the whole video.
* segment: the whole video too. In training each instant lies anywhere in its
  own of `num_frames` equal segments (TSN, Wang et al. 2016): clips vary more,
  and the steps in time are uneven. In evaluation the same as uniform.
* ends: the whole video, `num_frames` frames at equal distances, its first and
  its last frame among them. Perception Encoder reads videos so.
* dense: `num_frames` steps of `frame_stride / sample_fps` seconds. Speed is
  true; a clip covers only a part of a long video.

The frame of an instant is the frame on display: the last that began at or
before the instant.

```python
info = decode.read_info(video, name)
sampling = Sampling('dense', num_frames=16, frame_stride=2, sample_fps=30)
indices = sample_indices(info.timestamps, info.duration, sampling)
frames = decode.decode_frames(video, indices, name, info=info)
```
"""

import dataclasses

import numpy as np

# Instants are sums of floats, timestamps are whole ticks of a clock. Rounding
# may put the instant "when frame 3 begins" slightly too early. This shift in
# seconds corrects it and is far shorter than any frame.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How a clip's frames are chosen.

  Attributes:
    method: 'uniform', 'segment', 'ends' or 'dense'; see the module docstring.
    num_frames: frames of the clip.
    frame_stride: step between frames, counted at `sample_fps`; 'dense' only.
    sample_fps: nominal frame rate in 1/s; 'dense' only.
  """

  method: str
  num_frames: int
  frame_stride: float
  sample_fps: float


def _frames_on_display(
  timestamps: np.ndarray, instants: np.ndarray
) -> np.ndarray:
  """Returns the indices of the frames on display at `instants`, in seconds."""
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
  """Samples frames at equal distances over the whole video.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds, the end of the last frame.
    num_frames: frames of the clip.
    rng: draws the offset in training, one for all frames. None, for
      evaluation, takes (view + 0.5) / num_views of the distance.
    view: number of the evaluation clip, below `num_views`; unused with `rng`.
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
  """Samples one frame of each of `num_frames` equal segments of the video.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds, the end of the last frame.
    num_frames: frames of the clip.
    rng: draws an instant within each segment in training. None, for
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


def sample_ends(
  timestamps: np.ndarray,
  duration: float,
  num_frames: int,
  rng: np.random.Generator | None = None,
  view: int = 0,
  num_views: int = 1,
) -> np.ndarray:
  """Samples frames at equal distances, the first and the last among them.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds; not used, because the last frame's own time counts.
    num_frames: frames of the clip; a single one is the middle one.
    rng: shifts all frames in training, by up to half a distance. None, for
      evaluation, shifts by (view + 0.5) / num_views - 0.5 of the distance:
      not at all for a single view.
    view: number of the evaluation clip, below `num_views`; unused with `rng`.
    num_views: evaluation clips per video.

  Returns:
    int64 [num_frames], sorted; frames repeat in a video of fewer frames.

  Raises:
    ValueError: see `sample_uniform`.
  """
  del duration
  _check(timestamps, num_frames, view, num_views)
  within = (view + 0.5) / num_views if rng is None else rng.random()
  steps, number = _steps_to_the_end(num_frames)
  instants = (steps + within - 0.5) * (timestamps[-1] / number)
  return _frames_on_display(timestamps, np.clip(instants, 0, timestamps[-1]))


def _steps_to_the_end(num_frames: int) -> tuple[np.ndarray, int]:
  """Places of frames in steps, and of the end; a single one is half way."""
  if num_frames == 1:
    return np.array([0.5]), 1
  return np.arange(num_frames), num_frames - 1


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
  """Samples a stretch of the video at true speed.

  The stretch has `num_frames` steps of frame_stride / sample_fps seconds, and
  each step shows the frame in its middle.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds, the end of the last frame.
    num_frames: frames of the clip.
    frame_stride: step between frames, counted at `sample_fps`.
    sample_fps: nominal frame rate in 1/s; the video's own rate does not
      matter.
    rng: draws the start in training, wherever the stretch fits. None for
      evaluation.
    view: number of the evaluation clip, below `num_views`; unused with `rng`.
    num_views: evaluation clips per video, spread evenly from the video's
      beginning to its end; a single one is centred.

  Returns:
    int64 [num_frames], sorted. A stretch longer than the video begins with
    the video and repeats its last frame at the end.

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


# Methods that cover the whole video.
_WHOLE = {
  'uniform': sample_uniform,
  'segment': sample_segments,
  'ends': sample_ends,
}


def sample_indices(
  timestamps: np.ndarray,
  duration: float,
  sampling: Sampling,
  rng: np.random.Generator | None = None,
  view: int = 0,
  num_views: int = 1,
) -> np.ndarray:
  """Samples a clip's frames by any of the methods.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    duration: seconds, the end of the last frame.
    sampling: the method and its numbers.
    rng: given for training (random), None for evaluation (fixed).
    view: number of the evaluation clip, below `num_views`.
    num_views: evaluation clips per video.

  Returns:
    int64 [num_frames], sorted frame indices.

  Raises:
    ValueError: an unknown method; else see `sample_uniform` and
      `sample_dense`.
  """
  if sampling.method in _WHOLE:
    return _WHOLE[sampling.method](
      timestamps, duration, sampling.num_frames, rng, view, num_views
    )
  if sampling.method == 'dense':
    return sample_dense(
      timestamps,
      duration,
      sampling.num_frames,
      sampling.frame_stride,
      sampling.sample_fps,
      rng,
      view,
      num_views,
    )
  raise ValueError(
    f'sampling must be one of {[*_WHOLE, "dense"]}, got {sampling.method!r}'
  )


def sample_views(
  timestamps: np.ndarray, duration: float, sampling: Sampling, num_views: int
) -> np.ndarray:
  """Samples all evaluation clips of a video.

  Args:
    timestamps: float [n], as `sample_indices` has them.
    duration: seconds.
    sampling: the method and its numbers.
    num_views: evaluation clips per video.

  Returns:
    int64 [num_views num_frames].
  """
  return np.stack(
    [
      sample_indices(
        timestamps, duration, sampling, view=view, num_views=num_views
      )
      for view in range(num_views)
    ]
  )


def sample_window(
  timestamps: np.ndarray, start: float, window: float, sampling: Sampling
) -> np.ndarray:
  """Samples the frames of one window of a long video.

  Args:
    timestamps: float [n], seconds since the first frame, sorted.
    start: of the window, seconds after the first frame.
    window: its length in seconds.
    sampling: 'dense' takes a frame every frame_stride / sample_fps seconds
      from the start; 'ends' from the window's start to its end; other methods
      spread the frames over the window.

  Returns:
    int64 [num_frames], sorted frame indices.

  Raises:
    ValueError: no timestamps, or `num_frames` below 1.
  """
  _check(timestamps, sampling.num_frames, 0, 1)
  return _frames_on_display(timestamps, _instants(start, window, sampling))


def last_instant(start: float, window: float, sampling: Sampling) -> float:
  """Returns the time from which no frame can be part of a window any more.

  Args:
    start: of the window, in seconds.
    window: its length in seconds.
    sampling: as for `sample_window`.
  """
  return float(_instants(start, window, sampling)[-1]) + _ROUNDING


def _instants(start: float, window: float, sampling: Sampling) -> np.ndarray:
  """Returns the times [num_frames] at which a window looks."""
  k = np.arange(sampling.num_frames)
  if sampling.method == 'dense':
    return start + k * sampling.frame_stride / sampling.sample_fps
  if sampling.method == 'ends':
    steps, number = _steps_to_the_end(sampling.num_frames)
    return start + steps * (window / number)
  return start + (k + 0.5) * window / sampling.num_frames
