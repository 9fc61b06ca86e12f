"""One thing changed at a time, on real clips: what each is worth."""

from collections.abc import Mapping, Sequence
import dataclasses

from experiments import pooled, real_clips_cells, real_clips_series
from zsar_jax.evaluation import methods as methods_lib
from zsar_jax.evaluation import results, results_text


def table(
  experiment: real_clips_cells.Experiment,
  settings: Mapping[int, methods_lib.TransferSettings],
  splits: Sequence[int],
) -> tuple[list[str], bool]:
  """Makes the table of all ablations.

  Args:
    experiment: the experiment.
    settings: split -> transfer settings, for all ablations of the split.
    splits: splits to take together.

  Returns:
    The lines, and whether all runs are finished.
  """
  pairs, rows, missing = _pairs(experiment, settings, splits)
  lines = _lines(pairs, rows)
  if missing:
    lines.append(f'not finished: {", ".join(missing)}')
  return lines, not missing


def _pairs(
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
  main = real_clips_series.gather(experiment, cells, settings, splits)
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
    series = real_clips_series.gather(experiment, cells, settings, splits)
    if series is None:
      missing.append(name)
    else:
      pool.add(name, transfer(series))
  others = [m for m in pool.figures.methods() if m != 'recipe']
  return pool.paired('recipe', others), pool.figures.rows(), missing


def _lines(pairs, rows) -> list[str]:
  """Returns lines with each ablation's accuracy, and what the recipe gains."""
  values = {(r.method, r.metric): r for r in rows}
  of = {(p.other, p.metric): p for p in pairs}
  names = list(dict.fromkeys(r.method for r in rows))
  lines = []
  for name in names:
    line = [name]
    for metric in pooled.METRICS:
      row = values.get((name, metric))  # of one source there is but one
      line.append('' if row is None else f'{100 * row.value:.1f}')
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
