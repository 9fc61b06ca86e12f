"""What a child of `isolated` answers, asked in this process."""

import errno
import io
import json
import sys
import types

import numpy as np
import pytest

from zsar_jax.data import decode, isolated_worker


class DecoderError(OSError):
  """As FFmpeg's errors, which are OSErrors of another module."""


def failing(error, monkeypatch):
  """The answer to a task that raises `error`."""

  def task():
    raise error

  name = 'zsar_jax.data.tasks_of_a_test'
  monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(task=task))
  return isolated_worker.run_task(f'{name}:task', {})


@pytest.mark.parametrize(
  'error, answer',
  [
    (
      decode.VideoError('v', 'ends', True),
      {'video_error': ['v', 'ends', True]},
    ),
    (MemoryError(), {'out_of_memory': True}),
    (OSError(errno.ENOMEM, 'no memory'), {'out_of_memory': True}),
    (DecoderError(errno.ENOMEM, 'no memory'), {'out_of_memory': True}),
    (
      PermissionError(errno.EACCES, 'denied', '/x'),
      {'os_error': [errno.EACCES, 'denied', '/x']},
    ),
  ],
)
def test_errors_that_a_user_can_mend_keep_their_kind(
  error, answer, monkeypatch
):
  assert failing(error, monkeypatch) == (answer, [])
  assert json.loads(json.dumps(answer)) == answer


@pytest.mark.parametrize(
  'error',
  [
    # Not the system's: `OSError` of this number would blame a file.
    DecoderError(errno.EINVAL, 'invalid data'),
    OSError('without a number'),
    KeyError('a bug'),
  ],
)
def test_other_errors_bring_their_trace(error, monkeypatch):
  answer, buffers = failing(error, monkeypatch)
  assert set(answer) == {'error'} and not buffers
  assert answer['error'].startswith('Traceback')
  assert type(error).__name__ in answer['error']


@pytest.mark.parametrize(
  'task', ['os:getcwd', 'zsar_jax.database:x', 'zsar_jax.data.decode:nothing']
)
def test_only_functions_of_the_package_are_called(task):
  answer, _ = isolated_worker.run_task(task, {})
  assert set(answer) == {'error'}


def test_a_message_is_a_line_and_the_bytes_of_its_buffers():
  file = io.BytesIO()
  array = np.arange(6, dtype=np.int16).reshape(2, 3)
  isolated_worker.write_message(file, {'facts': {'a': '\n'}}, [b'xy', array])
  # A line break in a text must not end the line.
  line, _, content = file.getvalue().partition(b'\n')
  assert json.loads(line) == {'facts': {'a': '\n'}, 'sizes': [2, 12]}
  assert content == b'xy' + array.tobytes()
