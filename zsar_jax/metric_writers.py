"""Training metrics: always metrics.jsonl, and TensorBoard where wanted."""

from collections.abc import Mapping
import json
import os


def import_tensorflow():
  """Imports TensorFlow with the GPUs hidden: it would take all their memory."""
  import tensorflow as tf

  tf.config.set_visible_devices([], 'GPU')
  return tf


class MetricWriter:
  """Writes scalars as JSON lines and, through clu, as TensorBoard events."""

  def __init__(self, workdir: str, tensorboard: bool):
    self._file = open(os.path.join(workdir, 'metrics.jsonl'), 'a')  # noqa: SIM115
    self._clu = None
    if tensorboard:
      import_tensorflow()
      from clu import metric_writers

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
