"""What do descriptions of classes add on real clips? Tables of finished runs.

The models are those of `experiments.real_clips`, which were trained on names
alone. Descriptions are mixed into the embeddings of all classes afterwards.
Every split chooses its settings on its own inner draws, by the mean of the
per-class accuracies among classes of the same source and among all: how much
the descriptions weigh, and the settings of each method. What is not better than
the declared setting by more than a standard error keeps the declared one. Names
alone choose by the same rule, so that only the texts differ.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from experiments import (
  class_texts,
  described_methods,
  grid,
  pooled,
  real_clips_cells,
  real_clips_series,
  real_clips_tables,
  real_clips_where,
)
from zsar_jax.data import class_descriptions
from zsar_jax.evaluation import accuracy, choosing, results, results_text
from zsar_jax.evaluation import methods as methods_lib

# Percent, same source and all; set before any of this was measured.
GOAL = (55.0, 46.0)
# The claim, and what it is compared with first.
MAIN, PRIMARY = 'described: transfer', 'names alone: transfer'
_DESCRIBED, _DECLARED = 'described', 'described, declared settings'
_NAMES, _AS_ABOVE = 'names alone', 'names, as above'
_SEEDS = 'described: transfer, models of all seeds together'


@dataclasses.dataclass(frozen=True)
class Choice:
  """What a split's inner draws chose.

  Attributes:
    settings: method -> settings.
    compared: method -> what they were chosen of: settings, accuracies.
  """

  settings: Mapping[str, described_methods.Settings]
  compared: Mapping[str, Sequence[tuple[described_methods.Settings, Any]]]


Descriptions = Mapping[str, Sequence[str]]


def read_descriptions(source: str, names: Sequence[str]) -> Descriptions:
  """Reads descriptions of all classes.

  Args:
    source: a file, or `shipped`.
    names: canonical names of the classes.

  Raises:
    ValueError: a class has none.
  """
  found = class_descriptions.find(source, 'video_folder')
  lacking = [name for name in names if name not in found]
  if lacking:
    raise ValueError(f'{source} describes no {", ".join(lacking)}')
  return found


def embed(
  path: str,
  names: Sequence[str],
  descriptions: Descriptions,
  prompts: Sequence[str],
) -> dict[float, dict[str, np.ndarray]]:
  """Embeds classes with their descriptions in all weights, 0 included.

  Args:
    path: weights of the text encoder.
    names: canonical names of the classes.
    descriptions: canonical name -> sentences.
    prompts: of the runs.
  """
  weights = (0.0, *described_methods.WEIGHTS)
  rows = class_texts.Encoder(path).embed_described(
    names, descriptions, weights, prompts
  )
  return {
    weight: dict(zip(names, of, strict=True))
    for weight, of in zip(weights, rows, strict=True)
  }


def _quality(evaluation, scores: np.ndarray) -> float:
  """Mean of both accuracies, in [0, 1]."""
  u = len(evaluation.unseen.names)
  figures = accuracy.Accuracies(
    evaluation.unseen, evaluation.videos.as_tested(u), resamples=2
  )
  figures.add_scores('any', evaluation.videos.pad(scores), brief=True)
  return float(np.mean([row.value for row in figures.rows()]))


def choose(
  draws: Sequence[grid.Trained],
  texts: described_methods.Texts,
  described: bool = True,
) -> Choice:
  """Chooses the settings of all methods on inner draws.

  Args:
    draws: a run of each draw.
    texts: class embeddings.
    described: whether classes have descriptions.
  """
  made = [described_methods.described(draw, texts) for draw in draws]
  chosen, compared = {}, {}
  for method in described_methods.METHODS:
    compared[method] = [
      (
        settings,
        [
          _quality(
            of[0.0],
            described_methods.score(method, of, {**chosen, method: settings}),
          )
          for of in made
        ],
      )
      for settings in described_methods.candidates(method, described)
    ]
    chosen[method] = choosing.best(compared[method])
  return Choice(chosen, compared)


def _scores(
  trained: grid.Trained,
  texts: described_methods.Texts,
  choices: Mapping[str, Choice],
) -> dict[str, np.ndarray]:
  """Row of the table -> scores of a model's test videos [n u]."""
  made = described_methods.described(trained, texts)
  return {
    f'{words}: {method}': described_methods.score(method, made, choice.settings)
    for words, choice in choices.items()
    for method in choice.settings
  }


