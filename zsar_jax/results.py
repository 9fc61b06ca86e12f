"""results.json: its schema, its writer and the table made of it."""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.metadata
import json
import os
import statistics
import subprocess
from typing import Any

SCHEMA_VERSION = 2
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
_SHOWN_LEAKS = 10


@dataclasses.dataclass(frozen=True)
class Row:
  """One figure with everything needed to read it.

  Attributes:
    method: what made the scores, such as 'transfer'.
    metric: such as 'top1'; fractions in [0, 1].
    value: the figure; the mean of a protocol of several splits.
    low: lower end of its 95% interval; None where there is none, as for a
      mean over splits, whose test sets overlap.
    high: upper end.
    chance: the same figure for guessing among the candidates.
    n_videos: videos it was measured on, unreadable ones included.
    n_classes: candidate classes.
    n_unreadable: videos that could not be read, counted as wrong.
    std: population deviation over the splits; None of a single one.
    n_splits: splits that the figure is the mean of.
  """

  method: str
  metric: str
  value: float
  low: float | None
  high: float | None
  chance: float
  n_videos: int
  n_classes: int
  n_unreadable: int = 0
  std: float | None = None
  n_splits: int = 1


def average_rows(
  rows_of_splits: Sequence[Sequence[Row]], n_videos: int, n_unreadable: int
) -> list[Row]:
  """Means over the splits of a protocol.

  Args:
    rows_of_splits: the table of each split.
    n_videos: distinct videos over all splits, unreadable ones included.
    n_unreadable: distinct ones that could not be read.

  Returns:
    One row for each method and metric that every split has.
  """
  tables = [{(r.method, r.metric): r for r in rows} for rows in rows_of_splits]
  averaged = []
  for key, row in tables[0].items():
    if not all(key in table for table in tables):
      continue
    values = [table[key].value for table in tables]
    averaged.append(
      dataclasses.replace(
        row,
        value=statistics.fmean(values),
        low=None,
        high=None,
        chance=statistics.fmean(table[key].chance for table in tables),
        n_videos=n_videos,
        n_unreadable=n_unreadable,
        std=statistics.pstdev(values),
        n_splits=len(tables),
      )
    )
  return averaged


def _commit() -> str | None:
  """The commit of the source tree; None where there is none.

  A package that was installed into another project's repository must not
  take that project's commit for its own.
  """
  package = os.path.dirname(os.path.abspath(__file__))

  def git(*args):
    out = subprocess.run(
      ['git', *args], cwd=package, capture_output=True, text=True, timeout=10
    )
    return out.stdout.strip()

  try:
    root = git('rev-parse', '--show-toplevel')
    if not root or os.path.realpath(root) != os.path.dirname(package):
      return None
    return git('describe', '--always', '--dirty', '--abbrev=40') or None
  except (OSError, subprocess.TimeoutExpired):
    return None


def make_results(
  protocol: str,
  rows: Sequence[Row],
  config: Mapping[str, Any],
  extra: Mapping[str, Any] | None = None,
  *,
  protocol_hash: str = '',
  leaks: Sequence[str] = (),
) -> dict[str, Any]:
  """The content of results.json.

  Args:
    protocol: id of what was measured.
    rows: the figures.
    config: the run's whole config.
    extra: further facts, such as the test videos that could not be read.
    protocol_hash: of all that defines the measurement; '' without a test.
    leaks: what of the test was trained on, where that was allowed.

  Returns:
    A JSON-able dict.
  """
  return {
    'schema_version': SCHEMA_VERSION,
    'protocol': protocol,
    'protocol_hash': protocol_hash,
    'leaks': list(leaks),
    'rows': [dataclasses.asdict(row) for row in rows],
    'config': dict(config),
    'versions': {p: importlib.metadata.version(p) for p in _PACKAGES},
    'commit': _commit(),
    **(extra or {}),
  }


