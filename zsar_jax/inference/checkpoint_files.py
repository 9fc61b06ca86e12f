"""Checks the files of a checkpoint without restoring it.

Orbax writes a checkpoint as a folder named by its step, with a folder for each
item: arrays in an OCDBT database, or JSON in a file `metadata`. A full disk or
a power failure can leave such files cut off or empty.
"""

from collections.abc import Callable, Sequence
import json
import os
import re

import tensorstore

_JSON_ITEM, _JSON_FILE = 'meta', 'metadata'
# Last part of the key that describes an array -> format of the array.
_DRIVERS = {'.zarray': 'zarr', 'zarr.json': 'zarr3'}
# Tensorstore's error codes for a damaged file. Other codes, such as a missing
# permission, say nothing about its content.
_FAULTS = {
  'OUT_OF_RANGE': 'is cut off or empty',
  'NOT_FOUND': 'is missing',
  'DATA_LOSS': 'is damaged',
  'FAILED_PRECONDITION': 'is damaged',
  'INVALID_ARGUMENT': 'is damaged',
}
_FILE = re.compile('local file "([^"]*[^"/])"')
_ASIDE = 'damaged_checkpoints'


def list_steps(folder: str) -> list[int]:
  """Returns the steps of all finished checkpoints, ascending.

  Args:
    folder: folder of a run's checkpoints; may be missing.
  """
  if not os.path.isdir(folder):
    return []
  # While orbax writes a checkpoint, its name is longer.
  return sorted(int(name) for name in os.listdir(folder) if name.isdigit())


def find_fault(folder: str, step: int, items: Sequence[str] = ()) -> str:
  """Reads every array and JSON file of a checkpoint, one at a time.

  Args:
    folder: folder of a run's checkpoints.
    step: step of the checkpoint.
    items: names of the items to check; by default all that exist.

  Returns:
    The file that cannot be read, and why; '' if all can be read.

  Raises:
    OSError, ValueError: a file cannot be opened for another reason than
      damage, such as a missing permission.
  """
  path = os.path.join(os.path.abspath(folder), str(step))
  items = items or sorted(
    entry.name for entry in os.scandir(path) if entry.is_dir()
  )
  if not items:
    return 'it is empty'
  for item in items:
    item_path = os.path.join(path, item)
    if not os.path.isdir(item_path):
      return f'{item} is missing'
    try:
      if item == _JSON_ITEM:
        _read_json(os.path.join(item_path, _JSON_FILE))
      else:
        _read_descriptions(item_path)
        _read_arrays(item_path)
    except _FaultError as e:
      return str(e).replace(f'{path}/', '')
  return ''


class _FaultError(Exception):
  """A damaged file; the message names the file and the damage."""


def _read_json(path: str) -> None:
  try:
    with open(path, encoding='utf-8') as f:
      json.load(f)
  except FileNotFoundError as e:
    raise _FaultError(f'{path} is missing') from e
  except ValueError as e:
    raise _FaultError(f'{path} is cut off or empty') from e


def _read_descriptions(path: str) -> None:
  """Reads orbax's descriptions of an item's arrays, if they exist."""
  candidates = [os.path.join(path, x) for x in ('_METADATA', '_sharding')]
  folder = os.path.join(path, 'array_metadatas')
  if os.path.isdir(folder):
    candidates += [os.path.join(folder, name) for name in os.listdir(folder)]
  for candidate in candidates:
    if os.path.exists(candidate):
      _read_json(candidate)


def _read_arrays(path: str) -> None:
  """Decodes the arrays of an item, as restoring it would."""
  database = {'driver': 'ocdbt', 'base': f'file://{path}/'}
  name = ''
  try:
    keys = tensorstore.KvStore.open(database).result().list().result()
    for key in keys:
      name, _, last = key.decode().rpartition('/')
      if last in _DRIVERS:
        tensorstore.open(
          {
            'driver': _DRIVERS[last],
            'kvstore': {**database, 'path': f'{name}/'},
            'fill_missing_data_reads': False,
          }
        ).result().read().result()
  except ValueError as e:
    # The message begins with the code; the last file in it is the damaged one.
    code, files = str(e).partition(':')[0], _FILE.findall(str(e))
    if code not in _FAULTS:
      raise
    # The message may name no file; then name the array.
    what = files[-1] if files else f'{path}/{name}'
    raise _FaultError(f'{what} {_FAULTS[code]}') from e
  if not keys:
    raise _FaultError(f'{path} has no index of its arrays')


def set_aside_damaged(
  folder: str, items: Sequence[str], say: Callable[[str], None]
) -> None:
  """Moves damaged checkpoints away, from the newest to the first whole one.

  Orbax never overwrites a step: if a damaged one stayed, the resumed run could
  not save that step again. Nothing is deleted.

  Args:
    folder: folder of a run's checkpoints; may be missing.
    items: names of the items that a checkpoint must have.
    say: prints a line.

  Raises:
    ValueError: all checkpoints are damaged; none is moved.
  """
  damaged: dict[int, str] = {}
  for step in reversed(list_steps(folder)):
    fault = find_fault(folder, step, items)
    if not fault:
      break
    damaged[step] = fault
  else:
    if damaged:
      listed = ''.join(f'\n  step {s}: {why}' for s, why in damaged.items())
      raise ValueError(
        f'all checkpoints in {folder} are damaged:{listed}\n  To start from '
        'the beginning, give another --workdir or remove that folder'
      )
  for step, fault in damaged.items():
    aside = os.path.join(os.path.dirname(folder), _ASIDE)
    os.makedirs(aside, exist_ok=True)
    target, again = os.path.join(aside, str(step)), 1
    while os.path.exists(target):
      again += 1
      target = os.path.join(aside, f'{step}.{again}')
    os.replace(os.path.join(folder, str(step)), target)
    say(
      f'warning: the checkpoint of step {step} is damaged ({fault}); it was '
      f'moved to {target}, and its steps are trained again'
    )
