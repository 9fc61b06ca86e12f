"""Writes training metrics: always metrics.jsonl, and TensorBoard on request."""

from collections.abc import Iterator, Mapping
import contextlib
import importlib.util
import json
import os

from absl import logging


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
  """Discards what native code writes to stderr; exceptions still pass."""
  saved = os.dup(2)
  with open(os.devnull, 'w') as nowhere:
    os.dup2(nowhere.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(saved, 2)
      os.close(saved)


def _import_clu_writers():
  """Imports clu's writers, and with them TensorFlow, without side effects.

  TensorFlow prints a page of warnings about GPUs that no log level can switch
  off. It also takes all GPU memory at first use, so it must not see the GPUs.
  """
  with _silent_stderr():
    from clu import metric_writers
    import tensorflow as tf

    tf.config.set_visible_devices([], 'GPU')
  return metric_writers


class MetricWriter:
  """Writes scalars as JSON lines and, through clu, as TensorBoard events."""

  def __init__(self, workdir: str, tensorboard: bool, enabled: bool = True):
    """Opens the files.

    Args:
      workdir: folder of the files.
      tensorboard: write TensorBoard events too. If TensorFlow is missing, a
        warning says so.
      enabled: False writes nothing; of several processes only one writes.
    """
    path = os.path.join(workdir, 'metrics.jsonl') if enabled else os.devnull
    self._file = open(path, 'a')  # noqa: SIM115
    self._clu = None
    if not (tensorboard and enabled):
      return
    if importlib.util.find_spec('tensorflow') is None:
      logging.warning(
        'TensorFlow is not installed (it has no wheels for Python 3.14 and '
        'later), so no TensorBoard files are written; metrics.jsonl holds the '
        'same numbers'
      )
    else:
      metric_writers = _import_clu_writers()
      self._clu = metric_writers.AsyncWriter(
        metric_writers.SummaryWriter(workdir)
      )

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self._file.close()
    if self._clu is not None:
      self._clu.close()

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one line."""
    scalars = {name: float(value) for name, value in scalars.items()}
    self._file.write(json.dumps({'step': step, **scalars}) + '\n')
    self._file.flush()
    if self._clu is not None:
      self._clu.write_scalars(step, scalars)
