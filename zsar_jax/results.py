"""results.json: its schema, its writer and the table made of it."""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.metadata
import json
import os
import subprocess
from typing import Any

SCHEMA_VERSION = 1
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


@dataclasses.dataclass(frozen=True)
class Row:
  """One figure with everything needed to read it.

  Attributes:
    method: what made the scores, such as 'transfer'.
    metric: such as 'top1'; fractions in [0, 1].
    value: the figure.
    low: lower end of its 95% interval.
    high: upper end.
    chance: the same figure for guessing among the candidates.
    n_videos: videos it was measured on, unreadable ones included.
    n_classes: candidate classes.
    n_unreadable: videos that could not be read, counted as wrong.
  """

  method: str
  metric: str
  value: float
  low: float
  high: float
  chance: float
  n_videos: int
  n_classes: int
  n_unreadable: int = 0


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
) -> dict[str, Any]:
  """The content of results.json.

  Args:
    protocol: id of what was measured.
    rows: the figures.
    config: the run's whole config.
    extra: further facts, such as the test videos that could not be read.

  Returns:
    A JSON-able dict.
  """
  return {
    'schema_version': SCHEMA_VERSION,
    'protocol': protocol,
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


def format_table(results: Mapping[str, Any]) -> str:
  """A table for the terminal: one line a method and metric."""
  header = ('method', 'metric', '%', '95% interval', 'chance', 'videos')
  lines = []
  for row in results['rows']:
    computed = row['method'].startswith('floor_')  # without any sampling
    interval = (
      '' if computed else f'{100 * row["low"]:5.1f} - {100 * row["high"]:5.1f}'
    )
    videos = str(row['n_videos']) if row['n_videos'] else ''
    if row['n_unreadable']:
      videos += f' ({row["n_unreadable"]} unreadable)'
    lines.append(
      (
        row['method'],
        row['metric'],
        f'{100 * row["value"]:5.1f}',
        interval,
        f'{100 * row["chance"]:5.1f}',
        videos,
      )
    )
  widths = [
    max(len(line[i]) for line in (header, *lines)) for i in range(len(header))
  ]
  join = lambda line: '  '.join(
    cell.ljust(width) for cell, width in zip(line, widths, strict=True)
  ).rstrip()
  rule = '  '.join('-' * width for width in widths)
  return '\n'.join(
    [f'protocol: {results["protocol"]}', join(header), rule, *map(join, lines)]
  )
