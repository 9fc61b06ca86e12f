"""Tests that links, names and commands in the documents are valid."""

import importlib
import pathlib
import re

import pytest

from zsar_jax import __main__ as zsar

_ROOT = pathlib.Path(__file__).parents[1]
_PAGES = [
  *sorted(_ROOT.glob('*.md')),
  *sorted((_ROOT / 'docs').glob('*.md')),
  *sorted((_ROOT / 'docs/results').glob('*.md')),
]


def _headings(path):
  """The anchors of a page, as GitHub makes them."""
  text = re.sub(r'```.*?```', '', path.read_text(), flags=re.DOTALL)
  titles = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
  return {
    re.sub(r'[^\w -]', '', t).strip().lower().replace(' ', '-') for t in titles
  }


@pytest.mark.parametrize('page', _PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
  text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
  for target in re.findall(r'\]\(([^)\s]+)\)', text):
    if target.startswith(('http://', 'https://')):
      continue
    name, _, anchor = target.partition('#')
    path = (page.parent / name).resolve() if name else page
    assert path.exists(), f'{page.name}: {target}'
    if anchor:
      assert anchor in _headings(path), f'{page.name}: {target}'


@pytest.mark.parametrize('page', _PAGES, ids=lambda p: p.name)
def test_commands_are_there(page):
  text = page.read_text()
  for module in re.findall(
    r'python -m ((?:zsar_jax|benchmarks|experiments)[\w.]*)', text
  ):
    path = _ROOT / module.replace('.', '/')
    found = path.with_suffix('.py').exists() or (path / '__main__.py').exists()
    assert found, f'{page.name}: {module}'
  for command in re.findall(r'(?:bin/|\$ )zsar (\w+)', text):
    assert command in zsar.COMMANDS, f'{page.name}: zsar {command}'


def test_every_page_is_reached_from_the_readme():
  text = (_ROOT / 'README.md').read_text()
  for page in sorted((_ROOT / 'docs').glob('*.md')):
    if page.stem != 'index':  # of the built pages
      assert f'](docs/{page.name})' in text, page.name
  results = (_ROOT / 'docs/results.md').read_text()
  for page in (_ROOT / 'docs/results').glob('*.md'):
    assert f'](results/{page.name})' in results, page.name


def test_every_page_is_in_the_built_documentation():
  index = (_ROOT / 'docs/index.md').read_text()
  listed = set(re.findall(r'^[\w/]+$', index, re.MULTILINE))
  pages = {path.stem for path in (_ROOT / 'docs').glob('*.md')} - {'index'}
  results = (_ROOT / 'docs/results').glob('*.md')
  pages |= {f'results/{path.stem}' for path in results}
  notebooks = {
    f'notebooks/{path.stem}' for path in (_ROOT / 'colabs').glob('*.ipynb')
  }
  assert pages | notebooks <= listed


def test_the_readme_is_short():
  assert len((_ROOT / 'README.md').read_text().splitlines()) <= 150


def test_the_map_of_the_code_names_every_module_at_the_root():
  text = (_ROOT / 'docs/architecture.md').read_text()
  for path in (_ROOT / 'zsar_jax').glob('*.py'):
    if path.stem != '__init__':
      assert f'`{path.stem}`' in text, path.stem


def test_functions_named_in_the_architecture_page_are_there():
  text = (_ROOT / 'docs/architecture.md').read_text()
  rooms = 'data|evaluation|inference|models|pretrained|training|zeroshot'
  named = re.findall(rf'`((?:{rooms})(?:\.\w+)+)`', text)
  assert len(named) > 15
  for name in named:
    parts = name.split('.')
    found, left = importlib.import_module(f'zsar_jax.{parts[0]}'), parts[1:]
    path = f'zsar_jax.{parts[0]}'
    for part in left:
      if not hasattr(found, part):
        importlib.import_module(f'{path}.{part}')
      found, path = getattr(found, part), f'{path}.{part}'


def test_files_named_in_the_architecture_page_are_there():
  text = (_ROOT / 'docs/architecture.md').read_text()
  named = set(re.findall(r'`([\w/]+\.py)`', text))
  for name in named:
    places = (_ROOT / name, _ROOT / 'zsar_jax' / name)
    assert any(path.exists() for path in places) or name == 'defaults.py', name
