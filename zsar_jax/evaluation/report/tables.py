"""Makes the tables of a report, with every cell as text."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

_DIAGNOSTIC = ('oracle_', 'control_', 'floor_')
# Number of wrong answers to list under the confusion matrix.
_MOST_CONFUSIONS = 10

# Whether the row is emphasised, and its cells.
Line = tuple[bool, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of text. The first two columns hold words, the others numbers.

  Attributes:
    header: names of the columns.
    lines: the rows.
    diagnostics: rows that follow in grey.
  """

  header: tuple[str, ...]
  lines: Sequence[Line]
  diagnostics: Sequence[Line] = ()


def is_diagnostic(row: Mapping[str, Any]) -> bool:
  """Returns whether a row of results.json is a diagnostic, not a result."""
  return row['method'].startswith(_DIAGNOSTIC)


def percent(value: float | None) -> str:
  """Formats a fraction in percent with one decimal; '' for None."""
  return '' if value is None else f'{100 * value:.1f}'


def interval(low: float | None, high: float | None) -> str:
  """Formats two fractions in percent; '' if one of them is None."""
  if low is None or high is None:
    return ''
  return f'{100 * low:.1f} – {100 * high:.1f}'


def of_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
  """Makes the table of all accuracies.

  Args:
    rows: rows of results.json.

  Returns:
    One line per row, the diagnostics separate; `transfer` is emphasised.
  """
  lines: dict[bool, list[Line]] = {False: [], True: []}
  for row in rows:
    cells = (
      row['method'],
      row['metric'],
      percent(row['value']),
      interval(row['low'], row['high']),
      interval(row.get('class_low'), row.get('class_high')),
      percent(row.get('std')),
      percent(row['chance']),
      str(row['n_videos']),
      str(row['n_unreadable'] or ''),
    )
    lines[is_diagnostic(row)].append((row['method'] == 'transfer', cells))
  header = (
    'method',
    'metric',
    '%',
    '95% over videos',
    '95% over classes',
    'sd of splits',
    'chance',
    'videos',
    'unreadable',
  )
  return Table(header, lines[False], lines[True])


def of_pairs(paired: Sequence[Mapping[str, Any]]) -> Table:
  """Makes the table of paired differences.

  Args:
    paired: `paired` of results.json.

  Returns:
    One line per difference; the declared comparison is emphasised.
  """
  lines = [
    (
      pair['primary'],
      (
        f'{pair["method"]} − {pair["other"]}',
        pair['metric'],
        f'{100 * pair["difference"]:+.1f}',
        interval(pair['low'], pair['high']),
        interval(pair['class_low'], pair['class_high']),
        f'{pair["p_value"]:.3f}',
        f'{pair["p_holm"]:.3f}',
      ),
    )
    for pair in paired
  ]
  header = (
    'difference',
    'metric',
    'points',
    '95% over videos',
    '95% over classes',
    'p',
    'p (Holm)',
  )
  return Table(header, lines)


def of_confusions(counts: np.ndarray, names: Sequence[str]) -> Table:
  """Makes the table of the most frequent wrong answers.

  Args:
    counts: videos by true class (row) and answer (column) [u u].
    names: names of the classes [u].

  Returns:
    At most ten lines, the most frequent first; none without mistakes.
  """
  wrong = counts.copy()
  np.fill_diagonal(wrong, 0)
  order = np.argsort(-wrong, axis=None, kind='stable')[:_MOST_CONFUSIONS]
  lines = [
    (False, (names[i], names[j], f'{int(wrong[i, j])}'))
    for i, j in (divmod(int(k), len(names)) for k in order)
    if wrong[i, j] > 0
  ]
  return Table(('true class', 'answer', 'videos'), lines)


def of_hubness(
  measured: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> Table:
  """Makes the table of hubness.

  Args:
    measured: method -> 'k=...' -> figures; `hubness` of results.json.

  Returns:
    One line per method and k.
  """
  lines = [
    (
      False,
      (
        method,
        key,
        f'{of_k["skewness"]:.2f}',
        f'{of_k["robin_hood"]:.2f}',
        f'{100 * of_k["largest_share"]:.0f}%',
        '' if of_k['reliable'] else 'under 20 classes',
      ),
    )
    for method, of_method in measured.items()
    for key, of_k in of_method.items()
  ]
  header = (
    'method',
    'nearest',
    'skewness',
    'Robin Hood',
    'largest share',
    'unreliable',
  )
  return Table(header, lines)
