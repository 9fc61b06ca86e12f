"""results.json: its schema, its writer and its reader."""

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
