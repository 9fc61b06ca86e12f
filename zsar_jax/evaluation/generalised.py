"""Generalised zero-shot learning (GZSL): all classes are candidates at once."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from zsar_jax.evaluation import methods, results, task
from zsar_jax.zeroshot import gzsl, scoring

# No fusion: it would need match logits of every video with every seen name.
METHODS = ('transfer', 'nearest_name')


@dataclasses.dataclass(frozen=True)
class Generalised:
  """The outcome of GZSL.

  Attributes:
    rows: AUSUC; S, U and H without penalty, and with the chosen penalty if
      there is one. Means over splits.
    curve: S and U of the transfer for each penalty, in the first split.
  """

  rows: list[results.Row]
  curve: gzsl.PenaltyCurve


def evaluate(
  seen: task.Seen,
  unseen: task.Classes,
  seen_videos: task.TestVideos,
  unseen_videos: task.TestVideos,
  settings: methods.TransferSettings,
) -> Generalised:
  """Measures S, U, H and AUSUC of `METHODS`.

  S and U are the per-class accuracies of videos of seen and unseen classes. H
  is their harmonic mean. AUSUC is the area under U over S.

  Args:
    seen: the seen classes.
    unseen: the candidates of all splits.
    seen_videos: videos of seen classes that were used neither for training
      nor to choose settings; labels index the seen classes.
    unseen_videos: as for `evaluator.evaluate`.
    settings: of the methods; `seen_penalty` is the penalty chosen on inner
      draws, or None.

  Returns:
    Rows without intervals, and the curve of the transfer.
  """
  rows_of_classes = {
    'transfer': (
      seen.prototypes,
      methods.all_composites(seen, unseen, settings)['transfer'],
    )
  }
  same_size = unseen.text.shape[1] == unseen_videos.embeddings.shape[2]
  if seen.joint and same_size:
    rows_of_classes['nearest_name'] = (seen.classes.text, unseen.text)
  rows, curve = [], None
  for method in METHODS:
    if method not in rows_of_classes:
      continue
    curves = _curves(*rows_of_classes[method], seen_videos, unseen_videos)
    rows += _rows(
      method, curves, seen, unseen, seen_videos, unseen_videos, settings
    )
    curve = curve or curves[0]
  return Generalised(rows, curve)


def transfer_curve(
  seen: task.Seen,
  unseen: task.Classes,
  seen_videos: task.TestVideos,
  unseen_videos: task.TestVideos,
  settings: methods.TransferSettings,
) -> gzsl.PenaltyCurve:
  """Computes S and U of the transfer for each penalty, in the first split.

  Args:
    seen: as for `evaluate`.
    unseen: as for `evaluate`.
    seen_videos: as for `evaluate`.
    unseen_videos: as for `evaluate`.
    settings: of the transfer.

  Returns:
    The curve.
  """
  composites = methods.all_composites(seen, unseen, settings)['transfer']
  return _curves(seen.prototypes, composites, seen_videos, unseen_videos)[0]


def _curves(of_seen, of_unseen, seen_videos, unseen_videos):
  """Returns one penalty curve per split."""
  s, tested = len(of_seen), unseen_videos.as_tested(len(of_unseen))
  classes = np.concatenate([of_seen, of_unseen])
  score = lambda videos: scoring.score_videos(
    scoring.view_means(videos.embeddings), classes
  )
  seen_scores, unseen_scores = score(seen_videos), score(unseen_videos)
  # Give an unreadable video's class the lowest score: it is always wrong.
  wrong = np.zeros((1, len(classes)), np.float32)
  curves = []
  for candidates, counted in zip(
    tested.candidates.T, tested.tested.T, strict=True
  ):
    columns = np.concatenate([np.ones(s, bool), candidates])
    renumbered = np.cumsum(columns) - 1
    parts = []
    for scores, videos, offset, rows in (
      (seen_scores, seen_videos, 0, slice(None)),
      (unseen_scores, unseen_videos, s, counted[: len(unseen_scores)]),
    ):
      labels = renumbered[np.asarray(videos.labels)[rows] + offset]
      lost = np.array(videos.unreadable_labels, int)
      if offset:
        lost = lost[counted[len(unseen_scores) :]]
      part = scores[rows][:, columns]
      lost_scores = np.repeat(wrong[:, columns], len(lost), axis=0)
      lost_labels = renumbered[lost + offset]
      lost_scores[np.arange(len(lost)), lost_labels] = -1
      parts += [
        np.concatenate([part, lost_scores]),
        np.concatenate([labels, lost_labels]),
      ]
    seen_mask = np.arange(columns.sum()) < s
    curves.append(gzsl.penalty_curve(*parts, seen_mask))
  return curves


def _rows(
  method: str,
  curves: Sequence[gzsl.PenaltyCurve],
  seen: task.Seen,
  unseen: task.Classes,
  seen_videos: task.TestVideos,
  unseen_videos: task.TestVideos,
  settings: methods.TransferSettings,
) -> list[results.Row]:
  figures = {'gzsl_ausuc': [curve.ausuc for curve in curves]}
  penalties = {'gzsl': 0.0}
  if settings.seen_penalty is not None:
    penalties['gzsl_chosen'] = settings.seen_penalty
  for name, penalty in penalties.items():
    found = np.array([curve.at(penalty) for curve in curves])
    for i, metric in enumerate(('seen', 'unseen', 'harmonic_mean')):
      figures[f'{name}_{metric}'] = found[:, i].tolist()
  # A class without a readable video is still a candidate.
  tested = unseen_videos.as_tested(len(unseen.names))
  lost = len(seen_videos.unreadable_labels)
  candidates = len(seen.classes.names)
  candidates += round(float(tested.candidates.sum(axis=0).mean()))
  return [
    results.Row(
      method,
      metric,
      float(np.mean(values)),
      None,
      None,
      None,
      len(seen_videos.labels) + lost + len(tested.labels),
      candidates,
      lost + len(unseen_videos.unreadable_labels),
      float(np.std(values)) if len(values) > 1 else None,
      len(values),
    )
    for metric, values in figures.items()
  ]
