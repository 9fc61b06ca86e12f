import dataclasses
import os
import re
import warnings

import numpy as np
import pytest

from tests import browsers
from zsar_jax.evaluation import results as results_lib
from zsar_jax.evaluation.report import content, figures, page

SECTIONS = list(page.SECTIONS)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_content(u=12, s=24, n=120, **changes):
  rng = np.random.default_rng(0)
  labels = np.arange(n) % u
  seen = unit(rng.normal(size=(s, 16)))
  weights = rng.dirichlet(np.full(s, 0.2), size=u)
  composites = unit(weights @ seen)
  z = unit(composites[labels] + 0.25 * rng.normal(size=(n, 16)))
  scores = z @ composites.T
  made = content.ReportContent(
    title='A report',
    method='transfer',
    unseen=tuple(f'doing thing {i}' for i in range(u)),
    seen=tuple(f'seen thing {i}' for i in range(s)),
    video_ids=tuple(f'video_{i}.mp4' for i in range(n)),
    labels=labels,
    scores=scores,
    embeddings=z,
    unseen_prototypes=composites,
    true_means=unit(np.stack([z[labels == c].mean(0) for c in range(u)])),
    seen_prototypes=seen,
    transfer_weights=weights,
    gzsl_curve=(np.array([[0.9, 0.0], [0.6, 0.4], [0.0, 0.7]]), 0.41),
    hubness_counts={'transfer': rng.random(u) + 0.1},
    probabilities=np.exp(8 * scores) / np.exp(8 * scores).sum(1)[:, None],
    calibration_note='pseudo-unseen classes',
  )
  return dataclasses.replace(made, **changes)


def make_results(method='transfer'):
  row = results_lib.Row
  return results_lib.make_results(
    'set/1',
    [
      dataclasses.replace(
        row(method, 'per_class', 0.6, 0.5, 0.7, 0.1, 120, 12, 2),
        class_low=0.4,
        class_high=0.8,
      ),
      row('nearest_name', 'per_class', 0.5, 0.4, 0.6, 0.1, 120, 12),
      row('oracle_prototypes', 'per_class', 0.9, 0.8, 0.95, 0.1, 120, 12),
      row('control_permuted_names', 'per_class', 0.1, 0.05, 0.2, 0.1, 120, 12),
    ],
    {'seed': 3},
    {'facts': {}, 'notes': ['a note']},
    protocol_hash='abc',
    paired=[
      results_lib.Paired(
        method, 'nearest_name', 'per_class', 0.1, 0, 0.2, -0.1, 0.3, 0.04, 0.04,
        True,
      )
    ],
  )  # fmt: skip


def test_every_section_is_there_and_nothing_is_fetched():
  html = page.render(make_results(), make_content())
  for name in SECTIONS:
    assert f'<section id="{name}">' in html
  assert 'Not measured' not in html
  links = html.replace('http://www.w3.org/', '')
  assert '<script' not in html and 'src="http' not in html
  assert 'url(http' not in links and '<link' not in html
  assert len(html) < 5e6


def test_hostile_names_are_text():
  evil = '<script>alert("x")</script> $\\frac$'
  names = (evil, *(f'c{i}' for i in range(11)))
  shown = make_content(
    unseen=names,
    seen=(f'{evil} seen', *(f's{i}' for i in range(23))),
    video_ids=tuple(f'{evil} {i}' for i in range(120)),
    title=f'{evil} title',
    notes=(f'{evil} note',),
    calibration_note=f'{evil} calibrated',
    dataset=f'{evil} data',
    thumbnails={f'{evil} {i}': b'jpeg' for i in range(120)},
  )
  results = make_results(f'{evil} method')
  results['leaks'] = [f'{evil} leak']
  results['config'] = {'value': f'{evil} config'}
  html = page.render(results, dataclasses.replace(shown, method=evil))
  assert '<script' not in html and '&lt;script&gt;' in html
  for what in ('title', 'note', 'calibrated', 'data', 'method', 'leak'):
    assert f'$\\frac$ {what}' in html, what


def headline_of(html):
  """The words of the headline, without its figure."""
  part = html[html.index('<div id="headline">') :]
  words = re.sub('<[^>]*>', ' ', part[: part.index('<figure>')])
  words = ' '.join(words.split())
  return words.replace(' ;', ';').replace(' ,', ',')


