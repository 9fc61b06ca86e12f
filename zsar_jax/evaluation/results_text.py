"""Formats results as text tables, and compares two results."""

from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN_LEAKS = 10


def check_comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
  """Checks that two results are of the same test.

  Args:
    a: content of a results.json.
    b: content of another.

  Raises:
    ValueError: the tests differ; the message says how.
  """
  if a['protocol_hash'] != b['protocol_hash']:
    reason = (
      f'the protocols are {a["protocol"]} and {b["protocol"]}'
      if a['protocol'] != b['protocol']
      else f'{a["protocol"]} was measured on other classes or videos'
    )
    raise ValueError(
      f'these results cannot be compared: {reason} '
      f'(hashes {a["protocol_hash"]} and {b["protocol_hash"]})'
    )
  if not a['protocol_hash']:
    raise ValueError('these results cannot be compared: they have no test')
  if bool(a['leaks']) != bool(b['leaks']):
    raise ValueError(
      'these results cannot be compared: only one of them was trained on '
      'classes that leak into the test'
    )


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
  """Compares two results.

  Args:
    a: content of a results.json.
    b: content of another.

  Returns:
    A table of the rows that both have, with the differences b minus a.

  Raises:
    ValueError: see `check_comparable`.
  """
  check_comparable(a, b)
  of_b = {(row['method'], row['metric']): row for row in b['rows']}
  lines = []
  for row in a['rows']:
    other = of_b.get((row['method'], row['metric']))
    if other is not None:
      lines.append(
        (
          row['method'],
          row['metric'],
          f'{100 * row["value"]:5.1f}',
          f'{100 * other["value"]:5.1f}',
          f'{100 * (other["value"] - row["value"]):+5.1f}',
        )
      )
  return '\n'.join(
    [
      f'protocol: {a["protocol"]} {a["protocol_hash"]}',
      *columns(('method', 'metric', 'A %', 'B %', 'B - A'), lines),
    ]
  )


def _interval(low: float | None, high: float | None) -> str:
  if low is None or high is None:
    return ''
  return f'{100 * low:5.1f} - {100 * high:5.1f}'


def _is_computed(row: Mapping[str, Any]) -> bool:
  """Returns whether a row is exact, so that it has no interval."""
  return row['method'].startswith('floor_')


def columns(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
  """Returns the lines of a table; each column fits its longest cell."""
  widths = [
    max(map(len, column)) for column in zip(header, *lines, strict=True)
  ]
  join = lambda line: '  '.join(
    cell.ljust(width) for cell, width in zip(line, widths, strict=True)
  ).rstrip()
  return [join(header), '  '.join('-' * w for w in widths), *map(join, lines)]


def _row_cells(row: Mapping[str, Any]) -> list[str]:
  videos = str(row['n_videos']) if row['n_videos'] else ''
  if row['n_unreadable']:
    videos += f' ({row["n_unreadable"]} unreadable)'
  computed = _is_computed(row)
  several = row['std'] is not None and not computed
  return [
    row['method'],
    row['metric'],
    f'{100 * row["value"]:5.1f}',
    '' if computed else _interval(row['low'], row['high']),
    '' if computed else _interval(row['class_low'], row['class_high']),
    f'{100 * row["std"]:4.1f} of {row["n_splits"]}' if several else '',
    '' if row['chance'] is None else f'{100 * row["chance"]:5.1f}',
    videos,
  ]


def _without_empty(
  header: Sequence[str], lines: Sequence[Sequence[str]]
) -> list[str]:
  """Returns the lines of a table without its empty columns."""
  used = [
    i for i in range(len(header)) if any(line[i].strip() for line in lines)
  ]
  pick = lambda cells: [cells[i] for i in used]
  return columns(pick(header), [pick(line) for line in lines])


def format_paired(paired: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns the lines of the table of differences; [] without differences."""
  if not paired:
    return []
  lines = [
    (
      f'{p["method"]} - {p["other"]}' + (' *' if p['primary'] else ''),
      p['metric'],
      f'{100 * p["difference"]:+5.1f}',
      f'{100 * p["low"]:+5.1f} - {100 * p["high"]:+5.1f}',
      f'{100 * p["class_low"]:+5.1f} - {100 * p["class_high"]:+5.1f}',
      f'{p["p_value"]:.3f}',
      f'{p["p_holm"]:.3f}',
    )
    for p in paired
  ]
  header = (
    'difference',
    'metric',
    'points',
    '95% interval',
    'over classes',
    'p',
    'p (Holm)',
  )
  return [
    'paired, on the same videos and resamples; * was declared first:',
    *columns(header, lines),
  ]


def protocol_line(results: Mapping[str, Any]) -> str:
  """Returns name and hash of a protocol, and which of its splits it was."""
  line = f'{results["protocol"]} {results["protocol_hash"]}'.strip()
  # Older results do not say which split they are of.
  return f'{line}, {results["split"]}' if results.get('split') else line


def format_table(results: Mapping[str, Any]) -> str:
  """Returns the tables as text: accuracies, then differences and facts."""
  header = (
    'method',
    'metric',
    '%',
    '95% interval',
    'over classes',
    'sd of splits',
    'chance',
    'videos',
  )
  top = [f'protocol: {protocol_line(results)}']
  if results['leaks']:
    top.append(
      f'NOT STRICT: {len(results["leaks"])} leaks of the test into training:'
    )
    top += [f'  {leak}' for leak in results['leaks'][:_SHOWN_LEAKS]]
    if len(results['leaks']) > _SHOWN_LEAKS:
      top.append(f'  and {len(results["leaks"]) - _SHOWN_LEAKS} more')
  bottom = [
    *_as_papers(results['rows']),
    *format_paired(results['paired']),
    *(f'{name}: {text}' for name, text in _facts(results.get('facts') or {})),
    *(f'note: {note}' for note in results.get('notes') or ()),
  ]
  lines = [_row_cells(row) for row in results['rows']]
  return '\n'.join(
    [
      *top,
      *_without_empty(header, lines),
      *([''] if bottom else []),
      *bottom,
    ]
  )


def _as_papers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Top-1 of each method as papers print it, where there are several splits."""
  return [
    f'as papers print it, top-1 over {row["n_splits"]} splits: '
    f'{row["method"]} {100 * row["value"]:.1f} +- {100 * row["std"]:.1f}'
    for row in rows
    if row['metric'] == 'top1' and row['std'] is not None
  ]


def _number(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.3f}'
  return str(value)


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
  """Returns the name and text of each fact or group of facts."""
  lines = []
  for name, value in facts.items():
    if not isinstance(value, Mapping):
      lines.append((name, _number(value)))
    elif any(isinstance(part, Mapping) for part in value.values()):
      lines += [
        (f'{name} {key}'.strip(), text)
        for outer, part in value.items()
        for key, text in _facts({outer: part})
      ]
    else:
      lines.append(
        (name, ', '.join(f'{k} {_number(v)}' for k, v in value.items()))
      )
  return lines
