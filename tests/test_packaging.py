"""What setup.py promises, and the files that must agree with it."""

import pathlib
import re
import runpy

import pytest
import setuptools

_ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def promised(monkeypatch):
  """The arguments that setup.py gives to `setuptools.setup`."""
  given = {}
  monkeypatch.setattr(setuptools, 'setup', given.update)
  runpy.run_path(str(_ROOT / 'setup.py'))
  return given


def _normal(name):
  return re.sub('[-_.]+', '-', name).lower()


def _lower_bound(requirement):
  match = re.match(r'([\w.-]+)(?:\[.*?\])?>=([\d.]+)', requirement)
  assert match, f'{requirement} has no lower bound'
  return _normal(match[1]), match[2]


def _padded(version):
  return (version.split('.') + ['0'] * 4)[:4]


def test_the_oldest_versions_are_those_that_are_tested_together(promised):
  wanted = dict(
    _lower_bound(requirement)
    for requirement in (
      *promised['install_requires'],
      *promised['extras_require']['test'],
    )
  )
  lines = (_ROOT / '.ci/oldest.txt').read_text().splitlines()
  pinned = dict(
    line.split('==') for line in lines if line and not line.startswith('#')
  )
  pinned = {_normal(name): version for name, version in pinned.items()}
  # Moves together with jax.
  assert pinned.pop('jaxlib') == pinned['jax']
  assert pinned.keys() == wanted.keys()
  for name, version in wanted.items():
    assert _padded(pinned[name]) == _padded(version), name


def test_the_extras_ask_for_the_same_jax(promised):
  jax = dict(map(_lower_bound, promised['install_requires']))['jax']
  extras = promised['extras_require']
  for extra in ('tpu', 'cuda12', 'cuda13', 'cuda'):
    assert dict(map(_lower_bound, extras[extra])) == {'jax': jax}, extra


def test_tensorflow_is_left_out_where_it_has_no_wheels(promised):
  for requirement in promised['install_requires']:
    if re.match('tensorflow(-text)?[><=]', requirement):
      assert 'python_version < "3.14"' in requirement
