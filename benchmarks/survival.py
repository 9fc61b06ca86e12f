"""Kills and resumes a training run; it must end like an undisturbed one.

```
python -m benchmarks.survival --kills=20
```

A short run on stick figures is killed at random moments, half of the times by
SIGKILL and half by SIGTERM. It is started again each time, until it finishes.
Another run of the same config is left alone. Parameters, optimiser state, step
and results.json of both must be equal bit by bit. After every kill, no process
of the run and no new file in /dev/shm may remain.

Then a run fails in two other ways: its disk is full (a small tmpfs; needs
root), or its dataset vanishes. Each time it must end within a minute, with a
message.

The moments are drawn uniformly over the duration of the undisturbed run, with
start and evaluation. After SIGTERM the run must save (exit code 75) whenever
there is something to save.
"""

import argparse
from collections.abc import Sequence
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

_FLAGS = {
  'data.stick_figures.clips_per_class': 4,
  'data.stick_figures.test_clips_per_class': 2,
  'train.num_steps': 60,
  'train.checkpoint_every': 5,
  'train.validate_every': 20,
  'train.log_every': 5,
  'train.tensorboard': False,
  'optim.warmup_steps': 5,
  'optim.ema_decay': 0.9,
}
_AGAIN = 75


def command(workdir: str, data_dir: str, **changes) -> list[str]:
  """Returns the command line of the run."""
  values = {**_FLAGS, 'data.data_dir': data_dir, **changes}
  return [
    sys.executable,
    '-m',
    'zsar_jax.main',
    '--config=configs/demo.py:smoke',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in values.items()),
  ]


def start(argv: Sequence[str], log) -> subprocess.Popen:
  """Starts a run in a new session, by which its children can be found."""
  return subprocess.Popen(
    argv,
    stdout=log,
    stderr=subprocess.STDOUT,
    start_new_session=True,
    env={
      **os.environ,
      'JAX_COMPILATION_CACHE_DIR': os.path.join(
        tempfile.gettempdir(), 'survival_cache'
      ),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5',
    },
  )


