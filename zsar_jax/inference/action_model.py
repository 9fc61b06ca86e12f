"""The Python API: give class names, get them ranked for a video.

```python
import zsar_jax

model = zsar_jax.load('runs/demo')
model.add_classes(['juggling', 'rowing'])
print(model.predict('clip.mp4'))
```

It needs encoders and a prototype bank. A class is added by its name, without
any video of it and without training.
"""

from collections.abc import Iterator, Mapping, Sequence
import functools
import itertools
import os

import numpy as np

from zsar_jax.data import class_names, decode, isolated, user_videos
from zsar_jax.data.datasets import records
from zsar_jax.inference import (
  candidates,
  confidence,
  model_files,
  predictions,
  prototype_bank,
  public_folders,
  saved_encoders,
)
from zsar_jax.inference import encoders as encoders_lib
from zsar_jax.system import terminal
from zsar_jax.zeroshot import scoring, segments


class ActionModel:
  """Encoders, a prototype bank and the classes to choose from.

  Attributes:
    recognizer: the encoders.
    bank: the prototype bank; None compares videos with names directly.
    warnings: warnings about the classes.
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
    descriptions: Mapping[str, Sequence[str]] | None = None,
  ) -> 'ActionModel':
    """Adds classes to choose from.

    Args:
      names: class names in any spelling, seen in training or not.
      descriptions: name -> sentences; they precede the encoders' own.

    Returns:
      The model itself.

    Raises:
      ValueError: no names, an empty or known one, or bad descriptions.
    """
    names = class_names.canonical_names(names, 'classes')
    again = [name for name in names if name in self.classes]
    if again:
      raise ValueError(f'classes that were added already: {again}')
    self.recognizer = candidates.describe(self.recognizer, names, descriptions)
    self._candidates.add(names, self.recognizer)
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
    """Warnings about the classes, for the user."""
    if self.bank is None:
      return []
    return predictions.class_warnings(
      self.classes, self.bank.seen_classes, self.recognizer.read_elsewhere
    )

  def _check_classes(self) -> None:
    if not self.classes:
      raise ValueError('no classes to choose from: call add_classes first')

  def _domain_warning(self, path: str, comment: str) -> list[str]:
    domain = self.bank.domain if self.bank else ''
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

  def _read(self, path: str) -> user_videos.Views | Exception:
    """Returns a video's views, or the error if it cannot be used."""
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
    """Predicts readable videos in one batch."""
    clips = np.stack([v.clips for v in views])
    # Pad the last batch, so that nothing is compiled again for it.
    padding = batch_size - len(clips)
    clips = np.pad(clips, [(0, padding)] + [(0, 0)] * 5, mode='edge')
    embeddings, match = self.recognizer.encode_videos(clips, self.classes)
    embeddings, match = embeddings[: len(views)], match[: len(views)]
    scored = self._scores(embeddings, match)
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
        self._confidence.described,
        self.recognizer.origin,
      )
      for path, of_video, (ranking, none) in zip(
        paths, views, scored, strict=True
      )
    ]

  def _scores(self, embeddings: np.ndarray, match: np.ndarray):
    """Yields ranking and probability of none of the classes for each video."""
    by = self._candidates
    near = None
    if self.recognizer.joint:
      near = np.asarray(scoring.similarity_scores(embeddings, by.text))
    scores = near
    if by.prototypes is not None:
      scores = np.asarray(scoring.similarity_scores(embeddings, by.prototypes))
    probabilities, none = self._confidence.probabilities(scores, match)
    explained = self.explain()
    of = lambda rows, v, i: None if rows is None else float(rows[v, i])
    match = match if match.shape[1] else None
    for v in range(len(embeddings)):
      ranking = tuple(
        predictions.Ranked(
          self.classes[i],
          of(probabilities, v, i),
          float(scores[v, i]),
          of(near, v, i),
          of(match, v, i),
          explained[self.classes[i]],
        )
        for i in np.argsort(-scores[v], kind='stable')
      )
      yield ranking, None if none is None else float(none[v])

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
    self._check_classes()
    self._confidence.check_threshold(reject_below)
    size = min(len(paths), batch_size)
    # The next videos are decoded while these are encoded.
    jobs = (functools.partial(self._read, path) for path in paths)
    results = isolated.read_ahead(jobs, ahead=2 * size)
    for first in range(0, len(paths), size or 1):
      part = paths[first : first + size]
      read = list(itertools.islice(results, len(part)))
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
    """Divides a long video into segments, each with a name.

    Args:
      path: path of a video.
      window: seconds; 0 chooses by the weights, see
        `user_videos.plan_windows`.
      stride: seconds; 0 means half a window.
      switch_cost: in nats; see `segments.best_path`.
      progress: called with the number of finished windows, and of all windows.

    Returns:
      Segments that cover the video, and warnings.

    Raises:
      VideoError: the video cannot be used.
      ValueError: there are no classes, or no calibration.
    """
    self._check_classes()
    self._confidence.check_segments()
    windows = user_videos.plan_windows(
      path, self.recognizer.prep, window, stride
    )
    probabilities, none = self._window_probabilities(windows, progress)
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
    warnings = self._domain_warning(path, windows.comment) + self.warnings
    if not self._confidence.calibrated:
      warnings.append(f'probabilities: {self._confidence.described}')
    return named, warnings

  def _window_probabilities(self, windows: user_videos.Windows, progress):
    """Of the classes [w c], and of none of them [w]."""
    total, parts, logits = len(windows.starts), [], []
    size = self.recognizer.config.zeroshot.batch_size
    # Only without a bank: elsewhere matching would be the larger part.
    names = self.classes if self.bank is None else ()
    for clips in user_videos.read_windows(windows, self.recognizer.prep, size):
      n = len(clips)
      if n < size and total > size:
        clips = np.pad(clips, [(0, size - n)] + [(0, 0)] * 5, mode='edge')
      embeddings, match = self.recognizer.encode_videos(clips, names)
      parts.append(embeddings[:n])
      logits.append(match[:n])
      progress(sum(map(len, parts)), total)
    scores = logits = np.concatenate(logits)
    if self._candidates.prototypes is not None:
      scores = np.asarray(
        scoring.similarity_scores(
          np.concatenate(parts), self._candidates.prototypes
        )
      )
    probabilities, none = self._confidence.probabilities(scores, logits)
    return probabilities, np.zeros(total) if none is None else none


