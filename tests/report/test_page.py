import dataclasses
import os
import shutil

import numpy as np
import pytest

from zsar_jax import results as results_lib
from zsar_jax.report import content, page

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
DRIVER = shutil.which('chromedriver')
SECTIONS = [name for name, _ in page._SECTIONS]


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
  html = page.render(
    make_results(),
    make_content(unseen=(evil, *(f'c{i}' for i in range(11)))),
  )
  assert '<script' not in html and '&lt;script&gt;' in html


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
  if not CHROMIUM or not DRIVER:
    pytest.skip('chromium and chromedriver are not installed')
  selenium = pytest.importorskip('selenium.webdriver')
  options = selenium.ChromeOptions()
  options.binary_location = CHROMIUM
  for flag in (
    'headless=new',
    'no-sandbox',
    'disable-gpu',
    'disable-quic',
    'disable-dev-shm-usage',
    'no-first-run',
    'disable-background-networking',
    'disable-component-update',
    'disable-sync',
    f'user-data-dir={tmp_path_factory.mktemp("profile")}',
  ):
    options.add_argument(f'--{flag}')
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  driver = selenium.Chrome(
    options=options, service=selenium.ChromeService(DRIVER)
  )
  for set_limit in (driver.set_page_load_timeout, driver.set_script_timeout):
    set_limit(30)
  yield driver
  driver.quit()


@pytest.mark.parametrize(
  'width,scheme', [(375, 'dark'), (1280, 'light')], ids=['phone', 'desk']
)
def test_a_browser_shows_every_section(browser, tmp_path, width, scheme):
  path = tmp_path / 'report.html'
  page.write_report(make_results(), make_content(), str(path))
  browser.execute_cdp_cmd(
    'Emulation.setDeviceMetricsOverride',
    {'width': width, 'height': 800, 'deviceScaleFactor': 1, 'mobile': False},
  )
  browser.execute_cdp_cmd(
    'Emulation.setEmulatedMedia',
    {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]},
  )
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
  assert len(browser.find_elements('css selector', 'figure svg')) == 8
  requests = browser.execute_script(
    'return performance.getEntriesByType("resource").length'
  )
  assert requests == 0
  assert not [e for e in browser.get_log('browser') if e['level'] == 'SEVERE']
