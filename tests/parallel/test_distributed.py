"""Tests one run of several processes, on loopback."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from unittest import mock

import jax
import numpy as np
import pytest

from tests import processes, tiny
from zsar_jax import config_utils, main
from zsar_jax.inference import saved_encoders
from zsar_jax.parallel import distributed, sharding

ROOT = pathlib.Path(__file__).parents[2]


def free_port(among=range(20000, 30000)):
  """Returns a free port, reserved until it is used.

  Args:
    among: ports; the system gives none of them to who asks for any (its own
      start at 32768), and of two test workers each looks at a half.

  Returns:
    The port.
  """
  worker = os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw')
  mine = among[int(worker) % 2 :: 2]
  for port in random.sample(mine, len(mine)):
    with socket.socket() as s, contextlib.suppress(OSError):
      s.bind(('localhost', port))
      return port
  raise AssertionError('no port is free')


# What conftest sets for its own process alone.
FAKE_DEVICES = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '8'}


def environment(devices):
  return {**os.environ, **FAKE_DEVICES, 'JAX_NUM_CPU_DEVICES': str(devices)}


class Pair:
  """Two processes of four devices each that train in one workdir."""

  def __init__(self, workdir, *flags, only_second=()):
    self.workdir = workdir
    port = free_port()
    self.processes = []
    self._stack = contextlib.ExitStack()
    for i in range(2):
      command = [
        sys.executable,
        '-m',
        'zsar_jax.main',
        *tiny.flags(),
        f'--workdir={workdir}',
        f'--coordinator=localhost:{port}',
        '--num_processes=2',
        f'--process_id={i}',
        *flags,
        *(only_second if i else ()),
      ]
      with open(self._log(i), 'w') as log:
        self.processes.append(
          self._stack.enter_context(
            processes.start(
              command,
              stdout=log,
              stderr=subprocess.STDOUT,
              cwd=ROOT,
              env=environment(4),
            )
          )
        )

  def _log(self, i):
    return f'{self.workdir}.log{i}'

  def output(self, i):
    return pathlib.Path(self._log(i)).read_text()

  def wait(self, seconds=150):
    """Exit codes of both."""
    until = time.monotonic() + seconds
    try:
      return [
        p.wait(max(until - time.monotonic(), 0.1)) for p in self.processes
      ]
    except subprocess.TimeoutExpired:
      raise AssertionError(
        f'not over after {seconds} s: {self.output(0)}{self.output(1)}'
      ) from None

  def wait_for_step(self, step, seconds=120):
    path = pathlib.Path(self.workdir) / 'metrics.jsonl'
    until = time.monotonic() + seconds
    while time.monotonic() < until:
      if path.exists() and any(
        json.loads(line)['step'] >= step
        for line in path.read_text().splitlines()
      ):
        return
      assert all(p.poll() is None for p in self.processes), self.output(0)
      time.sleep(0.1)
    raise AssertionError(f'step {step} was not reached: {self.output(0)}')

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self._stack.close()


def params_of(workdir):
  recognizer = saved_encoders.load(str(workdir))
  return jax.tree.map(np.asarray, recognizer.params)


def metrics_of(workdir):
  lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture(scope='module')
def alone(tiny_run):
  """The run of one process with eight devices."""
  return tiny_run


def close(a, b):
  # Sums are taken in another order; six steps of Adam carry it on.
  def compare(path, x, y):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    # Softmax does not see a key's bias: its gradient is rounding, which Adam
    # makes as large as the learning rate.
    if not name.endswith('key/bias'):
      np.testing.assert_allclose(x, y, atol=2e-5, err_msg=name)

  jax.tree_util.tree_map_with_path(compare, a, b)


def same_losses(pair, alone, steps):
  """Compares what both runs say of these steps."""
  ours, theirs = (
    {m['step']: m for m in metrics_of(workdir) if 'loss' in m}
    for workdir in (pair.workdir, alone)
  )
  for step in steps:
    for name in ('loss', 'loss_match', 'gradient_norm', 'train_top1'):
      expected = pytest.approx(theirs[step][name], rel=2e-5)
      assert ours[step][name] == expected, (step, name)


def test_two_processes_are_as_good_as_one(alone, tmp_path):
  # They first agree on which checkpoint is whole: one alone looks.
  workdir = tmp_path / 'run'
  shutil.copytree(alone, workdir)
  for name in ('results.json', 'parameters.txt'):
    os.remove(workdir / name)
  manifest = workdir / 'checkpoints' / '6' / 'params' / 'manifest.ocdbt'
  manifest.write_bytes(b'')
  # As if the run had been started so: parameters lie on both. The test below
  # lets each have all of them.
  path = workdir / 'config.json'
  config = json.loads(path.read_text())
  config['mesh']['preset'] = 'fsdp'
  path.write_text(json.dumps(config))
  with Pair(workdir, '--config.mesh.preset=fsdp') as pair:
    assert pair.wait() == [0, 0], pair.output(0) + pair.output(1)
    said = pair.output(0)
    assert 'the checkpoint of step 6 is damaged' in said
    assert 'resuming from step 3' in said
    assert 'damaged' not in pair.output(1)
    # One speaks and writes.
    assert 'step 6/6' in said and 'step 6/6' not in pair.output(1)
  same_losses(pair, alone, [4, 6])
  close(params_of(pair.workdir), params_of(alone))
  rows = lambda w: json.loads((pathlib.Path(w) / 'results.json').read_text())
  both = zip(rows(pair.workdir)['rows'], rows(alone)['rows'], strict=True)
  for ours, theirs in both:
    assert (ours['method'], ours['metric']) == (
      theirs['method'],
      theirs['metric'],
    )
    assert ours['n_videos'] == theirs['n_videos']
  # What every device holds was asked for, and is less than all of it.
  table = (pair.workdir / 'parameters.txt').read_text()
  assert '1/8' in table


def test_a_notice_to_one_stops_both_and_one_alone_goes_on(alone, tmp_path):
  # Told before the last step; slowed down by logging every one.
  flags = '--config.train.log_every=1', '--config.data.train_only=True'
  with Pair(tmp_path / 'run', *flags) as pair:
    pair.wait_for_step(1)
    pair.processes[1].send_signal(signal.SIGTERM)
    assert pair.wait() == [75, 75], pair.output(0) + pair.output(1)
    assert 'the checkpoint is committed' in pair.output(0)
  same_losses(pair, alone, [1])
  main.main(['main', *tiny.flags(), *flags, f'--workdir={pair.workdir}'])
  close(params_of(pair.workdir), params_of(alone))


def test_a_dead_peer_ends_the_other_within_a_minute(tmp_path):
  flags = ('--heartbeat_seconds=10', '--config.train.num_steps=10000')
  with Pair(tmp_path / 'run', *flags) as pair:
    pair.wait_for_step(2)
    pair.processes[1].kill()
    died = time.monotonic()
    code, _ = pair.wait(60)
    assert code not in (0, None)
    assert time.monotonic() - died < 60
    said = pair.output(0)
    # JAX's message or ours. On CPUs the transport may notice first: its thread
    # ends the process before either is printed.
    words = 'another task died', 'one of them died', "'gloo::"
    assert any(w in said for w in words), said
    assert 'most recent call first' not in said


def test_a_process_with_another_config_is_refused(tmp_path):
  with Pair(
    tmp_path / 'run', only_second=('--config.optim.learning_rate=0.5',)
  ) as pair:
    codes = pair.wait()
    assert 0 not in codes
    assert 'optim.learning_rate: 0.001 -> 0.5' in pair.output(1)
    assert 'processes [1] are started with another config' in pair.output(0)
  assert not (tmp_path / 'run').exists()


_WHO = """
import os
from zsar_jax.parallel import distributed
if 'TPU_WORKER_ID' in os.environ:
  # What JAX sets where it finds TPUs.
  from jax._src.clusters import cloud_tpu_cluster
  cloud_tpu_cluster.running_in_cloud_tpu_vm = True
