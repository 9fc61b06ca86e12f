"""The notebooks run from the first cell to the last."""

import json
import os
import shutil

import nbformat
import pytest

from tests import test_distributed, tiny, videos

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


@pytest.mark.parametrize('name', sorted(os.listdir(tiny.ROOT / 'colabs')))
def test_notebooks_are_kept_without_outputs(name):
  with open(tiny.ROOT / 'colabs' / name) as f:
    notebook = nbformat.read(f, as_version=4)
  nbformat.validate(notebook)
  for cell in notebook.cells:
    assert not cell.get('outputs') and cell.get('execution_count') is None
