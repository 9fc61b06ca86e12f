"""The figures of a report with their captions, made from its content."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.evaluation import diagnostics
from zsar_jax.evaluation.report import figures
from zsar_jax.evaluation.report.content import ReportContent
from zsar_jax.zeroshot import calibration

# Columns of the weight map; more cannot be told apart.
_MOST_SEEN = 60


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure, or the reason why it is missing.

  Attributes:
    svg: a piece of HTML; '' where there is nothing to draw.
    caption: what the figure shows, or why there is none.
  """

  svg: str
  caption: str


def _missing(why: str) -> Figure:
  return Figure('', why)


def error_ladder(rows: Sequence[Mapping[str, Any]]) -> Figure:
  """Per-class accuracy from the best oracle down to the control.

  Args:
    rows: of results.json.

  Returns:
    The figure; missing with fewer than two of the ladder's methods.
  """
  of_method = {
    row['method']: row for row in rows if row['metric'] == 'per_class'
  }
  steps = [of_method[m] for m in diagnostics.LADDER if m in of_method]
  if len(steps) < 2:
    return _missing('no oracle or control could be computed')
  return Figure(
    figures.error_ladder(steps),
    'Where accuracy is lost from one step to the next, that part failed: '
    'above the first bar the encoder, then the span of the seen classes, '
    'then the names.',
  )


def confusion_counts(content: ReportContent) -> np.ndarray:
  """Videos of each true class (row) by answer (column), float [u u]."""
  u = len(content.unseen)
  counts = np.zeros((u, u))
  np.add.at(counts, (content.labels, content.answers), 1)
  return counts


def per_class(content: ReportContent, counts: np.ndarray) -> Figure:
  """The accuracy of each unseen class, from `confusion_counts`."""
  totals = counts.sum(axis=1)
  return Figure(
    figures.per_class(
      content.unseen, counts.diagonal() / np.maximum(totals, 1), totals
    ),
    'Accuracy of each unseen class, the best first.',
  )


def confusion(content: ReportContent, counts: np.ndarray) -> Figure:
  """The share of each true class that got each answer."""
  shares = counts / np.maximum(counts.sum(axis=1), 1)[:, None]
  return Figure(
    figures.heat_map(
      shares,
      content.unseen,
      content.unseen,
      'true class',
      'answer',
      'share of the class',
    ),
    'Each row is a true class; a perfect method is bright on the diagonal '
    'alone.',
  )


def transfer_weights(content: ReportContent) -> Figure:
  """The transfer weights, cut to the seen classes with the largest ones."""
  if content.transfer_weights is None:
    return _missing('scores came without seen classes')
  w = content.transfer_weights
  keep = np.arange(w.shape[1])
  caption = 'What each unseen class is composited from.'
  if len(keep) > _MOST_SEEN:
    keep = np.sort(np.argsort(-np.abs(w).max(axis=0))[:_MOST_SEEN])
    caption += f' The {_MOST_SEEN} seen classes with the largest weights.'
  return Figure(
    figures.heat_map(
      w[:, keep],
      content.unseen,
      [content.seen[i] for i in keep],
      'unseen class',
      'seen class',
      'weight',
    ),
    caption,
  )


def prototype_map(content: ReportContent) -> Figure:
  """The shared space in two dimensions."""
  if content.unseen_prototypes is None or content.seen_prototypes is None:
    return _missing('scores came without embeddings')
  if len(content.seen_prototypes) + len(content.unseen_prototypes) < 3:
    return _missing('fewer than three prototypes')
  return Figure(
    figures.prototype_map(
      content.unseen,
      content.seen_prototypes,
      content.unseen_prototypes,
      content.true_means,
      content.embeddings,
    ),
    'The shared space in its two main directions. A short line from a '
    'composite to the true mean of its class is a good guess from the name.',
  )


def hubness(content: ReportContent) -> Figure:
  """How often each class is the answer."""
  if not content.hubness_counts:
    return _missing('no scores')
  return Figure(
    figures.hubness(content.hubness_counts),
    'How often each class is the answer; every true class weighs the same. A '
    'high start is a hub that swallows videos of other classes.',
  )


def risk_coverage(content: ReportContent) -> Figure:
  """The share of wrong answers among the most confident ones."""
  correct = content.answers == content.labels
  coverage, risk = calibration.risk_coverage(content.confidence, correct)
  kind = 'calibrated probability'
  note = content.calibration_note
  if content.probabilities is None:
    kind, note = 'lead of the best score over the next', ''
  caption = f'Answers in order of confidence ({kind}).'
  if note:
    caption += f' Calibrated on {note}.'
  return Figure(figures.risk_coverage(coverage, risk), caption)


def gzsl(content: ReportContent) -> Figure:
  """Unseen over seen accuracy."""
  if content.gzsl_curve is None:
    return _missing('no videos of seen classes were kept for it')
  return Figure(
    figures.gzsl(*content.gzsl_curve),
    'Seen and unseen classes are candidates together. From right to left the '
    'scores of seen classes are lowered more and more.',
  )
