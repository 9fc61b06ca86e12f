"""Prepares a dataset: checks videos and packs them for training.

zsar prepare --dataset=video_folder --source=DIR --data_dir=DIR

docs/datasets.md says what each dataset expects under `--source`, and when to
use which `--storage`. Files that cannot be used are left out and listed, each
with the reason. The same command resumes an interrupted preparation, and does
nothing if the dataset is prepared already.
"""

import ast
import functools
import os
import time

from absl import flags

from zsar_jax import cli
from zsar_jax.data import datasets, transcode
from zsar_jax.data.datasets import records
from zsar_jax.system import terminal

_SHOWN = 20


def main(argv: list[str]) -> None:
  """Prepares one dataset and prints a summary.

  Args:
    argv: the command line, the program's name first.

  Raises:
    FileNotFoundError: the source does not exist.
    ValueError: an unknown dataset or option, or no usable video.
  """
  values = _define_flags()
  cli.parse(values, argv, usage=__doc__)
  options = dict(_parse_option(text) for text in values.option)
  for name in _OPTIONS:
    if values[name].present:
      options[_OPTIONS[name]] = values[name].value
  started = time.monotonic()
  builder = datasets.make_builder(
    values.dataset, values.data_dir or None, values.source or '', **options
  )
  for line in datasets.check_missing(builder):
    terminal.say(line)
  if values.stage_only:
    _stage(builder, values.dataset)
    return
  written = datasets.prepare(builder)
  seconds = time.monotonic() - started
  _describe(builder)
  done = f'prepared in {seconds:.0f} s' if written else 'already prepared'
  terminal.say(f'{done}: {builder.data_dir}')


def _stage(builder, name: str) -> None:
  """Checks and transcodes a dataset's files, and prints the counts."""
  if not hasattr(builder, 'stage'):
    raise ValueError(
      f'--stage_only: dataset {name} has no video files to check'
    )
  staged = builder.stage()
  reused = sum(s.is_reused for s in staged)
  failed = [s for s in staged if s.reason]
  for s in failed:
    _say_unusable('cannot be used', s.entry.id, s.reason)
  terminal.say(
    f'staged {len(staged)} videos, {reused} of them in an earlier run; '
    f'{len(failed)} cannot be used'
  )


def _describe(builder) -> None:
  """Prints how many videos, classes and sources a prepared dataset has."""
  metadata = records.read_metadata(builder.data_dir)
  unreadable = metadata['unreadable']
  for video in unreadable[:_SHOWN]:
    _say_unusable('left out', video['id'], video['reason'])
  if len(unreadable) > _SHOWN:
    terminal.say(
      f'and {len(unreadable) - _SHOWN} more, listed under "unreadable" in '
      f'{os.path.join(builder.data_dir, "metadata.json")}'
    )
  columns = metadata['videos'].values()
  videos = sum(len(c['id']) for c in columns)
  classes = {label for c in columns for label in c['label']}
  sources = {source for c in columns for source in c['source']}
  terminal.say(
    f'{videos} videos, {len(classes)} classes, {len(sources)} sources; '
    f'{len(metadata["unreadable"])} files left out'
  )
  size = builder.info.dataset_size
  terminal.say(f'storage {metadata["storage"]["kind"]}, {size}')


def _say_unusable(what: str, video_id: str, reason: str) -> None:
  name = terminal.visible_name
  terminal.say(f'{what}: {name(video_id)} {name(reason)}')


# Flag -> option of `datasets.make_builder`. A flag that is not given passes no
# option, so the dataset's own default holds.
_OPTIONS = {
  'storage': 'kind',
  'reencode': 'reencode',
  'short_side': 'short_side',
  'keyframe_interval': 'keyframe_interval',
  'crf': 'crf',
  'fps': 'fps',
  'quality': 'quality',
  'workers': 'workers',
  'deadline': 'deadline',
  'allow_missing': 'allow_missing',
  'keep_staging': 'keep_staging',
  'progress': 'show_progress',
  'beam_flag': 'beam_flags',
}


# Function that defines the flag, then its name, default and help.
_FLAGS = (
  (
    flags.DEFINE_string,
    'dataset',
    'video_folder',
    f'Name of the dataset: {", ".join(datasets.builder_names())}.',
  ),
  (flags.DEFINE_string, 'source', None, 'Folder of the videos.'),
  (
    flags.DEFINE_string,
    'data_dir',
    None,
    'Folder for prepared datasets; by default $TFDS_DATA_DIR, or '
    '~/tensorflow_datasets.',
  ),
  (
    functools.partial(flags.DEFINE_enum, enum_values=transcode.KINDS),
    'storage',
    'video',
    'video: encoded videos. frames: JPEG images at a fixed rate.',
  ),
  (
    flags.DEFINE_bool,
    'reencode',
    False,
    'With --storage=video: re-encode the videos, smaller and with many '
    'keyframes, instead of keeping the files as they are.',
  ),
  (
    flags.DEFINE_integer,
    'short_side',
    256,
    'Shrink videos whose short side is longer to this many pixels.',
  ),
  (
    flags.DEFINE_integer,
    'keyframe_interval',
    12,
    'With --reencode: maximum number of frames between keyframes.',
  ),
  (
    flags.DEFINE_integer,
    'crf',
    20,
    'With --reencode: x264 constant rate factor; lower is better quality.',
  ),
  (
    flags.DEFINE_float,
    'fps',
    10.0,
    'With --storage=frames: frames per second to keep.',
  ),
  (
    flags.DEFINE_integer,
    'quality',
    85,
    'With --storage=frames: JPEG quality, 1 to 100.',
  ),
  (
    flags.DEFINE_integer,
    'workers',
    0,
    'Number of processes; 0 starts one per core.',
  ),
  (flags.DEFINE_float, 'deadline', 600.0, 'Time limit per video, in seconds.'),
  (
    flags.DEFINE_bool,
    'allow_missing',
    False,
    'Continue although some required videos or whole classes are missing.',
  ),
  (
    flags.DEFINE_bool,
    'stage_only',
    False,
    'Only check and transcode the videos; a later run packs them.',
  ),
  (
    flags.DEFINE_bool,
    'keep_staging',
    False,
    'Keep the transcoded videos after packing.',
  ),
  (
    flags.DEFINE_multi_string,
    'option',
    [],
    'name=value, another option of the dataset: annotations or lists, if its '
    'official files are in another folder; or an option of stick_figures.',
  ),
  (
    flags.DEFINE_multi_string,
    'beam_flag',
    [],
    'A flag of Apache Beam, such as --runner=DirectRunner. If any is given, '
    'Beam checks and transcodes the videos.',
  ),
  (
    flags.DEFINE_bool,
    'progress',
    None,
    'Draw a progress bar; by default only on a terminal.',
  ),
)


def _define_flags() -> flags.FlagValues:
  values = cli.new_flags()
  for define, name, default, text in _FLAGS:
    define(name, default, help=text, flag_values=values)
  return values


def _parse_option(text: str) -> tuple[str, object]:
  """Splits name=value, and parses the value if it is a Python literal."""
  name, equals, value = text.partition('=')
  if not name or not equals:
    raise ValueError(f'--option={text} is not name=value')
  try:
    return name, ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return name, value


if __name__ == '__main__':
  cli.run(main)
