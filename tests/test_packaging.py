"""What setup.py promises, and the files that must agree with it."""

import pathlib
import re
import runpy

import pytest
import setuptools
import yaml

import zsar_jax

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


def _pythons(promised):
  names = [c.rpartition(' :: ')[2] for c in promised['classifiers']]
  return [name for name in names if re.fullmatch(r'3\.\d+', name)]


def _workflow():
  return yaml.safe_load((_ROOT / '.github/workflows/ci.yml').read_text())


def test_the_workflow_runs_every_python_that_is_promised(promised):
  matrix = _workflow()['jobs']['tests']['strategy']['matrix']
  assert matrix['python-version'] == _pythons(promised)
  assert promised['python_requires'] == f'>={_pythons(promised)[0]}'


def test_the_workflow_and_ci_run_the_tests_as_the_readme_does():
  (command,) = re.findall(
    r'\.venv/bin/python -m (pytest .*)', (_ROOT / 'README.md').read_text()
  )
  for path in ('.github/workflows/ci.yml', '.ci/run', 'CONTRIBUTING.md'):
    assert command in (_ROOT / path).read_text(), path


def test_the_oldest_job_takes_the_oldest_versions(promised):
  steps = _workflow()['jobs']['oldest']['steps']
  python = [s['with'] for s in steps if 'python-version' in s.get('with', ())]
  assert python[0]['python-version'] == _pythons(promised)[0]
  assert any('-c .ci/oldest.txt' in s.get('run', '') for s in steps)


def test_the_citation_is_of_this_version():
  citation = yaml.safe_load((_ROOT / 'CITATION.cff').read_text())
  assert citation['version'] == zsar_jax.__version__
  for key in ('cff-version', 'message', 'title', 'authors', 'license'):
    assert citation[key]


@pytest.mark.parametrize(
  'path',
  [
    '.pre-commit-config.yaml',
    *sorted(
      str(p.relative_to(_ROOT)) for p in (_ROOT / '.github').rglob('*.yml')
    ),
  ],
)
def test_yaml_files_can_be_read(path):
  assert yaml.safe_load((_ROOT / path).read_text())


def test_who_reports_a_bug_is_asked_for_the_versions():
  path = _ROOT / '.github/ISSUE_TEMPLATE/bug_report.yml'
  asked = {
    part['id']: part for part in yaml.safe_load(path.read_text())['body']
  }
  assert 'zsar --version' in asked['versions']['attributes']['label']
  assert asked['versions']['validations']['required']
