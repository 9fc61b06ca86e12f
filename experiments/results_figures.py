"""Draws the figures of docs/results.md, from tables of its pages."""

import re
from typing import Any

from experiments import page_tables

# Row of the default settings on the page about relatedness.
PRODUCT = 'kernel, as the product'


def draw_real_clips(text: str, path: str) -> None:
  """Draws the accuracy of every method on the real clips, with intervals."""
  rows = [
    row
    for row in page_tables.table(text, 'text')
    if row['method'][:5] != 'floor'
  ]
  bars = [
    (row['method'], float(row['same source %']), row['95% interval'])
    for row in rows
  ]
  with _figure(path, (7, 5)) as axis:
    for y, (name, value, interval) in enumerate(reversed(bars)):
      low, high = (float(end) for end in interval.split(' - '))
      axis.barh(y, value, color=_colour(name), height=0.7)
      axis.plot([low, high], [y, y], color='black', linewidth=1.2)
    axis.axvline(37.5, color='#777777', linewidth=1, linestyle='--')
    axis.set_yticks(range(len(bars)), [name for name, *_ in reversed(bars)])
    axis.set_xlabel(
      'accuracy among classes of the same source, % (chance 37.5)'
    )
    axis.set_xlim(0, 80)


def draw_relatedness(text: str, path: str) -> None:
  """Draws the accuracies of ConSE, softmax and kernel weights per encoder."""
  rows = page_tables.table(text, 'methods')
  names = list(dict.fromkeys(row['text'] for row in rows))
  methods = {'ConSE': '#c44e52', 'softmax': '#8c8c8c', PRODUCT: '#2b6cb0'}
  with _figure(path, (7, 3.6)) as axis:
    for k, (method, colour) in enumerate(methods.items()):
      for j, suffix in enumerate(('', ' 2')):
        x, y, low, high = [], [], [], []
        for i, name in enumerate(names):
          row = page_tables.one_row(rows, text=name, method=method)
          unseen = ('40', '200')[j]
          value = float(row[f'{unseen} unseen: top-1 (sd)'].split(' ')[0])
          ends = row[f'over classes{suffix}'].split(' - ')
          x.append(i + 0.2 * (k - 1) + 0.06 * (2 * j - 1))
          y.append(value)
          low.append(value - float(ends[0]))
          high.append(float(ends[1]) - value)
        axis.errorbar(
          x,
          y,
          yerr=[low, high],
          fmt='os'[j],
          color=colour,
          markerfacecolor=colour if j == 0 else 'white',
          label=f'{method}, {("40", "200")[j]} unseen',
        )
    axis.set_xticks(range(len(names)), [name.split(' ')[0] for name in names])
    axis.set_ylabel('unseen classes found, %')
    axis.set_ylim(0, 100)
    axis.legend(
      fontsize=8,
      frameon=False,
      ncols=3,
      loc='lower center',
      bbox_to_anchor=(0.5, 1),
    )


def _colour(method: str) -> str:
  kinds = {'control': '#bbbbbb', 'oracle': '#e0a030', 'transfer': '#2b6cb0'}
  return kinds.get(re.split('[_,]', method)[0], '#7aa6d6')


class _figure:
  """Context manager of one plot, which it writes reproducibly at the end."""

  def __init__(self, path: str, size: tuple[float, float]):
    self._path, self._size = path, size

  def __enter__(self) -> Any:
    import matplotlib

    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'zsar_jax'
    from matplotlib import pyplot

    self._plots = pyplot
    self._drawn, axis = pyplot.subplots(
      figsize=self._size, layout='constrained'
    )
    axis.spines[['top', 'right']].set_visible(False)
    return axis

  def __exit__(self, kind, *_: object) -> None:
    if kind is None:
      self._drawn.savefig(self._path, metadata={'Date': None})
    self._plots.close(self._drawn)
