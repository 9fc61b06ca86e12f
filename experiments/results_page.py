"""Makes the headline table and the figures of docs/results.md.

python -m experiments.results_page --docs=docs

It reads the tables that the other experiments have put into the pages of
docs/results. It prints the headline table, puts it into docs/results.md, and
draws a figure of each experiment that does not draw its own. It measures
nothing, so it always agrees with those pages.
"""

from collections.abc import Iterator, Mapping, Sequence
import os
import re
from typing import Any

from absl import flags

from experiments import documents
from zsar_jax import cli
from zsar_jax.evaluation import results_text
from zsar_jax.inference import public_sides
from zsar_jax.system import terminal

_HEADER = (
  'experiment',
  'setting',
  'seen',
  'unseen',
  'chance',
  'transfer',
  'interval',
  'compared with',
  'difference',
  'over classes',
)
# What the encoder had seen of the classes that play unseen.
_STRICT, _WITHOUT_LEAKS, _KNOWN = (
  'strict',
  'leaks left out',
  'trained on all',
)
# The method that banks of public classifiers predict by.
_BANK_METHOD = 'transfer_kernel'
# Accuracy of guessing, without the classes that Kinetics-400 has.
_CHANCE_WITHOUT_LEAKS = {'same source': '35.6', 'all': '12.5'}
# Row of the default settings on the page about relatedness.
_PRODUCT = 'kernel, as the product'
# And the weight of descriptions that it has.
_WEIGHT = f'weight {public_sides.DESCRIPTION_WEIGHT:g}'
_EMBEDDINGS = 'class embeddings of'


def table(text: str, name: str, number: int = 0) -> list[dict[str, str]]:
  """Parses a table between a page's markers.

  Args:
    text: text of the page.
    name: name of the table, as in `<!-- table: NAME -->`.
    number: which of the tables between these markers.

  Returns:
    A dict per row, from header to cell. A repeated header is numbered: 'over
    classes', 'over classes 2'.

  Raises:
    ValueError: the page has no such table.
  """
  block = re.search(
    rf'<!-- table: {re.escape(name)} -->\n```\n(.*?)```', text, re.DOTALL
  )
  lines = block.group(1).splitlines() if block else []
  rules = [i for i, line in enumerate(lines) if re.fullmatch(r'[- ]+', line)]
  if len(rules) <= number:
    raise ValueError(f'there is no table {name!r} with number {number}')
  rule = rules[number]
  spans = [(m.start(), m.end()) for m in re.finditer('-+', lines[rule])]
  header = []
  for word in _cells(lines[rule - 1], spans):
    times = sum(re.sub(r' \d+$', '', old) == word for old in header)
    header.append(f'{word} {times + 1}' if times else word)
  rows = []
  for line in lines[rule + 1 :]:
    if not line.strip():
      break
    rows.append(dict(zip(header, _cells(line, spans), strict=True)))
  return rows


def _cells(line: str, spans: Sequence[tuple[int, int]]) -> list[str]:
  return [line[begin:end].strip() for begin, end in spans]


def _one(rows: Sequence[Mapping[str, str]], **wanted: str) -> Mapping[str, str]:
  """Returns the only row with these values; '_' in a key means a space."""
  found = [
    row
    for row in rows
    if all(row[key.replace('_', ' ')] == value for key, value in wanted.items())
  ]
  if len(found) != 1:
    raise ValueError(f'{len(found)} rows have {wanted}, expected one')
  return found[0]


def _tight(interval: str) -> str:
  return ' '.join(interval.split())


# Same source, then all: name of the column of accuracies, the interval beside
# it, the metric, and the accuracy of guessing.
_METRICS = (
  ('same source', '95% interval', 'same_source_per_class', '37.5'),
  ('all', '95% interval 2', 'per_class', '12.5'),
)
# Rows of the real clips: words, tables, main row, row beside it and its words.
_REAL_CLIPS = (
  ('', 'text', 'transfer', 'nearest_name', 'nearest name'),
  (
    ', described',
    'described',
    'described: transfer',
    'names alone: transfer',
    'names alone',
  ),
)


def _real_clips(text: str) -> Iterator[Sequence[str]]:
  for words, name, main, other, shown in _REAL_CLIPS:
    rows, paired = table(text, name), table(text, f'{name}, paired')
    of_main, beside = (_one(rows, method=method) for method in (main, other))
    for column, interval, metric, chance in _METRICS:
      difference = _one(paired, difference=f'{main} - {other} *', metric=metric)
      yield (
        f'real clips, trained from random values{words}, {column}',
        _STRICT,
        '14',
        '8',
        chance,
        of_main[f'{column} %'],
        _tight(of_main[interval]),
        f'{shown} {beside[f"{column} %"]}',
        difference['points'],
        _tight(difference['over classes']),
      )


def _i3d(text: str) -> Iterator[Sequence[str]]:
  rows = table(text, 'splits 1 to 4')
  paired = table(text, 'splits 1 to 4', number=1)
  for name, _, metric, _ in _METRICS:
    strict = f'{metric}_without_leaks'
    transfer, beside = (
      _one(rows, method=method, metric=strict)
      for method in (_BANK_METHOD, 'conse')
    )
    difference = _one(
      paired, difference=f'{_BANK_METHOD} - conse', metric=strict
    )
    yield (
      f'real clips, I3D as it comes, {name}',
      _WITHOUT_LEAKS,
      '400',
      '8',
      transfer['chance'],
      transfer['%'],
      _tight(transfer['95% interval']),
      f'ConSE {beside["%"]}',
      difference['points'],
      _tight(difference['over classes']),
    )


