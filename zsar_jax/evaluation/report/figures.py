"""Draws the report's figures: functions from arrays to HTML fragments.

Figures are SVG. Their text and lines have the page's own colour, so they are
legible in light and dark. Figures with very many marks hold a PNG. Text stays
text, in the page's fonts. So a browser shows any script that its device has a
font for, even if this machine has none.
"""

from collections.abc import Callable, Mapping, Sequence
import io
import re
from typing import Any
import warnings

import matplotlib
from matplotlib import figure as mpl_figure
import numpy as np

from zsar_jax.system import terminal

# Distinct in greyscale and for colour-blind readers, on white and on black.
BLUE, ORANGE, GREEN, GREY = '#4a90d9', '#e08a3c', '#3aa57a', '#888888'
_MAP = 'viridis'
# Placeholder for the page's text colour while matplotlib draws.
_INK = '#123456'
_MANY = 40

_STYLE = {
  'svg.fonttype': 'none',
  'svg.hashsalt': 'zsar_jax',
  'font.family': 'sans-serif',
  'font.size': 9,
  'text.color': _INK,
  'axes.edgecolor': _INK,
  'axes.labelcolor': _INK,
  'xtick.color': _INK,
  'ytick.color': _INK,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.facecolor': 'none',
  'figure.facecolor': 'none',
  'legend.frameon': False,
  # Class names may hold dollar signs.
  'text.parse_math': False,
}


def _draw(
  width: float, height: float, paint: Callable[[Any], None], alt: str
) -> str:
  """Returns an <svg> of a size in inches that `paint` has drawn.

  `alt` describes it for screen readers.
  """
  with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
    # Matplotlib only guesses such a letter's size; the page's font draws it.
    warnings.filterwarnings('ignore', 'Glyph .* missing from')
    fig = mpl_figure.Figure(figsize=(width, height), layout='constrained')
    paint(fig.subplots())
    out = io.StringIO()
    fig.savefig(out, format='svg', metadata={'Date': None})
  svg = out.getvalue()
  svg = svg[svg.index('<svg') :].replace(_INK, 'currentColor')
  svg = re.sub(r'<text [^>]*>', _in_fonts_of_page, svg)
  # Two figures on one page must not share ids.
  prefix = re.sub(r'\W', '', alt)[:24]
  svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
  svg = re.sub(r'url\(#', f'url(#{prefix}-', svg)
  svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
  label = alt.replace('&', '').replace('"', '').replace('<', '')
  size = f'style="width:{width:.1f}in;max-width:none;height:auto"'
  svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1', svg, count=1)
  svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1', svg, count=1)
  return svg.replace('<svg', f'<svg role="img" aria-label="{label}" {size}', 1)


def _in_fonts_of_page(tag: re.Match[str]) -> str:
  """Returns the opening tag of a text, without matplotlib's font names.

  Version 3.10 writes `font: 9px 'DejaVu Sans', ...`, later ones
  `font-size: 9px; font-family: 'DejaVu Sans', ...`.
  """
  text = re.sub(r'\bfont: ([\d.]+px)[^;"]*', r'font-size: \1', tag[0])
  return re.sub(r'font-family: [^;"]*;? ?', '', text)


def _short(names: Sequence[str], length: int = 34) -> list[str]:
  """Cuts names to a width; a wide letter counts as two narrow ones."""

  def cut(name):
    ends = np.cumsum([1 + terminal.is_wide(letter) for letter in name])
    if not len(ends) or ends[-1] <= length:
      return name
    return name[: int((ends < length).sum())] + '…'

  return [cut(name) for name in names]


def _accuracy_bars(
  rows: Sequence[Mapping[str, Any]], emphasised: str, label: str, alt: str
) -> str:
  """Draws bars with intervals from the top down, and a line at chance.

  Args:
    rows: rows of results.json, at least one.
    emphasised: method whose bar is coloured.
    label: label of the axis.
    alt: description for screen readers.

  Returns:
    An HTML fragment.
  """

  def paint(ax):
    at = np.arange(len(rows))[::-1]
    values = np.array([100 * row['value'] for row in rows])
    colours = [BLUE if row['method'] == emphasised else GREY for row in rows]
    ax.barh(at, values, color=colours, height=0.6)
    for y, row in zip(at, rows, strict=True):
      if row['low'] is not None:
        ax.plot([100 * row['low'], 100 * row['high']], [y, y], color=_INK, lw=2)
    if rows[0]['chance'] is not None:
      ax.axvline(100 * rows[0]['chance'], color=ORANGE, ls='--', lw=1)
    # Values stand beside the axis, where no bar or line covers them.
    ax.set_yticks(
      at, [f'{row["method"]}  {100 * row["value"]:.1f}%' for row in rows]
    )
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlim(0, 100)
    ax.set_xlabel(f'{label}, %; dashed: chance')

  return _draw(7.5, 0.6 + 0.4 * len(rows), paint, alt)


def error_ladder(rows: Sequence[Mapping[str, Any]]) -> str:
  """Draws per-class accuracies from the best oracle down to wrong names."""
  return _accuracy_bars(rows, 'transfer', 'per-class accuracy', 'error ladder')


def methods(
  rows: Sequence[Mapping[str, Any]], emphasised: str, measure: str
) -> str:
  """Draws one accuracy of all methods, in the order of the rows.

  Args:
    rows: rows of results.json, one for each method, at least one.
    emphasised: method whose bar is coloured.
    measure: name of the accuracy, in words.

  Returns:
    An HTML fragment.
  """
  return _accuracy_bars(rows, emphasised, measure, 'accuracy of the methods')


