"""Measures how many small faults in the pure parts their tests notice.

```
pip install -e '.[test,dev]'
python -m benchmarks.mutation --sample=20
python -m benchmarks.mutation --sample=0 --only=zeroshot/gzsl
```

The operators of cosmic-ray, and one of ours, change one place of a module at a
time: an operator, a number, a condition, the name of a function. The module's
tests run on each mutant. If a test fails or hangs, the mutant is killed. If
none fails, it survives: then a test is missing, unless the mutant is equivalent
to the code. `mutation_equivalents.txt` lists equivalent mutants with the
reason; they do not count. `mutants.py` explains which changes are left out.

The code on disk is never changed. Each mutant runs in its own process, forked
from one that has imported everything except this project. That takes a fifth of
the time of starting Python. `--sample` mutants of each module are drawn by
`--seed`; 0 runs all. `--results` keeps the outcomes: mutants that failed a test
are not run again, others are.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import gc
import importlib
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

from benchmarks import mutants

_ROOT = pathlib.Path(__file__).parents[1]
_EQUIVALENTS = pathlib.Path(__file__).parent / 'mutation_equivalents.txt'
_SEPARATOR = ' || '
_OURS = ('benchmarks', 'conftest', 'tests', 'zsar_jax')
_EVALUATION = tuple(
  f'evaluation/test_{name}.py' for name in ('methods', 'accuracy', 'evaluator')
)
_PROTOCOL_EVALUATION = ('evaluation/test_protocol_evaluation.py',)
_REGISTRY = (
  'data/protocols/test_registry.py',
  'data/protocols/test_registry_check.py',
)
# Module -> arguments of pytest that select its tests, fast ones first.
_TESTS: Mapping[str, tuple[str, ...]] = {
  **{
    f'zeroshot/{name}': (f'zeroshot/test_{name}.py',)
    for name in (
      'baselines',
      'calibration',
      'claims',
      'confidence_measures',
      'gzsl',
      'hubness',
      'metrics',
      'prototypes',
      'ranking',
      'scoring',
      'segments',
      'semantic_transfer',
      'simplex',
      'statistics',
    )
  },
  'data/clips': ('data/test_clips.py',),
  **{
    f'data/protocols/{name}': (f'data/protocols/test_{name}.py',)
    for name in (
      'class_split',
      'inner_draws',
      'known_classes',
      'overlap',
      'split_file',
      'video_sets',
      'word_overlap',
    )
  },
  'data/protocols/registry': _REGISTRY,
  'data/protocols/split_choice': ('data/protocols/test_class_split.py',),
  'data/protocols/specs': _REGISTRY,
  'training/losses': ('training/test_losses.py',),
  'training/optim': ('training/test_optim.py',),
  # Tests on eight devices take most of the time and find nothing more.
  'models/pixel_ops': ('models/test_pixel_ops.py', '-k', 'not device'),
  'evaluation/accuracy': _EVALUATION,
  'evaluation/choosing': ('evaluation/test_choosing.py',),
  'evaluation/classification': ('evaluation/test_classification.py',),
  'evaluation/diagnostics': _EVALUATION,
  'evaluation/evaluator': _EVALUATION,
  'evaluation/generalised': ('evaluation/test_generalised.py',),
  'evaluation/methods': _EVALUATION,
  'evaluation/protocol_arrays': _PROTOCOL_EVALUATION,
  'evaluation/protocol_evaluation': _PROTOCOL_EVALUATION,
  'evaluation/task': _EVALUATION,
}


def _fork(work) -> int:
  """Runs `work` in a forked process without output; returns its id."""
  pid = os.fork()
  if not pid:
    status = 1
    try:
      os.setsid()
      out = os.open(os.devnull, os.O_WRONLY)
      os.dup2(out, 1)
      os.dup2(out, 2)
      status = int(work())
    finally:
      os._exit(status)
  return pid


def _outcome(work, limit: float) -> str:
  """Runs `work`: 'passed', 'failed' or, after `limit` seconds, 'timed out'."""
  pid = _fork(work)
  end = time.monotonic() + limit
  while time.monotonic() < end:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
      return 'failed' if status else 'passed'
    time.sleep(0.01)
  os.killpg(pid, signal.SIGKILL)
  os.waitpid(pid, 0)
  return 'timed out'


def _run_tests(module: str, *more: str) -> int:
  import pytest

  sys.dont_write_bytecode = True
  tests = [
    str(_ROOT / 'tests' / word) if word.endswith('.py') else word
    for word in _TESTS[module]
  ]
  # Plugins that collect garbage or write a cache are off, for speed.
  quick = ['-p', 'no:cacheprovider', '-p', 'no:unraisableexception']
  return pytest.main(['-x', '-q', *quick, *more, *tests])


def _preload(module: str) -> None:
  """Imports all that the module's tests import, except this project."""
  read, write = os.pipe()

  def look():
    status = _run_tests(module, '--collect-only')
    environment = {k: v for k, v in os.environ.items() if 'PYTEST' not in k}
    with os.fdopen(write, 'w') as out:
      json.dump([environment, list(sys.modules)], out)
    return status

  pid = _fork(look)
  os.close(write)
  with os.fdopen(read) as answer:
    text = answer.read()
  if os.waitpid(pid, 0)[1]:
    raise SystemExit(f'the tests of {module} cannot be collected')
  environment, names = json.loads(text)
  os.environ.update(environment)
  for name in names:
    if name.split('.')[0] not in _OURS:
      # Some loaded modules cannot be imported by their names.
      with contextlib.suppress(Exception):
        importlib.import_module(name)
  gc.freeze()  # a mutant's process need not look for garbage in it