def of_session(leader: int) -> list[int]:
  """Returns the ids of the running processes of a session."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = path.read_text().rpartition(')')[2].split()
    except OSError:  # it ended meanwhile
      continue
    # State, parent, group, session.
    if int(fields[3]) == leader and fields[0] != 'Z':
      found.append(int(path.parent.name))
  return found


def shared_memory() -> set[str]:
  """Returns the names in /dev/shm."""
  return set(os.listdir('/dev/shm'))


def state_of(workdir: str) -> dict[str, object]:
  """Returns every array of the newest checkpoint, by path."""
  import jax
  import numpy as np
  import orbax.checkpoint as ocp

  with ocp.CheckpointManager(os.path.join(workdir, 'checkpoints')) as manager:
    step = manager.latest_step()
    folder = pathlib.Path(workdir) / 'checkpoints' / str(step)
    arrays = {'step': np.asarray(step)}
    for item in ('params', 'ema', 'training'):
      tree = ocp.StandardCheckpointer().restore(folder / item)
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
  return arrays


def results_of(workdir: str) -> dict:
  """Returns results.json without the commit; it has no time stamps."""
  with open(os.path.join(workdir, 'results.json')) as f:
    return {**json.load(f), 'commit': None}


def differences(a: str, b: str) -> list[str]:
  """Lists the differences between two finished runs."""
  import numpy as np

  left, right = state_of(a), state_of(b)
  found = sorted(set(left) ^ set(right))
  found += [
    name
    for name in sorted(set(left) & set(right))
    if not np.array_equal(left[name], right[name])
  ]
  ours, theirs = results_of(a), results_of(b)
  found += [
    f'results.json: {key}'
    for key in sorted(set(ours) | set(theirs))
    if ours.get(key) != theirs.get(key)
  ]
  return found


def kill_and_resume(root: str, data_dir: str, kills: int, seed: int) -> int:
  """Kills and resumes a run; prints each kill, returns the number of errors."""
  rng = random.Random(seed)
  wrong = 0
  calm, stormy = os.path.join(root, 'calm'), os.path.join(root, 'stormy')
  with open(os.path.join(root, 'calm.log'), 'w') as log:
    for attempt in ('to render and compile', 'to be timed'):
      shutil.rmtree(calm, ignore_errors=True)
      began = time.monotonic()
      code = start(command(calm, data_dir), log).wait()
      seconds = time.monotonic() - began
      print(f'undisturbed, {attempt}: exit {code}, {seconds:.1f} s', flush=True)
  before = shared_memory()
  log = open(os.path.join(root, 'stormy.log'), 'w')
  number = 0
  while number < kills:
    if os.path.exists(os.path.join(stormy, 'results.json')):
      # The run has finished before all kills: start another one.
      wrong += report(calm, stormy)
      shutil.rmtree(stormy)
    how = (signal.SIGKILL, signal.SIGTERM)[number % 2]
    process = start(command(stormy, data_dir), log)
    wait = rng.uniform(0.2, seconds)
    try:
      code = process.wait(wait)
      wrong += code != 0
      continue  # it had finished before: no kill
    except subprocess.TimeoutExpired:
      process.send_signal(how)
      asked = time.monotonic()
      code = process.wait(60)
      moment = f'at {wait:4.1f} s, gone in {time.monotonic() - asked:.1f} s'
    time.sleep(0.2)
    left, memory = of_session(process.pid), shared_memory() - before
    fine = not left and not memory
    # Before Python has set its handler, SIGTERM kills the process.
    allowed = {0, -signal.SIGKILL}
    if how == signal.SIGTERM:
      allowed = {0, _AGAIN, -signal.SIGTERM}
    fine &= code in allowed
    wrong += not fine
    number += 1
    print(
      f'{number:2} {how.name} {moment}: exit {code}, left processes '
      f'{left}, shared memory {sorted(memory)}{"" if fine else "  WRONG"}',
      flush=True,
    )
  code = start(command(stormy, data_dir), log).wait()
  log.close()
  print(f'left alone at last: exit {code}')
  return wrong + (code != 0) + report(calm, stormy)


def report(calm: str, stormy: str) -> int:
  """Prints and counts the differences from the undisturbed run."""
  found = differences(calm, stormy)
  print(
    'equal to the undisturbed run, bit by bit'
    if not found
    else f'DIFFERENT from the undisturbed run: {found[:5]}',
    flush=True,
  )
  return len(found)


def dies_well(name: str, argv, log_path: str, disturb, least: str) -> int:
  """Disturbs a run; returns 1 unless it ends soon and with a message.

  Args:
    name: name of the disturbance.
    argv: the command line.
    log_path: file for its output.
    disturb: called when the first checkpoint exists.
    least: text that the message must contain, in lower case.
  """
  with open(log_path, 'w') as log:
    process = start(argv, log)
    while 'step 5/' not in pathlib.Path(log_path).read_text():
      if process.poll() is not None:
        break
      time.sleep(0.1)
    disturb()
    began = time.monotonic()
    try:
      code = process.wait(60)
    except subprocess.TimeoutExpired:
      process.kill()
      code = 'HANG'
  seconds = time.monotonic() - began
  lines = pathlib.Path(log_path).read_text().strip().splitlines()
  said = [line for line in lines if line.startswith('error:')]
  last = (said or lines)[-1]
  fine = code not in (0, 'HANG') and bool(said) and least in last.lower()
  print(f'{name}: exit {code} after {seconds:.1f} s{"" if fine else "  WRONG"}')
  print(f'  {last[:300]}', flush=True)
  return not fine


def full_disk(root: str, data_dir: str) -> int:
  """Trains on a small file system; skipped if none can be mounted."""
  mount = os.path.join(root, 'small')
  os.makedirs(mount)
  done = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', mount],
    capture_output=True,
  )
  if done.returncode:
    print('full disk: not tried, since mounting a small disk needs root')
    return 0
  try:
    argv = command(
      os.path.join(mount, 'run'),
      data_dir,
      **{'train.keep_checkpoints': 100, 'train.num_steps': 10000},
    )
    return dies_well(
      'full disk', argv, os.path.join(root, 'disk.log'), lambda: None, 'space'
    )
  finally:
    subprocess.run(['umount', '-l', mount], check=False)


def vanished_dataset(root: str, data_dir: str) -> int:
  """Removes the records during training."""
  copy = os.path.join(root, 'data_copy')
  shutil.copytree(data_dir, copy)
  argv = command(
    os.path.join(root, 'robbed'),
    copy,
    **{'data.cache_mb': 0, 'train.num_steps': 10000},
  )

  def rob():
    for path in pathlib.Path(copy).rglob('*.array_record*'):
      os.truncate(path, 0)
    shutil.rmtree(copy)

  return dies_well(
    'vanished dataset', argv, os.path.join(root, 'robbed.log'), rob, 'read'
  )


def main() -> int:
  """Runs everything; returns the number of errors."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--keep', default='', help='folder to keep all files in')
  args = parser.parse_args()
  root = args.keep or tempfile.mkdtemp(prefix='survival_')
  os.makedirs(root, exist_ok=True)
  data_dir = os.path.join(root, 'data')
  wrong = kill_and_resume(root, data_dir, args.kills, args.seed)
  wrong += full_disk(root, data_dir)
  wrong += vanished_dataset(root, data_dir)
  print(f'{wrong} errors')
  if not args.keep:
    shutil.rmtree(root, ignore_errors=True)
  return wrong


if __name__ == '__main__':
  sys.exit(bool(main()))
