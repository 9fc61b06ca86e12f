"""results.json: its schema, its writer and the table made of it."""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.metadata
import json
import os
import subprocess
from typing import Any

from zsar_jax.system import json_files

SCHEMA_VERSION = 3
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
_SHOWN_LEAKS = 10


@dataclasses.dataclass(frozen=True)
class Row:
  """One figure with everything needed to read it.

  Attributes:
    method: what made the scores, such as 'transfer'.
    metric: such as 'top1'; fractions in [0, 1].
    value: the figure; the mean of a protocol of several splits.
    low: lower end of its 95% interval over videos, classes fixed; None where
      there is none.
    high: upper end.
    chance: the same figure for guessing among the candidates; None where
      guessing has no such figure.
    n_videos: videos it was measured on, unreadable ones included.
    n_classes: candidate classes.
    n_unreadable: videos that could not be read, counted as wrong.
    std: population deviation over the splits; None of a single one.
    n_splits: splits that the figure is the mean of.
    class_low: lower end of the 95% interval over classes: what other classes
      of the same sources could have given; None where there is none.
    class_high: upper end.
  """

  method: str
  metric: str
  value: float
  low: float | None
  high: float | None
  chance: float | None
  n_videos: int
  n_classes: int
  n_unreadable: int = 0
  std: float | None = None
  n_splits: int = 1
  class_low: float | None = None
  class_high: float | None = None


@dataclasses.dataclass(frozen=True)
class Paired:
  """The difference of two methods on the same videos.

  Attributes:
    method: the one that is asked about.
    other: what it is compared with.
    metric: what is counted.
    difference: `method` minus `other`.
    low: lower end of its 95% interval over videos, classes fixed.
    high: upper end.
    class_low: lower end of the interval over classes.
    class_high: upper end.
    p_value: of the two-sided sign-flip test over classes.
    p_holm: the same after Holm's correction over the comparisons that were
      not declared first; the primary one's own.
    primary: whether this comparison was declared before looking.
  """

  method: str
  other: str
  metric: str
  difference: float
  low: float
  high: float
  class_low: float
  class_high: float
  p_value: float
  p_holm: float
  primary: bool


def _commit() -> str | None:
  """The commit of the source tree; None where there is none.

  A package that was installed into another project's repository must not
  take that project's commit for its own.
  """
  package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

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


def versions() -> dict[str, str]:
  """Versions of the packages that results depend on."""
  return {p: importlib.metadata.version(p) for p in _PACKAGES}


def make_results(
  protocol: str,
  rows: Sequence[Row],
  config: Mapping[str, Any],
  extra: Mapping[str, Any] | None = None,
  *,
  protocol_hash: str = '',
  leaks: Sequence[str] = (),
  paired: Sequence[Paired] = (),
) -> dict[str, Any]:
  """The content of results.json.

  Args:
    protocol: id of what was measured.
    rows: the figures.
    config: the run's whole config.
    extra: further facts, such as the test videos that could not be read.
    protocol_hash: of all that defines the measurement; '' without a test.
    leaks: what of the test was trained on, where that was allowed.
    paired: differences between methods.

  Returns:
    A JSON-able dict.
  """
  return {
    'schema_version': SCHEMA_VERSION,
    'protocol': protocol,
    'protocol_hash': protocol_hash,
    'leaks': list(leaks),
    'rows': [dataclasses.asdict(row) for row in rows],
    'paired': [dataclasses.asdict(pair) for pair in paired],
    'config': dict(config),
    'versions': versions(),
    'commit': _commit(),
    **(extra or {}),
  }


def check_output(path: str, overwrite: bool = False) -> None:
  """Finds out before the work whether its outcome can be written.

  Args:
    path: of the file; its folder is made.
    overwrite: whether a file that is there may go.

  Raises:
    FileExistsError: it is there and may not go.
    OSError: it cannot be written.
  """
  if os.path.isdir(path):
    raise IsADirectoryError(f'{path} is a folder: name a file to write')
  if os.path.exists(path) and not overwrite:
    raise FileExistsError(
      f'{path} is there already: name another file, or say --overwrite'
    )
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  probe = f'{path}.tmp'
  with open(probe, 'w'):
    pass
  os.remove(probe)


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
    ValueError: a damaged file, or another schema version.
  """
  results = json_files.read(path)
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
      *columns(('method', 'metric', 'A %', 'B %', 'B - A'), lines),
    ]
  )


def _interval(low: float | None, high: float | None) -> str:
  if low is None or high is None:
    return ''
  return f'{100 * low:5.1f} - {100 * high:5.1f}'


def _is_computed(row: Mapping[str, Any]) -> bool:
  """Whether a figure came without any sampling."""
  return row['method'].startswith('floor_')


def columns(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
  """Lines of a table, as wide as its longest cells."""
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
  """A table without the columns that say nothing."""
  used = [
    i for i in range(len(header)) if any(line[i].strip() for line in lines)
  ]
  pick = lambda cells: [cells[i] for i in used]
  return columns(pick(header), [pick(line) for line in lines])


def format_paired(paired: Sequence[Mapping[str, Any]]) -> list[str]:
  """Lines of the table of differences; none for none."""
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


def format_table(results: Mapping[str, Any]) -> str:
  """Tables for the terminal: accuracies, then differences and facts."""
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
  top = [f'protocol: {results["protocol"]} {results["protocol_hash"]}'.rstrip()]
  if results['leaks']:
    top.append(
      f'NOT STRICT: {len(results["leaks"])} leaks of the test into training:'
    )
    top += [f'  {leak}' for leak in results['leaks'][:_SHOWN_LEAKS]]
    if len(results['leaks']) > _SHOWN_LEAKS:
      top.append(f'  and {len(results["leaks"]) - _SHOWN_LEAKS} more')
  bottom = [
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


def _number(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.3f}'
  return str(value)


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
  """One line for each figure that is no accuracy, or group of them."""
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
