"""One model at work for the page: a video and names in, an answer out.

Nothing in here knows the page's toolkit. Files are decoded by the child
process of `data.user_videos`, never in this one.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os

import cv2

from zsar_jax.data import decode, user_videos
from zsar_jax.inference import predictions
from zsar_jax.system import terminal
from zsar_jax.web import limits as limits_lib

# From this many windows on a video is long: it gets a timeline.
_LONG = 4
_MOST_FRAMES = 32
_JPEG_QUALITY = 85
_STEPS = 100


class Refused(ValueError):
  """What was asked for cannot be done; says why to the visitor."""


class Gone(Exception):
  """Nobody waits for the answer any more."""


@dataclasses.dataclass(frozen=True)
class Answer:
  """What the page shows of one video.

  Attributes:
    prediction: the ranking; it names no folder of this machine.
    frames: seconds and JPEG of the frames that were looked at.
    risks: the measured risk at thresholds 0, 0.01, ..., 1, in words; () where
      the bank has none.
    duration: seconds.
    is_long: whether `Desk.segments` has more to say.
  """

  prediction: predictions.Prediction
  frames: tuple[tuple[float, bytes], ...]
  risks: tuple[str, ...]
  duration: float
  is_long: bool

  def reliability(self, threshold: float) -> str:
    """Says how far the answer can be believed.

    Args:
      threshold: probability below which no name is accepted.
    """
    if self.risks:
      return self.risks[round(_STEPS * threshold)]
    return f'probabilities: {self.prediction.probabilities}'


class Desk:
  """A model and the limits that hold for its visitors.

  Not for several threads at once: the names belong to the model.
  """

  def __init__(self, model, title: str, limits: limits_lib.Limits):
    """Takes a model.

    Args:
      model: an `ActionModel`.
      title: what to call it.
      limits: of the page.
    """
    self.title = title
    self._model, self._limits = model, limits

  @property
  def is_calibrated(self) -> bool:
    """Returns whether the model can say "none of these"."""
    return bool(self._model.bank and self._model.bank.calibration)

  def another_model(self):
    """Returns a model of the same encoders and bank, with names of its own."""
    return type(self._model)(self._model.recognizer, self._model.bank)

  def answer(self, path: str, names: Sequence[str]) -> Answer:
    """Ranks names for a video.

    Args:
      path: of an upload.
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
    """Finds what happens when.

    Args:
      path: of an upload for which there is an answer.
      names: from `limits.parse_names`.
      progress: gets the number of windows done, and of all; what it raises
        ends the work.

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
      # What follows is for whoever trains models.
      why = str(e).partition(';')[0]
      raise Refused(f'This model cannot read a name: {why}.') from e

  def _frames(self, path: str) -> tuple[tuple[float, bytes], ...]:
    """Seconds and JPEGs of what the model saw, of the middle crop alone."""
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
  """Says an error to a visitor, without folders of this machine.

  Args:
    error: about a video.
    path: of the video.
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