def _pretrained(text: str) -> Iterator[Sequence[str]]:
  rows = table(text, 'without leaks')
  for name, interval, *_ in _METRICS:
    both, beside = (
      _one(rows, method=method) for method in ('ensemble', 'ridge, both')
    )
    points = float(both[f'{name} %']) - float(beside[f'{name} %'])
    yield (
      f"real clips, I3D's features, transfer and ridge, {name}",
      _WITHOUT_LEAKS,
      '14 and 400',
      '8',
      _CHANCE_WITHOUT_LEAKS[name],
      both[f'{name} %'],
      _tight(both[interval]),
      f'ridge alone {beside[f"{name} %"]}',
      f'{points:+.1f}',
      '',
    )


def _relatedness(text: str) -> Iterator[Sequence[str]]:
  rows, paired = table(text, 'methods'), table(text, 'paired')
  for encoder in _encoders(rows):
    for unseen, chance, suffix in (('40', '2.5', ''), ('200', '0.5', ' 2')):
      transfer, beside = (
        _one(rows, text=encoder, method=method)
        for method in (_PRODUCT, 'ConSE')
      )
      difference = _one(paired, text=encoder, difference=f'{_PRODUCT} - ConSE')
      top1 = f'{unseen} unseen: top-1 (sd)'
      yield (
        f'columns of I3D, names by {encoder.split(" ")[0]}',
        _KNOWN,
        str(400 - int(unseen)),
        unseen,
        chance,
        transfer[top1].split(' ')[0],
        f'{_tight(transfer[f"over classes{suffix}"])} *',
        f'ConSE {beside[top1].split(" ")[0]}',
        difference[f'{unseen} unseen: points'],
        _tight(difference[f'over classes{suffix}']),
      )


def _described(text: str) -> Iterator[Sequence[str]]:
  for encoder in _encoders(table(text, 'methods')):
    name = encoder.split(' ')[0]
    rows = table(text, f'descriptions, {name}')
    described, alone = (
      _one(rows, **{_EMBEDDINGS: of}) for of in (_WEIGHT, 'names alone')
    )
    for unseen, chance, suffix in (('40', '2.5', ''), ('200', '0.5', ' 2')):
      top1 = f'{unseen} unseen: top-1'
      yield (
        f'columns of I3D, described, by {name}',
        _KNOWN,
        str(400 - int(unseen)),
        unseen,
        chance,
        described[top1],
        '',
        f'names alone {alone[top1]}',
        described[f'gain{suffix}'],
        _tight(described[f'over classes{suffix}']),
      )


def _encoders(rows: Sequence[Mapping[str, str]]) -> list[str]:
  """Returns the text encoders of the table, without the controls."""
  return [
    name
    for name in dict.fromkeys(row['text'] for row in rows)
    if name not in ('words', 'letters')
  ]


def _stick_figures(text: str) -> Iterator[Sequence[str]]:
  rows = table(text, 'stick figures')
  for seen in ('12', '24'):
    row = _one(rows, varied='seen classes', to=seen)
    transfer, interval = _split(row['transfer'])
    beside, _ = _split(row['nearest name'])
    yield (
      'stick figures',
      _STRICT,
      seen,
      '12',
      '8.3',
      transfer,
      f'{interval} *',
      f'nearest name {beside}',
      f'{float(transfer) - float(beside):+.1f}',
      '',
    )


def _split(cell: str) -> tuple[str, str]:
  """Splits '65.6 (48-82)' into the value and the interval."""
  value, interval = cell.rstrip(')').split(' (')
  return value, interval.replace('-', ' - ')


def headline(pages: Mapping[str, str]) -> list[str]:
  """Returns the lines of the headline table.

  Args:
    pages: file name in docs/results, without its ending -> text of the page.

  Raises:
    ValueError: a page lacks a table or a row.
  """
  rows = [
    *_real_clips(pages['real_clips']),
    *_i3d(pages['i3d_bank']),
    *_pretrained(pages['real_clips_pretrained']),
    *_relatedness(pages['relatedness']),
    *_described(pages['relatedness']),
    *_stick_figures(pages['stick_figures']),
  ]
  return results_text.columns(_HEADER, rows)


def draw_real_clips(text: str, path: str) -> None:
  """Draws the accuracy of every method on the real clips, with intervals."""
  rows = [row for row in table(text, 'text') if row['method'][:5] != 'floor']
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
  rows = table(text, 'methods')
  names = list(dict.fromkeys(row['text'] for row in rows))
  methods = {'ConSE': '#c44e52', 'softmax': '#8c8c8c', _PRODUCT: '#2b6cb0'}
  with _figure(path, (7, 3.6)) as axis:
    for k, (method, colour) in enumerate(methods.items()):
      for j, suffix in enumerate(('', ' 2')):
        x, y, low, high = [], [], [], []
        for i, name in enumerate(names):
          row = _one(rows, text=name, method=method)
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


def main(argv: list[str]) -> None:
  """Prints the headline table, and updates the page and the figures."""
  values = cli.new_flags()
  flags.DEFINE_string('docs', 'docs', 'Folder of pages.', flag_values=values)
  cli.parse(values, argv, usage=__doc__)
  folder = os.path.join(values.docs, 'results')
  pages = {}
  for name in sorted(os.listdir(folder)):
    if name.endswith('.md'):
      with open(os.path.join(folder, name)) as f:
        pages[name.removesuffix('.md')] = f.read()
  lines = headline(pages)
  for line in lines:
    terminal.say(line)
  documents.put_into(f'{values.docs}/results.md', {'headline': lines})
  draw_real_clips(pages['real_clips'], f'{values.docs}/figures/real_clips.svg')
  draw_relatedness(
    pages['relatedness'], f'{values.docs}/figures/relatedness.svg'
  )


if __name__ == '__main__':
  cli.run(main)
