"""The class lists that come with the package; see class_lists/SOURCE.md."""

import difflib
import functools
import os

from zsar_jax.data import class_names

_FOLDER = os.path.join(os.path.dirname(__file__), 'class_lists')


def list_names() -> list[str]:
  """Returns the names that `read` knows, sorted."""
  return sorted(
    file.removesuffix('.txt')
    for file in os.listdir(_FOLDER)
    if file.endswith('.txt')
  )


@functools.cache
def read(name: str) -> tuple[str, ...]:
  """Reads a class list in its dataset's own spelling and order.

  Args:
    name: one of `list_names()`, such as 'kinetics400'.

  Returns:
    The class names.

  Raises:
    ValueError: there is no such list.
  """
  if name not in list_names():
    raise ValueError(
      f'no class list {name!r}; known are {", ".join(list_names())}'
    )
  with open(os.path.join(_FOLDER, f'{name}.txt'), encoding='utf-8') as f:
    return tuple(f.read().splitlines())


@functools.cache
def canonical(name: str) -> tuple[str, ...]:
  """Reads a class list as canonical names, sorted; see `read`."""
  return tuple(sorted(class_names.canonical_names(read(name), name)))


def read_file_or_list(source: str) -> list[str]:
  """Reads class names from a text file or a list of this package.

  Args:
    source: a file with one name a line, or one of `list_names()`.

  Returns:
    Canonical names, in order.

  Raises:
    ValueError: `source` is neither a file nor a list, or has bad names.
  """
  if source in list_names():
    return class_names.canonical_names(read(source), source)
  if not os.path.isfile(source):
    near = difflib.get_close_matches(source, list_names(), n=3)
    hint = f'; nearest are {", ".join(near)}' if near else ''
    raise ValueError(f'{source!r} is neither a file nor a class list{hint}')
  with open(source, encoding='utf-8') as f:
    lines = [line.strip() for line in f]
  return class_names.canonical_names(filter(None, lines), source)


@functools.cache
def ucf101_video_counts() -> dict[str, int]:
  """Counts the videos of each UCF101 class by canonical name; 13,320 in all."""
  path = os.path.join(_FOLDER, 'ucf101_videos.tsv')
  with open(path, encoding='utf-8') as f:
    rows = [line.rstrip('\n').split('\t') for line in f]
  return {class_names.canonical_name(name): int(n) for name, n in rows}
