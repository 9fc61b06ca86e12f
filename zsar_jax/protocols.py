"""Lists, checks and audits protocols; checks names; compares results.

zsar protocols list
zsar protocols show ucf101/half-class-seed0-9
zsar protocols check ucf101/truze --dataset=UCF_DIR
zsar protocols audit --seen=kinetics400 --unseen=ucf101
zsar protocols lint names.txt
zsar protocols compare A/results.json B/results.json

Class names come from a text file with one name per line, from the folder of a
prepared dataset, or from a class list of this package, such as kinetics400.
Between two prepared datasets, the audit also finds identical videos. With
--workdir=RUN, it also finds names whose embeddings are close together.
"""

from collections.abc import Callable
import difflib
import os

from absl import flags

from zsar_jax import cli
from zsar_jax.data import class_names, name_linter, tokenizer
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import (
  known_classes,
  overlap,
  registry,
  video_sets,
)
from zsar_jax.evaluation import results, results_text
from zsar_jax.system import terminal


def _list(arguments: list[str], values: flags.FlagValues) -> None:
  _expect(arguments, 0)
  for name in registry.ids():
    spec = registry.get(name)
    split = spec.splits[0]
    terminal.say(
      f'{name:45} {spec.hash}  {len(spec.splits):2} splits  '
      f'{len(split.unseen):3} candidates'
    )


def _show(arguments: list[str], values: flags.FlagValues) -> None:
  terminal.say(registry.describe(_protocol(*_expect(arguments, 1))))


def _check(arguments: list[str], values: flags.FlagValues) -> None:
  (name,) = _expect(arguments, 1)
  if not values.dataset:
    raise ValueError('check needs --dataset, the folder of a prepared dataset')
  spec = _protocol(name)
  problems = registry.check(spec, records.read_metadata(values.dataset))
  if problems:
    raise ValueError(
      '\n  '.join([f'{values.dataset} is not {name}:', *problems])
    )
  terminal.say(f'{values.dataset} fits the protocol {name} ({spec.hash})')


def _audit(arguments: list[str], values: flags.FlagValues) -> None:
  _expect(arguments, 0)
  if not (values.seen and values.unseen):
    raise ValueError('audit needs --seen and --unseen')
  seen, unseen = _names(values.seen), _names(values.unseen)
  leaks = overlap.audit_names(seen, unseen, _embeddings(values, seen, unseen))
  if os.path.isdir(values.seen) and os.path.isdir(values.unseen):
    leaks += overlap.audit_videos(
      _all_videos(values.seen, seen),
      _all_videos(values.unseen, unseen),
      seen,
      unseen,
    )
  strict = overlap.strict(leaks)
  terminal.say(overlap.format_leaks(leaks, len(leaks)) or '  none')
  terminal.say(
    f'{len(strict)} strict leaks into {len(overlap.leaking_classes(leaks))} '
    f'unseen classes, {len(leaks) - len(strict)} for a human to judge'
  )


def _embeddings(values, seen: list[str], unseen: list[str]):
  """Embeds all names with a run's text encoder; None without --workdir."""
  if not values.workdir:
    return None
  # Imported here: the other commands need no JAX.
  from zsar_jax.inference import saved_encoders

  names = list(dict.fromkeys([*seen, *unseen]))
  encoder = saved_encoders.load(values.workdir)
  embeddings = encoder.encode_class_names(names)['embedding']
  return dict(zip(names, embeddings, strict=True))


def _all_videos(folder: str, names: list[str]) -> video_sets.VideoSet:
  indices = {
    split: records.VideoIndex.from_columns(columns)
    for split, columns in records.read_metadata(folder)['videos'].items()
  }
  rows = {split: range(len(index)) for split, index in indices.items()}
  return video_sets.select(folder, indices, rows, names)


def _lint(arguments: list[str], values: flags.FlagValues) -> None:
  (source,) = _expect(arguments, 1)
  pieces = tokenizer.read_vocabulary(
    values.vocabulary or tokenizer.default_vocabulary_path()
  )
  found = name_linter.lint(_read_names(source), pieces)
  for warning in found:
    terminal.say(warning)
  terminal.say(f'{len(found)} warnings')


def _compare(arguments: list[str], values: flags.FlagValues) -> None:
  a, b = _expect(arguments, 2)
  terminal.say(
    results_text.compare(results.read_results(a), results.read_results(b))
  )


_COMMANDS: dict[str, Callable[[list[str], flags.FlagValues], None]] = {
  'list': _list,
  'show': _show,
  'check': _check,
  'audit': _audit,
  'lint': _lint,
  'compare': _compare,
}


def _expect(arguments: list[str], count: int) -> list[str]:
  if len(arguments) != count:
    raise ValueError(
      f'expected {count} arguments after the command, got {len(arguments)}'
      f'{": " if arguments else ""}{" ".join(arguments)}'
    )
  return arguments


def _protocol(name: str):
  """Returns a registered protocol, or that of a class split file."""
  if name.endswith('.json'):
    return registry.from_split_file(name)
  return registry.get(name)


def _read_names(source: str) -> list[str]:
  """Returns class names as their source spells them; see the module."""
  if source in known_classes.list_names():
    return list(known_classes.read(source))
  if os.path.isdir(source):
    videos = records.read_metadata(source)['videos']
    return sorted(
      {name for split in videos.values() for name in split['label']}
    )
  if os.path.isfile(source):
    with open(source, encoding='utf-8') as f:
      return [line.strip() for line in f if line.strip()]
  near = difflib.get_close_matches(source, known_classes.list_names(), n=3)
  hint = f'; nearest are {", ".join(near)}' if near else ''
  raise ValueError(
    f'{source!r} is no file, no prepared dataset and no class list{hint}'
  )


def _names(source: str) -> list[str]:
  return class_names.canonical_names(_read_names(source), source)


def main(argv: list[str]) -> None:
  """Parses the command line and runs one of the commands.

  Args:
    argv: the command line, the program's name first.

  Raises:
    ValueError: an unknown command or id, or bad arguments.
  """
  values = cli.new_flags()
  for name, text in (
    ('dataset', 'check: folder of a prepared dataset.'),
    ('seen', 'audit: source of the seen class names.'),
    ('unseen', 'audit: source of the unseen class names.'),
    ('workdir', 'audit: run whose text encoder compares the names.'),
    ('vocabulary', "lint: path of a vocab.txt; by default the package's own."),
  ):
    flags.DEFINE_string(name, '', text, flag_values=values)
  arguments = cli.parse(values, argv, usage=__doc__, allow_arguments=True)
  command, *arguments = arguments or ['']
  if command not in _COMMANDS:
    raise ValueError(
      f'unknown command {command!r}; commands are {", ".join(_COMMANDS)}'
    )
  _COMMANDS[command](arguments, values)


if __name__ == '__main__':
  cli.run(main)
