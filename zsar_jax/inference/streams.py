"""Names windows of videos, and segments of frames as they come.

A file and a stream go through the same `WindowNamer`, in batches of the same
shape. So the same frames get the same scores, to the bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib

import numpy as np

from zsar_jax.data import (
  preprocessing,
  upright,
  user_videos,
  video_transforms,
  windows,
)
from zsar_jax.inference import candidates, confidence, encoders, predictions
from zsar_jax.zeroshot import prototypes, scoring, segments

_Event = predictions.NamedWindow | predictions.NamedSegment


class WindowNamer:
  """Encoders and the classes of a moment: later changes do not matter."""

  def __init__(
    self,
    recognizer: encoders.Recognizer,
    by: candidates.Candidates,
    sure: confidence.Confidence,
  ):
    """Takes what a model knows.

    Args:
      recognizer: the encoders.
      by: the classes to choose from.
      sure: makes probabilities of scores.

    Raises:
      ValueError: no classes, or nothing that makes probabilities.
    """
    by.check()
    sure.check_segments()
    self.recognizer = recognizer
    self.names, self._prototypes = by.names, by.prototypes
    self._confidence = sure

  def name_file(
    self,
    planned: user_videos.Windows,
    batch_size: int,
    progress: Callable[[int, int], None],
  ) -> Iterator[predictions.NamedWindow]:
    """Names the windows of a file.

    Args:
      planned: the windows.
      batch_size: windows encoded at a time.
      progress: gets the number of windows done, and of all windows.

    Yields:
      The named windows, in order.

    Raises:
      VideoError: the video cannot be used.
    """
    total, done = len(planned.starts), 0
    batches = _read(planned, self.recognizer.prep, batch_size)
    for named in self.name_batches(batches, batch_size):
      done += len(named)
      progress(done, total)
      yield from named

  def name_batches(
    self, batches: Iterable[Sequence[windows.Window]], batch_size: int
  ) -> Iterator[list[predictions.NamedWindow]]:
    """Names windows, a batch at a time.

    Args:
      batches: of `batch_size` windows; the last may have fewer.
      batch_size: windows encoded at a time.

    Yields:
      The named windows of each batch.
    """
    for i, batch in enumerate(batches):
      clips = np.stack([window.clip for window in batch])[:, None]
      # One shape for all batches: nothing is compiled again for the last.
      if i:
        clips = encoders.pad_batch(clips, batch_size)
      probabilities, none = self._probabilities(clips)
      yield [
        self._named(window, probabilities[k], None if none is None else none[k])
        for k, window in enumerate(batch)
      ]

  def _probabilities(
    self, clips: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Of the classes [b c], and of none of them [b]."""
    # Matching only where nothing else ranks: elsewhere it would be the larger
    # part of the work.
    names = self.names if self._prototypes is None else ()
    embeddings, logits = self.recognizer.encode_videos(clips, names)
    prototypes.check_embeddings(embeddings, 'the video encoder')
    scores = logits
    if self._prototypes is not None:
      scores = np.asarray(
        scoring.similarity_scores(embeddings, self._prototypes)
      )
    return self._confidence.probabilities(scores, logits)

  def _named(
    self, window: windows.Window, probabilities: np.ndarray, none
  ) -> predictions.NamedWindow:
    best = int(probabilities.argmax())
    name, score = self.names[best], float(probabilities[best])
    if none is not None and none > score:
      name, score = predictions.NONE_OF_THESE, float(none)
    return predictions.NamedWindow(
      window.start,
      window.end,
      name,
      score,
      dict(zip(self.names, map(float, probabilities), strict=True)),
      None if none is None else float(none),
    )


class Joiner:
  """Joins named windows that come one by one into named segments."""

  def __init__(self, names: Sequence[str], switch_cost: float):
    """Starts without windows.

    Args:
      names: classes, in the order of the windows' probabilities.
      switch_cost: in nats; see `segments.best_path`.

    Raises:
      ValueError: a negative cost.
    """
    self._names = names
    self._segmenter = segments.Segmenter(switch_cost)

  def add(
    self, window: predictions.NamedWindow
  ) -> list[predictions.NamedSegment]:
    """Takes a window; returns segments that have ended for certain."""
    found = self._segmenter.add(
      window.start,
      window.end,
      np.array(list(window.probabilities.values())),
      window.none_of_these or 0.0,
    )
    return name_segments(found, self._names)

  def finish(self) -> list[predictions.NamedSegment]:
    """Returns the segments that are left."""
    return name_segments(self._segmenter.finish(), self._names)


def join(
  named: Sequence[predictions.NamedWindow],
  names: Sequence[str],
  switch_cost: float,
) -> list[predictions.NamedSegment]:
  """Joins all windows of a video into segments that cover it.

  Args:
    named: the windows.
    names: classes, in the order of the windows' probabilities.
    switch_cost: in nats; see `segments.best_path`.
  """
  found = segments.find_segments(
    [window.start for window in named],
    [window.end for window in named],
    np.array([list(window.probabilities.values()) for window in named]),
    np.array([window.none_of_these or 0.0 for window in named]),
    switch_cost,
  )
  return name_segments(found, names)


