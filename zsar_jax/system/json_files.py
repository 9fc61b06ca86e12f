"""JSON files that the project wrote itself, and that may have been damaged."""

import json
from typing import Any


def read(path: str) -> Any:
  """Reads a JSON file.

  Args:
    path: of the file.

  Returns:
    Its content.

  Raises:
    OSError: it cannot be read.
    ValueError: it is no JSON, as one that was cut off; the message names it.
  """
  with open(path, encoding='utf-8') as f:
    try:
      return json.load(f)
    except ValueError as e:
      raise ValueError(f'{path} is damaged: it is no JSON ({e})') from e
