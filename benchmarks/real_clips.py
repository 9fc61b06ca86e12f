"""Does it work on videos that people filmed, and does each idea earn its place?

python -m benchmarks.real_clips --dataset_dir=DIR --class_split=splits.json \
  --text=MINILM_DIR --out=runs/real_clips

DIR is a prepared dataset of a few hundred clips from several sources,
splits.json a class split file of several splits, MINILM_DIR a folder of BERT
weights. Trains what is not trained yet, by tiers, and prints the tables; with
--tables_only it trains nothing. Stopped at any moment, the same command goes
on. --docs=docs/results.md also puts the tables into the document.

Tier 1: the recipe (configs/video_folder.py) on every split with three seeds,
with the text side from public weights and from random values. Tier 2: one
thing changed at a time, one seed. Tier 3: inner draws, on which every split
chooses its settings of the transfer; the true unseen classes are not looked
at for that. Split 0 is where the recipe was developed and is reported apart.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import json
import os
import platform
import re
from typing import Any

from absl import flags
import numpy as np

from benchmarks import grid, pooled
from zsar_jax import cli, results
from zsar_jax.data.protocols import split_file
from zsar_jax.evaluators import choosing, diagnostics, zeroshot

CONFIG = 'configs/video_folder.py'
WITH_TEXT = f'{CONFIG}:frozen_text'
DEVELOPMENT = 0  # the split that the recipe was developed on
NUM_SEEDS, NUM_DRAWS = 3, 3
FROZEN_TEXT, FROZEN_PROJECTION = '^text_encoder/', '^text_projection/'
# One thing changed at a time; what it says of is in the table's rows.
ABLATIONS: dict[str, dict[str, Any]] = {
  'without the fusion': {'loss.match': 0.0},
  'with the transfer loss': {'loss.transfer': 1.0},
  'regression to names alone': {
    'loss.visual': 0.0,
    'loss.contrast': 0.0,
    'loss.match': 0.0,
    'loss.regression': 1.0,
  },
  'text encoder trained': {'optim.frozen': (FROZEN_PROJECTION,)},
  'text projection trained': {'optim.frozen': (FROZEN_TEXT,)},
  'grey frames alone': {'preprocessing.inputs': 'grey'},
  'grey and differences': {'preprocessing.inputs': 'grey+difference'},
  'dense sampling': {'preprocessing.sampling': 'dense'},
  '8 frames': {
    'preprocessing.num_frames': 8,
    'model.video.tubelet_size': (2, 12, 12),
  },
  'without augmentation': {
    'augmentation.crop_area': (1.0, 1.0),
    'augmentation.crop_aspect': (1.0, 1.0),
    'augmentation.mirror': False,
    'preprocessing.sampling': 'uniform',
  },
  'without the visual loss': {'loss.visual': 0.0},
  'without the contrast loss': {'loss.contrast': 0.0},
  'balanced batches': {'data.balance': 'source+class'},
  'divided attention': {'model.video.attention': 'divided'},
  'half the steps': {},
}
_ROWS = (
  *zeroshot.METHODS,
  'transfer, declared settings',
  diagnostics.PERMUTED_NAMES,
  'control_first_frame',
  'control_shuffled_frames',
  'control_metadata',
  'oracle_mixture',
  'oracle_prototypes',
)
# What says where it fails; the first is what videos are taken for.
_WHERE = (
  'transfer',
  'nearest_name',
  'conse',
  'control_metadata',
  'oracle_mixture',
  'oracle_prototypes',
)
SOURCE_ONLY = 'floor_source_only'
_CHANCE = 'floor_chance'


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Where everything is.

  Attributes:
    dataset_dir: prepared dataset.
    class_split: file of several splits.
    text: folder of BERT weights.
    out: folder of the grid.
    num_splits: in the file.
  """

  dataset_dir: str
  class_split: str
  text: str
  out: str
  num_splits: int

  def _cell(
    self, name: str, split: int, changes: Mapping[str, Any], text: bool = True
  ) -> grid.Cell:
    common = {
      'data.dataset_dir': self.dataset_dir,
      'data.class_split': self.class_split,
      'data.class_split_index': split,
    }
    if text:
      common['init.text'] = self.text
    config = WITH_TEXT if text else CONFIG
    return grid.Cell(name, config, {**common, **changes})

  def main(self, split: int, seed: int, text: bool = True) -> grid.Cell:
    """A cell of tier 1."""
    name = f'{"main" if text else "random_text"}_split{split}_seed{seed}'
    return self._cell(name, split, {'seed': seed}, text)

  def inner(self, split: int, draw: int) -> grid.Cell:
    """A cell of tier 3."""
    name = f'inner_split{split}_draw{draw}'
    return self._cell(name, split, {'data.inner_draw': draw})

  def ablation(self, ablation: str, split: int) -> grid.Cell:
    """A cell of tier 2."""
    name = f'{re.sub("[^a-z0-9]+", "_", ablation)}_split{split}'
    changes = dict(ABLATIONS[ablation])
    if ablation == 'half the steps':
      whole = self.main(split, 0).make_config()
      changes['train.num_steps'] = whole.train.num_steps // 2
    return self._cell(name, split, changes)

  def tiers(self) -> dict[int, list[grid.Cell]]:
    """All cells, those that the most depends on first."""
    splits = range(self.num_splits)
    return {
      1: [
        *(self.main(s, 0) for s in splits),
        *(self.main(s, k) for k in range(1, NUM_SEEDS) for s in splits),
        *(
          self.main(s, k, text=False) for k in range(NUM_SEEDS) for s in splits
        ),
      ],
      3: [self.inner(s, d) for s in splits for d in range(NUM_DRAWS)],
      2: [self.ablation(name, s) for name in ABLATIONS for s in splits],
    }

  def read(self, cell: grid.Cell) -> grid.Trained | None:
    """A finished cell; None for one that is not."""
    if not grid.is_finished(self.out, cell.name):
      return None
    return grid.read_cell(self.out, cell.name)


