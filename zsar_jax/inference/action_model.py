"""The Python API: give class names, get them ranked for a video.

```python
import zsar_jax

model = zsar_jax.load('runs/demo')
model.add_classes(['juggling', 'rowing'])
print(model.predict('clip.mp4'))
```

It needs encoders and a prototype bank. A class needs its name alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import functools
import itertools
import os

import numpy as np

from zsar_jax.data import class_names, isolated, user_videos
from zsar_jax.inference import (
  candidates,
  confidence,
  example_videos,
  model_files,
  model_sources,
  predictions,
  prototype_bank,
  public_folders,
  rankings,
  saved_encoders,
  streams,
)
from zsar_jax.inference import encoders as encoders_lib


class ActionModel:
  """Encoders, a prototype bank and the classes to choose from.

  Attributes:
    recognizer: the encoders.
    bank: the prototype bank; None compares videos with names directly.
    warnings: warnings about the classes and the probabilities.
  """

  def __init__(
    self,
    recognizer: encoders_lib.Recognizer,
    bank: prototype_bank.PrototypeBank | None,
    bank_path: str = '',
  ):
    """Joins encoders and a bank.

    Args:
      recognizer: the encoders.
      bank: bank of these encoders. The model starts with its added classes.
        None ranks by the nearest name.
      bank_path: path of the bank, for messages.

    Raises:
      ValueError: the bank belongs to other encoders; or there is no bank, and
        videos and names have no joint space.
    """
    if bank is not None:
      prototype_bank.check_belongs(
        bank, recognizer.weights_hash, recognizer.prep.to_json(), bank_path
      )
    elif not recognizer.joint:
      raise ValueError(
        'without a prototype bank, videos are compared with names directly, '
        f'but these weights have no joint space: {recognizer.origin}'
      )
    self.recognizer, self.bank = recognizer, bank
    self._confidence = confidence.Confidence(
      bank and bank.calibration, bank is None
    )
    self._candidates = candidates.Candidates(recognizer, bank)

  @property
  def classes(self) -> tuple[str, ...]:
    """Canonical names that `predict` chooses from."""
    return self._candidates.names

  def add_classes(
    self,
    names: Sequence[str],
    videos: Mapping[str, Sequence[str]] | None = None,
    descriptions: Mapping[str, Sequence[str]] | None = None,
  ) -> 'ActionModel':
    """Adds classes to choose from.

    Args:
      names: class names in any spelling, seen in training or not.
      videos: name -> paths of a few example videos, for any of the names that
        are not seen; see `zeroshot.examples`.
      descriptions: name -> sentences; they precede the encoders' own.

    Returns:
      The model itself.

    Raises:
      ValueError: no list of names, or one is empty or there already; examples
        or descriptions that are bad or of other names. Nothing is added then.
    """
    names = class_names.canonical_names(names, 'classes')
    again = [name for name in names if name in self.classes]
    if again:
      raise ValueError(f'classes that were added already: {again}')
    recognizer = candidates.describe(self.recognizer, names, descriptions)
    checked = example_videos.check(self.bank, names, videos or {})
    examples = {}
    if checked:
      examples = example_videos.directions(self.recognizer, self.bank, checked)
    self._candidates.add(names, recognizer, examples)
    self.recognizer = recognizer
    return self

  def clear_classes(self) -> 'ActionModel':
    """Removes all classes to choose from; returns the model itself."""
    self._candidates.clear()
    return self

  def explain(self) -> dict[str, tuple[tuple[str, float], ...]]:
    """Returns up to 3 (seen class, weight) pairs behind each class."""
    return self._candidates.explain()

  @property
  def warnings(self) -> list[str]:
    """Warnings about classes and probabilities, for the user."""
    of_classes = self._candidates.warnings(self.recognizer)
    return of_classes + self._confidence.warnings

  @property
  def probabilities(self) -> str:
    """Says what probabilities were measured on, or why there are none."""
    return self._confidence.described

  def _domain_warning(self, path: str, comment: str) -> list[str]:
    domain = self.bank.domain if self.bank else ''
    return predictions.domain_warnings(domain, path, comment)

  def predict(
    self, path: str, reject_below: float | None = None
  ) -> predictions.Prediction:
    """Ranks the classes for a video.

    With a bank it ranks by semantic transfer, else by the nearest name.

    Args:
      path: path of a video in any format that PyAV reads.
      reject_below: answer "none of these" if no class reaches this
        probability.

    Returns:
      The prediction.

    Raises:
      VideoError: the video cannot be used.
      ValueError: there are no classes, or a threshold without a calibration.
    """
    (prediction,) = self.predict_many([path], reject_below)
    if isinstance(prediction, Exception):
      raise prediction
    return prediction

  def _rank(
    self,
    paths: Sequence[str],
    views: Sequence[user_videos.Views],
    batch_size: int,
    reject_below: float | None,
  ) -> list[predictions.Prediction]:
    """Predicts readable videos in one batch."""
    scored = rankings.rank_views(
      self.recognizer, self._candidates, self._confidence, views, batch_size
    )
    risk = ''
    if reject_below is not None:
      risk = self.describe_risk(reject_below)
    warnings = self.warnings
    return [
      predictions.Prediction(
        ranking,
        (
          *of_video.warnings,
          *self._domain_warning(path, of_video.comment),
          *warnings,
        ),
        path,
        none,
        predictions.answer(ranking, reject_below),
        risk,
        self.probabilities,
        self.recognizer.origin,
        self.recognizer.source,
      )
      for path, of_video, (ranking, none) in zip(
        paths, views, scored, strict=True
      )
    ]

  def describe_risk(self, threshold: float) -> str:
    """Describes measured risk and coverage of answers above a threshold."""
    return self._confidence.describe_risk(threshold, len(self.classes))

  def predict_many(
    self,
    paths: Sequence[str],
    reject_below: float | None = None,
    batch_size: int = 8,
  ) -> Iterator[predictions.Prediction | Exception]:
    """Ranks the classes for several videos, in batches.

    Args:
      paths: paths of the videos.
      reject_below: as for `predict`.
      batch_size: videos per batch.

    Yields:
      For each video in order, its prediction, or its error if it cannot be
      used. A bad file does not stop the others.
    """
    if isinstance(paths, str):
      raise ValueError(f'expected a list of paths, got the text {paths!r}')
    self._candidates.check()
    self._confidence.check_threshold(reject_below)
    size = min(len(paths), batch_size)
    # The next videos are decoded while these are encoded.
    read = functools.partial(example_videos.read, self.recognizer)
    jobs = (functools.partial(read, path) for path in paths)
    results = isolated.read_ahead(jobs, ahead=2 * size)
    for first in range(0, len(paths), size or 1):
      part = paths[first : first + size]
      views = list(itertools.islice(results, len(part)))
      good = [i for i, v in enumerate(views) if not isinstance(v, Exception)]
      if good:
        ranked = self._rank(
          [part[i] for i in good], [views[i] for i in good], size, reject_below
        )
        for i, prediction in zip(good, ranked, strict=True):
          views[i] = prediction
      yield from views

  def windows(
    self,
    path: str,
    *,
    window: float = 0.0,
    stride: float = 0.0,
    batch_size: int = 0,
    progress=lambda done, total: None,
  ) -> Iterator[predictions.NamedWindow]:
    """Names the windows of a long video.

    Args:
      path: a video file.
      window: seconds; see `data.windows.window_seconds`.
      stride: seconds; 0 means half a window.
      batch_size: windows encoded at a time; 0 takes the config's.
      progress: called with the number of finished windows, and of all windows.

    Returns:
      An iterator over the windows, in order.

    Raises:
      ValueError: as `segment`.
    """
    namer, planned = self._window_namer(), self._plan(path, window, stride)
    size = batch_size or self.recognizer.config.zeroshot.batch_size
    return namer.name_file(planned, size, progress)

  def _plan(self, path: str, window: float, stride: float):
    prep = self.recognizer.prep
    return user_videos.plan_windows(path, prep, window, stride)

  def _window_namer(self) -> streams.WindowNamer:
    return streams.WindowNamer(
      self.recognizer, self._candidates, self._confidence
    )

  def segment(
    self,
    path: str,
    *,
    window: float = 0.0,
    stride: float = 0.0,
    switch_cost: float = 1.0,
    progress=lambda done, total: None,
  ) -> tuple[list[predictions.NamedSegment], list[str]]:
    """Divides a long video into segments, each with a name.

    Args:
      path: path of a video.
      window: seconds; see `data.windows.window_seconds`.
      stride: seconds; 0 means half a window.
      switch_cost: in nats; see `segments.best_path`.
      progress: called with the number of finished windows, and of all windows.

    Returns:
      Segments that cover the video, and warnings.

    Raises:
      VideoError: the video cannot be used.
      ValueError: there are no classes, or no calibration.
    """
    namer, planned = self._window_namer(), self._plan(path, window, stride)
    size = self.recognizer.config.zeroshot.batch_size
    named = list(namer.name_file(planned, size, progress))
    found = streams.join(named, namer.names, switch_cost)
    warnings = self._domain_warning(path, planned.comment)
    return found, warnings + self.segment_warnings

  @property
  def segment_warnings(self) -> list[str]:
    """Returns `warnings`, and what the probabilities of segments lack."""
    if self._confidence.calibrated:
      return self.warnings
    return [*self.warnings, f'probabilities: {self.probabilities}']

  def open_stream(self, **kwargs) -> streams.Stream:
    """Returns a `Stream` of the classes of now; `kwargs` are its own."""
    return streams.Stream(self._window_namer(), **kwargs)

  def stream(
    self, frames: Iterable[tuple[float, np.ndarray]], **kwargs
  ) -> Iterator[predictions.NamedWindow | predictions.NamedSegment]:
    """Names what happens in frames as they come, such as those of a camera.

    Args:
      frames: (seconds, uint8 RGB [h w 3]); seconds count from anywhere, and
        frames may be missing or late.
      **kwargs: of `streams.Stream`: `window`, `stride`, `switch_cost`, ...

    Returns:
      An iterator over windows, each when complete, and segments, each when no
      later window can change it; in seconds after the first frame. Where the
      frames end with an error, what was seen comes before it.

    Raises:
      ValueError: no classes or no calibration, at once; while iterating, a
        frame that cannot be used.
    """
    return streams.run(self.open_stream(**kwargs), frames)


def load(path: str, workdir: str = '', step: int | None = None) -> ActionModel:
  """Loads encoders and their prototype bank.

  Args:
    path: workdir of a finished run, exported folder, name of a shipped model,
      bank file, or pushed model of the Hub, `hf:org/name[@revision]`.
    workdir: folder of the bank's encoders; by default the folder of the bank.
    step: of the run's checkpoint and of the bank; None means the newest.

  Returns:
    The model. Its classes to choose from are the bank's added classes.

  Raises:
    FileNotFoundError: there is no bank, or no checkpoint.
    OSError: see `model_sources.resolve`.
    ValueError: no path, a damaged bank, or one of other encoders.
  """
  if not path:
    raise ValueError(
      'load needs a model: the folder of a run, a bank file, hf:org/name, or a '
      f'model that comes along: {", ".join(model_files.shipped())}'
    )
  if os.path.isfile(path):
    workdir = model_sources.pin(
      workdir or os.path.dirname(os.path.abspath(path))
    )
  else:
    path = model_sources.pin(path)
    workdir = model_sources.pin(workdir or path)
    path = os.path.join(model_sources.resolve(path), prototype_bank.BANK_FILE)
  # The bank comes first, since it loads faster. If the folder is missing,
  # loading the encoders raises the better error.
  exists = os.path.isdir(model_sources.resolve(workdir))
  bank = prototype_bank.load_bank(path) if exists else None
  recognizer = saved_encoders.load(workdir, step)
  return ActionModel(recognizer, bank, path)


def load_pretrained(weights: str, dtype: str = 'float32') -> ActionModel:
  """Loads public weights with a joint space of videos and texts, such as CLIP.

  Args:
    weights: a folder, or an id `hf:org/name[@revision]`.
    dtype: 'float32' or 'bfloat16'; see `public_folders.open_sides`.

  Returns:
    The model, without bank and classes. It ranks by the nearest name.

  Raises:
    FileNotFoundError: a file is missing.
    OSError: see `pretrained.hub.resolve`.
    ValueError: files are damaged, or the weights have no joint space.
  """
  return ActionModel(public_folders.open_dual(weights, dtype), None)
