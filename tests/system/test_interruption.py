import os
import signal
import threading

import pytest

from zsar_jax import cli
from zsar_jax.system import interruption


def terminate():
  os.kill(os.getpid(), signal.SIGTERM)


def test_outside_the_steps_it_ends_at_once():
  with (
    interruption.on_termination(),
    pytest.raises(interruption.Interrupted, match='told to stop'),
  ):
    terminate()


def test_between_steps_it_is_noted():
  with interruption.on_termination() as stop:
    with pytest.raises(interruption.Interrupted), stop.deferred():
      assert not stop
      terminate()
      assert stop  # and the loop may save first


def test_the_handler_of_before_comes_back():
  before = signal.getsignal(signal.SIGTERM)
  with interruption.on_termination():
    assert signal.getsignal(signal.SIGTERM) != before
  assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_go_without(capsys):
  found = []

  def work():
    with interruption.on_termination() as stop:
      found.append(bool(stop))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found == [False]


def test_the_exit_code_asks_to_be_started_again(capsys):
  def main(argv):
    with interruption.on_termination():
      terminate()

  assert cli.exit_code(main, ['main']) == interruption.EXIT_CODE == 75
  assert 'stopped: told to stop' in capsys.readouterr().err