def report(
  experiment: real_clips_cells.Experiment, descriptions: Descriptions
) -> tuple[real_clips_tables.Tables, real_clips_tables.Tables]:
  """Makes the tables.

  Args:
    experiment: the experiment.
    descriptions: of all classes.

  Returns:
    As `real_clips_tables.report`. Unfinished tables are of the seeds that all
    splits have, at declared settings where inner draws are missing.
  """
  finished, unfinished = {}, {}
  development = real_clips_cells.DEVELOPMENT
  splits = range(experiment.num_splits)
  claimed = [s for s in splits if s != development]
  for suffix, wanted in (('', claimed), (', development', [development])):
    seeds = [
      k
      for k in range(real_clips_cells.NUM_SEEDS)
      if experiment.are_finished(experiment.main(s, k) for s in wanted)
    ]
    if not seeds:
      unfinished[f'described{suffix}'] = ['not finished']
      continue
    cells = [
      [experiment.read(experiment.main(s, k)) for k in seeds] for s in wanted
    ]
    texts = _texts_of(experiment, cells[0][0], descriptions)
    choices = _choices_of(experiment, wanted, texts)
    is_whole = len(seeds) == real_clips_cells.NUM_SEEDS and all(
      of[_DESCRIBED].compared for of in choices
    )
    into = finished if is_whole else unfinished
    for of, lines in _tables(wanted, cells, texts, choices).items():
      into[f'described{of}{suffix}'] = lines
  return finished, unfinished


def _choices_of(experiment, splits, texts) -> list[dict[str, Choice]]:
  """For each split, words of the rows -> what its inner draws chose.

  Declared settings serve all splits while inner draws of any are missing.
  """
  declared = described_methods.DECLARED
  plain = dataclasses.replace(declared, weight=0.0)
  above = [real_clips_cells.choose(experiment, split) for split in splits]
  if None in above:
    methods = described_methods.METHODS
    recipe = real_clips_cells.declared_settings(experiment.main(0, 0))
    choices = {
      _AS_ABOVE: _as_above({'settings': dataclasses.asdict(recipe)}),
      _NAMES: Choice(dict.fromkeys(methods, plain), {}),
      _DESCRIBED: Choice(dict.fromkeys(methods, declared), {}),
    }
    return [choices] * len(splits)
  found = []
  for split, choice in zip(splits, above, strict=True):
    draws = [
      experiment.read(experiment.inner(split, d))
      for d in range(real_clips_cells.NUM_DRAWS)
    ]
    found.append(
      {
        _AS_ABOVE: _as_above(choice),
        _NAMES: choose(draws, texts, described=False),
        _DECLARED: Choice({described_methods.TRANSFER: declared}, {}),
        _DESCRIBED: choose(draws, texts),
      }
    )
  return found


def _texts_of(experiment, trained: grid.Trained, descriptions):
  """Class embeddings of all classes of a run."""
  evaluation = trained.evaluation
  names = (*evaluation.seen.classes.names, *evaluation.unseen.names)
  prompts = trained.facts['config']['names']['prompts']
  return embed(experiment.text, names, descriptions, prompts)


def _as_above(choice: Mapping[str, Any]) -> Choice:
  """The settings of the page's first tables."""
  settings = described_methods.Settings(
    transfer=methods_lib.TransferSettings(**choice['settings'])
  )
  methods = (described_methods.TRANSFER, described_methods.REGRESSION)
  return Choice(dict.fromkeys(methods, settings), {})


def make_pool(
  cells: Sequence[Sequence[grid.Trained]],
  scores: Sequence[Sequence[Mapping[str, np.ndarray]]],
  resamples: int = 0,
) -> pooled.Pool:
  """Returns the accuracies of all rows.

  Args:
    cells: for each split and each seed, a run.
    scores: for each of them, row of the table -> scores [n u].
    resamples: number of bootstrap resamples; 0 means the default.
  """
  pool = pooled.Pool([seeds[0].evaluation for seeds in cells], resamples)
  for row in scores[0][0]:
    pool.add(row, [[one[row] for one in seeds] for seeds in scores])
  joined = lambda seeds: described_methods.together(
    [one[MAIN] for one in seeds], [1.0] * len(seeds)
  )
  if len(scores[0]) > 1:
    pool.add(_SEEDS, [[joined(seeds)] for seeds in scores])
  real_clips_series.add_source_only(pool)
  return pool


