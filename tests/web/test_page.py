"""The real page in a real browser; skipped without gradio or Chromium."""

import contextlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests import browsers, videos
from zsar_jax import app
from zsar_jax.inference import model_files

# Heavy, so it is no requirement of the tests.
pytest.importorskip('gradio', reason='gradio is not installed')

_NAMES = 'waving the right arm slowly', 'walking to the right slowly'


def get(address, data=None):
  """Status and content of an answer."""
  request = urllib.request.Request(
    address, data, {'Content-Type': 'application/json'} if data else {}
  )
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  try:
    with opener.open(request, timeout=10) as answer:
      return answer.status, answer.read()
  except urllib.error.HTTPError as e:
    return e.code, e.read()


class Visitor:
  """Somebody with a browser."""

  def __init__(self, driver):
    self.driver = driver

  def find(self, selector):
    return self.driver.find_element('css selector', selector)

  def text(self, selector):
    # Not `.text`: what is replaced meanwhile is no error.
    return self.driver.execute_script(
      'return document.querySelector(arguments[0])?.innerText ?? ""', selector
    )

  def wait(self, condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < deadline, f'{what}: {self.text("body")}'
      time.sleep(0.05)

  def read(self, selector, words, seconds=30):
    found = lambda: words in self.text(selector)
    self.wait(found, f'{words} in {selector}', seconds)

  def upload(self, path):
    before = self.driver.find_elements('css selector', '[aria-label=Clear]')
    if before:
      # A message may lie over it.
      self.driver.execute_script('arguments[0].click()', before[0])
    # After an upload the page has no field until the video is cleared.
    selector = '#zsar-video input[type=file]'
    self.wait(
      lambda: self.driver.find_elements('css selector', selector), 'a field'
    )
    self.find(selector).send_keys(str(path))

  def upload_and_see(self, path):
    self.upload(path)
    self.wait(lambda: os.path.basename(path) in self.source(), 'the player')

  def source(self):
    return urllib.parse.unquote(
      self.driver.execute_script(
        'return document.querySelector("#zsar-video video")?.src ?? ""'
      )
    )

  def name(self, *names):
    field = self.find('#zsar-names textarea')
    field.clear()
    field.send_keys('\n'.join(names))

  def tab(self, title):
    (tab,) = [
      tab
      for tab in self.driver.find_elements('css selector', '[role=tab]')
      if tab.is_displayed() and tab.text == title
    ]
    tab.click()
    chosen = lambda: tab.get_attribute('aria-selected') == 'true'
    self.wait(chosen, f'tab {title}')

  def allow_camera(self):
    self.click('#zsar-camera button', 'Access', 'a camera')

  def record(self):
    """Starts or stops."""
    self.click('#zsar-camera button', '', 'a button to record')

  def click(self, selector, words, what):
    def found():
      return [
        b
        for b in self.driver.find_elements('css selector', selector)
        if b.is_displayed()
        and words.lower() in f'{b.text} {b.get_attribute("title")}'.lower()
      ]

    self.wait(found, what)
    self.driver.execute_script('arguments[0].click()', found()[0])

  def recognise(self):
    self.find('#zsar-go').click()


@pytest.fixture(scope='module')
def served():
  flags = ['--workdir=stick_figures', '--compare=stick_figures', '--port=0']
  limits = ['--max_minutes=0.2', '--max_megabytes=0.1', '--max_names=3']
  with app.started(['app', *flags, *limits]) as (address, uploads):
    yield address.rstrip('/'), uploads
  assert not os.path.exists(uploads.folder)


def test_nothing_but_uploads_is_read(served, tmp_path):
  address, uploads = served
  secret = tmp_path / 'secret'
  secret.write_text('hush')
  for path in (
    '/etc/passwd',
    str(secret),
    f'{uploads.folder}/../{os.path.relpath(secret, "/tmp")}',
    f'{uploads.folder}/%2e%2e/%2e%2e/etc/passwd',
    os.path.abspath('setup.py'),
    app.__file__,
    'http://127.0.0.1:1/',
  ):
    status, content = get(f'{address}/gradio_api/file={path}')
    assert status in (403, 404) and b'hush' not in content, path
  # By an event of the page.
  _, config = get(f'{address}/config')
  for event in json.loads(config)['dependencies']:
    video = {'path': str(secret), 'meta': {'_type': 'gradio.FileData'}}
    data = [video if i == 0 else 'a' for i in range(len(event['inputs']))]
    body = {'data': data, 'fn_index': event['id'], 'session_hash': 's'}
    status, content = get(
      f'{address}/gradio_api/run/predict', json.dumps(body).encode()
    )
    assert b'hush' not in content
    known = event['api_name'] in ('leave', 'stop')
    assert status != 200 or known, event
  assert uploads.num_bytes == 0


def test_a_visit(served, tmp_path):
  address, uploads = served
  with browsers.chromium(tmp_path / 'profile') as driver:
    browsers.look_like(driver, 390, 'dark')
    driver.get(address)
    visitor = Visitor(driver)
    visitor.read('#zsar-status', 'Choose a video')
    visitor.wait(lambda: visitor.find('#zsar-go').is_displayed(), 'a button')
    _names_and_an_example(visitor)
    _a_long_video(visitor, tmp_path)
    _limits(visitor, tmp_path)
    assert (
      driver.execute_script('return document.documentElement.scrollWidth')
      <= 390
    )
    loaded = driver.execute_script(
      'return performance.getEntriesByType("resource").map(e => e.name)'
    )
    known = (f'{address}/', 'data:', 'blob:')
    assert loaded and not [url for url in loaded if not url.startswith(known)]
    refused = [e for e in driver.get_log('browser') if e['level'] == 'SEVERE']
    # The upload that was too large is the only one.
    assert all('413' in e['message'] for e in refused), refused
    assert uploads.num_bytes > 0
    driver.get('about:blank')
    visitor.wait(lambda: uploads.num_bytes == 0, 'uploads deleted')


def test_a_camera(served, tmp_path):
  address, uploads = served
  with contextlib.ExitStack() as stack:
    first, second = (
      Visitor(stack.enter_context(browsers.chromium(tmp_path / name)))
      for name in 'ab'
    )
    for visitor in (first, second):
      visitor.driver.get(address)
      visitor.read('#zsar-status', 'Choose a video')
      visitor.wait(
        lambda v=visitor: v.find('#zsar-go').is_displayed(), 'a button'
      )
      visitor.tab('Camera')
      visitor.read('#zsar-seen', 'press Record')
      visitor.allow_camera()
    first.record()
    first.read('#zsar-seen [role=alert]', 'at least one name')
    first.name(*_NAMES)
    first.read('#zsar-seen .zsar-answer', '%')
    # The second is refused for as long as the first is there.
    second.name('juggling')
    second.record()
    second.read('#zsar-seen [role=alert]', 'Somebody else has a camera running')
    # A page that is closed in the middle frees it.
    first.driver.get('about:blank')
    second.read('#zsar-seen .zsar-answer', '%')
    second.record()  # stops
    second.read('#zsar-seen', 'What happened before')
    second.read('#zsar-seen', 'Warnings')
    # Pictures are not kept.
    assert uploads.num_bytes == 0
    severe = [
      e for e in second.driver.get_log('browser') if e['level'] == 'SEVERE'
    ]
    assert not severe


def _names_and_an_example(visitor):
  visitor.recognise()
  visitor.read('#zsar-status [role=alert]', 'Choose or record a video')
  path = next(p for p in model_files.examples() if 'waving_the_right' in p)
  path = path.replace('quickly', 'slowly')
  visitor.upload_and_see(path)
  visitor.recognise()
  visitor.read('#zsar-status [role=alert]', 'at least one name')
  visitor.name(*_NAMES)
  visitor.recognise()
  visitor.read('#zsar-answer strong', _NAMES[0])
  assert 'composited from' in visitor.text('#zsar-answer .zsar-bar')
  assert visitor.text('#zsar-answer .zsar-value').endswith('%')
  visitor.read('#zsar-risk', 'were wrong')
  assert len(visitor.driver.find_elements('css selector', '#zsar-details img'))
  visitor.name('<b>row ${1}', _NAMES[1])
  visitor.recognise()
  visitor.read('#zsar-answer', '<b>row ${1}')
  assert _NAMES[0] not in visitor.text('#zsar-answer .zsar-bars .zsar-name')
  visitor.tab('Compare')
  visitor.find('#zsar-compare').click()
  visitor.read('#zsar-compared', 'Both say')
  visitor.tab('stick_figures')


def _a_long_video(visitor, tmp_path):
  frames = videos.numbered_frames(30 * 6)
  visitor.upload_and_see(
    videos.write_video(tmp_path / 'long.mp4', frames, b_frames=0)
  )
  visitor.recognise()
  visitor.read('#zsar-timeline', 'Timeline')
  now = lambda: visitor.driver.execute_script(
    'return document.querySelector("#zsar-video video").currentTime'
  )
  for selector in (
    '#zsar-details li:last-child button',
    '.zsar-segments button',
  ):
    button = visitor.find(selector)
    aim = float(button.get_attribute('data-seek'))
    # As the keyboard does.
    button.send_keys('\n')
    visitor.wait(lambda aim=aim: abs(now() - aim) < 0.1, f'player at {aim}')


def _limits(visitor, tmp_path):
  visitor.name('a', 'b', 'c', 'd')
  visitor.recognise()
  visitor.read('#zsar-status [role=alert]', '4 names are too many')
  visitor.name(*_NAMES)
  large = tmp_path / 'large.mp4'
  large.write_bytes(bytes(150_000))
  visitor.upload(large)
  visitor.read('body', 'maximum allowed size')
  frames = videos.numbered_frames(26)
  visitor.upload_and_see(
    videos.write_video(tmp_path / 'slow.mp4', frames, fps=2)
  )
  visitor.recognise()
  visitor.read('#zsar-status [role=alert]', 'at most 0.2 min')
