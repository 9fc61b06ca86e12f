"""Makes the headline of a report: one method's accuracy, beside chance."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from zsar_jax.evaluation import accuracy
from zsar_jax.evaluation.report import figures, tables

# The declared measure comes first. Results with a single source lack it.
_MEASURES = {
  accuracy.SAME_SOURCE: 'per-class accuracy within the same source',
  accuracy.PER_CLASS: 'per-class accuracy',
}


@dataclasses.dataclass(frozen=True)
class Headline:
  """The main result as text.

  Attributes:
    method: the method with this accuracy.
    measure: name of the accuracy, in words.
    value: the accuracy in percent.
    over_videos: its 95% interval over videos; '' without one.
    over_classes: its 95% interval over classes; '' without one.
    chance: accuracy of guessing in percent; '' if unknown.
    num_videos: tested videos, unreadable ones included.
    num_unreadable: unreadable videos, counted as wrong.
    num_classes: candidate classes, as a mean over splits.
    num_splits: number of splits; the accuracy is their mean.
    comparison: the declared comparison; None without one.
    figure: the accuracies of all methods, as an HTML fragment.
  """

  method: str
  measure: str
  value: str
  over_videos: str
  over_classes: str
  chance: str
  num_videos: int
  num_unreadable: int
  num_classes: int
  num_splits: int
  comparison: Mapping[str, str] | None
  figure: str


def make(results: Mapping[str, Any], method: str) -> Headline | None:
  """Makes the headline of an evaluation.

  Args:
    results: content of results.json.
    method: the method whose accuracy is shown.

  Returns:
    The headline; None if the method has no per-class accuracy.
  """
  for metric, measure in _MEASURES.items():
    rows = [
      row
      for row in results['rows']
      if row['metric'] == metric and not tables.is_diagnostic(row)
    ]
    own = [row for row in rows if row['method'] == method]
    if own:
      return _headline(own[0], rows, measure, results.get('paired') or ())
  return None


def _headline(row, rows, measure: str, paired) -> Headline:
  declared = [
    pair
    for pair in paired
    if pair['primary']
    and pair['method'] == row['method']
    and pair['metric'] == row['metric']
  ]
  return Headline(
    method=row['method'],
    measure=measure,
    value=tables.percent(row['value']),
    over_videos=tables.interval(row['low'], row['high']),
    over_classes=tables.interval(row.get('class_low'), row.get('class_high')),
    chance=tables.percent(row['chance']),
    num_videos=row['n_videos'],
    num_unreadable=row['n_unreadable'],
    num_classes=row['n_classes'],
    num_splits=row['n_splits'],
    comparison=_comparison(declared[0]) if declared else None,
    figure=figures.methods(rows, row['method'], measure),
  )


def _comparison(pair: Mapping[str, Any]) -> dict[str, str]:
  return {
    'difference': f'{pair["method"]} − {pair["other"]}',
    'points': f'{100 * pair["difference"]:+.1f}',
    'over_videos': tables.interval(pair['low'], pair['high']),
    'over_classes': tables.interval(pair['class_low'], pair['class_high']),
    'p_value': f'{pair["p_value"]:.3f}',
  }
