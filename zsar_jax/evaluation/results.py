"""Defines, writes and reads results.json."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import subprocess
from typing import Any

from zsar_jax.system import json_files

SCHEMA_VERSION = 3
RESULTS_FILE = 'results.json'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


@dataclasses.dataclass(frozen=True)
class Row:
  """One accuracy with its intervals, chance and numbers of videos.

  Attributes:
    method: name of the method, such as 'transfer'.
    metric: name of the accuracy, such as 'top1'.
    value: in [0, 1]; the mean over the splits of the protocol.
    low: lower end of the 95% interval over videos, with fixed classes; None
      without an interval.
    high: upper end.
    chance: the accuracy of guessing among the candidates; None if the metric
      has none.
    n_videos: tested videos, unreadable ones included.
    n_classes: candidate classes.
    n_unreadable: unreadable videos, counted as wrong.
    std: population standard deviation over splits; None with a single split.
    n_splits: number of splits.
    class_low: lower end of the 95% interval over classes, as if other classes
      of the same sources had been drawn; None without an interval.
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
    method: the first method.
    other: the method that it is compared with.
    metric: name of the accuracy.
    difference: `method` minus `other`.
    low: lower end of its 95% interval over videos, with fixed classes.
    high: upper end.
    class_low: lower end of the interval over classes.
    class_high: upper end.
    p_value: of the two-sided sign-flip test over classes.
    p_holm: p-value after Holm's correction over all comparisons except the
      declared one; for that, it equals `p_value`.
    primary: whether this comparison was declared before any result.
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
  """Returns the commit of the source tree, or None.

  If the package is installed inside another project's repository, the commit
  belongs to that project, so this returns None.
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
  """Returns the versions of the packages that results depend on."""
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
  """Returns the content of results.json.

  Args:
    protocol: id of the protocol.
    rows: the accuracies.
    config: the run's whole config.
    extra: more keys, such as the unreadable test videos.
    protocol_hash: hash of everything that defines the test; '' without a test.
    leaks: overlaps between training data and test.
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
  """Checks that an output file can be written, before the work starts.

  Args:
    path: path of the file; its folder is made if missing.
    overwrite: allow replacing an existing file.

  Raises:
    FileExistsError: the file exists and must not be replaced.
    IsADirectoryError: the path is a folder.
    OSError: the file cannot be written.
  """
  if os.path.isdir(path):
    raise IsADirectoryError(f'{path} is a folder: name a file to write')
  if os.path.exists(path) and not overwrite:
    raise FileExistsError(
      f'{path} already exists: name another file, or give --overwrite'
    )
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  probe = f'{path}.tmp'
  with open(probe, 'w'):
    pass
  os.remove(probe)


def default_path(workdir: str, content: Mapping[str, Any]) -> str:
  """Returns a path that differs for each protocol, weights and settings."""
  what = {
    key: content[key]
    for key in ('protocol', 'protocol_hash', 'weights_hash', 'settings')
  }
  digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]
  name = content['protocol'].replace('/', '_').replace(':', '_')
  return os.path.join(workdir, 'evaluations', f'{name}-{digest}', RESULTS_FILE)


def write_results(results: Mapping[str, Any], path: str) -> None:
  """Writes results whole or not at all.

  Args:
    results: content of results.json.
    path: path of the file; an existing file is replaced.

  Raises:
    OSError: the file cannot be written.
  """
  json_files.write(results, path)


def read_results(path: str) -> dict[str, Any]:
  """Reads results.json.

  Args:
    path: path of the file.

  Returns:
    Its content.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file is damaged, or has another schema version.
  """
  results = json_files.read(path)
  if results.get('schema_version') != SCHEMA_VERSION:
    raise ValueError(
      f'{path}: schema_version {results.get("schema_version")!r}, this '
      f'program reads {SCHEMA_VERSION}'
    )
  return results
