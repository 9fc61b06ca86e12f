"""How many small faults in the pure parts do their tests notice?

```
pip install -e '.[test,dev]'
python -m benchmarks.mutation --sample=8
python -m benchmarks.mutation --sample=0 --only=zeroshot/gzsl
```

cosmic-ray turns operators, shifts numbers, drops branches and so on, one place
at a time, in a copy of the committed code, and runs the tests of that module.
A mutant that fails a test, or hangs one, is killed. One that fails none
survives: a test is missing, unless the mutant does the same as the code. Those
are listed, with the reason, in `mutation_equivalents.txt`, and do not count.
`--sample` mutants of each module are drawn by `--seed`; 0 runs all of them.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import pathlib
import random
import subprocess
import sys
import tempfile

_ROOT = pathlib.Path(__file__).parents[1]
_EQUIVALENTS = pathlib.Path(__file__).parent / 'mutation_equivalents.txt'
# Module -> its tests, fast ones first.
_TESTS: Mapping[str, tuple[str, ...]] = {
  **{
    f'zeroshot/{name}': (f'zeroshot/test_{name}.py',)
    for name in (
      'baselines',
      'calibration',
      'claims',
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
  'data/protocols/class_split': ('data/protocols/test_class_split.py',),
  'data/protocols/known_classes': ('data/protocols/test_known_classes.py',),
  'data/protocols/overlap': ('data/protocols/test_overlap.py',),
  'data/protocols/registry': (
    'data/protocols/test_registry.py',
    'data/protocols/test_registry_check.py',
  ),
  'data/protocols/specs': ('data/protocols/test_registry.py',),
  'data/protocols/split_file': ('data/protocols/test_split_file.py',),
  'data/protocols/video_sets': ('data/protocols/test_video_sets.py',),
  'data/protocols/word_overlap': ('data/protocols/test_word_overlap.py',),
  'losses': ('test_losses.py',),
  'optim': ('test_optim.py',),
  'pixel_ops': ('test_pixel_ops.py',),
  'evaluators/accuracy': ('evaluators/test_accuracy.py',),
  'evaluators/choosing': ('evaluators/test_protocol_evaluation.py',),
  'evaluators/classification': ('evaluators/test_classification.py',),
  'evaluators/diagnostics': ('evaluators/test_protocol_evaluation.py',),
  'evaluators/generalised': ('evaluators/test_protocol_evaluation.py',),
  'evaluators/zeroshot': ('evaluators/test_zeroshot.py',),
}
# `|` mostly stands in types here, and `is` equals `==` for small numbers.
_LEFT_OUT = (
  'core/ReplaceBinaryOperator_BitOr',
  'core/ReplaceComparisonOperator_Eq_Is',
  'core/ReplaceComparisonOperator_NotEq_IsNot',
)
_TIMEOUT = 120


@dataclasses.dataclass(frozen=True)
class Mutant:
  """One fault: what was done to which line, and what became of it."""

  module: str
  operator: str
  line_number: int
  line: str
  killed: bool


def read_equivalents(text: str) -> set[tuple[str, str, str]]:
  """(module, operator, line) of mutants that do the same as the code.

  Args:
    text: lines `module | operator | line | reason`; '#' begins a comment.

  Raises:
    ValueError: a line of other form, or without a reason.
  """
  found = set()
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip() or line.startswith('#'):
      continue
    parts = [part.strip() for part in line.split(' | ')]
    if len(parts) != 4 or not all(parts):
      raise ValueError(
        f'{_EQUIVALENTS.name}:{number}: expected '
        f'"module | operator | line | reason", got {line!r}'
      )
    found.add((parts[0], parts[1], parts[2]))
  return found


def _init(session: str, config: str, sample: int, seed: int) -> int:
  """Makes a session of at most `sample` mutants; returns how many exist."""
  from cosmic_ray import work_db

  run = [sys.executable, '-m', 'cosmic_ray.cli', 'init', config, session]
  subprocess.run(run, check=True, cwd=pathlib.Path(config).parent)
  with work_db.use_db(session) as db:
    items = [
      item
      for item in db.work_items
      if not item.mutations[0].operator_name.startswith(_LEFT_OUT)
    ]
    chosen = items
    if sample and sample < len(items):
      chosen = random.Random(seed).sample(items, sample)
    db.clear()
    db.add_work_items(chosen)
  return len(items)


def _results(module: str, session: str, lines: Sequence[str]) -> list[Mutant]:
  from cosmic_ray import work_db
  from cosmic_ray.work_item import TestOutcome

  found = []
  with work_db.use_db(session) as db:
    outcomes = dict(db.results)
    for item in db.work_items:
      mutation, result = item.mutations[0], outcomes[item.job_id]
      row = mutation.start_pos[0]
      found.append(
        Mutant(
          module,
          mutation.operator_name.removeprefix('core/'),
          row,
          lines[row - 1].strip(),
          result.test_outcome != TestOutcome.SURVIVED,
        )
      )
  return found


def run_module(
  copy: pathlib.Path, module: str, sample: int, seed: int
) -> tuple[int, list[Mutant]]:
  """Runs mutants of one module.

  Args:
    copy: a clone of the repository, which is changed and put back.
    module: below `zsar_jax`.
    sample: mutants to run; 0 for all.
    seed: of the draw.

  Returns:
    How many mutants exist, and those that ran.
  """
  path = f'zsar_jax/{module}.py'
  tests = ' '.join(f'tests/{test}' for test in _TESTS[module])
  config, session = str(copy / 'cr.toml'), str(copy / 'cr.sqlite')
  pathlib.Path(session).unlink(missing_ok=True)
  pathlib.Path(config).write_text(
    f'[cosmic-ray]\nmodule-path = "{path}"\ntimeout = {_TIMEOUT}.0\n'
    'excluded-modules = []\n'
    f'test-command = "{sys.executable} -m pytest -x -q -p no:cacheprovider '
    f'{tests}"\n[cosmic-ray.distributor]\nname = "local"\n'
  )
  lines = (copy / path).read_text().splitlines()
  exist = _init(session, config, sample, seed)
  run = [sys.executable, '-m', 'cosmic_ray.cli', 'exec', config, session]
  subprocess.run(run, check=True, cwd=copy, stdout=subprocess.DEVNULL)
  return exist, _results(module, session, lines)


def describe(rows: Iterable[tuple[str, int, int, int, int, int]]) -> str:
  """The table: module, mutants, run, killed, equivalent, survived, score."""
  names = ('module', 'mutants', 'run', 'killed', 'equivalent', 'survived')
  lines = [
    f'{names[0]:30}' + ''.join(f'{n:>11}' for n in names[1:]) + '  score'
  ]
  totals = [0] * 5
  for name, *counts in rows:
    totals = [a + b for a, b in zip(totals, counts, strict=True)]
    lines.append(_row(name, counts))
  return '\n'.join([*lines, _row('all', totals)])


def _row(name: str, counts: Sequence[int]) -> str:
  counted = counts[2] + counts[4]
  score = f'{100 * counts[2] / counted:6.1f}%' if counted else '      -'
  return f'{name:30}' + ''.join(f'{n:11d}' for n in counts) + score


def main() -> None:
  """Runs the sample and prints survivors, then the table."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--sample', type=int, default=8)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', default='', help='modules, with commas')
  flags = parser.parse_args()
  modules = flags.only.split(',') if flags.only else list(_TESTS)
  unknown = sorted(set(modules) - set(_TESTS))
  if unknown:
    raise SystemExit(f'no such modules: {unknown}; known: {sorted(_TESTS)}')
  equivalents = read_equivalents(_EQUIVALENTS.read_text())
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder) / 'copy'
    subprocess.run(['git', 'clone', '-q', str(_ROOT), str(copy)], check=True)
    for module in modules:
      exist, mutants = run_module(copy, module, flags.sample, flags.seed)
      alive = [m for m in mutants if not m.killed]
      same = [m for m in alive if (m.module, m.operator, m.line) in equivalents]
      for m in alive:
        what = 'equivalent' if m in same else 'SURVIVED'
        print(f'{what} {m.module}:{m.line_number} | {m.operator} | {m.line}')
      killed = len(mutants) - len(alive)
      counts = len(mutants), killed, len(same), len(alive) - len(same)
      rows.append((module, exist, *counts))
      print(_row(module, rows[-1][1:]), flush=True)
  print(describe(rows))


if __name__ == '__main__':
  main()
