"""Counts the cost of a traced program without running or compiling it."""

from collections.abc import Callable
import math
from typing import Any

import jax


def _subprograms(equation: Any):
  for value in equation.params.values():
    for part in value if isinstance(value, tuple | list) else (value,):
      # A closed program wraps an open one.
      part = getattr(part, 'jaxpr', part)
      if hasattr(part, 'eqns'):
        yield part


def count_macs(program: Any) -> int:
  """Counts multiply-adds of all matrix products and convolutions of a program.

  Args:
    program: a jaxpr, as `jax.make_jaxpr` makes it.

  Returns:
    The number. A scan's body counts as often as it runs. Of a branch, the most
    expensive side counts.

  Raises:
    ValueError: the program does not say the length of a loop.
  """
  total = 0
  for equation in program.eqns:
    kind = equation.primitive.name
    if kind == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      out = math.prod(equation.outvars[0].aval.shape)
      total += out * math.prod(shape[i] for i in contracted)
    elif kind == 'conv_general_dilated':
      numbers = equation.params['dimension_numbers']
      kernel = equation.invars[1].aval.shape
      per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
      total += math.prod(equation.outvars[0].aval.shape) * per_output
    else:
      inner = [count_macs(p) for p in _subprograms(equation)]
      if kind == 'while' and any(inner):
        raise ValueError('a while loop around matrix products has no length')
      times = equation.params['length'] if kind == 'scan' else 1
      total += times * (max(inner, default=0) if kind == 'cond' else sum(inner))
  return total


def training_flops(loss: Callable[..., Any], *arguments: Any) -> int:
  """Counts the model operations of one training step.

  The forward pass has two operations for each multiply-add. The backward pass
  has twice as many, because it has two products for each of the forward pass.
  Operations that remat repeats do not count: they save memory, and are not part
  of the model.

  Args:
    loss: of the whole batch. Its attention must be plain products, because a
      kernel hides its operations.
    *arguments: of the loss; may be abstract.

  Returns:
    Floating-point operations.
  """
  return 6 * count_macs(jax.make_jaxpr(loss)(*arguments).jaxpr)
