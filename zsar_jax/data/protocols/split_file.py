"""Class split files: which classes are seen and which unseen, as JSON.

  {"seen": ["hugging", ...], "unseen": ["punching", ...]}

or a list of such objects under "splits"; an index chooses one, or all.
"""

from collections.abc import Sequence
import json
import os
from typing import Any

from zsar_jax.data import class_names

# In place of an index: all splits of a file. On command lines it is 'all'.
ALL = -1


def read_index(text: str) -> int:
  """Reads an index from a command line.

  Args:
    text: a number from 0, or 'all'.

  Returns:
    The number, or `ALL`.

  Raises:
    ValueError: it is neither.
  """
  if text == 'all':
    return ALL
  if not text.isdecimal():
    raise ValueError(
      f"--class_split_index takes a number from 0, or 'all', got {text!r}"
    )
  return int(text)


def count_splits(path: str) -> int:
  """Counts the splits of a file.

  Args:
    path: a JSON file.

  Raises:
    FileNotFoundError, ValueError: see `read_class_split`.
  """
  content = _read(path)
  return len(content['splits']) if _has_several(content) else 1


def read_class_split(path: str, index: int = 0) -> tuple[list[str], list[str]]:
  """Reads seen and unseen class names; the module docstring has the format.

  Args:
    path: a JSON file.
    index: which split, if the file has several.

  Returns:
    Seen and unseen canonical names, sorted.

  Raises:
    FileNotFoundError: the file does not exist.
    ValueError: the file has another format or an empty or duplicate name, or a
      class is both seen and unseen.
  """
  content = _read(path)
  if _has_several(content):
    splits = content['splits']
    if not 0 <= index < len(splits):
      raise ValueError(f'{path} has splits 0 to {len(splits) - 1}, not {index}')
    content = splits[index]
  if not isinstance(content, dict) or not {'seen', 'unseen'} <= set(content):
    raise ValueError(
      f'{path}: expected an object with the lists "seen" and "unseen" '
      '(or a list "splits" of such objects)'
    )
  for key in ('seen', 'unseen'):
    # A string would pass as a list of its letters.
    if not isinstance(content[key], list) or not all(
      isinstance(name, str) for name in content[key]
    ):
      raise ValueError(f'{path}: "{key}" is not a list of class names')
  seen = class_names.canonical_names(content['seen'], f'{path}: seen')
  unseen = class_names.canonical_names(content['unseen'], f'{path}: unseen')
  check_disjoint(seen, unseen, path)
  return sorted(seen), sorted(unseen)


def _read(path: str) -> Any:
  """Reads a file's JSON; its list of splits, if it has one, is a list."""
  if not os.path.exists(path):
    raise FileNotFoundError(f'class split file {path} does not exist')
  with open(path, encoding='utf-8') as f:
    try:
      content = json.load(f)
    except json.JSONDecodeError as e:
      raise ValueError(f'{path}: not JSON: {e}') from e
  if _has_several(content) and not isinstance(content['splits'], list):
    raise ValueError(f'{path}: "splits" is not a list')
  return content


def _has_several(content: Any) -> bool:
  return isinstance(content, dict) and 'splits' in content


def check_disjoint(
  seen: Sequence[str], unseen: Sequence[str], what: str
) -> None:
  """Refuses classes that are both seen and unseen.

  Args:
    seen: canonical names.
    unseen: canonical names.
    what: their origin, for the error.

  Raises:
    ValueError: a class is both; the message names all.
  """
  both = sorted(set(seen) & set(unseen))
  if both:
    raise ValueError(
      f'{what}: classes both seen and unseen: {both}; a model trained on a '
      'class is not zero-shot on it'
    )
