"""The tables of the experiment on real clips, from its finished runs."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import re

import numpy as np

from experiments import grid, pooled, real_clips_cells, real_clips_where
from zsar_jax.evaluation import diagnostics, results, results_text
from zsar_jax.evaluation import methods as methods_lib

_ROWS = (
  *methods_lib.METHODS,
  'transfer, declared settings',
  diagnostics.PERMUTED_NAMES,
  'control_first_frame',
  'control_shuffled_frames',
  'control_metadata',
  'oracle_mixture',
  'oracle_prototypes',
)
SOURCE_ONLY = 'floor_source_only'


@dataclasses.dataclass(frozen=True)
class Series:
  """One kind of run over some splits.

  Attributes:
    splits: the splits.
    cells: for each split and each seed, a cell.
    settings: transfer settings of each split.
  """

  splits: tuple[int, ...]
  cells: tuple[tuple[grid.Trained, ...], ...]
  settings: tuple[methods_lib.TransferSettings, ...]

  @functools.cached_property
  def scores(self) -> list[list[dict[str, np.ndarray]]]:
    """Returns, for each split and each seed, method -> scores [n u]."""
    return [
      [pooled.all_scores(cell.evaluation, settings) for cell in seeds]
      for seeds, settings in zip(self.cells, self.settings, strict=True)
    ]

  def flat(self):
    """Returns every model's evaluation and its settings."""
    return (
      [c.evaluation for seeds in self.cells for c in seeds],
      [
        s
        for seeds, s in zip(self.cells, self.settings, strict=True)
        for _ in seeds
      ],
    )


def gather(
  experiment: real_clips_cells.Experiment,
  cells_of: Sequence[Sequence[grid.Cell]],
  settings: Mapping[int, methods_lib.TransferSettings],
  splits: Sequence[int],
) -> Series | None:
  """Reads a series; returns None if a split has no finished cell.

  Args:
    experiment: the experiment.
    cells_of: for each split of the experiment and each seed, a cell.
    settings: split -> transfer settings.
    splits: splits to read.
  """
  found = []
  for split in splits:
    known = [experiment.read(cell) for cell in cells_of[split]]
    known = tuple(cell for cell in known if cell is not None)
    if not known:
      return None
    found.append(known)
  return Series(tuple(splits), tuple(found), tuple(settings[s] for s in splits))


def pool_of(series: Series, default=None) -> pooled.Pool:
  """Returns all methods of a series over its splits.

  Args:
    series: the runs.
    default: also add the transfer with these settings.
  """
  pool = pooled.Pool([seeds[0].evaluation for seeds in series.cells])
  scores = series.scores
  pick = lambda name: [[one[name] for one in seeds] for seeds in scores]
  names = [n for n in scores[0][0] if n in _ROWS]
  for name in names:
    pool.add(name, pick(name))
    if name == 'transfer':
      pool.add_permuted(diagnostics.PERMUTED_NAMES, pick(name))
  if default is not None:
    plain = dataclasses.replace(
      series, settings=(default,) * len(series.splits)
    )
    pool.add(
      'transfer, declared settings',
      [[one['transfer'] for one in seeds] for seeds in plain.scores],
    )
  add_source_only(pool)
  return pool


def add_source_only(pool: pooled.Pool) -> None:
  """Adds the accuracy of guessing within a video's known source."""
  figures = pool.figures
  if not figures.many_sources:
    return
  sizes = figures.tested.candidates.astype(float)
  alike = np.maximum(figures.same_source @ sizes, 1)[figures.tested.labels]
  for metric in pooled.METRICS:
    figures.add(SOURCE_ONLY, metric, 1 / alike, 1 / alike, True)


def _percent(row: results.Row | None) -> list[str]:
  if row is None:
    return ['', '', '']
  span = lambda low, high: (
    '' if low is None else f'{100 * low:.1f} - {100 * high:.1f}'
  )
  return [
    f'{100 * row.value:.1f}',
    span(row.low, row.high),
    span(row.class_low, row.class_high),
  ]


def accuracy_table(
  pool: pooled.Pool, wanted: Sequence[str] = (*_ROWS, SOURCE_ONLY)
) -> list[str]:
  """Returns the lines of a table with both accuracies of wanted methods."""
  rows = {(r.method, r.metric): r for r in pool.figures.rows()}
  methods = [m for m in wanted if (m, pooled.METRICS[1]) in rows]
  lines = [
    [method]
    + [
      cell
      for metric in pooled.METRICS
      for cell in _percent(rows.get((method, metric)))
    ]
    for method in methods
  ]
  header = (
    *('method', 'same source %', '95% interval', 'over classes'),
    *('all %', '95% interval', 'over classes'),
  )
  return results_text.columns(header, lines)


