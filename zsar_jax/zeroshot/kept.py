"""Keeps what was last made of an array.

Names are often added to a bank one at a time. What depends on the bank alone
is then made once. Arrays are compared by value, so nothing else changes.
"""

from collections.abc import Callable
import functools

import numpy as np

# Larger results would stay in memory for too little.
_MOST_BYTES = 64 * 2**20


def last(make: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
  """Decorates a function so that it keeps its last result.

  Args:
    make: (array, further arguments) -> array that nobody writes into.

  Returns:
    The same function; it answers at once where array and arguments are those
    of its last call.
  """
  # One tuple, so that threads see all of it or nothing.
  kept = [None]

  @functools.wraps(make)
  def keeping(array: np.ndarray, *args) -> np.ndarray:
    if kept[0] is not None:
      before, given, result = kept[0]
      if args == given and np.array_equal(before, array):
        return result
    result = make(array, *args)
    result.flags.writeable = False
    if result.nbytes + array.nbytes <= _MOST_BYTES:
      kept[0] = (array.copy(), args, result)
    return result

  return keeping
