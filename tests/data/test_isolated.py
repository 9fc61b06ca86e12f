import concurrent.futures
import errno
import functools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests import processes
from zsar_jax.data import decode, isolated

PREFIX = 'zsar_jax.data.isolated_tasks:'


@pytest.fixture(scope='module', autouse=True)
def tasks_in_the_package(tmp_path_factory):
  """Lets children find the tasks, which must lie in zsar_jax.data."""
  folder = tmp_path_factory.mktemp('path')
  (folder / 'sitecustomize.py').write_text(
    'import sys\n'
    f'sys.path.insert(0, {os.getcwd()!r})\n'
    'class Finder:\n'
    '  @staticmethod\n'
    '  def find_spec(name, path=None, target=None):\n'
    "    if name == 'zsar_jax.data.isolated_tasks':\n"
    '      import importlib.util\n'
    '      return importlib.util.spec_from_file_location(\n'
    f'        name, {os.path.dirname(__file__)!r} + "/isolated_tasks.py")\n'
    'sys.meta_path.append(Finder)\n'
  )
  before = os.environ.get('PYTHONPATH')
  os.environ['PYTHONPATH'] = os.pathsep.join(
    filter(None, [str(folder), before])
  )
  yield
  if before is None:
    del os.environ['PYTHONPATH']
  else:
    os.environ['PYTHONPATH'] = before


@pytest.fixture
def pool():
  with isolated.Pool(1, memory_bytes=256 << 20) as pool:
    yield pool


def run(pool, task, deadline=20.0, **kwargs):
  return pool.run(PREFIX + task, kwargs, name='v.mp4', deadline=deadline)


def test_relative_paths_are_the_callers(pool, tmp_path, monkeypatch):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'note').write_text(name)
    monkeypatch.chdir(tmp_path / name)  # one child lives through both
    assert run(pool, 'read', path='note')[0] == {'text': name}
  (tmp_path / 'b/note').unlink()
  (tmp_path / 'b').rmdir()
  path = str(tmp_path / 'a/note')
  assert run(pool, 'read', path=path)[0] == {'text': 'a'}


def test_arguments_and_buffers_travel(pool):
  facts, buffers = run(pool, 'echo', a=1, b=[None, 'x'])
  assert facts['got'] == {'a': 1, 'b': [None, 'x']}
  assert bytes(buffers[0]) == b'abc' and bytes(buffers[2]) == b''
  assert np.frombuffer(buffers[1], np.int64).tolist() == [0, 1, 2, 3, 4, 5]
  # One child serves many tasks.
  assert run(pool, 'echo')[0]['pid'] == facts['pid'] != os.getpid()


def test_a_child_that_was_started_in_advance_gets_the_task(pool):
  pool.start()
  pool.start()
  (child,) = pool._children
  run(pool, 'echo')
  assert pool._children == {child}


def test_child_imports_nothing_heavy(pool):
  loaded = set(run(pool, 'modules')[0]['modules'])
  assert 'av' in loaded
  assert not loaded & {'jax', 'tensorflow', 'grain', 'tensorflow_datasets'}


@pytest.mark.parametrize(
  'task, kwargs, words',
  [
    ('abort', {}, r'v.mp4: crashed the decoder \(SIGABRT\)'),
    ('crash', {}, r'crashed the decoder \(SIGSEGV\)'),
    ('leave', {}, r'crashed the decoder \(exit 3\)'),
    ('take', {'num_bytes': 1 << 30}, 'more than 256 MiB'),
  ],
)
def test_what_becomes_of_the_child_becomes_an_error(pool, task, kwargs, words):
  with pytest.raises(decode.VideoError, match=words) as error:
    run(pool, task, **kwargs)
  assert error.value.transient and error.value.name == 'v.mp4'
  # The next task finds a child that lives.
  assert run(pool, 'echo')[1]


def test_deadline_kills(pool):
  child = run(pool, 'echo')[0]['pid']
  began = time.monotonic()
  with pytest.raises(
    decode.VideoError, match='took longer than 0.3 s'
  ) as error:
    run(pool, 'sleep', seconds=60, deadline=0.3)
  assert time.monotonic() - began < 5
  assert error.value.transient
  with pytest.raises(ProcessLookupError):
    os.kill(child, 0)
  assert run(pool, 'echo')[0]['pid'] != child