def paired_lines(pairs: Sequence[results.Paired]) -> list[str]:
  """Returns the lines of a table of differences, in points."""
  return results_text.format_paired(
    [dataclasses.asdict(pair) for pair in pairs]
  )


def ablation_pairs(
  experiment: real_clips_cells.Experiment,
  settings: Mapping[int, methods_lib.TransferSettings],
  splits: Sequence[int],
) -> tuple[list[results.Paired], list[results.Row], list[str]]:
  """Compares each ablation with the recipe (seed 0), on the same videos.

  All use the split's own transfer settings.

  Returns:
    The differences, the rows, and the names of unfinished ablations.
  """
  cells = [[experiment.main(s, 0)] for s in range(experiment.num_splits)]
  main = gather(experiment, cells, settings, splits)
  if main is None:
    return [], [], list(real_clips_cells.ABLATIONS)
  pool = pooled.Pool([seeds[0].evaluation for seeds in main.cells])
  transfer = lambda series: [
    [one['transfer'] for one in seeds] for seeds in series.scores
  ]
  pool.add('recipe', transfer(main))
  missing = []
  variants = {
    'relatedness before training': {'relatedness_source': 'initial'},
    'class centres as prototypes': {'prototype_source': 'classifier'},
    'names not centred': {'centre_text': False},
  }
  for name, change in variants.items():
    series = dataclasses.replace(
      main,
      settings=tuple(dataclasses.replace(s, **change) for s in main.settings),
    )
    pool.add(name, transfer(series))
  for name in real_clips_cells.ABLATIONS:
    cells = [
      [experiment.ablation(name, s)] for s in range(experiment.num_splits)
    ]
    series = gather(experiment, cells, settings, splits)
    if series is None:
      missing.append(name)
    else:
      pool.add(name, transfer(series))
  others = [m for m in pool.figures.methods() if m != 'recipe']
  return pool.paired('recipe', others), pool.figures.rows(), missing


def spread_lines(pool: pooled.Pool) -> list[str]:
  """Returns lines with the spread of the transfer over seeds and splits."""
  lines = []
  for metric in pooled.METRICS:
    values = pool.spread.get(('transfer', metric))
    if values is None:
      continue
    seeds = values.mean(axis=0)  # [splits seeds] -> seeds
    lines.append(
      f'transfer {metric}: of seeds '
      + ' '.join(f'{100 * v:.1f}' for v in seeds)
      + ', of splits '
      + ' '.join(f'{100 * v:.1f}' for v in values.mean(axis=1))
    )
  return lines


# Methods that the transfer is compared with, video by video.
_COMPARED = (
  methods_lib.PRIMARY,
  SOURCE_ONLY,
  diagnostics.PERMUTED_NAMES,
  'control_metadata',
  'control_first_frame',
  'control_shuffled_frames',
  'transfer_ridge',
  'transfer_simplex',
  'conse',
  'ridge_to_text',
  'fusion',
  'ensemble',
)


def report(experiment: real_clips_cells.Experiment) -> dict[str, list[str]]:
  """Returns table name -> lines."""
  tables: dict[str, list[str]] = {}
  splits = range(experiment.num_splits)
  claimed = [s for s in splits if s != real_clips_cells.DEVELOPMENT]
  default = real_clips_cells.declared_settings(experiment.main(0, 0))
  choices = {s: real_clips_cells.choose(experiment, s) for s in splits}
  settings = {
    s: real_clips_cells.settings_of(choices[s], default) for s in splits
  }
  tables['progress'] = _progress(experiment)
  tables['choices'] = _choice_lines(choices, default)
  undeclared = dict.fromkeys(splits, default)
  for text, names in ((True, 'text'), (False, 'random text')):
    cells = [
      [experiment.main(s, k, text) for k in range(real_clips_cells.NUM_SEEDS)]
      for s in splits
    ]
    chosen = settings if text else undeclared
    for title, wanted in (
      (names, claimed),
      (f'{names}, development', [real_clips_cells.DEVELOPMENT]),
    ):
      series = gather(experiment, cells, chosen, wanted)
      if series is None:
        tables[title] = ['not finished']
        continue
      pool = pool_of(series, default if text else None)
      tables[title] = [
        _protocol_line(series),
        *accuracy_table(pool),
        '',
        *spread_lines(pool),
        *_mean_lines(series),
      ]
      tables[f'{title}, where'] = real_clips_where.where_lines(series)
      tables[f'{title}, paired'] = paired_lines(
        pool.paired('transfer', _COMPARED, methods_lib.PRIMARY)
      )
  for title, wanted in (
    ('ablations', claimed),
    ('ablations, development', [real_clips_cells.DEVELOPMENT]),
  ):
    pairs, rows, missing = ablation_pairs(experiment, settings, wanted)
    tables[title] = _ablation_lines(pairs, rows)
    if missing:
      tables[title].append(f'not finished: {", ".join(missing)}')
  return tables


