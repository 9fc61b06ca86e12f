"""The datasets that can be prepared, by name.

Builders are imported on request, because TFDS takes a second to import. Most
programs only read prepared datasets (see `records.open_split`).
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import difflib
import errno
import importlib
import inspect
import io
import logging
import os
from typing import Any

from absl import logging as absl_logging

from zsar_jax.data import transcode

# Name -> the module whose `read_manifest` lists its videos, and the arguments
# beside the source. stick_figures is rendered and has a builder.
_MANIFESTS = {
  **{
    name: ('kinetics', {'dataset': name})
    for name in (
      'kinetics400',
      'kinetics600',
      'kinetics700',
      'kinetics700_664',
      'kinetics700_587',
    )
  },
  'ucf101': ('ucf101', {}),
  'hmdb51': ('hmdb51', {}),
  'activitynet': ('activitynet', {}),
  'video_folder': ('video_folder', {}),
}
_RENDERED = 'stick_figures'
# Options of all datasets made of video files: how to prepare. The datasets' own
# options say what to prepare.
_STORAGE_OPTIONS = tuple(
  field.name for field in dataclasses.fields(transcode.Storage)
)
_PACKING_OPTIONS = (
  'workers',
  'deadline',
  'allow_missing',
  'keep_staging',
  'show_progress',
  'beam_flags',
)


def builder_names() -> list[str]:
  """Returns the names that `make_builder` knows, sorted."""
  return sorted([*_MANIFESTS, _RENDERED])


def make_builder(
  name: str, data_dir: str | None = None, source: str = '', **options
):
  """Makes the TFDS builder of a dataset; nothing is written yet.

  Args:
    name: one of `builder_names()`.
    data_dir: folder of all datasets; None for TFDS's default (the environment
      variable TFDS_DATA_DIR, else ~/tensorflow_datasets).
    source: where the videos are, for all but stick_figures.
    **options: fields of `transcode.Storage` and of
      `packed_videos.PackedVideosConfig`, and arguments of the dataset's own
      `read_manifest`; for stick_figures, fields of `StickFiguresConfig`.

  Returns:
    A `tfds.core.DatasetBuilder`, for `prepare`.

  Raises:
    ValueError: the dataset or an option is unknown; or see the dataset.
    FileNotFoundError: see the dataset.
  """
  if name not in builder_names():
    near = difflib.get_close_matches(name, builder_names(), n=3)
    hint = f'did you mean {" or ".join(near)}? ' if near else ''
    raise ValueError(
      f'unknown dataset {name!r}; {hint}known are {", ".join(builder_names())}'
    )
  # TFDS's own rule, which has no public name.
  data_dir = os.path.expanduser(
    data_dir
    or os.environ.get('TFDS_DATA_DIR', os.path.join('~', 'tensorflow_datasets'))
  )
  if name == _RENDERED:
    return _stick_figures(data_dir, source, options)
  if not source:
    raise ValueError(
      f'dataset {name}: --source is missing: where its videos are'
    )
  take = lambda keys: {k: options.pop(k) for k in keys if k in options}
  storage = transcode.Storage(**take(_STORAGE_OPTIONS))
  packing = take(_PACKING_OPTIONS)
  module, extra = _MANIFESTS[name]
  module = importlib.import_module(f'zsar_jax.data.datasets.{module}')
  _check_options(name, module.read_manifest, {**options, **extra})
  manifest = module.read_manifest(source, **options, **extra)
  with _quiet_tfds():
    from zsar_jax.data.datasets import packed_videos

    return packed_videos.make_builder(data_dir, manifest, storage, **packing)


def _stick_figures(data_dir: str, source: str, options: dict[str, Any]):
  if source:
    raise ValueError('dataset stick_figures is rendered: it takes no source')
  with _quiet_tfds():
    from zsar_jax.data.datasets import stick_figures

    _check_options(_RENDERED, stick_figures.StickFiguresConfig, options)
    return stick_figures.make_builder(data_dir, **options)


def _check_options(name: str, function, options: dict[str, Any]) -> None:
  """Refuses options that the dataset does not have."""
  known = set(inspect.signature(function).parameters) - {'source'}
  unknown = sorted(set(options) - known)
  if unknown:
    raise ValueError(
      f'dataset {name} has no option {", ".join(unknown)}; it has '
      f'{", ".join(sorted(known)) or "none"}'
    )


def check_missing(builder) -> list[str]:
  """Lists the videos that the dataset's lists name and that are missing.

  Args:
    builder: from `make_builder`.

  Returns:
    Lines to print.

  Raises:
    ValueError: too many are missing; see `packed_videos`.
  """
  return builder.check_missing() if hasattr(builder, 'check_missing') else []


def prepare(builder, announce: Callable[[], Any] = lambda: None) -> bool:
  """Writes a builder's dataset, unless it is written already.

  Args:
    builder: from `make_builder`. Afterwards `builder.data_dir` is what
      `records.open_split` opens.
    announce: called before anything is written.

  Returns:
    Whether anything was written.

  Raises:
    ValueError: see the dataset. Nothing was written then.
    OSError: the dataset cannot be written, such as on a full disk.
  """
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()
  with _quiet_tfds():
    if builder.is_prepared():
      return False
  announce()
  packed = hasattr(builder, 'remove_staging')
  if packed:
    builder.remove_leftovers()
  try:
    with _quiet_tfds():
      builder.download_and_prepare(file_format='array_record')
  except RuntimeError as e:  # The only error that array_record's writer raises.
    if os.strerror(errno.ENOSPC) in str(e):
      raise OSError(
        errno.ENOSPC,
        f'no space left for {builder.data_dir}; nothing was written: free '
        'some space and prepare again',
      ) from e
    raise
  if packed:
    builder.remove_staging()
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