def write_results(results: Mapping[str, Any], path: str) -> None:
  """Writes results whole or not at all."""
  temporary = f'{path}.tmp'
  with open(temporary, 'w') as f:
    json.dump(results, f, indent=2)
    f.write('\n')
    f.flush()
    os.fsync(f.fileno())
  os.replace(temporary, path)


def read_results(path: str) -> dict[str, Any]:
  """Reads results.json.

  Args:
    path: of the file.

  Returns:
    Its content.

  Raises:
    FileNotFoundError: no such file.
    ValueError: another schema version.
  """
  with open(path) as f:
    results = json.load(f)
  if results.get('schema_version') != SCHEMA_VERSION:
    raise ValueError(
      f'{path}: schema_version {results.get("schema_version")!r}, this '
      f'program reads {SCHEMA_VERSION}'
    )
  return results


def check_comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
  """Refuses to compare what was measured differently.

  Args:
    a: content of a results.json.
    b: likewise.

  Raises:
    ValueError: says what differs.
  """
  if a['protocol_hash'] != b['protocol_hash']:
    reason = (
      f'the protocols are {a["protocol"]} and {b["protocol"]}'
      if a['protocol'] != b['protocol']
      else f'{a["protocol"]} was measured on other classes or videos'
    )
    raise ValueError(
      f'these results do not compare: {reason} (hashes {a["protocol_hash"]} '
      f'and {b["protocol_hash"]})'
    )
  if not a['protocol_hash']:
    raise ValueError('these results do not compare: they are without a test')
  if bool(a['leaks']) != bool(b['leaks']):
    raise ValueError(
      'these results do not compare: only one of them was trained on classes '
      'that leak into the test'
    )


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
  """Two results side by side.

  Args:
    a: content of a results.json.
    b: likewise.

  Returns:
    A table of the rows that both have, and the differences.

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
      *_columns(('method', 'metric', 'A %', 'B %', 'B - A'), lines),
    ]
  )


def _spread(row: Mapping[str, Any]) -> str:
  """What is known of a figure's uncertainty."""
  if row['method'].startswith('floor_'):
    return ''  # computed, without any sampling
  if row['std'] is not None:
    return f'sd {100 * row["std"]:4.1f}, {row["n_splits"]} splits'
  if row['low'] is None:
    return ''
  return f'{100 * row["low"]:5.1f} - {100 * row["high"]:5.1f}'


def _columns(
  header: Sequence[str], lines: Sequence[Sequence[str]]
) -> list[str]:
  """Lines of a table, as wide as its longest cells."""
  widths = [
    max(map(len, column)) for column in zip(header, *lines, strict=True)
  ]
  join = lambda line: '  '.join(
    cell.ljust(width) for cell, width in zip(line, widths, strict=True)
  ).rstrip()
  return [join(header), '  '.join('-' * w for w in widths), *map(join, lines)]


def format_table(results: Mapping[str, Any]) -> str:
  """A table for the terminal: one line a method and metric."""
  lines = []
  for row in results['rows']:
    videos = str(row['n_videos']) if row['n_videos'] else ''
    if row['n_unreadable']:
      videos += f' ({row["n_unreadable"]} unreadable)'
    lines.append(
      (
        row['method'],
        row['metric'],
        f'{100 * row["value"]:5.1f}',
        _spread(row),
        f'{100 * row["chance"]:5.1f}',
        videos,
      )
    )
  header = ('method', 'metric', '%', '95% interval', 'chance', 'videos')
  top = [f'protocol: {results["protocol"]} {results["protocol_hash"]}'.rstrip()]
  if results['leaks']:
    top.append(
      f'NOT STRICT: {len(results["leaks"])} leaks of the test into training:'
    )
    top += [f'  {leak}' for leak in results['leaks'][:_SHOWN_LEAKS]]
    if len(results['leaks']) > _SHOWN_LEAKS:
      top.append(f'  and {len(results["leaks"]) - _SHOWN_LEAKS} more')
  return '\n'.join([*top, *_columns(header, lines)])