def _ablation_lines(pairs, rows) -> list[str]:
  """Returns lines with each ablation's accuracy, and what the recipe gains."""
  values = {(r.method, r.metric): r for r in rows}
  of = {(p.other, p.metric): p for p in pairs}
  names = list(dict.fromkeys(r.method for r in rows))
  lines = []
  for name in names:
    line = [name]
    for metric in pooled.METRICS:
      line.append(f'{100 * values[name, metric].value:.1f}')
      pair = of.get((name, metric))
      line += (
        ['', '', '']
        if pair is None
        else [
          f'{-100 * pair.difference:+.1f}',
          f'{-100 * pair.high:+.1f} - {-100 * pair.low:+.1f}',
          f'{pair.p_holm:.2f}',
        ]
      )
    lines.append(line)
  header = (
    *('changed', 'same source %', 'to recipe', '95% interval', 'p (Holm)'),
    *('all %', 'to recipe', '95% interval', 'p (Holm)'),
  )
  return results_text.columns(header, lines) if lines else ['not finished']


def _protocol_line(series: Series) -> str:
  names = [seeds[0].facts for seeds in series.cells]
  return 'protocols: ' + ', '.join(
    f'{f["protocol"].rsplit(":", 1)[-1]} {f["hash"]}' for f in names
  )


def _mean_lines(series: Series) -> list[str]:
  """Returns lines with means over models of figures other than accuracies."""
  cells = [cell for seeds in series.cells for cell in seeds]
  number = cells[0].facts['num_validation']
  validation = np.mean([cell.facts['seen_val_top1'] for cell in cells])
  seconds = np.median([cell.facts['seconds'] for cell in cells])
  evaluations, settings = series.flat()
  lines = [
    f'seen-class validation top1 {100 * validation:.1f}% (about {number} '
    f'videos a split); {len(cells)} models, median {seconds:.0f} s each'
  ]
  gzsl = pooled.generalised_means(evaluations, settings)
  for method in ('transfer', 'nearest_name'):
    parts = [
      f'{metric.removeprefix("gzsl_")} {100 * value:.1f}'
      for (name, metric), value in gzsl.items()
      if name == method
    ]
    if parts:
      lines.append(f'GZSL, {method}: ' + ', '.join(parts))
  facts = pooled.fact_means(evaluations, settings)
  wanted = re.compile(
    r'relatedness_kept|semantic_gap (un)?seen_x|'
    r'hubness (transfer|nearest_name) k=1 (robin_hood|largest_share)'
  )
  lines += [
    f'{name}: {value:.3f}'
    for name, value in facts.items()
    if wanted.match(name)
  ]
  return lines


def _choice_lines(choices, default) -> list[str]:
  lines = [f'declared: {_differences(default, methods_lib.TransferSettings())}']
  for split, choice in choices.items():
    if choice is None:
      lines.append(f'split {split}: inner draws are not finished')
      continue
    best = max(choice['compared'], key=lambda c: np.mean(c['accuracies']))
    best_settings = methods_lib.TransferSettings(**best['settings'])
    chosen = methods_lib.TransferSettings(**choice['settings'])
    mean = lambda c: f'{100 * np.mean(c["accuracies"]):.1f}'
    lines.append(
      f'split {split}: declared {mean(choice["compared"][0])}, best '
      f'{mean(best)} with '
      f'{_differences(best_settings, default)}; chosen: '
      f'{_differences(chosen, default)}'
    )
  return lines


def _differences(settings, other) -> str:
  values, others = dataclasses.asdict(settings), dataclasses.asdict(other)
  changed = [f'{k}={v}' for k, v in values.items() if v != others[k]]
  return ', '.join(changed) or 'the declared settings'


def _progress(experiment: real_clips_cells.Experiment) -> list[str]:
  return [
    f'tier {tier}: '
    f'{sum(grid.is_finished(experiment.out, c.name) for c in cells)} of '
    f'{len(cells)} cells are finished'
    for tier, cells in sorted(experiment.tiers().items())
  ]
