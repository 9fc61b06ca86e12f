"""Runs one model for the page: a video and names in, an answer out.

This file does not use gradio. Videos are decoded in the child process of
`data.user_videos`, never in this one.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os

import cv2

from zsar_jax.data import decode, user_videos
from zsar_jax.inference import predictions
from zsar_jax.system import terminal
from zsar_jax.web import limits as limits_lib

# A video with at least this many windows gets a timeline.
_LONG = 4
_MOST_FRAMES = 32
_JPEG_QUALITY = 85
_STEPS = 100


class Refused(ValueError):
  """A request cannot be answered; the message tells the visitor why."""


class Gone(Exception):
  """The visitor does not wait for the answer any more."""


@dataclasses.dataclass(frozen=True)
class Answer:
  """The answer for one video.

  Attributes:
    prediction: the ranking; it names no folder of this machine.
    frames: (seconds, JPEG) of the frames that the model used.
    risks: the measured risk at thresholds 0, 0.01, ..., 1, as text; () without
      a calibration.
    duration: length of the video in seconds.
    is_long: whether `Desk.segments` can find segments.
  """

  prediction: predictions.Prediction
  frames: tuple[tuple[float, bytes], ...]
  risks: tuple[str, ...]
  duration: float
  is_long: bool

  def reliability(self, threshold: float) -> str:
    """Describes how reliable the answer is.

    Args:
      threshold: lowest probability of an answer, in [0, 1].
    """
    if self.risks:
      return self.risks[round(_STEPS * threshold)]
    return f'probabilities: {self.prediction.probabilities}'


class Desk:
  """A model, with the limits of the page.

  Only one thread may use it at a time: the class names are state of the model.
  """

  def __init__(self, model, title: str, limits: limits_lib.Limits):
    """Stores a model.

    Args:
      model: an `ActionModel`.
      title: name of the model on the page.
      limits: limits of the page.
    """
    self.title = title
    self._model, self._limits = model, limits

  @property
  def is_calibrated(self) -> bool:
    """Whether the model can answer "none of these"."""
    return bool(self._model.bank and self._model.bank.calibration)

  def another_model(self):
    """Returns a model of the same encoders and bank, with names of its own."""
    return type(self._model)(self._model.recognizer, self._model.bank)

  def answer(self, path: str, names: Sequence[str]) -> Answer:
    """Ranks names for a video.

    Args:
      path: path of an upload.
      names: from `limits.parse_names`.

    Returns:
      The answer.

    Raises:
      Refused: the video is too large, too long, or cannot be used.
    """
    model, prep = self._model, self._model.recognizer.prep
    try:
      limits_lib.check_size(os.path.getsize(path), self._limits)
      windows = user_videos.plan_windows(path, prep)
      duration = float(windows.ends[-1])
      limits_lib.check_duration(duration, self._limits)
      self._choose_from(names)
      prediction = model.predict(path)
      frames = self._frames(path)
    except (decode.VideoError, OSError, ValueError) as e:
      raise Refused(in_words(e, path)) from e
    risks = ()
    if self.is_calibrated:
      steps = range(_STEPS + 1)
      risks = tuple(model.describe_risk(i / _STEPS) for i in steps)
    prediction = dataclasses.replace(
      prediction,
      video=os.path.basename(path),
      warnings=tuple(_without_folder(w, path) for w in prediction.warnings),
    )
    has_probabilities = prediction.ranking[0].probability is not None
    is_long = has_probabilities and len(windows.starts) >= _LONG
    return Answer(prediction, frames, risks, duration, is_long)

  def segments(
    self,
    path: str,
    names: Sequence[str],
    progress: Callable[[int, int], None],
  ) -> list[predictions.NamedSegment]:
    """Divides a video into segments, each with a name.

    Args:
      path: path of an upload that `answer` has accepted.
      names: from `limits.parse_names`.
      progress: called with the number of finished windows, and of all. An
        exception that it raises stops the work.

    Returns:
      Segments that cover the video.

    Raises:
      Refused: the video cannot be used any more.
    """
    try:
      self._choose_from(names)
      found, _ = self._model.segment(path, progress=progress)
    except (decode.VideoError, OSError, ValueError) as e:
      raise Refused(in_words(e, path)) from e
    return found

  def _choose_from(self, names: Sequence[str]) -> None:
    if list(self._model.classes) == list(names):
      return
    try:
      self._model.clear_classes().add_classes(names)
    except ValueError as e:
      # The rest of the message is for developers.
      why = str(e).partition(';')[0]
      raise Refused(f'This model cannot read a name: {why}.') from e

  def _frames(self, path: str) -> tuple[tuple[float, bytes], ...]:
    """Returns (seconds, JPEG) of the model's frames, only the middle crop."""
    recognizer = self._model.recognizer
    config = recognizer.config.zeroshot
    views = user_videos.read_views(
      path, recognizer.prep, config.num_views, config.num_crops
    )
    of_crop = views.clips[config.num_crops // 2 :: config.num_crops]
    seconds = views.times.reshape(-1)
    pictures = of_crop.reshape(-1, *of_crop.shape[2:])
    found = []
    for i in range(0, len(seconds), -(-len(seconds) // _MOST_FRAMES)):
      bgr = cv2.cvtColor(pictures[i], cv2.COLOR_RGB2BGR)
      quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
      _, jpeg = cv2.imencode('.jpg', bgr, quality)
      found.append((float(seconds[i]), jpeg.tobytes()))
    return tuple(sorted(found, key=lambda frame: frame[0]))


def in_words(error: Exception, path: str) -> str:
  """Describes an error to a visitor, without folders of this machine.

  Args:
    error: the error.
    path: path of the video.
  """
  if isinstance(error, FileNotFoundError):
    return 'The video is not here any more. Choose or record it again.'
  if isinstance(error, OSError):
    return f'The video cannot be read ({error.strerror or "unknown reason"}).'
  return _without_folder(str(error), path)


def _without_folder(words: str, path: str) -> str:
  name = terminal.visible_name(os.path.basename(path))
  for whole in (path, terminal.visible_name(path)):
    words = words.replace(whole, name)
  return words
