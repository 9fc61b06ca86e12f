"""Studies when semantic transfer works, on rendered stick figures.

python -m experiments.stick_figure_study --out=runs/study

The true relatedness of the rendered classes is known. The study measures the
accuracy on unseen classes while one setting varies: the number of seen classes,
the clips per class, the nuisance (bodies, colours, backgrounds, camera, speed),
or whether descriptions (stick_figures_descriptions.json) stand beside the
names. The error ladder shows which part fails: it has the accuracies of true
prototypes, the best mixtures of seen ones, true relatedness, learnt relatedness
and wrong names on the same videos. The recipe is configs/demo.py with half its
steps.

It can be stopped at any moment; the same command resumes it.
--parts=described leaves out the rest. --figure=FILE.svg draws the plots of the
ladder. --docs=docs/results/stick_figures.md puts the tables into the document.
"""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any

from absl import flags

from experiments import documents, grid, pooled, real_clips_cells
from zsar_jax import cli
from zsar_jax.evaluation import accuracy, results, results_text
from zsar_jax.inference import evaluate_run

CONFIG = 'configs/demo.py'
# Settings that vary, and their usual values, which are the demo's.
USUAL = {'num_seen': 24, 'clips_per_class': 24, 'nuisance': 1.0}
VARIED: dict[str, tuple[Any, ...]] = {
  'num_seen': (12, 16, 20, 24),
  'clips_per_class': (3, 6, 12, 24),
  'nuisance': (0.0, 0.25, 0.5, 1.0),
}
# Two sentences beside each name, which need more tokens than names.
DESCRIPTIONS = os.path.join(
  os.path.dirname(os.path.abspath(__file__)), 'stick_figures_descriptions.json'
)
DESCRIBED = {
  'names.descriptions': DESCRIPTIONS,
  'preprocessing.token_length': 64,
}
# With and without descriptions, at these numbers of seen classes.
DESCRIBED_SEEN = (12, 24)
PARTS = ('ladder', 'described')
WORDS = {
  'num_seen': 'seen classes',
  'clips_per_class': 'clips of each class',
  'nuisance': 'nuisance',
}
NUM_SEEDS = 3
# Rows to show -> their labels: the error ladder, and two others.
SHOWN = {
  'oracle_prototypes': 'true prototypes',
  'oracle_mixture': 'best mixture of seen ones',
  'oracle_relatedness': 'true relatedness',
  'transfer': 'transfer',
  'nearest_name': 'nearest name',
  'control_permuted_names': 'wrong names',
}


def cell(
  values: dict[str, Any], seed: int, described: bool = False
) -> grid.Cell:
  """Returns one run.

  Args:
    values: values of the keys of USUAL.
    seed: seed of the training; the videos stay the same.
    described: whether to read descriptions too.
  """
  name = '_'.join(f'{key}{value}' for key, value in values.items())
  changes = {f'data.stick_figures.{k}': v for k, v in values.items()}
  if described:
    name += '_described'
    changes |= DESCRIBED
  changes |= {
    'seed': seed,
    'train.num_steps': 400,
    'data.stick_figures.test_clips_per_class': 10,
  }
  return grid.Cell(f'{name}_seed{seed}', CONFIG, changes)


def points() -> dict[str, list[dict[str, Any]]]:
  """Returns varied key -> values of all keys at each point."""
  return {
    key: [{**USUAL, key: value} for value in values]
    for key, values in VARIED.items()
  }


def described_points() -> list[tuple[dict[str, Any], bool]]:
  """Returns (values, whether described) of each row of the second table."""
  return [
    ({**USUAL, 'num_seen': number}, described)
    for number in DESCRIBED_SEEN
    for described in (False, True)
  ]


def cells(parts: Sequence[str] = PARTS) -> list[grid.Cell]:
  """Returns all runs of some parts, each once, those of the first seed first.

  Args:
    parts: of PARTS.
  """
  wanted = []
  if 'ladder' in parts:
    wanted += [(v, False) for several in points().values() for v in several]
  if 'described' in parts:
    wanted += described_points()
  distinct = {
    made.name: made
    for seed in range(NUM_SEEDS)
    for made in (cell(values, seed, said) for values, said in wanted)
  }
  return list(distinct.values())


def accuracies(
  out: str, values: dict[str, Any], described: bool = False
) -> dict[str, results.Row]:
  """Returns the per-class accuracies at a point, as means over seeds.

  Args:
    out: folder of the grid.
    values: values of the point.
    described: whether the runs read descriptions.

  Returns:
    Method -> row; empty if no seed is finished.
  """
  trained = [
    grid.read_cell(out, made.name)
    for made in (cell(values, seed, described) for seed in range(NUM_SEEDS))
    if grid.is_finished(out, made.name)
  ]
  if not trained:
    return {}
  settings = real_clips_cells.declared_settings(cell(values, 0))
  scores = [pooled.all_scores(one.evaluation, settings) for one in trained]
  pool = pooled.Pool([trained[0].evaluation])
  for name in SHOWN:
    if name in scores[0]:
      pool.add(name, [[of_seed[name] for of_seed in scores]])
  pool.add_permuted(
    'control_permuted_names', [[of_seed['transfer'] for of_seed in scores]]
  )
  return {
    row.method: row for row in pool.rows() if row.metric == accuracy.PER_CLASS
  }


