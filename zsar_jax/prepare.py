"""Prepares a dataset: checks videos and packs them for training.

python -m zsar_jax.prepare --dataset=video_folder --source=DIR --data_dir=DIR

`--source` is a folder laid out as <source>/<class name>/<clip>, or a CSV file
with the columns path,label[,group][,source]. Files that cannot be used are
listed with the reason and left out. What is prepared already is not redone.
"""

import ast
import time

from absl import flags

from zsar_jax import cli
from zsar_jax.data import datasets
from zsar_jax.data.datasets import records


def main(argv: list[str]) -> None:
  """Prepares one dataset and says what it holds.

  Args:
    argv: the command line, the program's name first.

  Raises:
    FileNotFoundError: the source does not exist.
    ValueError: an unknown dataset or option, or no usable video.
  """
  values = cli.new_flags()
  flags.DEFINE_enum(
    'dataset',
    'video_folder',
    datasets.builder_names(),
    'Which dataset.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'source',
    None,
    'Folder or CSV file of the videos, for video_folder.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'data_dir',
    None,
    'Where datasets live; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.',
    flag_values=values,
  )
  flags.DEFINE_multi_string(
    'option',
    [],
    "name=value, a further option of the dataset's make_builder.",
    flag_values=values,
  )
  flags.DEFINE_bool(
    'progress',
    None,
    'Draw a progress bar; by default on a terminal.',
    flag_values=values,
  )
  cli.parse(values, argv, usage=__doc__)
  options = dict(_parse_option(text) for text in values.option)
  if values.dataset == 'video_folder' and not values.source:
    raise ValueError('--source is missing: a folder or CSV file of videos')
  if values.source:
    options['source'] = values.source
  if values.progress is not None:
    options['show_progress'] = values.progress

  started = time.monotonic()
  builder = datasets.make_builder(
    values.dataset, values.data_dir or None, **options
  )
  written = datasets.prepare(builder)
  seconds = time.monotonic() - started

  metadata = records.read_metadata(builder.data_dir)
  for video in metadata['unreadable']:
    print(f'left out: {video["id"]} {video["reason"]}')
  columns = metadata['videos'].values()
  videos = sum(len(c['id']) for c in columns)
  classes = {label for c in columns for label in c['label']}
  sources = {source for c in columns for source in c['source']}
  print(
    f'{videos} videos, {len(classes)} classes, {len(sources)} sources; '
    f'{len(metadata["unreadable"])} files left out'
  )
  done = f'prepared in {seconds:.0f} s' if written else 'already prepared'
  print(f'{done}: {builder.data_dir} ({builder.info.dataset_size})')


def _parse_option(text: str) -> tuple[str, object]:
  """Splits name=value; a value that is a Python literal is taken as one."""
  name, equals, value = text.partition('=')
  if not name or not equals:
    raise ValueError(f'--option={text} is not name=value')
  try:
    return name, ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return name, value


if __name__ == '__main__':
  cli.run(main)
