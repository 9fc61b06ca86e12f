"""Makes the content of a report, with thumbnails, from an evaluation."""

import dataclasses
import os

import cv2
import numpy as np

from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import video_sets
from zsar_jax.evaluation import evaluator, methods, outside_scores, task
from zsar_jax.evaluation.report import content as content_lib
from zsar_jax.inference import evaluate_run as evaluate_run_lib
from zsar_jax.zeroshot import calibration, hubness, prototypes, scoring

_SHOWN = 'transfer'
_HUBNESS_OF = ('transfer', 'nearest_name', 'fusion')
_THUMBNAIL = 160  # pixels of the short side


@dataclasses.dataclass(frozen=True)
class _Split:
  """The first split of an evaluation, which the figures show.

  Attributes:
    rows: int [n], positions of its readable videos among all videos.
    columns: int [u], positions of its candidates among all candidates.
    labels: int [n], index of each video's class among its candidates.
  """

  rows: np.ndarray
  columns: np.ndarray
  labels: np.ndarray

  def scores(self, table: evaluator.Table) -> dict[str, np.ndarray]:
    """Returns method -> scores in this split [n u]."""
    part = np.ix_(self.rows, self.columns)
    return {method: scores[part] for method, scores in table.scores.items()}


def make(
  outcome: evaluate_run_lib.Outcome | outside_scores.Outcome,
) -> content_lib.ReportContent:
  """Makes the content of a report.

  Args:
    outcome: the outcome of an evaluation with a test.

  Returns:
    The content. Its arrays are those of the first split.

  Raises:
    ValueError: the protocol has no test.
  """
  own = isinstance(outcome, evaluate_run_lib.Outcome)
  of = outcome.evaluation if own else outcome
  if of.table is None:
    raise ValueError('--report needs a test, and this protocol has none')
  tested = of.videos.as_tested(len(of.unseen.names))
  split = _first_split(of.videos, tested)
  scores = split.scores(of.table)
  method = _SHOWN if _SHOWN in scores else next(iter(scores))
  ids = of.video_ids if own else outcome.scores.video_ids
  shown = content_lib.ReportContent(
    title='Zero-shot action recognition',
    method=method,
    unseen=tuple(of.unseen.names[i] for i in split.columns),
    seen=of.seen.classes.names if of.seen else (),
    video_ids=tuple(ids[i] for i in split.rows),
    labels=split.labels,
    scores=scores[method],
    hubness_counts=_hubness_counts(scores, split.labels, method),
    notes=_notes(tested.tested.shape[1]),
    dataset=_dataset(outcome, own),
  )
  changes = {}
  seen = of.seen is not None and len(of.seen.classes.names) > 0
  if of.videos.embeddings is not None and seen:
    changes |= _spaces(of, split, _settings(outcome))
  if own:
    changes |= _calibrated(outcome, scores[method])
    changes |= _gzsl(of)
  shown = dataclasses.replace(shown, **changes)
  if own and of.test_set is not None:
    wrong = content_lib.confident_mistakes(shown)
    wanted = {shown.video_ids[i] for i in wrong}
    shown = dataclasses.replace(
      shown, thumbnails=_thumbnails(of.test_set, wanted)
    )
  return shown


def _first_split(videos: task.TestVideos, tested) -> _Split:
  rows = np.flatnonzero(tested.tested[: len(videos.labels), 0])
  columns = np.flatnonzero(tested.candidates[:, 0])
  labels = np.searchsorted(columns, np.asarray(videos.labels)[rows])
  return _Split(rows, columns, labels)


def _notes(num_splits: int) -> tuple[str, ...]:
  if num_splits == 1:
    return ()
  return (f'Figures below the table show the first of {num_splits} splits.',)


def _dataset(outcome, own: bool) -> str:
  """Returns the end of the tested dataset's path, or the name of the file."""
  if not own:
    return os.path.basename(outcome.content['config']['file'])
  if outcome.evaluation.test_set is None:
    return ''
  folder = os.path.normpath(outcome.evaluation.test_set.dataset_dir)
  return '/'.join(folder.split(os.sep)[-3:])


def _hubness_counts(scores, labels, method: str) -> dict[str, np.ndarray]:
  """Returns N_1 of the compared methods; of `method` if there are none."""
  compared = [m for m in _HUBNESS_OF if m in scores] or [method]
  return {m: hubness.measure(scores[m], labels, 1).counts for m in compared}


def _gzsl(of) -> dict:
  if of.gzsl is None:
    return {}
  curve = of.gzsl.curve
  points = np.stack([curve.seen_accuracy, curve.unseen_accuracy], axis=1)
  return {'gzsl_curve': (points, curve.ausuc)}


def _settings(outcome) -> methods.TransferSettings:
  settings = outcome.content.get('settings')
  return methods.TransferSettings(**(settings or {}))


def _spaces(of, split: _Split, settings: methods.TransferSettings) -> dict:
  """Returns embeddings, prototypes, composites, true means and weights."""
  settings = dataclasses.replace(settings, weighting='softmax')
  composites, weights = methods.unseen_prototypes(
    of.seen.classes, of.seen.prototypes, of.unseen, settings
  )
  z = scoring.view_means(of.videos.embeddings)[split.rows]
  present = np.unique(split.labels)
  means = np.full((len(split.columns), z.shape[1]), np.nan, np.float32)
  means[present] = prototypes.class_prototypes(
    z, np.searchsorted(present, split.labels), len(present)
  )
  return {
    'embeddings': z,
    'unseen_prototypes': composites[split.columns],
    'true_means': None if np.isnan(means).any() else means,
    'seen_prototypes': of.seen.prototypes,
    'transfer_weights': weights[split.columns],
  }


def _calibrated(outcome, scores) -> dict:
  if outcome.bank is None or not outcome.bank.calibration:
    return {}
  fitted = calibration.Calibration.from_dict(outcome.bank.calibration)
  probabilities, _ = fitted.probabilities(scores)
  return {
    'probabilities': probabilities,
    'calibration_note': fitted.measured_on,
  }


def _thumbnails(videos: video_sets.VideoSet, wanted: set[str]):
  """Returns the middle frame of the wanted videos: id -> JPEG."""
  found, sources = {}, {}
  for i, video_id in enumerate(videos.ids):
    if video_id not in wanted:
      continue
    split = videos.splits[i]
    if split not in sources:
      sources[split] = records.open_split(videos.dataset_dir, split)
    video = sources[split].open(videos.rows[i])
    (frame,) = video.decode([len(video.timestamps) // 2])
    scale = _THUMBNAIL / min(frame.shape[:2])
    size = [max(1, round(x * scale)) for x in (frame.shape[1], frame.shape[0])]
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode('.jpg', small[..., ::-1])
    found[video_id] = data.tobytes()
  return found
