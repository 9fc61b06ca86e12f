import glob
import importlib.metadata
import os
import pathlib
import shutil

_FLAGS = [
  os.environ.get('XLA_FLAGS', ''),
  # Eight fake devices share a few threads. XLA's CPU scheduler may start
  # independent collectives in different orders on them, which deadlocks.
  '--xla_cpu_enable_concurrency_optimized_scheduler=false',
]
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  # Compiling takes less than half as long. Later versions do not have this flag
  # and refuse unknown ones.
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ['XLA_FLAGS'] = ' '.join(_FLAGS)
# Read when TensorFlow is first imported.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Commands that tests start must not use the user's cache folder.
os.environ['ZSAR_COMPILATION_CACHE'] = 'off'

_ROOT = pathlib.Path(__file__).parents[1]

# Compiling takes most of the time. All tests, workers and child processes share
# a cache of compiled programs; without optimisations compiling takes half as
# long. These are environment variables, so that child processes inherit them
# and a caller can override them.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_ROOT / '.jax_cache'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')

from absl import flags  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# Eight devices, so that shardings are real; set before the first array.
# ZSAR_TEST_GPU keeps the GPU, for `-m gpu`.
if not os.environ.get('ZSAR_TEST_GPU'):
  jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)

# Grain does not work until absl's flags are parsed.
flags.FLAGS.mark_as_parsed()


class _FailuresAtOnce:
  """Prints each failure at once, in case a later test hangs."""

  def __init__(self, config):
    self._config = config

  @pytest.hookimpl(trylast=True)
  def pytest_runtest_logreport(self, report):
    terminal = self._config.pluginmanager.get_plugin('terminalreporter')
    if report.failed and terminal is not None:
      terminal.ensure_newline()
      terminal.section(
        f'{report.when} of {report.nodeid} failed', sep='-', red=True
      )
      report.toterminal(terminal._tw)
      terminal.flush()


# The slowest files, which start first so that no worker is left with one.
_FIRST = (
  'test_distributed',
  'test_train',
  'test_train_step',
  'test_step_meshes',
  'test_command_lines',
  'test_collectives',
  'test_predict_command',
  'test_evaluate_command',
  'test_initialisation',
  'test_step_benchmarks',
  'test_survival',
  'test_grid',
  'test_notebooks',
  'test_exported_model',
  'test_pixel_ops',
  'test_model_files',
  'test_packed_videos',
)


def pytest_collection_modifyitems(items):
  rank = {name: i for i, name in enumerate(_FIRST)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_configure(config):
  # Otherwise xdist starts with files of many tests, which are quick ones.
  if hasattr(config.option, 'loadscopereorder'):
    config.option.loadscopereorder = False
  # The workers of xdist report to the process that started them.
  if not hasattr(config, 'workerinput'):
    config.pluginmanager.register(_FailuresAtOnce(config))


def pytest_runtest_setup(item):
  if item.get_closest_marker('gpu') and jax.default_backend() != 'gpu':
    pytest.skip('JAX sees no GPU, or ZSAR_TEST_GPU is not set')
  if item.get_closest_marker('network') and not os.environ.get(
    'ZSAR_TEST_NETWORK'
  ):
    pytest.skip('ZSAR_TEST_NETWORK is not set')


def _policy():
  """Returns the scheduling of this thread; None if the system lacks it."""
  get = getattr(os, 'sched_getscheduler', None)
  return get and get(0)


_AT_START = _policy()


@pytest.fixture(autouse=True)
def nothing_takes_the_machine_for_itself():
  """Fails a test that leaves this process with real-time priority."""
  yield
  policy = _policy()
  if policy != _AT_START:
    os.sched_setscheduler(0, _AT_START, os.sched_param(0))
    pytest.fail(f'scheduled by policy {policy}, and {_AT_START} at the start')


@pytest.fixture(scope='module', autouse=True)
def compiled_programs_are_let_go():
  """Frees compiled programs, since one process may run all tests."""
  yield
  jax.clear_caches()


@pytest.fixture(scope='session')
def tiny_run(tmp_path_factory):
  """Workdir of a run of `tests.tiny`, once per worker; copy it to change it."""
  from tests import tiny
  from zsar_jax import main

  workdir = tmp_path_factory.mktemp('tiny') / 'run'
  main.main(['main', *tiny.flags(), f'--workdir={workdir}'])
  return workdir


@pytest.fixture(scope='module')
def workdir(tiny_run, tmp_path_factory):
  """A copy of `tiny_run` for the tests of a file."""
  path = tmp_path_factory.mktemp('runs') / 'tiny'
  return str(shutil.copytree(tiny_run, path))


@pytest.fixture(scope='module')
def examples(workdir):
  """Its example videos, in order."""
  return sorted(glob.glob(f'{workdir}/examples/*.mp4'))


@pytest.fixture(scope='session')
def averaged(tmp_path_factory):
  """Workdir of a tiny run with an average of its weights: copy to change it."""
  from tests import tiny
  from zsar_jax import main

  workdir = str(tmp_path_factory.mktemp('averaged') / 'run')
  flags = *tiny.flags(), '--config.optim.ema_decay=0.5'
  main.main(['main', *flags, f'--workdir={workdir}'])
  return workdir


@pytest.fixture(scope='session')
def test_data():
  """Folder of real videos, which are not in the repository."""
  path = os.environ.get('ZSAR_TEST_DATA')
  if not path:
    pytest.skip('ZSAR_TEST_DATA does not name a folder of real videos')
  return pathlib.Path(path)
