"""Shows where the methods fail on the real clips: sources and classes."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsar_jax.evaluation import results_text

_WHERE = (
  'transfer',
  'nearest_name',
  'conse',
  'control_metadata',
  'oracle_mixture',
  'oracle_prototypes',
)


def where_lines(
  series: Any,
  shown: Sequence[str] = _WHERE,
  beside: str = 'oracle_mixture',
) -> list[str]:
  """Returns tables of accuracies by source and class, with wrong answers.

  Accuracies are among the unseen classes of a video's own source. A class has
  one value for every split that tests it, as a mean over seeds. A source has
  the mean of its classes.

  Args:
    series: a `real_clips_series.Series`.
    shown: methods to show. The wrong answers are those of the first.
    beside: which of them the second table has beside the first.

  Returns:
    A table of sources, and one of classes.
  """
  methods = [m for m in shown if m in series.scores[0][0]]
  of_class, taken = _collect(series, methods)
  by_source: dict[str, list[list[float]]] = {}
  for (source, _), values in of_class.items():
    by_source.setdefault(source, []).extend(values)
  percent = lambda values: [f'{100 * v:.1f}' for v in np.mean(values, axis=0)]
  # The two most frequent wrong answers.
  wrong = lambda key: ', '.join(
    [
      f'{name} {100 * count / taken[key].total():.0f}%'
      for name, count in taken[key].most_common()
      if name != key[1]
    ][:2]
  )
  return [
    *results_text.columns(
      ('source', *methods),
      [[source, *percent(values)] for source, values in by_source.items()],
    ),
    '',
    *results_text.columns(
      ('source', 'class', methods[0], beside, 'taken for'),
      [
        [
          *key,
          percent(of_class[key])[0],
          percent(of_class[key])[methods.index(beside)],
          wrong(key),
        ]
        for key in sorted(of_class)
      ],
    ),
  ]


def _collect(series, methods):
  """Returns accuracies of every (source, class), and counts of its answers."""
  of_class: dict[tuple[str, str], list[list[float]]] = {}
  taken: dict[tuple[str, str], collections.Counter] = {}
  for seeds, scores in zip(series.cells, series.scores, strict=True):
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
  return of_class, taken