def per_class(names: Sequence[str], accuracy, counts) -> str:
  """Draws the accuracy of each class, best first."""
  order = np.argsort(-np.asarray(accuracy), kind='stable')

  def paint(ax):
    at = np.arange(len(order))[::-1]
    ax.barh(at, 100 * np.asarray(accuracy)[order], color=BLUE, height=0.7)
    labels = [f'{_short(names)[i]} ({int(counts[i])})' for i in order]
    ax.set_yticks(at, labels)
    ax.set_xlim(0, 100)
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_xlabel('accuracy, %; (videos)')

  return _draw(6, 0.7 + 0.2 * len(order), paint, 'accuracy of each class')


def _heat(ax, values, rows, columns, label) -> None:
  image = ax.imshow(values, cmap=_MAP, aspect='auto', interpolation='nearest')
  few_rows, few_columns = len(rows) <= _MANY, len(columns) <= _MANY
  ax.set_yticks(range(len(rows)), _short(rows), fontsize=8 if few_rows else 5)
  ax.set_xticks(
    range(len(columns)),
    _short(columns, 24),
    rotation=90,
    fontsize=8 if few_columns else 5,
  )
  ax.spines[:].set_visible(False)
  # A colour bar shorter than its label would cut it off.
  bar = ax.figure.colorbar(image, ax=ax, shrink=0.6 if len(rows) > 20 else 1)
  bar.outline.set_visible(False)
  bar.set_label(label)


def heat_map(values, rows, columns, row_label, column_label, label) -> str:
  """Draws a matrix with names on both sides."""

  def paint(ax):
    _heat(ax, values, rows, columns, label)
    ax.set_ylabel(row_label)
    ax.set_xlabel(column_label)

  step = lambda n: 0.2 if n <= _MANY else 0.09
  width = min(2.9 + step(len(columns)) * len(columns), 16)
  height = min(2.2 + max(step(len(rows)) * len(rows), 1.4), 16)
  return _draw(width, height, paint, f'{row_label} by {column_label}')


def prototype_map(
  names: Sequence[str], seen, composites, true_means, videos
) -> str:
  """Draws the shared space in two dimensions, by principal components.

  It shows seen prototypes, composites, true means and, faintly, videos. A line
  joins each composite with the true mean of its class.
  """
  points = [x for x in (seen, composites, true_means) if x is not None]
  everything = np.concatenate(points)
  mean = everything.mean(axis=0)
  _, _, axes = np.linalg.svd(everything - mean, full_matrices=False)
  flat = lambda x: (x - mean) @ axes[:2].T

  def paint(ax):
    if videos is not None:
      v = flat(videos[:: max(1, len(videos) // 1500)])
      ax.scatter(*v.T, s=4, color=GREY, alpha=0.35, lw=0, rasterized=True)
    ax.scatter(
      *flat(seen).T, s=24, color=GREY, marker='s', label='seen prototype'
    )
    u = flat(composites)
    ax.scatter(*u.T, s=34, color=BLUE, label='composite')
    if true_means is not None:
      t = flat(true_means)
      ax.scatter(
        *t.T, s=44, color=ORANGE, marker='x', label='true mean of the videos'
      )
      for a, b in zip(u, t, strict=True):
        ax.plot(*zip(a, b, strict=True), color=ORANGE, lw=0.8, alpha=0.7)
    if len(names) <= _MANY:
      for name, at in zip(_short(names, 24), u, strict=True):
        ax.annotate(name, at, xytext=(3, 3), textcoords='offset points', size=7)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.legend(loc='upper center', bbox_to_anchor=(0.5, -0.02), ncols=3)

  return _draw(7, 5.5, paint, 'prototype map')


def hubness(counts: Mapping[str, np.ndarray]) -> str:
  """Draws N_1 of every class, largest first; even counts give a flat line."""

  def paint(ax):
    colours = (BLUE, ORANGE, GREEN, GREY)
    for i, (method, values) in enumerate(counts.items()):
      share = np.sort(values)[::-1] / values.sum()
      x = np.arange(1, len(share) + 1)
      ax.step(
        x, 100 * share, where='mid', color=colours[i % 4], lw=2, label=method
      )
    u = len(next(iter(counts.values())))
    ax.axhline(100 / u, color=_INK, ls='--', lw=1, label='even')
    ax.set_xlabel('classes, most frequent answer first')
    ax.set_ylabel('share of answers, %')
    ax.set_ylim(bottom=0)
    ax.legend()

  return _draw(6, 3.4, paint, 'hubness')


def risk_coverage(coverage, risk) -> str:
  """Draws the share of wrong answers among the most confident ones."""

  def paint(ax):
    at = np.unique(np.linspace(0, len(risk) - 1, 400).astype(int))
    ax.plot(100 * coverage[at], 100 * risk[at], color=BLUE, lw=2)
    ax.set_xlabel('coverage: answered videos, %, most confident first')
    ax.set_ylabel('risk: wrong answers, %')
    ax.set_xlim(0, 100)
    ax.set_ylim(0, max(5, 105 * float(risk.max())))

  return _draw(6, 3.4, paint, 'risk and coverage')


def gzsl(curve: np.ndarray, ausuc: float) -> str:
  """Draws unseen over seen accuracy as the penalty on seen classes grows."""

  def paint(ax):
    ax.plot(100 * curve[:, 0], 100 * curve[:, 1], color=BLUE, lw=2)
    ax.fill_between(
      100 * curve[:, 0], 100 * curve[:, 1], color=BLUE, alpha=0.15, lw=0
    )
    ax.set_xlabel('accuracy on seen classes, %')
    ax.set_ylabel('accuracy on unseen classes, %')
    ax.set_title(f'area {ausuc:.3f}')
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)

  return _draw(6, 3.6, paint, 'GZSL')
