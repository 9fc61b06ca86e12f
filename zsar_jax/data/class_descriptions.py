"""Descriptions of classes: sentences that say what a camera sees.

Some ship with the package, in `descriptions/`: a JSON file for each group of
classes, `{"licence": ..., "about": ..., "descriptions": {name: [sentence]}}`.
Users write the same, or `{name: [sentence]}` alone.
"""

from collections.abc import Iterable, Mapping, Sequence
import difflib
import functools
import json
import os

from zsar_jax.data import class_names

# In place of a file: those that come with the package.
SHIPPED = 'shipped'
_FOLDER = os.path.join(os.path.dirname(__file__), 'descriptions')
_KEY = 'descriptions'
# Which group's sentences hold for a name that several groups have, unless the
# dataset has its own: Kinetics first, which most classifiers know.
GROUPS = ('kinetics', 'ucf101', 'activitynet200', 'hmdb51', 'real_clips')
# Names in a message, and how alike two names are that may mean one class.
_MOST_SHOWN = 10
_NEAR = 0.8
# Prepared dataset -> its own group; those of Kinetics have the same.
_OWN_GROUP = {
  'ucf101': 'ucf101',
  'hmdb51': 'hmdb51',
  'activitynet': 'activitynet200',
  'video_folder': 'real_clips',
}


def read(path: str) -> dict[str, tuple[str, ...]]:
  """Reads the descriptions of some classes from a file.

  Args:
    path: a JSON object, class name (in any spelling) -> list of sentences; or
      one that has this object under `descriptions`.

  Returns:
    Canonical name -> sentences, of the classes that the file describes.

  Raises:
    FileNotFoundError: the file does not exist.
    ValueError: the file has another format or an empty sentence, or names a
      class twice.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f'description file {path} does not exist')
  with open(path, encoding='utf-8-sig') as f:
    try:
      content = json.load(f, object_pairs_hook=_without_doubles)
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
      raise ValueError(f'{path}: not JSON: {e}') from e
    except RecursionError as e:
      raise ValueError(f'{path}: lists or objects lie too deep') from e
    except ValueError as e:
      raise ValueError(f'{path}: {e}') from e
  if isinstance(content, dict) and isinstance(content.get(_KEY), dict):
    content = content[_KEY]
  if not isinstance(content, dict):
    raise ValueError(f'{path}: expected an object, class name -> sentences')
  return checked(content, path)


def checked(
  content: Mapping[str, Sequence[str]], what: str
) -> dict[str, tuple[str, ...]]:
  """Checks descriptions.

  Args:
    content: class name in any spelling -> list of sentences.
    what: source of the descriptions, for messages.

  Returns:
    Canonical name -> sentences.

  Raises:
    ValueError: `content` is no mapping, a name is twice there, or a class has
      no list of sentences.
  """
  if not isinstance(content, Mapping):
    raise ValueError(
      f'{what}: expected class name -> list of sentences, got {content!r}'
    )
  canonical = class_names.canonical_names(content, what)
  return {
    name: _sentences(sentences, f'{what}: {name!r}')
    for name, sentences in zip(canonical, content.values(), strict=True)
  }


def _without_doubles(pairs):
  """Refuses a key that is written twice, of which json keeps the last."""
  found = {}
  for key, value in pairs:
    if key in found:
      raise ValueError(f'duplicate class name: {key!r} is there twice')
    found[key] = value
  return found


def _sentences(value, what: str) -> tuple[str, ...]:
  good = isinstance(value, list | tuple) and all(
    isinstance(text, str) and text.strip() for text in value
  )
  if not good or not value:
    raise ValueError(f'{what} needs a list of sentences')
  return tuple(text.strip() for text in value)


@functools.cache
def group(name: str) -> Mapping[str, tuple[str, ...]]:
  """Reads the shipped descriptions of a group.

  Args:
    name: one of `GROUPS`.

  Returns:
    Canonical name -> sentences.
  """
  return read(os.path.join(_FOLDER, f'{name}.json'))


def shipped(dataset: str = '') -> dict[str, tuple[str, ...]]:
  """Merges the shipped descriptions of all groups.

  Args:
    dataset: name of a prepared dataset, whose own group comes first; '' for
      none.

  Returns:
    Canonical name -> sentences.
  """
  own = 'kinetics' if dataset.startswith('kinetics') else ''
  own = _OWN_GROUP.get(dataset, own)
  described: dict[str, tuple[str, ...]] = {}
  for name in sorted(GROUPS, key=lambda name: name != own):
    described = {**group(name), **described}
  return described


def find(source: str, dataset: str = '') -> dict[str, tuple[str, ...]]:
  """Returns the descriptions of a file, or the shipped ones.

  Args:
    source: a file, see `read`; or `SHIPPED`.
    dataset: see `shipped`.

  Returns:
    Canonical name -> sentences, of any classes.

  Raises:
    FileNotFoundError: see `read`.
    ValueError: see `read`.
  """
  if source == SHIPPED:
    return shipped(dataset)
  return read(os.path.expanduser(source))


def check_all(
  described: Iterable[str], names: Sequence[str], source: str
) -> None:
  """Refuses descriptions of other classes than those that they are given for.

  Args:
    described: canonical names with sentences.
    names: canonical names of the classes.
    source: of the descriptions, for messages.

  Raises:
    ValueError: a described name is none of the classes.
  """
  others = [name for name in described if name not in names]
  if others:
    raise ValueError(
      f'{source} of {", ".join(map(repr, others[:_MOST_SHOWN]))}, expected '
      f'some of the names {", ".join(names)}'
    )


def check_some(
  described: Mapping[str, Sequence[str]], names: Iterable[str], source: str
) -> str:
  """Compares descriptions with the classes that they are for.

  Args:
    described: canonical name -> sentences.
    names: canonical names of the classes.
    source: of the descriptions, for messages.

  Returns:
    A line that names the classes without a description, each with a described
    name that is nearly the same and no class; '' without such.

  Raises:
    ValueError: no class has a description.
  """
  names = list(names)
  without = [name for name in names if name not in described]
  others = sorted(set(described).difference(names))
  shown = ', '.join(_hinted(name, others) for name in without[:_MOST_SHOWN])
  if len(without) > _MOST_SHOWN:
    shown = f'{shown} and {len(without) - _MOST_SHOWN} more'
  if names and len(without) == len(names):
    raise ValueError(f'{source} descriptions have none of the classes {shown}')
  if not without:
    return ''
  return (
    f'{source} describes {len(names) - len(without)} of {len(names)} classes, '
    f'but not {shown}'
  )


def _hinted(name: str, others: Sequence[str]) -> str:
  """Returns a name, with what it may be called in the descriptions."""
  near = difflib.get_close_matches(name, others, n=1, cutoff=_NEAR)
  return f'{name} (it has {near[0]!r})' if near else name