def test_the_page_begins_with_the_accuracy_beside_chance():
  html = page.render(make_results(), make_content(dataset='people/1.0.0'))
  assert html.index('<div id="headline">') < html.index('<table>')
  top = html[: html.index('<table>')]
  assert 'Protocol set/1 abc' in top and 'data people/1.0.0' in top
  assert '12 unseen and 24 seen classes' in ' '.join(top.split())
  # A protocol that is named as its data says both.
  same = page.render(make_results(), make_content(dataset='set/1'))
  assert 'Protocol set/1 abc; 12 unseen' in ' '.join(same.split())
  assert headline_of(html) == (
    '60.0% per-class accuracy of transfer; chance is 10.0% '
    '95% interval over videos 50.0 – 70.0; over classes 40.0 – 80.0 '
    'measured on 120 videos (2 unreadable, counted as wrong), 12 candidate '
    'classes declared comparison: transfer − nearest_name is +10.0 points (95% '
    'interval over videos 0.0 – 20.0; over classes -10.0 – 30.0; p = 0.040)'
  )
  # Results alone: oracles and controls are further down.
  (figure,) = re.findall(
    '<svg[^>]*"accuracy of the methods".*?</svg>', html, re.DOTALL
  )
  drawn = [text.partition(' ')[0] for _, text in texts_of(figure)]
  assert 'transfer' in drawn and 'nearest_name' in drawn
  assert not {'oracle_prototypes', 'control_permuted_names'} & {*drawn}


def test_the_headline_takes_the_declared_measure_and_says_what_is_known():
  results = make_results()
  own = dict(
    results['rows'][0],
    metric='same_source_per_class',
    value=0.2,
    low=None,
    high=None,
    chance=None,
    n_unreadable=0,
    n_splits=3,
  )
  results['rows'].append(own | {'class_low': None, 'class_high': None})
  assert headline_of(page.render(results, make_content())) == (
    '20.0% per-class accuracy within the same source of transfer measured on '
    '120 videos, 12 candidate classes in each split; mean of 3 splits'
  )
  results['rows'] = []
  html = page.render(results, make_content())
  assert (
    '<div id="headline">' not in html and 'the protocol has no test' in html
  )


CJK = ('打篮球', '柔道のなげわざをしている人たちのようす', '태권도 품새를 연습')


def texts_of(svg):
  """(attributes, content) of all pieces of text in a figure."""
  return re.findall(r'<text ([^>]*)>([^<]*)</text>', svg)


def test_names_of_any_script_are_text_in_the_fonts_of_the_page():
  unseen = (*CJK, *(f'c{i}' for i in range(9)))
  with warnings.catch_warnings():
    warnings.simplefilter('error')  # no word of letters that DejaVu lacks
    html = page.render(make_results(), make_content(unseen=unseen))
  found = texts_of(html)
  for name in ('打篮球', '태권도 품새를 연습'):
    assert sum(name in text for _, text in found) >= 4
  for attributes, _ in found:
    assert 'DejaVu' not in attributes and 'font-family' not in attributes
    assert re.search(r'font-size: [\d.]+px', attributes)
  assert html.count('install a font such as Noto Sans CJK') == 1
  assert 'Noto Sans' not in page.render(make_results(), make_content())


@pytest.mark.parametrize(
  'style',
  [
    "font: 9px 'DejaVu Sans', 'Arial', sans-serif; text-anchor: end",
    "font-size: 9px; font-family: 'DejaVu Sans', 'Arial'; text-anchor: end",
  ],
)
def test_fonts_of_every_version_of_matplotlib_are_left_out(style):
  svg = f'<text style="{style}" x="1">font-family: a;'
  plain = re.sub('<text [^>]*>', figures._in_fonts_of_page, svg)
  assert plain == (
    '<text style="font-size: 9px; text-anchor: end" x="1">font-family: a;'
  )


def test_wide_letters_count_twice_where_names_are_cut():
  short = figures._short(['a' * 10, 'a' * 11, '打' * 5, '打' * 6, ''], 10)
  assert short == ['a' * 10, 'a' * 9 + '…', '打' * 5, '打' * 4 + '…', '']


