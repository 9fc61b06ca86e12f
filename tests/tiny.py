"""The smallest config that is still the real thing."""

import atexit
import importlib.util
import pathlib
import shutil
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
# Rendered once for all tests of a process.
DATA_DIR = tempfile.mkdtemp(prefix='zsar_jax_tests_')
atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)


def load_config(path, *arg):
  spec = importlib.util.spec_from_file_location('config', ROOT / path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*arg)


# As main's flags, so that a command line makes the same run.
OVERRIDES = {
  'data.data_dir': DATA_DIR,
  'data.stick_figures.num_seen': 6,
  'data.stick_figures.clips_per_class': 4,
  'data.stick_figures.test_clips_per_class': 2,
  'preprocessing.size': 32,
  'preprocessing.short_side': 32,
  'preprocessing.num_frames': 4,
  'model.video.tubelet_size': (2, 8, 8),
  'model.video.depth': 1,
  'model.video.width': 32,
  'model.video.mlp_dim': 64,
  'model.text.width': 32,
  'model.text.mlp_dim': 64,
  'model.fusion.width': 32,
  'model.fusion.mlp_dim': 64,
  'model.embedding_dim': 32,
  'train.batch_size': 8,
  'train.num_steps': 6,
  'train.log_every': 2,
  'train.validate_every': 3,
  'train.checkpoint_every': 3,
  'train.tensorboard': False,
  'zeroshot.batch_size': 8,
  'optim.warmup_steps': 2,
}


def config(**changes):
  """The tiny config; changes are dotted keys with '__' for the dots."""
  c = load_config('configs/demo.py', 'smoke')
  for key, value in OVERRIDES.items():
    c.update_from_flattened_dict({key: value})
  for key, value in changes.items():
    c.update_from_flattened_dict({key.replace('__', '.'): value})
  return c


def flags():
  """The tiny config as flags of `zsar_jax.main`."""
  config_file = f'--config={ROOT / "configs/demo.py"}:smoke'
  return [config_file, *(f'--config.{k}={v}' for k, v in OVERRIDES.items())]
