"""Runs headless Chromium for tests of web pages."""

import contextlib
import shutil

import pytest

_FLAGS = (
  'headless=new',
  'no-sandbox',
  'disable-gpu',
  'disable-quic',
  'disable-dev-shm-usage',
  'no-first-run',
  'disable-background-networking',
  'disable-component-update',
  'disable-sync',
  # A camera that shows a moving picture, and may be used.
  'use-fake-device-for-media-stream',
  'use-fake-ui-for-media-stream',
)


@contextlib.contextmanager
def chromium(profile):
  """Yields a driver; skips the test if something is not installed.

  Args:
    profile: an empty folder.
  """
  browser = shutil.which('chromium') or shutil.which('chromium-browser')
  chromedriver = shutil.which('chromedriver')
  if not browser or not chromedriver:
    pytest.skip('chromium and chromedriver are not installed')
  selenium = pytest.importorskip('selenium.webdriver')
  options = selenium.ChromeOptions()
  options.binary_location = browser
  for flag in (*_FLAGS, f'user-data-dir={profile}'):
    options.add_argument(f'--{flag}')
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  driver = selenium.Chrome(
    options=options, service=selenium.ChromeService(chromedriver)
  )
  try:
    driver.set_page_load_timeout(30)
    driver.set_script_timeout(30)
    yield driver
  finally:
    driver.quit()


def look_like(driver, width, scheme):
  """Sets the width of the window and the colour scheme, light or dark."""
  driver.execute_cdp_cmd(
    'Emulation.setDeviceMetricsOverride',
    {'width': width, 'height': 800, 'deviceScaleFactor': 1, 'mobile': False},
  )
  driver.execute_cdp_cmd(
    'Emulation.setEmulatedMedia',
    {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]},
  )
