"""Computes the cost of a module without running or compiling it."""

from typing import Any

from flax import linen as nn
import jax
import jax.extend

from zsar_jax.parallel import program_cost

# The result of these operations on a parameter does not count as an activation.
_VIEWS = ('convert_element_type', 'reshape', 'transpose', 'broadcast_in_dim')


def forward_macs(module: nn.Module, params: Any, arguments: tuple) -> int:
  """Counts the multiply-adds of one call; all arguments may be abstract."""
  program = jax.make_jaxpr(module.apply)({'params': params}, *arguments)
  return program_cost.count_macs(program.jaxpr)


def activation_bytes(module: nn.Module, params: Any, arguments: tuple) -> int:
  """Computes the bytes that the forward pass keeps for the backward pass.

  Args:
    module: a model.
    params: its parameters. They do not count, nor do views and casts of them.
    arguments: arguments of the call, likewise not counted.

  Returns:
    Bytes of the distinct arrays that are kept.
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
