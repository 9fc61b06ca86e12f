"""Lets one formula compute with arrays of numpy and of JAX."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def of(*arrays: Any) -> ModuleType:
  """Returns the module that computes with these arrays.

  Outside `jit` JAX compiles every operation by itself. The arithmetic after
  the encoders is small: numpy finishes before JAX has compiled anything.

  Args:
    *arrays: arguments of a function.

  Returns:
    `jax.numpy` if one of them is a JAX array, as inside `jit`; else numpy.
  """
  return jnp if any(isinstance(x, jax.Array) for x in arrays) else np