def declared_settings(cell: grid.Cell) -> zeroshot.TransferSettings:
  """The settings of the transfer that a cell's config declares."""
  section = cell.make_config().zeroshot
  names = {f.name for f in dataclasses.fields(zeroshot.TransferSettings)}
  return zeroshot.TransferSettings(
    **{key: value for key, value in section.items() if key in names}
  )


def choose(experiment: Experiment, split: int) -> dict[str, Any] | None:
  """What a split's inner draws choose; None while they are unfinished."""
  draws = [
    experiment.read(experiment.inner(split, d)) for d in range(NUM_DRAWS)
  ]
  if None in draws:
    return None
  return choosing.choose(
    [draw.evaluation for draw in draws],
    declared_settings(experiment.main(0, 0)),
    [draw.facts['protocol'] for draw in draws],
  )


def _settings(choice, default) -> zeroshot.TransferSettings:
  if choice is None:
    return default
  return zeroshot.TransferSettings(**choice['settings'])


@dataclasses.dataclass(frozen=True)
class Series:
  """One kind of run over some splits.

  Attributes:
    splits: which.
    cells: of each split, of each seed.
    settings: of each split.
  """

  splits: tuple[int, ...]
  cells: tuple[tuple[grid.Trained, ...], ...]
  settings: tuple[zeroshot.TransferSettings, ...]

  def scores(self) -> list[list[dict[str, np.ndarray]]]:
    """Of each split, of each seed, method -> [n u]."""
    return [
      [pooled.all_scores(cell.evaluation, settings) for cell in seeds]
      for seeds, settings in zip(self.cells, self.settings, strict=True)
    ]

  def flat(self):
    """Every model's evaluation and its settings."""
    return (
      [c.evaluation for seeds in self.cells for c in seeds],
      [
        s
        for seeds, s in zip(self.cells, self.settings, strict=True)
        for _ in seeds
      ],
    )