def test_errors_of_the_task(pool):
  with pytest.raises(decode.VideoError, match='a.mp4: is a test') as error:
    run(pool, 'refuse', name='a.mp4')
  assert not error.value.transient
  with pytest.raises(RuntimeError, match='KeyError: .a bug'):
    run(pool, 'stumble')
  with pytest.raises(RuntimeError, match='is not in zsar_jax.data'):
    pool.run('os:getcwd', {}, name='v', deadline=5.0)
  assert run(pool, 'echo')[1]


def test_a_full_disk_is_no_fault_of_the_video(pool):
  with pytest.raises(OSError) as error:
    run(pool, 'fill_disk', path='/tmp/x')
  assert error.value.errno == errno.ENOSPC
  assert error.value.filename == '/tmp/x'


def test_nonsense_for_an_answer(pool):
  with pytest.raises(decode.VideoError, match='answer is malformed'):
    run(pool, 'babble', num_bytes=10)
  assert run(pool, 'echo')[1]


def test_large_messages(pool):
  text = 'x' * 300_000
  assert run(pool, 'echo', a=text)[0]['got'] == {'a': text}


def test_a_child_outlives_the_thread_that_brought_its_first_task(pool):
  pids = []
  for _ in range(3):
    thread = threading.Thread(
      target=lambda: pids.append(run(pool, 'echo')[0]['pid'])
    )
    thread.start()
    thread.join()
    time.sleep(0.1)
  assert len(set(pids)) == 1


def test_threads_share_a_pool():
  with (
    isolated.Pool(2) as pool,
    concurrent.futures.ThreadPoolExecutor(6) as threads,
  ):
    pids = {
      f[0]['pid'] for f in threads.map(lambda _: run(pool, 'echo'), [0] * 12)
    }
  assert 1 <= len(pids) <= 2
  for pid in pids:
    with pytest.raises(ProcessLookupError):
      os.kill(pid, 0)


def test_who_asks_for_one_thing_at_a_time_keeps_one_child():
  with isolated.Pool(3) as pool:
    assert len({run(pool, 'echo')[0]['pid'] for _ in range(4)}) == 1


def test_results_come_in_order_and_few_wait():
  begun, taken = [], []

  def job(i):
    begun.append(i)
    time.sleep(0.01 * (i % 3))
    return i

  jobs = (functools.partial(job, i) for i in range(12))
  for i in isolated.read_ahead(jobs, workers=2, ahead=3):
    taken.append(i)
    assert len(begun) <= len(taken) + 3
  assert taken == list(range(12))


def test_a_job_that_fails_fails_in_its_turn_and_ends_the_others():
  begun = []

  def job(i):
    begun.append(i)
    if i == 1:
      raise ValueError('of 1')
    return i

  jobs = (functools.partial(job, i) for i in range(100))
  results = isolated.read_ahead(jobs, workers=2, ahead=4)
  assert next(results) == 0
  with pytest.raises(ValueError, match='of 1'):
    next(results)
  assert len(begun) < 10
  # One that is not read to its end lets go of what it has begun.
  stopped = isolated.read_ahead((lambda: 1 for _ in range(100)), 2, 4)
  next(stopped)
  stopped.close()


def test_closing_ends_tasks_at_work():
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    with isolated.Pool(1) as pool:
      run(pool, 'echo')
      future = thread.submit(run, pool, 'sleep', seconds=60)
      time.sleep(0.2)
    with pytest.raises(decode.VideoError):
      future.result(10)
  with pytest.raises(RuntimeError, match='closed'):
    run(pool, 'echo')


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='Linux only')
def test_no_child_survives_a_killed_parent():
  code = f"""
import threading, time
from zsar_jax.data import isolated
pool = isolated.Pool(1)
print(pool.run('{PREFIX}echo', {{}}, name='v', deadline=20.0)[0]['pid'],
      flush=True)
pool.run('{PREFIX}sleep', {{'seconds': 60}}, name='v', deadline=60.0)
"""
  with processes.start(
    [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True
  ) as parent:
    # Answered within its deadline of 20 s, or it ends and this is empty.
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)  # to it alone, not to its child
    parent.wait()
    for _ in range(400):
      try:
        with open(f'/proc/{child}/stat') as f:
          if f.read().rsplit(')', 1)[1].split()[0] == 'Z':
            return  # Dead, and waiting for init to notice.
      except FileNotFoundError:
        return
      time.sleep(0.05)
    raise AssertionError('the child lives on')


def test_a_pool_needs_a_worker():
  with pytest.raises(ValueError, match='num_workers=0'):
    isolated.Pool(0)
