"""How the documentation is built: `sphinx-build -W docs docs/_build`.

The API pages come from the docstrings, a page for each room. The notebooks
are copied from `colabs/` and executed. `ZSAR_DOCS_NOTEBOOKS=off` shows them as
they are, which takes no time.
"""

import os
import pathlib
import re
import shutil
import sys

_ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT))

project = 'zsar_jax'
author = 'The zsar_jax authors'
extensions = [
  'myst_nb',
  'sphinx.ext.apidoc',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
]
exclude_patterns = ['_build', 'jupyter_execute', 'api/modules.rst']
# `data.decode` passes on the error of `data.video_limits`.
suppress_warnings = ['ref.python']
html_theme = 'furo'
html_title = 'zsar_jax'
html_show_copyright = False
# A flag in a table is not broken after its dashes; wide tables scroll.
html_static_path = ['static']
html_css_files = ['tables.css']
# Names in docstrings stand in single backticks.
default_role = 'code'
myst_heading_anchors = 4
nb_execution_mode = os.environ.get('ZSAR_DOCS_NOTEBOOKS', 'force')
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
# A run that training leaves behind stays out of the documentation's folder, and
# is not gone on with at the next build. The config then needs its whole path;
# the caller may ask for a shorter run, as `configs/demo.py:smoke` is.
nb_execution_in_temp = True
os.environ.setdefault('ZSAR_CONFIG', str(_ROOT / 'configs/demo.py'))
# What a cell prints, line by line, is one block.
nb_merge_streams = True
# Downloads weights, which a build should not wait for.
nb_execution_excludepatterns = ['notebooks/name_real_actions.ipynb']

apidoc_modules = [
  {
    'path': str(_ROOT / 'zsar_jax'),
    'destination': 'api',
    'max_depth': 1,
    'module_first': True,
    'exclude_patterns': ['**/isolated_worker.py', '**/beam_staging.py'],
    'automodule_options': {'members', 'show-inheritance'},
  }
]
napoleon_use_ivar = True
autodoc_typehints = 'signature'
autodoc_member_order = 'bysource'
autodoc_inherit_docstrings = False
autodoc_mock_imports = ['apache_beam', 'gradio', 'starlette']


def _as_docutils_reads(app, what, name, obj, options, lines):
  """Turns the Markdown of docstrings into what docutils understands.

  Code between ```, indented code and tables become literal blocks. Asterisks
  and bars mean nothing else here.
  """
  del app, name, obj, options
  out, inside = [], ''
  for line in lines:
    indented = what == 'module' and line.startswith('  ')
    fence = re.fullmatch(r'\s*```\w*', line)
    table = line.lstrip().startswith('|')
    if inside == 'table' and not table:
      out, inside = [*out, ''], ''
    if inside == 'indented' and line and not indented:
      out, inside = [*out, ''], ''
    if indented and not inside and out and not out[-1]:
      out, inside = [*out, '::', '', f'  {line}'], 'indented'
    elif fence:
      out += ['', '::', ''] if inside != 'code' else ['']
      inside = '' if inside == 'code' else 'code'
    elif table and not inside:
      out, inside = [*out, '', '::', '', f'  {line}'], 'table'
    else:
      out.append(f'  {line}' if inside else re.sub(r'([*|])', r'\\\1', line))
  # A name in backticks is code, and may be the beginning of a word.
  text = re.sub(
    r'(?<![`:])`([^`]+)`(?![`_])(?=(\w?))',
    lambda m: f'``{m[1]}``' + ('\\ ' if m[2] else ''),
    '\n'.join(out),
  )
  lines[:] = text.split('\n')


def _link_notebooks(app, docname, source) -> None:
  """Links to the notebooks of the repository lead to the copies."""
  del app, docname
  source[0] = source[0].replace('](../colabs/', '](notebooks/')


def _copy_notebooks() -> None:
  folder = pathlib.Path(__file__).parent / 'notebooks'
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  for path in sorted((_ROOT / 'colabs').glob('*.ipynb')):
    shutil.copy(path, folder)


def setup(app) -> None:
  """Called by Sphinx."""
  _copy_notebooks()
  app.connect('source-read', _link_notebooks)
  app.connect('autodoc-process-docstring', _as_docutils_reads, priority=400)
