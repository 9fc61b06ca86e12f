"""How fast training goes, and what it waits for."""

from collections.abc import Callable, Iterator
import time
from typing import Any

# Less waiting than this is not worth a word.
_SHOWN_SHARE = 0.1


class Progress:
  """Counts steps and waiting since the line before.

  What is not a step (validation, saving) is taken out by `skip`.
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
      utilisation_of: seconds of a step -> model FLOP utilisation; None where
        the device's peak is not known.
    """
    self._first, self._total, self._clock = start + 1, total, clock
    self._clips, self._utilisation_of = clips_per_step, utilisation_of
    self._from, self._since = start, clock()
    self._waited = 0.0

  def fetch(
    self, batches: Iterator[Any], busy: Callable[[], bool] = lambda: False
  ) -> Any:
    """Returns the next batch; counts the wait for it.

    Steps run behind the host's back, so that the host may wait for a batch
    while the device has enough to do: that wait costs nothing and does not
    count. One in which the device ran out of work counts whole.

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
    """Takes time that was not spent on steps out of the count."""
    self._since += seconds

  def measure(self, step: int) -> dict[str, float]:
    """Metrics of the steps since the last call; starts counting anew.

    Args:
      step: steps done.

    Returns:
      `steps_per_second`, `step_ms` and `clips_per_second`; `data_wait_ms`,
      waited for data, mean a step; `data_wait_share`, of the time, in [0, 1];
      and where it can be known `mfu`, model FLOP utilisation in [0, 1].
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
      Loss, rates and the time left. Also the utilisation where it is known,
      and the share of waiting for data where it is more than a tenth. Of the
      first step the loss alone: it is compilation, so its rate says nothing.
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
