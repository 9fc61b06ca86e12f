"""From an evaluation to what its report shows, thumbnails included."""

import dataclasses

import cv2
import numpy as np

from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import video_sets
from zsar_jax.evaluation import methods, outside_scores
from zsar_jax.evaluation.report import content as content_lib
from zsar_jax.inference import evaluate_run as evaluate_run_lib
from zsar_jax.zeroshot import calibration, hubness, prototypes, scoring

_SHOWN = 'transfer'
_THUMBNAIL = 160  # pixels of the short side


def make(
  outcome: evaluate_run_lib.Outcome | outside_scores.Outcome,
) -> content_lib.ReportContent:
  """Collects the content of an outcome's report.

  Args:
    outcome: of an evaluation with a test.

  Returns:
    The content, of the first split where there are several.

  Raises:
    ValueError: there was no test.
  """
  own = isinstance(outcome, evaluate_run_lib.Outcome)
  of = outcome.evaluation if own else outcome
  if of.table is None:
    raise ValueError('--report needs a test: this protocol has none')
  videos, unseen, seen = of.videos, of.unseen, of.seen
  method = _SHOWN if _SHOWN in of.table.scores else next(iter(of.table.scores))
  tested = videos.as_tested(len(unseen.names))
  n = len(videos.labels)
  rows = np.flatnonzero(tested.tested[:n, 0])
  columns = np.flatnonzero(tested.candidates[:, 0])
  labels = np.searchsorted(columns, np.asarray(videos.labels)[rows])
  scores = {m: s[np.ix_(rows, columns)] for m, s in of.table.scores.items()}
  notes = []
  if tested.tested.shape[1] > 1:
    notes.append(
      f'Figures below the table show the first of {tested.tested.shape[1]} '
      'splits.'
    )
  ids = of.video_ids if own else outcome.scores.video_ids
  ids = tuple(ids[i] for i in rows)
  shown = content_lib.ReportContent(
    title='Zero-shot action recognition',
    method=method,
    unseen=tuple(unseen.names[i] for i in columns),
    seen=seen.classes.names if seen else (),
    video_ids=ids,
    labels=labels,
    scores=scores[method],
    hubness_counts={
      m: hubness.measure(scores[m], labels, 1).counts
      for m in ('transfer', 'nearest_name', 'fusion')
      if m in scores
    }
    or {method: hubness.measure(scores[method], labels, 1).counts},
    notes=tuple(notes),
  )
  changes = {}
  if videos.embeddings is not None and seen is not None:
    changes |= _spaces(of, rows, columns, labels, _settings(outcome))
  if own:
    changes |= _calibrated(outcome, scores[method])
    if of.gzsl is not None:
      curve = of.gzsl.curve
      changes['gzsl_curve'] = (
        np.stack([curve.seen_accuracy, curve.unseen_accuracy], axis=1),
        curve.ausuc,
      )
  shown = dataclasses.replace(shown, **changes)
  if own and of.test_set is not None:
    wrong = content_lib.confident_mistakes(shown)
    wanted = {ids[i] for i in wrong}
    shown = dataclasses.replace(
      shown, thumbnails=_thumbnails(of.test_set, wanted)
    )
  return shown


def _settings(outcome) -> methods.TransferSettings:
  settings = outcome.content.get('settings')
  return methods.TransferSettings(**(settings or {}))


def _spaces(of, rows, columns, labels, settings) -> dict:
  """Prototypes, composites, true means, weights."""
  settings = dataclasses.replace(settings, weighting='softmax')
  composites, weights = methods.unseen_prototypes(
    of.seen.classes, of.seen.prototypes, of.unseen, settings
  )
  z = scoring.view_means(of.videos.embeddings)[rows]
  present = np.unique(labels)
  means = np.full((len(columns), z.shape[1]), np.nan, np.float32)
  means[present] = prototypes.class_prototypes(
    z, np.searchsorted(present, labels), len(present)
  )
  return {
    'embeddings': z,
    'unseen_prototypes': composites[columns],
    'true_means': None if np.isnan(means).any() else means,
    'seen_prototypes': of.seen.prototypes,
    'transfer_weights': weights[columns],
  }


def _calibrated(outcome, scores) -> dict:
  if not outcome.bank.calibration:
    return {}
  fitted = calibration.Calibration.from_dict(outcome.bank.calibration)
  probabilities, _ = fitted.probabilities(scores)
  return {
    'probabilities': probabilities,
    'calibration_note': fitted.measured_on,
  }


def _thumbnails(videos: video_sets.VideoSet, wanted: set[str]):
  """Returns the middle frame of some videos, as JPEG."""
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
