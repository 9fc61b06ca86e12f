"""Reads the tables that commands have put into the pages of docs/results."""

from collections.abc import Mapping, Sequence
import re


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


def one_row(
  rows: Sequence[Mapping[str, str]], **wanted: str
) -> Mapping[str, str]:
  """Returns the only row with these values; '_' in a key means a space."""
  found = [
    row
    for row in rows
    if all(row[key.replace('_', ' ')] == value for key, value in wanted.items())
  ]
  if len(found) != 1:
    raise ValueError(f'{len(found)} rows have {wanted}, expected one')
  return found[0]
