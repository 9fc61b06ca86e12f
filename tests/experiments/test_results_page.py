"""Tests that headline table and figures agree with the pages."""

import pathlib

import pytest

from experiments import page_tables, results_figures, results_page

_DOCS = pathlib.Path(__file__).parents[2] / 'docs'
_PAGE = """
<!-- table: text -->
```
protocols: a
method    %     interval     %     interval
--------  ----  -----------  ----  -----------
transfer  50.8  48.4 - 53.6  42.0  39.8 - 44.9
oracle_x  71.1               67.2  63.7 - 70.7

seeds: 1 2
```
<!-- end -->
"""


@pytest.fixture(scope='module')
def pages():
  return {p.stem: p.read_text() for p in (_DOCS / 'results').glob('*.md')}


def test_a_table_is_read_by_its_header():
  first, second = page_tables.table(_PAGE, 'text')
  assert first == {
    'method': 'transfer',
    '%': '50.8',
    'interval': '48.4 - 53.6',
    '% 2': '42.0',
    'interval 2': '39.8 - 44.9',
  }
  assert second['interval'] == ''


def test_a_table_that_is_not_there_is_named():
  with pytest.raises(ValueError, match="no table 'other'"):
    page_tables.table(_PAGE, 'other')


def test_the_headline_is_what_the_pages_say(pages):
  assert (
    '\n'.join(results_page.headline(pages))
    in (_DOCS / 'results.md').read_text()
  )


def test_the_headline_follows_a_page(pages):
  changed = pages['stick_figures'].replace('65.6 (48-82)', '12.3 (4-56)')
  lines = results_page.headline(pages | {'stick_figures': changed})
  cells = lines[-1].split()
  assert {'12.3', '4', '56'} <= set(cells)


def test_a_row_that_is_gone_is_named(pages):
  changed = pages['real_clips'].replace('nearest_name', 'nearest_noun')
  with pytest.raises(ValueError, match=r"0 rows have .*'nearest_name'"):
    results_page.headline(pages | {'real_clips': changed})


@pytest.mark.parametrize(
  'draw, page, words',
  [
    (results_figures.draw_real_clips, 'real_clips', ('oracle_mixture',)),
    (results_figures.draw_relatedness, 'relatedness', ('ConSE, 40 unseen',)),
  ],
)
def test_figures_show_every_row(draw, page, words, pages, tmp_path):
  path = tmp_path / 'figure.svg'
  draw(pages[page], str(path))
  for word in words:
    assert word in path.read_text()