def run(
  module: str, faults: Sequence[mutants.Mutant]
) -> Iterator[tuple[mutants.Mutant, str]]:
  """Runs the module's tests on each mutant.

  Args:
    module: path below `zsar_jax`, without the ending.
    faults: mutants of the module.

  Yields:
    The mutant, and 'passed', 'failed' or 'timed out'.

  Raises:
    SystemExit: the tests fail on the unchanged code.
  """
  _preload(module)
  seconds = []
  for _ in range(2):  # the first fills the compilation cache
    began = time.monotonic()
    if _outcome(lambda: _run_tests(module), 600) != 'passed':
      raise SystemExit(f'the tests of {module} fail without any mutant')
    seconds.append(time.monotonic() - began)
  limit = 15 + 5 * max(seconds)

  for mutant in faults:

    def work(mutant=mutant):
      sys.meta_path.insert(0, mutants.Finder(mutant))
      return _run_tests(module)

    yield mutant, _outcome(work, limit)


def read_equivalents(text: str) -> set[tuple[str, str, str]]:
  """Parses the list of equivalent mutants; returns (module, line, becomes).

  Args:
    text: one mutant per line, `module || line || becomes || reason`; '#' begins
      a comment.

  Raises:
    ValueError: a line has another form, or no reason.
  """
  found = set()
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip() or line.startswith('#'):
      continue
    parts = [part.strip() for part in line.split(_SEPARATOR)]
    if len(parts) != 4 or not all(parts):
      raise ValueError(
        f'{_EQUIVALENTS.name}:{number}: expected '
        f'"module || line || becomes || reason", got {line!r}'
      )
    found.add(tuple(parts[:3]))
  return found


def _row(name: str, counts: Sequence[int]) -> str:
  """Formats counts: exist, run, killed, timed out, equivalent, survived."""
  counted = counts[2] + counts[5]
  score = f'{100 * counts[2] / counted:7.1f}%' if counted else '       -'
  return f'{name:31}' + ''.join(f'{n:9d}' for n in counts) + score


def _run_module(module: str, flags, equivalents) -> list[int]:
  """Runs mutants without outcome, prints survivors, returns the counts."""
  log = flags.results
  source = (_ROOT / f'zsar_jax/{module}.py').read_text()
  exist = mutants.find_mutants(module, source)
  there = {(m.module, m.line, m.becomes) for m in exist}
  for _, line, becomes in (e for e in equivalents - there if e[0] == module):
    print(_SEPARATOR.join((f'NO MUTANT {module}', line, becomes)), flush=True)
  chosen = exist
  if 0 < flags.sample < len(exist):
    # A module's draw does not depend on the other modules.
    draw = random.Random(f'{flags.seed} {module}')
    # A larger sample holds the smaller ones.
    chosen = draw.sample(exist, len(exist))[: flags.sample]
  outcomes = {}
  if log.exists():
    for line in log.read_text().splitlines():
      outcome = json.loads(line)
      outcomes[outcome['digest']] = outcome['outcome']
  # Run mutants that timed out again: a busy machine may have caused that.
  left = [m for m in chosen if outcomes.get(m.digest) != 'failed']
  is_equivalent = lambda m: (m.module, m.line, m.becomes) in equivalents
  left = [m for m in left if not is_equivalent(m)]
  for mutant, outcome in run(module, left) if left else ():
    outcomes[mutant.digest] = outcome
    with log.open('a') as out:
      json.dump({'digest': mutant.digest, 'outcome': outcome}, out)
      out.write('\n')
    if outcome == 'passed':
      parts = (f'SURVIVED {module}:{mutant.row}', mutant.line, mutant.becomes)
      print(_SEPARATOR.join(parts), flush=True)
  found = [outcomes.get(m.digest, 'passed') for m in chosen]
  killed = len(found) - found.count('passed')
  equivalent = sum(
    outcome == 'passed' and is_equivalent(m)
    for m, outcome in zip(chosen, found, strict=True)
  )
  survived = len(chosen) - killed - equivalent
  late = found.count('timed out')
  return [len(exist), len(chosen), killed, late, equivalent, survived]


def main() -> None:
  """Runs the sample and prints survivors, then the table."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--sample', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', default='', help='modules, separated by commas')
  parser.add_argument(
    '--results', type=pathlib.Path, default=_ROOT / 'runs/mutation.jsonl'
  )
  flags = parser.parse_args()
  modules = flags.only.split(',') if flags.only else list(_TESTS)
  unknown = sorted(set(modules) - set(_TESTS))
  if unknown:
    raise SystemExit(f'no such modules: {unknown}; known: {sorted(_TESTS)}')
  equivalents = read_equivalents(_EQUIVALENTS.read_text())
  flags.results.parent.mkdir(parents=True, exist_ok=True)
  names = ('mutants', 'run', 'killed', 'late', 'same', 'survived', 'score')
  head = f'{"module":31}' + ''.join(f'{name:>9}' for name in names)
  rows = []
  with tempfile.TemporaryDirectory() as cache:
    os.environ['JAX_COMPILATION_CACHE_DIR'] = cache
    for module in modules:
      counts = _run_module(module, flags, equivalents)
      rows.append((module, counts))
      print(_row(module, counts), flush=True)
  totals = [sum(column) for column in zip(*(c for _, c in rows), strict=True)]
  print('\n'.join([head, *(_row(*row) for row in rows), _row('all', totals)]))


if __name__ == '__main__':
  main()