def gather(
  experiment: Experiment,
  cells_of: Sequence[Sequence[grid.Cell]],
  settings: Mapping[int, zeroshot.TransferSettings],
  splits: Sequence[int],
) -> Series | None:
  """Reads a series; None where a split has no finished cell.

  Args:
    experiment: where they are.
    cells_of: of each split of the experiment, of each seed.
    settings: split -> settings of the transfer.
    splits: those wanted.
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
  """All methods of a series over its splits.

  Args:
    series: the runs.
    default: also add the transfer with these settings.
  """
  pool = pooled.Pool([seeds[0].evaluation for seeds in series.cells])
  scores = series.scores()
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
      [[one['transfer'] for one in seeds] for seeds in plain.scores()],
    )
  _add_source_only(pool)
  return pool


def _add_source_only(pool: pooled.Pool) -> None:
  """What knowing the source and guessing within it gives every video."""
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


def accuracy_table(pool: pooled.Pool) -> list[str]:
  """Both accuracies of every method side by side."""
  rows = {(r.method, r.metric): r for r in pool.figures.rows()}
  methods = [m for m in (*_ROWS, SOURCE_ONLY) if (m, pooled.METRICS[1]) in rows]
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
  return results.columns(header, lines)


def where_lines(series: Series) -> list[str]:
  """Which sources and classes fail, and what their videos are taken for.

  Accuracies among the unseen classes of the own source: of every class in
  every split that tests it, seeds averaged; of a source their mean.

  Args:
    series: the runs.

  Returns:
    A table of sources, and one of classes.
  """
  all_scores = series.scores()
  methods = [m for m in _WHERE if m in all_scores[0][0]]
  of_class: dict[tuple[str, str], list[list[float]]] = {}
  taken: dict[tuple[str, str], collections.Counter] = {}
  for seeds, scores in zip(series.cells, all_scores, strict=True):
    for cell, of_seed in zip(seeds, scores, strict=True):
      unseen = cell.evaluation.unseen
      labels = np.asarray(cell.evaluation.videos.labels)
      sources = np.array(unseen.sources or [''] * len(unseen.names))
      for label, name in enumerate(unseen.names):
        rows, own = labels == label, sources == sources[label]
        if not rows.any():
          continue
        found = [
          np.where(own, of_seed[method][rows], -np.inf).argmax(axis=1)
          for method in methods
        ]
        key = (str(sources[label]) or 'all', name)
        of_class.setdefault(key, []).append(
          [float(np.mean(best == label)) for best in found]
        )
        taken.setdefault(key, collections.Counter()).update(
          unseen.names[best] for best in found[0].tolist()
        )
  by_source: dict[str, list[list[float]]] = {}
  for (source, _), values in of_class.items():
    by_source.setdefault(source, []).extend(values)
  percent = lambda values: [f'{100 * v:.1f}' for v in np.mean(values, axis=0)]
  # The two that come most often.
  wrong = lambda key: ', '.join(
    [
      f'{name} {100 * count / taken[key].total():.0f}%'
      for name, count in taken[key].most_common()
      if name != key[1]
    ][:2]
  )
  return [
    *results.columns(
      ('source', *methods),
      [[source, *percent(values)] for source, values in by_source.items()],
    ),
    '',
    *results.columns(
      ('source', 'class', 'transfer', 'oracle_mixture', 'taken for'),
      [
        [
          *key,
          percent(of_class[key])[0],
          percent(of_class[key])[methods.index('oracle_mixture')],
          wrong(key),
        ]
        for key in sorted(of_class)
      ],
    ),
  ]


def paired_lines(pairs: Sequence[results.Paired]) -> list[str]:
  """Differences as a table, in points."""
  return results.format_paired([dataclasses.asdict(pair) for pair in pairs])


def ablation_pairs(
  experiment: Experiment,
  settings: Mapping[int, zeroshot.TransferSettings],
  splits: Sequence[int],
) -> tuple[list[results.Paired], list[results.Row], list[str]]:
  """Each ablation less the recipe (seed 0), on the same videos.

  Every one with the settings of the transfer that are the split's own.

  Returns:
    The differences, the rows, and the names of those that are unfinished.
  """
  cells = [[experiment.main(s, 0)] for s in range(experiment.num_splits)]
  main = gather(experiment, cells, settings, splits)
  if main is None:
    return [], [], list(ABLATIONS)
  pool = pooled.Pool([seeds[0].evaluation for seeds in main.cells])
  transfer = lambda series: [
    [one['transfer'] for one in seeds] for seeds in series.scores()
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
  for name in ABLATIONS:
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
  """How far seeds and splits lie apart, of the transfer."""
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


def report(experiment: Experiment) -> dict[str, list[str]]:
  """All tables, by name."""
  tables: dict[str, list[str]] = {}
  splits = range(experiment.num_splits)
  claimed = [s for s in splits if s != DEVELOPMENT]
  default = declared_settings(experiment.main(0, 0))
  choices = {s: choose(experiment, s) for s in splits}
  settings = {s: _settings(choices[s], default) for s in splits}
  tables['progress'] = _progress(experiment)
  tables['choices'] = _choice_lines(choices, default)
  undeclared = dict.fromkeys(splits, default)
  for text, names in ((True, 'text'), (False, 'random text')):
    cells = [
      [experiment.main(s, k, text) for k in range(NUM_SEEDS)] for s in splits
    ]
    chosen = settings if text else undeclared
    for title, wanted in (
      (names, claimed),
      (f'{names}, development', [DEVELOPMENT]),
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
      tables[f'{title}, where'] = where_lines(series)
      others = [
        zeroshot.PRIMARY,
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
      ]
      tables[f'{title}, paired'] = paired_lines(
        pool.paired('transfer', others, zeroshot.PRIMARY)
      )
  for title, wanted in (
    ('ablations', claimed),
    ('ablations, development', [DEVELOPMENT]),
  ):
    pairs, rows, missing = ablation_pairs(experiment, settings, wanted)
    tables[title] = _ablation_lines(pairs, rows)
    if missing:
      tables[title].append(f'not finished: {", ".join(missing)}')
  return tables


def _ablation_lines(pairs, rows) -> list[str]:
  """Accuracy of each, and what the recipe gains on it."""
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
  return results.columns(header, lines) if lines else ['not finished']


def _protocol_line(series: Series) -> str:
  names = [seeds[0].facts for seeds in series.cells]
  return 'protocols: ' + ', '.join(
    f'{f["protocol"].rsplit(":", 1)[-1]} {f["hash"]}' for f in names
  )


def _mean_lines(series: Series) -> list[str]:
  """What is no zero-shot accuracy: means over models."""
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
  lines = [f'declared: {_differences(default, zeroshot.TransferSettings())}']
  for split, choice in choices.items():
    if choice is None:
      lines.append(f'split {split}: inner draws are not finished')
      continue
    best = max(choice['compared'], key=lambda c: np.mean(c['accuracies']))
    chosen = zeroshot.TransferSettings(**choice['settings'])
    mean = lambda c: f'{100 * np.mean(c["accuracies"]):.1f}'
    lines.append(
      f'split {split}: declared {mean(choice["compared"][0])}, best '
      f'{mean(best)} with '
      f'{_differences(zeroshot.TransferSettings(**best["settings"]), default)};'
      f' chosen: {_differences(chosen, default)}'
    )
  return lines


def _differences(settings, other) -> str:
  values, others = dataclasses.asdict(settings), dataclasses.asdict(other)
  changed = [f'{k}={v}' for k, v in values.items() if v != others[k]]
  return ', '.join(changed) or 'the declared settings'


def _progress(experiment: Experiment) -> list[str]:
  return [
    f'tier {tier}: '
    f'{sum(grid.is_finished(experiment.out, c.name) for c in cells)} of '
    f'{len(cells)} cells are finished'
    for tier, cells in sorted(experiment.tiers().items())
  ]


def machine() -> str:
  """Date and processor, for the document."""
  name = platform.processor() or platform.machine()
  if os.path.exists('/proc/cpuinfo'):
    with open('/proc/cpuinfo') as f:
      for line in f:
        if line.startswith('model name'):
          name = line.split(':', 1)[1].strip()
          break
  cores = len(os.sched_getaffinity(0))
  return f'{datetime.date.today()}, {cores} cores of {name}'


def put_into(path: str, tables: Mapping[str, Sequence[str]]) -> None:
  """Replaces what stands between a document's markers.

  A table NAME goes between `<!-- table: NAME -->` and `<!-- end -->`.

  Args:
    path: of the document.
    tables: by name; those that the document has no marker for are left out.
  """
  with open(path) as f:
    text = f.read()
  for name, lines in tables.items():
    begin = f'<!-- table: {name} -->'
    pattern = re.compile(re.escape(begin) + r'.*?<!-- end -->', re.DOTALL)
    body = '\n'.join([begin, '```', *lines, '```', '<!-- end -->'])
    text = pattern.sub(lambda _, body=body: body, text)
  with open(f'{path}.tmp', 'w') as f:
    f.write(text)
  os.replace(f'{path}.tmp', path)


def main(argv: list[str]) -> None:
  """Trains what is missing, and prints the tables."""
  values = cli.new_flags()
  for name, what in (
    ('dataset_dir', 'Prepared dataset.'),
    ('class_split', 'Class split file of several splits.'),
    ('text', 'Folder of BERT weights.'),
    ('out', 'Folder for everything that is made.'),
  ):
    flags.DEFINE_string(name, None, what, flag_values=values, required=True)
  flags.DEFINE_list('tiers', ['1', '3', '2'], 'In order.', flag_values=values)
  flags.DEFINE_integer('workers', 0, 'See grid.run.', flag_values=values)
  flags.DEFINE_bool('tables_only', False, 'No training.', flag_values=values)
  flags.DEFINE_string('docs', '', 'Document to update.', flag_values=values)
  cli.parse(values, argv, usage=__doc__)
  absolute = lambda path: os.path.abspath(os.path.expanduser(path))
  experiment = Experiment(
    absolute(values.dataset_dir),
    absolute(values.class_split),
    absolute(values.text),
    absolute(values.out),
    num_splits(values.class_split),
  )
  if not values.tables_only:
    tiers = experiment.tiers()
    cells = [cell for tier in values.tiers for cell in tiers[int(tier)]]
    grid.run(cells, experiment.out, values.workers)
  tables = report(experiment)
  tables['machine'] = [machine()]
  for name, lines in tables.items():
    print('\n'.join([f'\n== {name}', *lines]))
  if values.docs:
    put_into(values.docs, tables)


def num_splits(path: str) -> int:
  """How many splits a class split file has; each is read, and checked."""
  with open(os.path.expanduser(path)) as f:
    content = json.load(f)
  count = len(content.get('splits', [None]))
  for index in range(count):
    split_file.read_class_split(path, index)
  return count


if __name__ == '__main__':
  cli.run(main)
