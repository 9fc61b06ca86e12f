"""What a traced program costs, without running or compiling it."""

import math
from typing import Any

from flax import linen as nn
import jax
import jax.extend

# Of a parameter these are the parameter again.
_VIEWS = ('convert_element_type', 'reshape', 'transpose', 'broadcast_in_dim')


def _subprograms(equation: Any):
  for value in equation.params.values():
    for part in value if isinstance(value, tuple | list) else (value,):
      # A closed program wraps an open one.
      part = getattr(part, 'jaxpr', part)
      if hasattr(part, 'eqns'):
        yield part


def count_macs(program: Any) -> int:
  """Multiply-adds of all matrix products and convolutions of a program.

  Args:
    program: a jaxpr, as `jax.make_jaxpr` makes it.

  Returns:
    The number; a scan's body counts as often as it runs, and of a branch
    the dearest counts.

  Raises:
    ValueError: a loop whose length the program does not say.
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


def forward_macs(module: nn.Module, params: Any, arguments: tuple) -> int:
  """Multiply-adds of one call of a module; all arguments may be abstract."""
  program = jax.make_jaxpr(module.apply)({'params': params}, *arguments)
  return count_macs(program.jaxpr)


def activation_bytes(module: nn.Module, params: Any, arguments: tuple) -> int:
  """Bytes that the forward pass keeps for the backward pass.

  Args:
    module: a model.
    params: its parameters; they and what is only another view or dtype of
      them do not count.
    arguments: of its call, likewise not counted.

  Returns:
    Bytes of the distinct arrays kept.
  """

  def kept(params, *arguments):
    apply = lambda params: module.apply({'params': params}, *arguments)
    return jax.tree.leaves(jax.vjp(apply, params)[1])

  program = jax.make_jaxpr(kept)(params, *arguments).jaxpr
  variables = lambda atoms: {
    atom for atom in atoms if not isinstance(atom, jax.extend.core.Literal)
  }
  given = set(program.invars)
  for equation in program.eqns:
    inputs = variables(equation.invars)
    if equation.primitive.name in _VIEWS and inputs <= given:
      given.update(equation.outvars)
  arrays = variables(program.outvars) - given
  return sum(v.aval.size * v.aval.dtype.itemsize for v in arrays)
