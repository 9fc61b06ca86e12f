"""Reads JSON files that the project wrote itself and that may be damaged."""

import json
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
