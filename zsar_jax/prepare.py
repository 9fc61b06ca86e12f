"""Prepares a dataset: checks videos and packs them for training.

python -m zsar_jax.prepare --dataset=video_folder --source=DIR --data_dir=DIR

docs/datasets.md says what each dataset expects under `--source`, and which
`--storage` is for whom. Files that cannot be used are listed with the reason
and left out. What was interrupted goes on where it was; what is prepared
already is not redone.
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
  """Prepares one dataset and says what it holds.

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
  """Checks and transcodes a dataset's files, and says what was done."""
  if not hasattr(builder, 'stage'):
    raise ValueError(f'--stage_only: dataset {name} is not made of files')
  staged = builder.stage()
  reused = sum(s.is_reused for s in staged)
  failed = [s for s in staged if s.reason]
  for s in failed:
    _say_unusable('cannot be used', s.entry.id, s.reason)
  terminal.say(
    f'staged {len(staged)} videos, {reused} of them before; '
    f'{len(failed)} cannot be used'
  )


def _describe(builder) -> None:
  """Says what a prepared dataset holds."""
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


# Flag -> option of `datasets.make_builder`; one not given is the default's.
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


# How each flag is defined, its name, its default and its help.
_FLAGS = (
  (
    flags.DEFINE_string,
    'dataset',
    'video_folder',
    f'Which dataset: {", ".join(datasets.builder_names())}.',
  ),
  (flags.DEFINE_string, 'source', None, 'Where the videos are.'),
  (
    flags.DEFINE_string,
    'data_dir',
    None,
    'Where datasets live; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.',
  ),
  (
    functools.partial(flags.DEFINE_enum, enum_values=transcode.KINDS),
    'storage',
    'video',
    'video: encoded files; frames: JPEG pictures at a fixed rate.',
  ),
  (
    flags.DEFINE_bool,
    'reencode',
    False,
    'video: encode anew, small and with many keyframes, instead of keeping '
    'the bytes.',
  ),
  (
    flags.DEFINE_integer,
    'short_side',
    256,
    'Pixels that a longer short side is reduced to.',
  ),
  (
    flags.DEFINE_integer,
    'keyframe_interval',
    12,
    'Re-encoded: most frames between keyframes.',
  ),
  (flags.DEFINE_integer, 'crf', 20, 'Re-encoded: x264 rate factor.'),
  (flags.DEFINE_float, 'fps', 10.0, 'frames: pictures a second.'),
  (flags.DEFINE_integer, 'quality', 85, 'frames: of the JPEGs.'),
  (flags.DEFINE_integer, 'workers', 0, 'Processes; 0 is one a core.'),
  (flags.DEFINE_float, 'deadline', 600.0, 'Seconds that one video may take.'),
  (
    flags.DEFINE_bool,
    'allow_missing',
    False,
    'Go on although videos that must be there, or whole classes, are not.',
  ),
  (
    flags.DEFINE_bool,
    'stage_only',
    False,
    'Check and transcode, and pack another time.',
  ),
  (
    flags.DEFINE_bool,
    'keep_staging',
    False,
    'Keep the transcoded videos once they are packed.',
  ),
  (
    flags.DEFINE_multi_string,
    'option',
    [],
    'name=value, a further option of the dataset: annotations or lists, '
    'where its official files lie elsewhere; or of stick_figures.',
  ),
  (
    flags.DEFINE_multi_string,
    'beam_flag',
    [],
    'A flag of Apache Beam, such as --runner=DirectRunner; with any, Beam '
    'checks and transcodes.',
  ),
  (
    flags.DEFINE_bool,
    'progress',
    None,
    'Draw a progress bar; by default on a terminal.',
  ),
)


def _define_flags() -> flags.FlagValues:
  values = cli.new_flags()
  for define, name, default, text in _FLAGS:
    define(name, default, help=text, flag_values=values)
  return values


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
