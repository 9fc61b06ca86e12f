"""Puts tables into documents, and names the machine that made them."""

from collections.abc import Mapping, Sequence
import datetime
import os
import platform
import re
import subprocess

from absl import flags

from zsar_jax import cli


def new_flags(required: Mapping[str, str]) -> flags.FlagValues:
  """Returns the flags of an experiment that can update a document.

  Args:
    required: name -> help of the flags that must be given, all strings.

  Returns:
    These flags, --docs and those of every command.
  """
  values = cli.new_flags()
  for name, what in required.items():
    flags.DEFINE_string(name, None, what, flag_values=values, required=True)
  define_docs(values)
  return values


def define_docs(values: flags.FlagValues) -> None:
  """Defines --docs, which must name a document that has room for tables."""
  flags.DEFINE_string('docs', '', 'Document to update.', flag_values=values)
  flags.register_validator(
    'docs',
    _has_markers,
    'expected a document with `<!-- table: NAME -->` and `<!-- end -->`',
    values,
  )


def _has_markers(path: str) -> bool:
  if not path:
    return True
  if not os.path.isfile(path):
    return False
  with open(path, errors='replace') as f:
    return bool(
      re.search(r'<!-- table: .*? -->.*?<!-- end -->', f.read(), re.S)
    )


def machine() -> str:
  """Returns date and processor, for the document."""
  name = platform.processor() or platform.machine()
  if os.path.exists('/proc/cpuinfo'):
    with open('/proc/cpuinfo') as f:
      for line in f:
        if line.startswith('model name'):
          name = line.split(':', 1)[1].strip()
          break
  cores = len(os.sched_getaffinity(0))
  return f'{datetime.date.today()}, {cores} cores of {name}'


def machine_and_commit() -> str:
  """Returns date, processor and commit; '+' after a commit that was changed."""
  git = ('git', '-C', os.path.dirname(os.path.abspath(__file__)))
  said = lambda *words: subprocess.run(
    (*git, *words), capture_output=True, text=True, check=False
  ).stdout.strip()
  commit = said('rev-parse', '--short', 'HEAD')
  if not commit:
    return machine()
  changed = '+' if said('status', '--porcelain', '--', '*.py') else ''
  return f'{machine()}, commit {commit}{changed}'


def put_into(path: str, tables: Mapping[str, Sequence[str]]) -> None:
  """Replaces the tables between a document's markers.

  A table NAME goes between `<!-- table: NAME -->` and `<!-- end -->`.

  Args:
    path: path of the document.
    tables: name -> lines. Tables without a marker are left out.
  """
  with open(path) as f:
    text = f.read()
  for name, lines in tables.items():
    begin = f'<!-- table: {name} -->'
    pattern = re.compile(re.escape(begin) + r'.*?<!-- end -->', re.DOTALL)
    body = '\n'.join([begin, '```', *lines, '```', '<!-- end -->'])
    text = pattern.sub(lambda _, body=body: body, text)
  with open(f'{path}.tmp', 'w') as f:
    f.write(text)
  os.replace(f'{path}.tmp', path)


def publish(tables: Mapping[str, Sequence[str]], path: str) -> None:
  """Prints tables, and puts them into a document.

  Args:
    tables: name -> lines.
    path: path of the document; '' only prints.
  """
  for name, lines in tables.items():
    print('\n'.join([f'\n== {name}', *lines]))
  if path:
    put_into(path, tables)
