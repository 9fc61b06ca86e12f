"""The datasets that can be prepared, by name.

Builders are imported when asked for: TFDS takes a second to import, and most
programs only read what is prepared already (see `records.open_split`).
"""

from collections.abc import Callable, Iterator
import contextlib
import importlib
import io
import logging
import os
from typing import Any

from absl import logging as absl_logging

_BUILDER_MODULES = {
  'stick_figures': 'zsar_jax.data.datasets.stick_figures',
  'video_folder': 'zsar_jax.data.datasets.video_folder',
}


def builder_names() -> list[str]:
  """The names that `make_builder` knows, sorted."""
  return sorted(_BUILDER_MODULES)


def make_builder(name: str, data_dir: str | None = None, **options):
  """Makes the TFDS builder of a dataset; nothing is written yet.

  Args:
    name: one of `builder_names()`.
    data_dir: where datasets live; None for TFDS's default (the environment
      variable TFDS_DATA_DIR, else ~/tensorflow_datasets).
    **options: what the dataset's own `make_builder` takes.

  Returns:
    A `tfds.core.DatasetBuilder`, for `prepare`.

  Raises:
    ValueError: an unknown dataset or option; or see the dataset.
    FileNotFoundError: see the dataset.
  """
  if name not in _BUILDER_MODULES:
    raise ValueError(
      f'unknown dataset {name!r}; known are {", ".join(builder_names())}'
    )
  module = importlib.import_module(_BUILDER_MODULES[name])
  # TFDS's own rule, in public nowhere.
  data_dir = data_dir or os.environ.get(
    'TFDS_DATA_DIR', os.path.join('~', 'tensorflow_datasets')
  )
  try:
    with _quiet_tfds():
      return module.make_builder(os.path.expanduser(data_dir), **options)
  except TypeError as e:
    # Options come from a command line: a wrong one is a user's mistake.
    raise ValueError(f'dataset {name}, options {options}: {e}') from e


def prepare(builder, announce: Callable[[], Any] = lambda: None) -> bool:
  """Writes a builder's dataset, unless that was done before.

  Args:
    builder: from `make_builder`. Afterwards `builder.data_dir` is what
      `records.open_split` opens.
    announce: called before anything is written.

  Returns:
    Whether anything had to be written.

  Raises:
    ValueError: see the dataset; then nothing was written.
  """
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()
  with _quiet_tfds():
    if builder.is_prepared():
      return False
  announce()
  with _quiet_tfds():
    builder.download_and_prepare(file_format='array_record')
  return True


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
  """Hides TFDS's talk of downloads and folders; its errors pass."""

  def keep(record: logging.LogRecord) -> bool:
    from_tfds = 'tensorflow_datasets' in record.pathname
    return not from_tfds or record.levelno >= logging.ERROR

  logger = absl_logging.get_absl_logger()
  logger.addFilter(keep)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    logger.removeFilter(keep)