def test_labels_of_the_ladder_lie_beside_their_bars():
  row = lambda method, value, low, high: {
    'method': method,
    'value': value,
    'low': low,
    'high': high,
    'chance': 0.05,
  }
  rows = [
    row('oracle_prototypes', 0.97, 0.95, 0.99),
    row('transfer', 0.03, 0.0, 0.4),
    row('control_permuted_names', 0.0, 0.0, 0.01),
  ]
  svg = figures.error_ladder(rows)
  # What is drawn by the numbers is clipped to the axes.
  drawn = re.findall(r'<path d="M ([\d.]+) [^"]*" clip-path', svg)
  assert len(drawn) == 3 + 3 + 1  # bars, intervals, chance
  labels = [x for x in texts_of(svg) if '%' in x[1] and '_' in x[1]]
  assert len(labels) == 2  # the names with an underscore
  for attributes, text in texts_of(svg):
    if text.partition(' ')[0] in [r['method'] for r in rows]:
      assert 'text-anchor: end' in attributes
      end = float(re.search(r'x="([\d.]+)"', attributes)[1])
      assert end < min(map(float, drawn))


def test_few_classes_leave_room_for_the_label_of_the_colours():
  svg = figures.heat_map(np.eye(2), 'ab', 'ab', 'true', 'answer', 'share of it')
  height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1])
  assert height / 72 >= 3.5


def test_what_was_not_measured_is_said():
  bare = make_content(
    embeddings=None,
    unseen_prototypes=None,
    true_means=None,
    seen_prototypes=None,
    transfer_weights=None,
    gzsl_curve=None,
    hubness_counts={},
    probabilities=None,
    seen=(),
  )
  html = page.render(make_results('mine'), bare)
  assert html.count('Not measured') == 4
  for name in SECTIONS:
    assert f'<section id="{name}">' in html


def test_mistakes_are_the_most_confident_wrong_answers():
  made = make_content()
  wrong = content.confident_mistakes(made, 5)
  assert (made.answers[wrong] != made.labels[wrong]).all()
  confidence = made.confidence[wrong]
  assert (np.diff(confidence) <= 0).all()
  others = np.setdiff1d(np.flatnonzero(made.answers != made.labels), wrong)
  assert made.confidence[others].max() <= confidence[-1]
  html = page.render(make_results(), made)
  assert made.video_ids[wrong[0]] in html


def test_perfect_scores_have_no_mistakes():
  made = make_content()
  perfect = np.eye(12)[made.labels]
  assert 'No mistakes' in page.render(
    make_results(), dataclasses.replace(made, scores=perfect)
  )


@pytest.mark.parametrize('u', [1, 101])
def test_few_and_many_classes_fit(u):
  made = make_content(u=u, s=80, n=404)
  assert len(page.render(make_results(), made)) < 5e6


def test_written_whole(tmp_path):
  path = tmp_path / 'r.html'
  page.write_report(make_results(), make_content(), str(path))
  assert path.read_text().startswith('<!doctype html>')
  assert os.listdir(tmp_path) == ['r.html']


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  with browsers.chromium(tmp_path_factory.mktemp('profile')) as driver:
    yield driver


@pytest.mark.parametrize(
  'width,scheme', [(375, 'dark'), (1280, 'light')], ids=['phone', 'desk']
)
def test_a_browser_shows_every_section(browser, tmp_path, width, scheme):
  path = tmp_path / 'report.html'
  page.write_report(make_results(), make_content(), str(path))
  browsers.look_like(browser, width, scheme)
  browser.get(path.as_uri())
  for name in SECTIONS:
    element = browser.find_element('id', name)
    assert element.is_displayed() and element.size['height'] > 40, name
  # Wide tables and figures scroll in their own boxes.
  scrolled = browser.execute_script(
    'return document.documentElement.scrollWidth'
  )
  assert scrolled <= width
  back, ink = browser.execute_script(
    'const s = getComputedStyle(document.body);'
    'return [s.backgroundColor, s.color]'
  )
  light = lambda rgb: sum(map(int, rgb[4:-1].split(',')[:3])) > 384
  assert light(back) == (scheme == 'light') and light(back) != light(ink)
  assert len(browser.find_elements('css selector', 'figure svg')) == 9
  requests = browser.execute_script(
    'return performance.getEntriesByType("resource").length'
  )
  assert requests == 0
  assert not [e for e in browser.get_log('browser') if e['level'] == 'SEVERE']
