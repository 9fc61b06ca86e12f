"""Makes the figures of a report, with captions."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.evaluation import diagnostics
from zsar_jax.evaluation.report import figures
from zsar_jax.evaluation.report.content import ReportContent
from zsar_jax.zeroshot import confidence_measures

# Maximum number of columns of the weight map that a reader can distinguish.
_MOST_SEEN = 60


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure, or the reason why it is missing.

  Attributes:
    svg: an HTML fragment; '' if the figure is missing.
    caption: the caption, or the reason why the figure is missing.
  """

  svg: str
  caption: str


def _missing(why: str) -> Figure:
  return Figure('', why)


def error_ladder(rows: Sequence[Mapping[str, Any]]) -> Figure:
  """Draws per-class accuracies from the best oracle down to the control.

  Args:
    rows: rows of results.json.

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
    'The largest loss shows the weakest part. Above the first bar, that is the '
    'encoder; between the oracles, the span of the seen classes; from the '
    'oracles to the transfer, the names.',
  )


def confusion_counts(content: ReportContent) -> np.ndarray:
  """Counts videos by true class (row) and answer (column), float [u u]."""
  u = len(content.unseen)
  counts = np.zeros((u, u))
  np.add.at(counts, (content.labels, content.answers), 1)
  return counts


def per_class(content: ReportContent, counts: np.ndarray) -> Figure:
  """Draws the accuracy of each unseen class, from `confusion_counts`."""
  totals = counts.sum(axis=1)
  return Figure(
    figures.per_class(
      content.unseen, counts.diagonal() / np.maximum(totals, 1), totals
    ),
    'Accuracy of each unseen class, best first.',
  )


def confusion(content: ReportContent, counts: np.ndarray) -> Figure:
  """Draws the share of each true class that got each answer."""
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
    'Each row is a true class. With a perfect method only the diagonal is '
    'bright.',
  )


def transfer_weights(content: ReportContent) -> Figure:
  """Draws the transfer weights of the seen classes with the largest ones."""
  if content.transfer_weights is None:
    return _missing('the evaluated file has no seen classes')
  w = content.transfer_weights
  keep = np.arange(w.shape[1])
  caption = 'The seen classes that each unseen class is composited from.'
  if len(keep) > _MOST_SEEN:
    keep = np.sort(np.argsort(-np.abs(w).max(axis=0))[:_MOST_SEEN])
    caption += f' Only the {_MOST_SEEN} with the largest weights are shown.'
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
  """Draws prototypes and videos in two dimensions."""
  if content.unseen_prototypes is None or content.seen_prototypes is None:
    return _missing('the evaluated file has no embeddings')
  if len(content.seen_prototypes) + len(content.unseen_prototypes) < 3:
    return _missing('there are fewer than three prototypes')
  return Figure(
    figures.prototype_map(
      content.unseen,
      content.seen_prototypes,
      content.unseen_prototypes,
      content.true_means,
      content.embeddings,
    ),
    'Prototypes in their first two principal components. A line joins each '
    'composite with the true mean of its class: the shorter, the better.',
  )


def hubness(content: ReportContent) -> Figure:
  """Draws how often each class is the answer."""
  if not content.hubness_counts:
    return _missing('there are no scores')
  return Figure(
    figures.hubness(content.hubness_counts),
    'How often each class is the answer; every true class weighs the same. A '
    'high start is a hub: a class that attracts videos of other classes.',
  )


def risk_coverage(content: ReportContent) -> Figure:
  """Draws the share of wrong answers among the most confident ones."""
  correct = content.answers == content.labels
  coverage, risk = confidence_measures.risk_coverage(
    content.confidence, correct
  )
  kind = 'calibrated probability'
  note = content.calibration_note
  if content.probabilities is None:
    kind, note = 'lead of the best score over the next', ''
  caption = f'Answers in order of confidence ({kind}).'
  if note:
    caption += f' Calibrated on {note}.'
  return Figure(figures.risk_coverage(coverage, risk), caption)


def gzsl(content: ReportContent) -> Figure:
  """Draws unseen over seen accuracy."""
  if content.gzsl_curve is None:
    return _missing('there are no held-out videos of seen classes')
  return Figure(
    figures.gzsl(*content.gzsl_curve),
    'All classes, seen and unseen, are candidates. From right to left, a '
    'growing penalty lowers the scores of seen classes.',
  )
