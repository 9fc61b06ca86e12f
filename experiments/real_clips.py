"""Evaluates the recipe on real clips, and ablates each of its ideas.

python -m experiments.real_clips --dataset_dir=DIR --class_split=splits.json \
  --text=MINILM_DIR --out=runs/real_clips

DIR is a prepared dataset of a few hundred clips from several sources.
splits.json is a class split file of several splits. MINILM_DIR is a folder of
BERT weights. The script trains the missing runs, tier by tier, and prints the
tables. With --tables_only it trains nothing. It can be stopped at any moment;
the same command resumes it. --docs=docs/results/real_clips.md also puts the
tables into the document, each once all its runs are finished; the others stay
as they are there.

Tier 1: the recipe (configs/video_folder.py) on every split with three seeds,
with the text encoder from public weights and from random values. Tier 2:
ablations that change one thing at a time, with one seed. Tier 3: inner draws,
on which every split chooses its transfer settings, without its true unseen
classes. The recipe was developed on split 0, which is reported separately.
"""

import os

from absl import flags

from experiments import (
  documents,
  grid,
  real_clips_cells,
  real_clips_described,
  real_clips_tables,
)
from zsar_jax import cli


def main(argv: list[str]) -> None:
  """Trains the missing runs and prints the tables."""
  values = documents.new_flags(
    {
      'dataset_dir': 'Prepared dataset.',
      'class_split': 'Class split file of several splits.',
      'text': 'Folder of BERT weights.',
      'out': 'Folder for all runs.',
    }
  )
  flags.DEFINE_string(
    'descriptions',
    '',
    'Also measure names with descriptions: a file, or `shipped`.',
    flag_values=values,
  )
  flags.DEFINE_list('tiers', ['1', '3', '2'], 'In order.', flag_values=values)
  flags.DEFINE_integer('workers', 0, 'See grid.run.', flag_values=values)
  flags.DEFINE_bool('tables_only', False, 'No training.', flag_values=values)
  flags.DEFINE_list(
    'unfinished',
    [],
    'Groups of tables (such as `described`) to put into the document although '
    'some of their runs are not finished.',
    flag_values=values,
  )
  cli.parse(values, argv, usage=__doc__)
  absolute = lambda path: os.path.abspath(os.path.expanduser(path))
  experiment = real_clips_cells.Experiment(
    absolute(values.dataset_dir),
    absolute(values.class_split),
    absolute(values.text),
    absolute(values.out),
    real_clips_cells.num_splits(values.class_split),
  )
  described = {}
  if values.descriptions:
    described = real_clips_described.read_descriptions(
      values.descriptions, real_clips_cells.class_names(values.class_split)
    )
  if not values.tables_only:
    tiers = experiment.tiers()
    cells = [cell for tier in values.tiers for cell in tiers[int(tier)]]
    grid.run(cells, experiment.out, values.workers)
  finished, unfinished = real_clips_tables.report(experiment)
  if described:
    whole, parts = real_clips_described.report(experiment, described)
    finished, unfinished = finished | whole, unfinished | parts
  for name in [n for n in unfinished if n.split(',')[0] in values.unfinished]:
    finished[name] = unfinished.pop(name)
  for group in ('text', 'random text', 'described', 'ablations'):
    if group in finished:
      finished[f'{group}, machine'] = [documents.machine_and_commit()]
  documents.publish(unfinished, '')
  documents.publish(finished, values.docs)


if __name__ == '__main__':
  cli.run(main)
