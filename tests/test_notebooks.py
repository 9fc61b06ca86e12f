"""The notebooks run from the first cell to the last."""

import json
import os
import shutil
import sys

import nbformat
import pytest

from tests import processes, tiny, videos
from tests.inference import test_public_encoders
from tests.parallel import test_distributed
from tests.pretrained import tiny_weights

nbclient = pytest.importorskip('nbclient')


def execute(name, folder, **environment):
  """Runs a notebook in a kernel of its own; returns its outputs."""
  with open(tiny.ROOT / 'colabs' / name) as f:
    notebook = nbformat.read(f, as_version=4)
  client = nbclient.NotebookClient(
    notebook,
    timeout=120,  # seconds of a cell
    startup_timeout=120,
    kernel_name='python3',
    resources={'metadata': {'path': str(folder)}},
  )
  old = {key: os.environ.get(key) for key in environment}
  os.environ.update(environment)
  try:
    client.execute()
  finally:
    for key, value in old.items():
      if value is None:
        del os.environ[key]
      else:
        os.environ[key] = value
  return [out for cell in notebook.cells for out in cell.get('outputs', ())]


def test_the_demo_names_actions_on_ones_own_video(tiny_run, tmp_path):
  workdir = str(shutil.copytree(tiny_run, tmp_path / 'tiny'))
  own = videos.write_video(tmp_path / 'own.mp4', videos.numbered_frames(20))
  outputs = execute(
    'zero_shot_demo.ipynb',
    tmp_path,
    ZSAR_WORKDIR=workdir,
    ZSAR_VIDEO=str(own),
    JAX_PLATFORMS='cpu',
    MPLBACKEND='module://matplotlib_inline.backend_inline',
    PYTHONPATH=str(tiny.ROOT),
  )
  pictures = [o for o in outputs if 'image/png' in o.get('data', {})]
  text = ''.join(o.get('text', '') for o in outputs)
  # Frames and ranking of two videos, and the segments.
  assert len(pictures) == 5
  assert any('<svg' in o.get('data', {}).get('text/html', '') for o in outputs)
  assert '6 seen classes:' in text and '  <-  ' in text
  assert 'trained on rendered stick figures alone' in text


def test_public_weights_name_ones_own_classes(tmp_path):
  own = videos.write_video(tmp_path / 'own.mp4', videos.numbered_frames(20))
  outputs = execute(
    'name_real_actions.ipynb',
    tmp_path,
    ZSAR_VIDEO_WEIGHTS=test_public_encoders.write_classifier(tmp_path / 'v'),
    ZSAR_TEXT_WEIGHTS=tiny_weights.write_bert(tmp_path / 'text'),
    ZSAR_BANK=str(tmp_path / 'bank'),
    ZSAR_VIDEO=str(own),
    JAX_PLATFORMS='cpu',
    MPLBACKEND='module://matplotlib_inline.backend_inline',
    PYTHONPATH=str(tiny.ROOT),
  )
  text = ''.join(o.get('text', '') for o in outputs)
  assert '5 classes are known: row, arm row' in text
  assert 'throwing a ball into a hoop  <-  ' in text
  assert sum('image/png' in o.get('data', {}) for o in outputs) == 2


def test_training_on_a_mesh_of_eight(tmp_path):
  workdir = tmp_path / 'run'
  outputs = execute(
    'train_on_tpu.ipynb',
    tiny.ROOT,
    ZSAR_CONFIG=f'{tiny.ROOT / "configs/demo.py"}:smoke',
    ZSAR_CHANGES=json.dumps(tiny.OVERRIDES),
    ZSAR_WORKDIR=str(workdir),
    MPLBACKEND='module://matplotlib_inline.backend_inline',
    PYTHONPATH=str(tiny.ROOT),
    **test_distributed.FAKE_DEVICES,
  )
  text = ''.join(o.get('text', '') for o in outputs)
  assert '8 x cpu' in text and "{'data': 1, 'fsdp': 8, 'tensor': 1}" in text
  # Stacked blocks, split over all devices.
  line = next(
    line for line in text.splitlines() if 'blocks/attention/out/kernel' in line
  )
  assert line.endswith('1/8')
  assert 'step 6/6' in text and 'transfer: ' in text
  assert sum('image/png' in o.get('data', {}) for o in outputs) == 1
  assert (workdir / 'results.json').exists()


NOTEBOOKS = sorted(os.listdir(tiny.ROOT / 'colabs'))


def first_code(name):
  with open(tiny.ROOT / 'colabs' / name) as f:
    notebook = nbformat.read(f, as_version=4)
  return next(c.source for c in notebook.cells if c.cell_type == 'code')


# What a machine is like where none of it is installed, and what pip is asked.
_BARE = """
import importlib.util, json, shutil, subprocess, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == 'grain' else real(name)
run = subprocess.run
def without_pip(argv, **kwargs):
  if 'pip' in argv:
    print(json.dumps(argv[1:]))
  else:
    run(argv, **kwargs)
subprocess.run = without_pip
shutil.which = lambda program: None
"""


def run_bare(code, folder):
  """Runs the first cell's code in a folder; returns what it did."""
  end = 'import os, zsar_jax\nprint(os.getcwd())\nprint(zsar_jax.__file__)'
  return processes.run(
    [sys.executable, '-P', '-c', f'{_BARE}\n{code}\n{end}'], cwd=folder
  )


def test_the_notebooks_install_in_the_same_way():
  assert len({first_code(name) for name in NOTEBOOKS}) == 1


def test_without_a_checkout_one_is_cloned_and_installed(tmp_path):
  clone = processes.run(
    ['git', 'clone', '-q', '--depth=1', f'file://{tiny.ROOT}', 'origin'],
    cwd=tmp_path,
  )
  assert clone.returncode == 0, clone.stderr
  code = first_code(NOTEBOOKS[0]).replace(
    "REPOSITORY = ''", f'REPOSITORY = {str(tmp_path / "origin")!r}'
  )
  here = tmp_path / 'content'
  here.mkdir()
  for _ in range(2):  # the second time after a restart: nothing is cloned
    done = run_bare(code, here)
    assert done.returncode == 0, done.stderr
    pip, folder, module = done.stdout.splitlines()
    assert json.loads(pip) == ['-m', 'pip', 'install', '-q', '-e', '.']
    assert folder == str(here / 'zsar_jax_checkout')
    assert module == str(here / 'zsar_jax_checkout/zsar_jax/__init__.py')


def test_without_a_checkout_or_an_address_it_says_so(tmp_path):
  done = run_bare(first_code(NOTEBOOKS[0]), tmp_path)
  assert done.returncode != 0
  assert 'set REPOSITORY above to its address' in done.stderr


def test_in_a_checkout_nothing_is_cloned(tmp_path):
  done = run_bare(first_code(NOTEBOOKS[0]), tiny.ROOT / 'colabs')
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[1] == str(tiny.ROOT)


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebooks_are_kept_without_outputs(name):
  with open(tiny.ROOT / 'colabs' / name) as f:
    notebook = nbformat.read(f, as_version=4)
  nbformat.validate(notebook)
  for cell in notebook.cells:
    assert not cell.get('outputs') and cell.get('execution_count') is None
