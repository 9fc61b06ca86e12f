"""Makes the headline table and the figures of docs/results.md.

python -m experiments.results_page --docs=docs

It reads the tables that the other experiments have put into the pages of
docs/results. It prints the headline table, puts it into docs/results.md, and
draws a figure of each experiment that does not draw its own. It measures
nothing, so it always agrees with those pages.
"""

from collections.abc import Iterator, Mapping, Sequence
import os

from absl import flags

from experiments import documents, page_tables, results_figures
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
# The weight of descriptions that the product has.
_WEIGHT = f'weight {public_sides.DESCRIPTION_WEIGHT:g}'
_EMBEDDINGS = 'class embeddings of'


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
    rows, paired = (
      page_tables.table(text, name),
      page_tables.table(text, f'{name}, paired'),
    )
    of_main, beside = (
      page_tables.one_row(rows, method=method) for method in (main, other)
    )
    for column, interval, metric, chance in _METRICS:
      difference = page_tables.one_row(
        paired, difference=f'{main} - {other} *', metric=metric
      )
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
  rows = page_tables.table(text, 'splits 1 to 4')
  paired = page_tables.table(text, 'splits 1 to 4', number=1)
  for name, _, metric, _ in _METRICS:
    strict = f'{metric}_without_leaks'
    transfer, beside = (
      page_tables.one_row(rows, method=method, metric=strict)
      for method in (_BANK_METHOD, 'conse')
    )
    difference = page_tables.one_row(
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
  rows = page_tables.table(text, 'without leaks')
  for name, interval, *_ in _METRICS:
    both, beside = (
      page_tables.one_row(rows, method=method)
      for method in ('ensemble', 'ridge, both')
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
  rows, paired = (
    page_tables.table(text, 'methods'),
    page_tables.table(text, 'paired'),
  )
  for encoder in _encoders(rows):
    for unseen, chance, suffix in (('40', '2.5', ''), ('200', '0.5', ' 2')):
      transfer, beside = (
        page_tables.one_row(rows, text=encoder, method=method)
        for method in (results_figures.PRODUCT, 'ConSE')
      )
      difference = page_tables.one_row(
        paired, text=encoder, difference=f'{results_figures.PRODUCT} - ConSE'
      )
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
  for encoder in _encoders(page_tables.table(text, 'methods')):
    name = encoder.split(' ')[0]
    rows = page_tables.table(text, f'descriptions, {name}')
    described, alone = (
      page_tables.one_row(rows, **{_EMBEDDINGS: of})
      for of in (_WEIGHT, 'names alone')
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
  rows = page_tables.table(text, 'stick figures')
  for seen in ('12', '24'):
    row = page_tables.one_row(rows, varied='seen classes', to=seen)
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
  results_figures.draw_real_clips(
    pages['real_clips'], f'{values.docs}/figures/real_clips.svg'
  )
  results_figures.draw_relatedness(
    pages['relatedness'], f'{values.docs}/figures/relatedness.svg'
  )


if __name__ == '__main__':
  cli.run(main)