def table(found) -> list[str]:
  """Returns the lines of the ladder at every point.

  Args:
    found: varied key -> for each of its points, method -> row.
  """
  lines = [
    [WORDS[key], str(value), *_shown(rows)]
    for key, rows_of_points in found.items()
    for value, rows in zip(VARIED[key], rows_of_points, strict=True)
  ]
  return results_text.columns(('varied', 'to', *SHOWN.values()), lines)


def described_table(found: Sequence[dict[str, results.Row]]) -> list[str]:
  """Returns the lines of the second table.

  Args:
    found: for each of `described_points`, method -> row.
  """
  lines = [
    [
      str(values['num_seen']),
      'names and descriptions' if described else 'names',
      *_shown(rows),
    ]
    for (values, described), rows in zip(described_points(), found, strict=True)
  ]
  return results_text.columns(('seen classes', 'texts', *SHOWN.values()), lines)


def _shown(rows: dict[str, results.Row]) -> list[str]:
  """Returns the cells of a point: each accuracy and its interval."""
  if not rows:
    return ['not finished'] * len(SHOWN)
  return [
    f'{100 * rows[m].value:.1f} ({100 * rows[m].class_low:.0f}-'
    f'{100 * rows[m].class_high:.0f})'
    for m in SHOWN
  ]


# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ('#999999', '#009e73', '#0072b2', '#d55e00', '#cc79a7', '#000000')


def _draw_axis(axis, known) -> None:
  """Draws every method over one varied setting."""
  x = [value for value, _ in known]
  for (method, label), colour in zip(SHOWN.items(), _COLOURS, strict=True):
    y = [100 * rows[method].value for _, rows in known]
    main = method == 'transfer'
    axis.plot(
      x,
      y,
      marker='o',
      markersize=4,
      color=colour,
      label=label,
      linewidth=2.5 if main else 1.3,
      linestyle='--' if method.startswith('control') else '-',
    )
    if main:
      low, high = (
        [100 * getattr(rows[method], end) for _, rows in known]
        for end in ('low', 'high')
      )
      axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
  chance = [100 * rows['floor_chance'].value for _, rows in known]
  axis.plot(x, chance, color='#bbbbbb', linewidth=1, label='chance')
  axis.set_xticks(x)
  axis.spines[['top', 'right']].set_visible(False)


def draw(found, path: str) -> None:
  """Draws the ladder over each varied setting; `path` chooses the format."""
  import matplotlib

  matplotlib.use('Agg')
  # Make the file reproducible.
  matplotlib.rcParams['svg.hashsalt'] = 'zsar_jax'
  from matplotlib import pyplot as plt

  figure, ((*axes,),) = plt.subplots(
    1,
    len(found),
    figsize=(11, 3.6),
    sharey=True,
    squeeze=False,
    layout='constrained',
  )
  for axis, (key, rows_of_points) in zip(axes, found.items(), strict=True):
    known = [
      (value, rows)
      for value, rows in zip(VARIED[key], rows_of_points, strict=True)
      if rows
    ]
    _draw_axis(axis, known)
    axis.set_xlabel(WORDS[key])
  axes[0].set_ylabel('unseen classes, per-class accuracy, %')
  axes[0].set_ylim(0, 100)
  figure.legend(
    *axes[0].get_legend_handles_labels(),
    loc='outside lower center',
    ncols=7,
    fontsize=8,
    frameon=False,
  )
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  figure.savefig(path, metadata={'Date': None} if path[-4:] == '.svg' else None)
  plt.close(figure)


def main(argv: list[str]) -> None:
  """Trains the missing runs, prints the table, draws the plots."""
  values = cli.new_flags()
  flags.DEFINE_string(
    'out', None, 'Folder for all runs.', flag_values=values, required=True
  )
  flags.DEFINE_string(
    'data_dir', '', "Folder of datasets; '' is TFDS's.", flag_values=values
  )
  flags.DEFINE_integer('workers', 0, 'See grid.run.', flag_values=values)
  flags.DEFINE_bool('tables_only', False, 'No training.', flag_values=values)
  flags.DEFINE_string('figure', '', 'File to draw.', flag_values=values)
  flags.DEFINE_multi_enum(
    'parts', list(PARTS), PARTS, 'What to train and show.', flag_values=values
  )
  documents.define_docs(values)
  cli.parse(values, argv, usage=__doc__)
  out = os.path.abspath(os.path.expanduser(values.out))
  if not values.tables_only:
    made = [
      dataclasses.replace(
        one, changes={**one.changes, 'data.data_dir': values.data_dir}
      )
      for one in cells(values.parts)
    ]
    for one in made:  # two workers must not render the same dataset at once
      if not grid.is_finished(out, one.name):
        evaluate_run.dataset_dir(one.make_config().data)
    grid.run(made, out, values.workers)
  tables = {}
  if 'ladder' in values.parts:
    found = {
      key: [accuracies(out, point) for point in several]
      for key, several in points().items()
    }
    tables['stick figures'] = table(found)
    tables['stick figures, machine'] = [documents.machine()]
    if values.figure:
      draw(found, values.figure)
  if 'described' in values.parts:
    tables['stick figures, described'] = described_table(
      [accuracies(out, *point) for point in described_points()]
    )
    tables['stick figures, described, machine'] = [documents.machine()]
  documents.publish(tables, values.docs)


if __name__ == '__main__':
  cli.run(main)