def load(path: str, workdir: str = '', step: int | None = None) -> ActionModel:
  """Loads encoders and their prototype bank.

  Args:
    path: workdir of a finished run, a folder that `bank export` wrote, the
      name of a shipped model ('stick_figures'), or a bank file.
    workdir: folder of the bank's encoders; by default the folder of the bank.
    step: step of the run's checkpoint; None means the newest. The bank must
      belong to the same step.

  Returns:
    The model. Its classes to choose from are the bank's added classes.

  Raises:
    FileNotFoundError: there is no bank, or no checkpoint.
    ValueError: the bank is damaged, or belongs to other encoders.
  """
  if os.path.isfile(path):
    workdir = workdir or os.path.dirname(os.path.abspath(path))
  else:
    path = model_files.resolve(path)
    workdir = model_files.resolve(workdir or path)
    path = os.path.join(path, prototype_bank.BANK_FILE)
  # The bank comes first, since it loads faster. If the folder is missing,
  # loading the encoders raises the better error.
  bank = prototype_bank.load_bank(path) if os.path.isdir(workdir) else None
  recognizer = saved_encoders.load(workdir, step)
  return ActionModel(recognizer, bank, path)


def load_pretrained(weights: str) -> ActionModel:
  """Loads public weights with a joint space of videos and texts, such as CLIP.

  Args:
    weights: a folder, or an id `hf:org/name[@revision]`.

  Returns:
    The model, without bank and classes. It ranks by the nearest name.

  Raises:
    FileNotFoundError: a file is missing.
    OSError: see `pretrained.hub.resolve`.
    ValueError: files are damaged, or the weights have no joint space.
  """
  return ActionModel(public_folders.open_dual(weights), None)
