"""Name actions, point at a video: the Python API.

```python
import zsar_jax

model = zsar_jax.load('runs/demo')
model.add_classes(['juggling', 'rowing'])
print(model.predict('clip.mp4'))
```

Encoders and a prototype bank are all it needs: a class is added by its name,
without any video of it and without training.
"""

from collections.abc import Iterator, Sequence
import os

import numpy as np

from zsar_jax.data import class_names, decode, user_videos
from zsar_jax.data.datasets import records
from zsar_jax.evaluation import methods, task
from zsar_jax.inference import encoders as encoders_lib
from zsar_jax.inference import (
  model_files,
  predictions,
  prototype_bank,
  saved_encoders,
)
from zsar_jax.system import terminal
from zsar_jax.zeroshot import calibration as calibration_lib
from zsar_jax.zeroshot import scoring, segments

_TOP_SEEN = 3
_BATCH = 8


class ActionModel:
  """Encoders, a prototype bank and the classes to choose from.

  Attributes:
    recognizer: the encoders.
    bank: the seen prototypes.
    classes: canonical names that `predict` chooses from.
    warnings: about the classes.
  """

  def __init__(
    self,
    recognizer: encoders_lib.Recognizer,
    bank: prototype_bank.PrototypeBank,
    bank_path: str = '',
  ):
    """Puts encoders and bank together.

    Args:
      recognizer: the encoders.
      bank: made by these encoders; classes that were added to it are there
        to choose from at once.
      bank_path: of the bank, for messages.

    Raises:
      ValueError: the bank was made by others.
    """
    prototype_bank.check_belongs(
      bank, recognizer.weights_hash, recognizer.prep.to_json(), bank_path
    )
    self.recognizer, self.bank = recognizer, bank
    self.classes: tuple[str, ...] = ()
    settings = dict(bank.settings)
    self._settings = (
      methods.TransferSettings(**settings)
      if settings
      else recognizer.transfer_settings
    )
    self._calibration = None
    if bank.calibration:
      self._calibration = calibration_lib.Calibration.from_dict(
        bank.calibration
      )
    initial = recognizer.initial_embeddings()
    wanted = self._settings.relatedness_source == 'initial'
    self._seen = task.Classes(
      bank.seen_classes,
      bank.class_embeddings,
      initial_text=initial(bank.seen_classes) if initial and wanted else None,
    )
    self._initial = initial if wanted else None
    self._text = bank.class_embeddings[:0]
    self._prototypes = bank.seen_prototypes[:0]
    self._weights = np.zeros((0, len(bank.seen_classes)))
    if bank.added_classes:
      self._add(bank.added_classes, bank.added_embeddings)

  def add_classes(self, names: Sequence[str]) -> 'ActionModel':
    """Adds classes to choose from.

    Args:
      names: in any spelling; seen in training or not.

    Returns:
      The model itself.

    Raises:
      ValueError: no names, an empty one, or one that is there already.
    """
    names = class_names.canonical_names(names, 'classes')
    again = [name for name in names if name in self.classes]
    if again:
      raise ValueError(f'classes that are there already: {again}')
    self._add(names, self.recognizer.encode_class_names(names)['embedding'])
    return self

  def clear_classes(self) -> 'ActionModel':
    """Forgets all classes to choose from."""
    self.classes = ()
    self._text, self._prototypes = self._text[:0], self._prototypes[:0]
    self._weights = self._weights[:0]
    return self

  def _add(self, names, text) -> None:
    """Composites prototypes for encoded names; a seen one has its own."""
    new = task.Classes(
      tuple(names),
      text,
      initial_text=self._initial(names) if self._initial else None,
    )
    prototypes, weights = methods.unseen_prototypes(
      self._seen, self.bank.seen_prototypes, new, self._settings
    )
    # A class with a prototype of its own needs no composite.
    for row, name in enumerate(names):
      if name in self.bank.seen_classes:
        at = self.bank.seen_classes.index(name)
        prototypes[row] = self.bank.seen_prototypes[at]
        weights[row] = np.arange(weights.shape[1]) == at
    self.classes += tuple(names)
    self._text = np.concatenate([self._text, text])
    self._prototypes = np.concatenate([self._prototypes, prototypes])
    self._weights = np.concatenate([self._weights, weights])

  def explain(self) -> dict[str, tuple[tuple[str, float], ...]]:
    """Returns up to 3 (seen class, weight) pairs behind each class."""
    found = {}
    for name, weights in zip(self.classes, self._weights, strict=True):
      largest = np.argsort(-weights, kind='stable')[:_TOP_SEEN]
      found[name] = tuple(
        (self.bank.seen_classes[s], float(weights[s])) for s in largest
      )
    return found

  @property
  def warnings(self) -> list[str]:
    """Returns warnings about the classes for the user."""
    return predictions.class_warnings(self.classes, self.bank.seen_classes)

  def _check_classes(self) -> None:
    if not self.classes:
      raise ValueError('no classes to choose from: add_classes comes first')

  def _domain_warning(self, path: str, comment: str) -> list[str]:
    domain = self.bank.domain
    if domain != records.RENDERED_DOMAIN or comment == records.RENDERED_TAG:
      return []
    return [
      f'these weights were trained on {domain} alone and '
      f'{terminal.visible_name(path)} is something else: the ranking means '
      'little'
    ]

  def predict(
    self, path: str, reject_below: float | None = None
  ) -> predictions.Prediction:
    """Ranks the classes for a video, by semantic transfer.

    Args:
      path: a video file in any format PyAV reads.
      reject_below: answer "none of these" where no class is as probable.

    Returns:
      The ranking.

    Raises:
      VideoError: the video cannot be used.
      ValueError: no classes, or a threshold without a calibration.
    """
    (prediction,) = self.predict_many([path], reject_below)
    if isinstance(prediction, Exception):
      raise prediction
    return prediction

  def _read(self, path: str) -> user_videos.Views | Exception:
    """Returns a video's views, or why there are none."""
    config = self.recognizer.config.zeroshot
    try:
      return user_videos.read_views(
        path, self.recognizer.prep, config.num_views, config.num_crops
      )
    except (decode.VideoError, OSError) as e:
      return e

  def _rank(
    self,
    paths: Sequence[str],
    views: Sequence[user_videos.Views],
    batch_size: int,
    reject_below: float | None,
  ) -> list[predictions.Prediction]:
    """Predictions of videos that could be read, encoded together."""
    clips = np.stack([v.clips for v in views])
    # One shape for all batches: nothing is compiled again for the last.
    padding = batch_size - len(clips)
    clips = np.pad(clips, [(0, padding)] + [(0, 0)] * 5, mode='edge')
    embeddings, match = self.recognizer.encode_videos(clips, self.classes)
    embeddings = embeddings[: len(views)]
    if not match.shape[1]:
      match = np.full((len(match), len(self.classes)), None)
    scores = np.asarray(scoring.similarity_scores(embeddings, self._prototypes))
    near = np.full(scores.shape, None)
    if self.recognizer.joint:
      near = np.asarray(scoring.similarity_scores(embeddings, self._text))
    probabilities, none = self._probabilities(scores)
    explained, warnings = self.explain(), self.warnings
    risk = ''
    if reject_below is not None:
      risk = self.describe_risk(reject_below)
    found = []
    for v, (path, of_video) in enumerate(zip(paths, views, strict=True)):
      ranking = tuple(
        predictions.Ranked(
          self.classes[i],
          None if none is None else float(probabilities[v, i]),
          float(scores[v, i]),
          near.tolist()[v][i],
          match.tolist()[v][i],
          explained[self.classes[i]],
        )
        for i in np.argsort(-scores[v], kind='stable')
      )
      answer = ranking[0].name
      if reject_below is not None and ranking[0].probability < reject_below:
        answer = predictions.NONE_OF_THESE
      found.append(
        predictions.Prediction(
          ranking,
          (
            *of_video.warnings,
            *self._domain_warning(path, of_video.comment),
            *warnings,
          ),
          path,
          None if none is None else float(none[v]),
          answer,
          risk,
        )
      )
    return found

  def _probabilities(self, scores: np.ndarray):
    """Of the classes [b c] and of none of them [b]; None, None without."""
    if self._calibration is None:
      return None, None
    return self._calibration.probabilities(scores)

  def _check_threshold(self, threshold: float | None) -> None:
    if threshold is None:
      return
    if not 0 <= threshold <= 1:
      raise ValueError(f'reject_below={threshold} is not in [0, 1]')
    if self._calibration is None:
      raise ValueError('the bank has no calibration, so nothing to reject by')

  def describe_risk(self, threshold: float) -> str:
    """Describes the measured risk above a probability; no guarantee."""
    risk, coverage = self._calibration.risk(threshold, len(self.classes))
    if not coverage:
      return f'no video was answered at {threshold:g} when this was measured'
    return (
      f'answers at {threshold:g} or more were wrong in {risk:.0%}, and '
      f'{coverage:.0%} of videos were answered, half of which showed no '
      f'candidate (measured on {self._calibration.measured_on})'
    )

  def predict_many(
    self, paths: Sequence[str], reject_below: float | None = None
  ) -> Iterator[predictions.Prediction | Exception]:
    """Predictions of several videos, in order, some encoded at a time.

    Args:
      paths: of the files.
      reject_below: as `predict`.

    Yields:
      A prediction, or the error of a video that cannot be used: one bad file
      does not end the others.
    """
    self._check_classes()
    self._check_threshold(reject_below)
    size = min(len(paths), _BATCH)
    for first in range(0, len(paths), size or 1):
      part = paths[first : first + size]
      read = [self._read(path) for path in part]
      good = [i for i, v in enumerate(read) if not isinstance(v, Exception)]
      if good:
        ranked = self._rank(
          [part[i] for i in good], [read[i] for i in good], size, reject_below
        )
        for i, prediction in zip(good, ranked, strict=True):
          read[i] = prediction
      yield from read

  def segment(
    self,
    path: str,
    *,
    window: float = 0.0,
    stride: float = 0.0,
    switch_cost: float = 1.0,
    progress=lambda done, total: None,
  ) -> tuple[list[predictions.NamedSegment], list[str]]:
    """Finds what happens when in a long video.

    Args:
      path: a video file.
      window: seconds; 0 chooses by the weights, see
        `user_videos.plan_windows`.
      stride: seconds; 0 means half a window.
      switch_cost: in nats; see `segments.best_path`.
      progress: gets the number of windows done, and of all windows.

    Returns:
      Segments that cover the video, and warnings.

    Raises:
      VideoError: the video cannot be used.
      ValueError: no classes, or no calibration.
    """
    self._check_classes()
    if self._calibration is None:
      raise ValueError('the bank has no calibration, which segments need')
    windows = user_videos.plan_windows(
      path, self.recognizer.prep, window, stride
    )
    total, parts = len(windows.starts), []
    size = self.recognizer.config.zeroshot.batch_size
    for clips in user_videos.read_windows(windows, self.recognizer.prep, size):
      n = len(clips)
      if n < size and total > size:
        clips = np.pad(clips, [(0, size - n)] + [(0, 0)] * 5, mode='edge')
      embeddings, _ = self.recognizer.encode_videos(clips)
      parts.append(embeddings[:n])
      progress(sum(map(len, parts)), total)
    scores = scoring.similarity_scores(np.concatenate(parts), self._prototypes)
    probabilities, none = self._probabilities(np.asarray(scores))
    found = segments.find_segments(
      windows.starts, windows.ends, probabilities, none, switch_cost
    )
    name = lambda label: (
      predictions.NONE_OF_THESE
      if label == segments.NONE
      else self.classes[label]
    )
    named = [
      predictions.NamedSegment(s.start, s.end, name(s.label), s.score)
      for s in found
    ]
    return named, self._domain_warning(path, windows.comment) + self.warnings


def load(path: str, workdir: str = '', step: int | None = None) -> ActionModel:
  """Loads encoders and their prototype bank.

  Args:
    path: workdir of a finished run, a folder that `bank export` wrote, the
      name of a model that ships ('stick_figures'), or a bank file.
    workdir: of the run that has the bank's encoders; by default the folder
      that the bank lies in.
    step: of the run's checkpoint to take; None means the newest. The bank
      must be of the same step.

  Returns:
    The model, without classes to choose from but those that were added to
    the bank.

  Raises:
    FileNotFoundError: no bank or no checkpoint there.
    ValueError: not a bank, or the bank of other encoders.
  """
  if os.path.isfile(path):
    workdir = workdir or os.path.dirname(os.path.abspath(path))
  else:
    path = model_files.resolve(path)
    workdir = model_files.resolve(workdir or path)
    path = os.path.join(path, prototype_bank.BANK_FILE)
  # Before the weights, which take longer; without a workdir these say why.
  bank = prototype_bank.load_bank(path) if os.path.isdir(workdir) else None
  recognizer = saved_encoders.load(workdir, step)
  return ActionModel(recognizer, bank, path)