def name_segments(
  found: Sequence[segments.Segment], names: Sequence[str]
) -> list[predictions.NamedSegment]:
  """Gives segments the names of their labels."""
  name = lambda label: (
    predictions.NONE_OF_THESE if label == segments.NONE else names[label]
  )
  return [
    predictions.NamedSegment(s.start, s.end, name(s.label), s.score)
    for s in found
  ]


class Stream:
  """Names what happens in frames as they come.

  Each frame may complete windows, and each window segments. Frames may be
  missing or late; see `windows.Cutter`. Memory does not grow.
  """

  def __init__(
    self,
    namer: WindowNamer,
    *,
    window: float = 0.0,
    stride: float = 0.0,
    switch_cost: float = 1.0,
    batch_size: int = 1,
    are_views: bool = False,
    skip_gaps: bool = False,
    name: str = 'the stream',
  ):
    """Starts without frames.

    Args:
      namer: names windows.
      window: seconds; see `windows.window_seconds`.
      stride: seconds; see `windows.plan`.
      switch_cost: in nats; see `segments.best_path`.
      batch_size: windows encoded at a time. With more than 1 an answer waits
        for further windows.
      are_views: frames are views already, [size size 3], as
        `video_transforms.middle_view` cuts them.
      skip_gaps: see `windows.Cutter`.
      name: what to call the stream in an error.

    Raises:
      ValueError: an argument is outside its range.
    """
    if batch_size < 1:
      raise ValueError(f'batch_size={batch_size} must be at least 1')
    self._prep = namer.recognizer.prep
    self._cutter = windows.Cutter(
      self._prep, window, stride, skip_gaps=skip_gaps, name=name
    )
    self._joiner = Joiner(namer.names, switch_cost)
    self._are_views, self._name = are_views, name
    self._shape: tuple[int, ...] | None = None
    self._size = batch_size
    self._waiting: list[windows.Window] = []
    # A generator that names whatever lies in `_waiting` when it is asked.
    self._named = namer.name_batches(iter(self._take, None), batch_size)

  def _take(self) -> list[windows.Window]:
    batch, self._waiting = self._waiting, []
    return batch

  def add(self, seconds: float, frame: np.ndarray) -> Iterator[_Event]:
    """Takes a frame.

    Args:
      seconds: when it appears, counted from anywhere.
      frame: uint8 RGB [h w 3], all of one size.

    Yields:
      Windows that are complete, and each segment that has ended for certain
      after the window that said so. Take all before the next frame.

    Raises:
      ValueError: not such a frame, another size than before, or as
        `windows.Cutter.add`.
    """
    for window in self._cutter.add(seconds, self._view(frame)):
      self._waiting.append(window)
      if len(self._waiting) == self._size:
        yield from self._answer()

  def finish(self) -> Iterator[_Event]:
    """Yields the windows and segments that are left.

    Raises:
      ValueError: there were fewer than two frames.
    """
    for window in self._cutter.finish():
      self._waiting.append(window)
      if len(self._waiting) == self._size:
        yield from self._answer()
    if self._waiting:
      yield from self._answer()
    yield from self._joiner.finish()

  def _answer(self) -> Iterator[_Event]:
    for window in next(self._named):
      yield window
      yield from self._joiner.add(window)

  def _view(self, frame: np.ndarray) -> np.ndarray:
    shape = getattr(frame, 'shape', ())
    if getattr(frame, 'dtype', None) != np.uint8 or not (
      len(shape) == 3 and shape[2] == 3 and min(shape) > 0
    ):
      raise ValueError(
        f'{self._name}: expected frames as uint8 RGB [h w 3], got '
        f'{getattr(frame, "dtype", type(frame).__name__)} {list(shape)}'
      )
    if shape != (self._shape or shape):
      change = upright.size_change(self._shape, shape)
      raise ValueError(f'{self._name} {change}')
    self._shape = shape
    if not self._are_views:
      return video_transforms.middle_view(frame, self._prep)
    size = self._prep.size
    if shape[:2] != (size, size):
      raise ValueError(
        f'{self._name}: expected views of {size}x{size}, got {list(shape)}'
      )
    return frame


def run(
  stream: Stream, frames: Iterable[tuple[float, np.ndarray]]
) -> Iterator[_Event]:
  """Names what happens in frames, to their end.

  Args:
    stream: without frames so far.
    frames: seconds and frame, as `Stream.add` takes them.

  Yields:
    Windows and segments. If the frames end with an error, what was seen so far
    comes first.

  Raises:
    ValueError: as `Stream.add`; or what `frames` raises.
  """
  try:
    for seconds, frame in frames:
      yield from stream.add(seconds, frame)
  except (ValueError, OSError) as e:
    # Nothing that was seen is lost.
    with contextlib.suppress(ValueError):  # nothing was seen
      yield from stream.finish()
    raise e
  yield from stream.finish()


def _read(
  planned: user_videos.Windows, prep: preprocessing.Preprocessing, size: int
) -> Iterator[list[windows.Window]]:
  """Reads the windows of a file, `size` at a time."""
  times = zip(planned.starts.tolist(), planned.ends.tolist(), strict=True)
  for clips in user_videos.read_windows(planned, prep, size):
    yield [windows.Window(*next(times), clip) for (clip,) in clips]
