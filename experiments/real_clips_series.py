"""The finished runs of the experiment on real clips, split by split."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

import numpy as np

from experiments import grid, pooled, real_clips_cells
from zsar_jax.evaluation import diagnostics
from zsar_jax.evaluation import methods as methods_lib

DECLARED = 'transfer, declared settings'
ROWS = (
  *methods_lib.METHODS,
  DECLARED,
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
  names = [n for n in scores[0][0] if n in ROWS]
  for name in names:
    pool.add(name, pick(name))
    if name == 'transfer':
      pool.add_permuted(diagnostics.PERMUTED_NAMES, pick(name))
  if default is not None:
    plain = dataclasses.replace(
      series, settings=(default,) * len(series.splits)
    )
    pool.add(
      DECLARED,
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
