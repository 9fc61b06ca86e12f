"""Reads and writes the project's own JSON files, which may be damaged."""

import json
import os
from typing import Any


def read(path: str) -> Any:
  """Reads a JSON file.

  Args:
    path: of the file.

  Returns:
    Its content.

  Raises:
    OSError: the file cannot be read.
    ValueError: the file is not JSON, such as a truncated one; the message names
      it.
  """
  with open(path, encoding='utf-8') as f:
    try:
      return json.load(f)
    except (ValueError, RecursionError) as e:
      raise ValueError(f'{path} is damaged: it is not JSON ({e})') from e


def write(content: Any, path: str) -> None:
  """Writes a JSON file whole or not at all.

  Args:
    content: what `json` can write.
    path: of the file; an existing file is replaced.

  Raises:
    OSError: the file cannot be written.
  """
  temporary = f'{path}.tmp'
  with open(temporary, 'w') as f:
    json.dump(content, f, indent=2)
    f.write('\n')
    f.flush()
    os.fsync(f.fileno())
  os.replace(temporary, path)
