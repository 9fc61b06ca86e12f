"""Measures how fast training is, and how long it waits for data."""

from collections.abc import Callable, Iterator
import time
from typing import Any

# A smaller share of waiting is not printed.
_SHOWN_SHARE = 0.1


class Progress:
  """Counts steps and waiting since the last line.

  `skip` removes time that is not spent on steps (validation, saving).
  """

  def __init__(
    self,
    start: int,
    total: int,
    clock: Callable[[], float] = time.monotonic,
    *,
    clips_per_step: int = 1,
    utilisation_of: Callable[[float], float] | None = None,
  ):
    """Starts counting.

    Args:
      start: steps done.
      total: steps to do.
      clock: seconds.
      clips_per_step: of the whole batch.
      utilisation_of: seconds of a step -> model FLOP utilisation; None if the
        device's peak is unknown.
    """
    self._first, self._total, self._clock = start + 1, total, clock
    self._clips, self._utilisation_of = clips_per_step, utilisation_of
    self._from, self._since = start, clock()
    self._waited = 0.0

  def fetch(
    self, batches: Iterator[Any], busy: Callable[[], bool] = lambda: False
  ) -> Any:
    """Returns the next batch; counts the wait for it.

    The device runs steps while the host waits for a batch. If the device has
    work during the whole wait, the wait costs nothing and does not count. If
    the device runs out of work, the whole wait counts.

    Args:
      batches: from the loader.
      busy: whether the device still works on a step.

    Returns:
      The batch.
    """
    began = self._clock()
    batch = next(batches)
    if not busy():
      self._waited += self._clock() - began
    return batch

  def skip(self, seconds: float) -> None:
    """Removes time that was not spent on steps from the count."""
    self._since += seconds

  def measure(self, step: int) -> dict[str, float]:
    """Returns metrics of the steps since the last call; then counts anew.

    Args:
      step: steps done.

    Returns:
      `steps_per_second`, `step_ms` and `clips_per_second`. `data_wait_ms`, the
      mean wait for data per step, and `data_wait_share`, its share of the time
      in [0, 1]. And, if known, `mfu`, model FLOP utilisation in [0, 1].
    """
    now = self._clock()
    seconds, steps = max(now - self._since, 1e-9), step - self._from
    waited = self._waited
    self._from, self._since, self._waited = step, now, 0.0
    step_seconds = seconds / max(steps, 1)
    known = {}
    if self._utilisation_of:
      known['mfu'] = self._utilisation_of(step_seconds)
    return {
      **known,
      'steps_per_second': steps / seconds,
      'step_ms': 1000 * step_seconds,
      'clips_per_second': self._clips * steps / seconds,
      'data_wait_ms': 1000 * waited / max(steps, 1),
      'data_wait_share': min(waited / seconds, 1.0),
    }

  def line(self, step: int, metrics: dict[str, float]) -> str:
    """Returns the line that shows a step.

    Args:
      step: steps done.
      metrics: `loss`, `train_top1`, and those of `measure`.

    Returns:
      Loss, rates and the time left. Also the utilisation if it is known, and
      the share of waiting for data if it is over a tenth. The first step shows
      only the loss: it compiles, so its rate has no meaning.
    """
    done = f'step {step}/{self._total}  loss {metrics["loss"]:.3f}  '
    if step == self._first:
      return f'{done}(compiled)'
    rate = metrics['steps_per_second']
    left = int((self._total - step) / max(rate, 1e-9))
    share = metrics['data_wait_share']
    waited = f'  {share:.0%} waiting for data' if share > _SHOWN_SHARE else ''
    mfu = f'  MFU {metrics["mfu"]:.0%}' if 'mfu' in metrics else ''
    return (
      f'{done}train top1 {100 * metrics["train_top1"]:.0f}%  '
      f'{rate:.1f} steps/s  {metrics["clips_per_second"]:.0f} clips/s{mfu}  '
      f'{left // 60}:{left % 60:02d} left{waited}'
    )