def _tables(splits, cells, texts, choices) -> dict[str, list[str]]:
  """The tables of some splits: end of their names -> lines."""
  scores = [
    [_scores(cell, texts, of_split) for cell in seeds]
    for seeds, of_split in zip(cells, choices, strict=True)
  ]
  pool = make_pool(cells, scores)
  rows = pool.figures.methods()
  others = [r for r in rows if r not in (MAIN, _SEEDS)]
  return {
    '': [
      *real_clips_tables.accuracy_table(pool, rows),
      '',
      *_goal_lines(pool),
      f'models: {sum(map(len, cells))}',
    ],
    ', paired': real_clips_tables.paired_lines(
      [*pool.paired(MAIN, others, PRIMARY), *_of_texts(pool)]
    ),
    ', choices': _choice_lines(splits, choices),
    ', where': _where_lines(cells, scores),
  }


def _of_texts(pool: pooled.Pool) -> list[results.Paired]:
  """What descriptions add to the methods that are not the claim."""
  return [
    pair
    for method in described_methods.METHODS
    if method != described_methods.TRANSFER
    for pair in pool.paired(f'{_DESCRIBED}: {method}', [f'{_NAMES}: {method}'])
  ]


def _goal_lines(pool: pooled.Pool) -> list[str]:
  """Says whether the main row meets the goals."""
  lines = []
  values = {(r.method, r.metric): 100 * r.value for r in pool.figures.rows()}
  for metric, goal in zip(pooled.METRICS, GOAL, strict=True):
    if (MAIN, metric) not in values:
      continue  # of a single source
    value = values[MAIN, metric]
    verdict = 'met' if value >= goal else f'missed by {goal - value:.1f}'
    lines.append(f'goal {metric} {goal:.0f}: {MAIN} {value:.1f}, {verdict}')
  return lines


@dataclasses.dataclass(frozen=True)
class _Renamed:
  """Scores under the names that `real_clips_where` is to show."""

  cells: Sequence[Sequence[grid.Trained]]
  scores: Sequence[Sequence[Mapping[str, np.ndarray]]]


def _where_lines(cells, scores) -> list[str]:
  shown = {'described': MAIN, 'names alone': PRIMARY}
  renamed = [
    [{word: one[row] for word, row in shown.items()} for one in seeds]
    for seeds in scores
  ]
  return real_clips_where.where_lines(
    _Renamed(cells, renamed), list(shown), 'names alone'
  )


def _choice_lines(splits, choices) -> list[str]:
  """What each split chose, and what it was chosen of."""
  lines = []
  mean = lambda accuracies: f'{100 * np.mean(accuracies):.1f}'
  for words in (_NAMES, _DESCRIBED):
    for method in described_methods.METHODS:
      for split, of_split in zip(splits, choices, strict=True):
        if not of_split[words].compared:
          continue
        compared = of_split[words].compared[method]
        declared = compared[0][0]
        best, of_best = max(compared, key=lambda pair: np.mean(pair[1]))
        lines.append(
          [
            f'{words}: {method}',
            str(split),
            mean(compared[0][1]),
            mean(of_best),
            _differences(best, declared),
            _differences(of_split[words].settings[method], declared),
          ]
        )
  header = ('method', 'split', 'declared', 'best', 'with', 'chosen')
  if not lines:
    return ['inner draws are not finished: all settings are as declared']
  return results_text.columns(header, lines)


def _differences(settings, declared) -> str:
  """Settings that are not the declared ones, in words."""
  flat = lambda s: {
    'weight': s.weight,
    'shares': s.shares,
    **dataclasses.asdict(s.transfer),
  }
  before = flat(declared)
  changed = [f'{k}={v}' for k, v in flat(settings).items() if v != before[k]]
  return ', '.join(changed) or 'as declared'