distributed.initialize()
import jax
from jax.experimental import multihost_utils
import numpy as np
ranks = multihost_utils.process_allgather(np.int32(jax.process_index()))
print(jax.process_index(), jax.process_count(), ranks.tolist())
"""


def slurm(rank, port):
  # The port that JAX takes follows from the job's number.
  return {
    'SLURM_JOB_ID': str(port - (65535 - 2**12 + 1)),
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_NTASKS': '2',
    'SLURM_PROCID': str(rank),
    'SLURM_LOCALID': str(rank),
  }


def open_mpi(rank, port):
  job = (port - (65535 - 2**12 + 1)) * 2**12
  return {
    'OMPI_MCA_orte_hnp_uri': f'{job}.0;tcp://127.0.0.1:1',
    'OMPI_COMM_WORLD_SIZE': '2',
    'OMPI_COMM_WORLD_RANK': str(rank),
    'OMPI_COMM_WORLD_LOCAL_RANK': str(rank),
  }


def gke(rank, port):
  # TPUs on Google's Kubernetes; the second group would be asked of a server.
  return {
    'TPU_WORKER_HOSTNAMES': 'localhost,localhost',
    'TPU_WORKER_ID': str(rank),
    'JAX_COORDINATOR_PORT': str(port),
    'TPU_SKIP_MDS_QUERY': '1',
    'MEGASCALE_COORDINATOR_ADDRESS': 'localhost',
    'MEGASCALE_NUM_SLICES': '1',
    'MEGASCALE_SLICE_ID': '0',
  }


@pytest.mark.parametrize('cluster', [slurm, open_mpi, gke])
def test_processes_find_each_other_in_a_cluster(cluster):
  port = free_port(range(65535 - 2**12 + 1, 65535))
  with contextlib.ExitStack() as stack:
    started = [
      stack.enter_context(
        processes.start(
          [sys.executable, '-c', _WHO],
          env={**environment(1), **cluster(rank, port)},
          cwd=ROOT,
          stdout=subprocess.PIPE,
          stderr=subprocess.STDOUT,
          text=True,
        )
      )
      for rank in range(2)
    ]
    for rank, process in enumerate(started):
      out, _ = process.communicate(timeout=processes.DEADLINE)
      assert f'{rank} 2 [0, 1]' in out, out


def test_flags_that_leave_questions_are_refused(tmp_path):
  flags = [*tiny.flags(), f'--workdir={tmp_path}/run', '--num_processes=2']
  done = processes.run(
    [sys.executable, '-m', 'zsar_jax.main', *flags],
    cwd=ROOT,
    env=environment(1),
  )
  assert done.returncode == 1
  assert 'give all of --coordinator, --num_processes and' in done.stderr


@pytest.mark.parametrize(
  'here, odd, words',
  [
    ({'code': 'b', 'x': 1}, [1], r"\(there -> here\):\n  code: 'a' -> 'b'"),
    ({'code': 'a', 'x': 1}, [1], r'processes \[1\] are started with another'),
    ({'code': 'a', 'x': 1}, [], ''),
  ],
)
def test_a_process_with_another_code_is_refused(monkeypatch, here, odd, words):
  # As if there were two processes, and `odd` found a difference.
  monkeypatch.setattr(distributed, 'several', lambda: True)
  main_facts = json.dumps({'code': 'a', 'x': 1})
  monkeypatch.setattr(distributed, '_from_main', lambda text: main_facts)
  monkeypatch.setattr(
    distributed.multihost_utils,
    'process_allgather',
    lambda count: np.isin(np.arange(2), odd).astype(np.int32),
  )
  check = lambda: distributed.check_alike(here, config_utils.differences)
  if not words:
    return check()
  with pytest.raises(ValueError, match=words):
    check()


def test_one_process_shares_with_nobody():
  assert not distributed.several() and distributed.is_main()
  assert distributed.share(3).tolist() == [True] * 3
  arrays = {'x': np.arange(3)}
  assert distributed.gather_shares(arrays, 3)['x'].tolist() == [0, 1, 2]
  mesh = sharding.make_mesh({'preset': 'dp'})
  assert distributed.local_mesh(mesh) is mesh
  assert not distributed.told_to_stop(3)
  sharding.check_processes(mesh)


def test_a_mesh_on_which_processes_would_share_rows_is_refused():
  mesh = sharding.make_mesh({'data': 1, 'fsdp': 1, 'tensor': 8})
  sharding.check_processes(mesh)  # one process may hold all rows
  with mock.patch.object(jax, 'process_count', lambda: 2):
    with pytest.raises(ValueError, match='keep the tensor axis within a host'):
      sharding.check_processes(mesh)


def test_the_code_has_a_version():
  version = distributed.code_version()
  assert version == distributed.code_version() and len(version) == 12
