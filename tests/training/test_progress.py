import itertools

import pytest

from zsar_jax.training import progress as progress_lib


class Clock:
  """Shows the time that it was set to."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def slow(clock, seconds):
  """Batches that each take a while."""
  for number in itertools.count():
    clock.now += seconds
    yield number


def make(total=100):
  clock = Clock()
  return clock, progress_lib.Progress(0, total, clock)


def test_wait_is_a_mean_per_step_and_a_share_of_the_time():
  clock, progress = make()
  batches = slow(clock, 0.25)
  for number in range(4):
    assert progress.fetch(batches) == number
    clock.now += 0.75
  assert progress.measure(4) == {
    'steps_per_second': pytest.approx(1.0),
    'data_wait_ms': pytest.approx(250),
    'data_wait_share': pytest.approx(0.25),
    'step_ms': pytest.approx(1000),
    'clips_per_second': pytest.approx(1.0),
  }


def test_clips_and_utilisation_follow_from_the_time_of_a_step():
  clock = Clock()
  progress = progress_lib.Progress(
    0,
    10,
    clock,
    clips_per_step=32,
    utilisation_of=lambda seconds: 0.1 / seconds,
  )
  clock.now += 1.0
  metrics = progress.measure(5)
  assert metrics['step_ms'] == pytest.approx(200)
  assert metrics['clips_per_second'] == pytest.approx(160)
  assert metrics['mfu'] == pytest.approx(0.5)
  line = progress.line(5, {**metrics, 'loss': 1.0, 'train_top1': 0.5})
  assert '160 clips/s  MFU 50%  0:01 left' in line


def test_wait_behind_a_busy_device_costs_nothing():
  clock, progress = make()
  batches = slow(clock, 0.5)
  progress.fetch(batches, lambda: True)
  assert progress.measure(1)['data_wait_ms'] == 0
  progress.fetch(batches, lambda: False)
  assert progress.measure(2)['data_wait_ms'] == pytest.approx(500)


def test_device_is_asked_after_the_batch_is_there():
  clock, progress = make()
  done_at = 100.3
  progress.fetch(slow(clock, 0.5), lambda: clock.now < done_at)
  assert progress.measure(1)['data_wait_ms'] == pytest.approx(500)


def test_every_measure_starts_anew():
  clock, progress = make()
  progress.fetch(slow(clock, 2.0))
  progress.measure(1)
  clock.now += 1
  values = progress.measure(11)
  assert values['data_wait_ms'] == 0
  assert values['steps_per_second'] == pytest.approx(10)


def test_what_is_skipped_is_in_no_rate():
  clock, progress = make()
  clock.now += 10
  progress.skip(9)
  assert progress.measure(5)['steps_per_second'] == pytest.approx(5)


def test_line_names_the_wait_only_above_a_tenth():
  _, progress = make(total=170)
  metrics = {
    'loss': 1.25,
    'train_top1': 0.5,
    'steps_per_second': 2.0,
    'clips_per_second': 64.0,
    'data_wait_share': 0.1,
  }
  line = progress.line(20, metrics)
  assert line == (
    'step 20/170  loss 1.250  train top1 50%  2.0 steps/s  64 clips/s  '
    '1:15 left'
  )
  metrics['data_wait_share'] = 0.25
  assert progress.line(20, metrics) == f'{line}  25% waiting for data'
