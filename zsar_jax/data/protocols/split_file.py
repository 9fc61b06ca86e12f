"""Class split files: which classes are seen and which unseen, as JSON.

  {"seen": ["hugging", ...], "unseen": ["punching", ...]}

or a list of such objects under "splits"; an index chooses one.
"""

from collections.abc import Sequence
import json
import os

from zsar_jax.data import class_names


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
  if not os.path.exists(path):
    raise FileNotFoundError(f'class split file {path} does not exist')
  with open(path, encoding='utf-8') as f:
    try:
      content = json.load(f)
    except json.JSONDecodeError as e:
      raise ValueError(f'{path}: not JSON: {e}') from e
  if isinstance(content, dict) and 'splits' in content:
    splits = content['splits']
    if not isinstance(splits, list):
      raise ValueError(f'{path}: "splits" is not a list')
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
