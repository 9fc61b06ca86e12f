"""The tables of the experiment on real clips, from its finished runs."""

from collections.abc import Mapping, Sequence
import dataclasses
import re

import numpy as np

from experiments import (
  grid,
  pooled,
  real_clips_ablations,
  real_clips_cells,
  real_clips_series,
  real_clips_where,
)
from zsar_jax.evaluation import diagnostics, results, results_text
from zsar_jax.evaluation import methods as methods_lib


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
  pool: pooled.Pool,
  wanted: Sequence[str] = (
    *real_clips_series.ROWS,
    real_clips_series.SOURCE_ONLY,
  ),
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
  real_clips_series.SOURCE_ONLY,
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


Tables = dict[str, list[str]]


def report(experiment: real_clips_cells.Experiment) -> tuple[Tables, Tables]:
  """Makes the tables.

  Args:
    experiment: the experiment.

  Returns:
    Table name -> lines: of the tables whose runs are all finished, and of the
    others, which are of the finished runs alone.
  """
  splits = range(experiment.num_splits)
  default = real_clips_cells.declared_settings(experiment.main(0, 0))
  choices = {s: real_clips_cells.choose(experiment, s) for s in splits}
  settings = {
    s: real_clips_cells.settings_of(choices[s], default) for s in splits
  }
  development = [real_clips_cells.DEVELOPMENT]
  claimed = [s for s in splits if s not in development]
  finished: Tables = {}
  unfinished: Tables = {'progress': _progress(experiment)}
  into = finished if None not in choices.values() else unfinished
  into['choices'] = _choice_lines(choices, default)
  for suffix, wanted in (('', claimed), (', development', development)):
    chosen = all(choices[s] for s in wanted)
    for name, text in (('text', True), ('random text', False)):
      title = f'{name}{suffix}'
      tables = _series_tables(
        experiment, text, wanted, settings if text else None, default
      )
      is_whole = experiment.are_finished(
        experiment.main(s, k, text)
        for s in wanted
        for k in range(real_clips_cells.NUM_SEEDS)
      )
      into = finished if is_whole and (chosen or not text) else unfinished
      into.update({f'{title}{of}': lines for of, lines in tables.items()})
    lines, is_whole = real_clips_ablations.table(experiment, settings, wanted)
    into = finished if is_whole and chosen else unfinished
    into[f'ablations{suffix}'] = lines
  return finished, unfinished


def _series_tables(
  experiment: real_clips_cells.Experiment,
  text: bool,
  splits: Sequence[int],
  settings: Mapping[int, methods_lib.TransferSettings] | None,
  default: methods_lib.TransferSettings,
) -> Tables:
  """Returns the tables of a kind of run: end of their names -> lines."""
  cells = [
    [experiment.main(s, k, text) for k in range(real_clips_cells.NUM_SEEDS)]
    for s in range(experiment.num_splits)
  ]
  undeclared = dict.fromkeys(splits, default)
  series = real_clips_series.gather(
    experiment, cells, settings or undeclared, splits
  )
  if series is None:
    return {'': ['not finished']}
  pool = real_clips_series.pool_of(series, default if settings else None)
  return {
    '': [
      _protocol_line(series),
      *accuracy_table(pool),
      '',
      *spread_lines(pool),
      *_mean_lines(series),
    ],
    ', where': real_clips_where.where_lines(series),
    ', paired': paired_lines(
      pool.paired('transfer', _COMPARED, methods_lib.PRIMARY)
    ),
  }


def _protocol_line(series: real_clips_series.Series) -> str:
  names = [seeds[0].facts for seeds in series.cells]
  return 'protocols: ' + ', '.join(
    f'{f["protocol"].rsplit(":", 1)[-1]} {f["hash"]}' for f in names
  )


def _mean_lines(series: real_clips_series.Series) -> list[str]:
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
