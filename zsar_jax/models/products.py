"""Matrix products in the form that the platform of the step does fast.

XLA multiplies bfloat16 matrices on a CPU in its matrix units (AMX) only where
the result is float32. A GPU or TPU needs no such help: it sums in float32
anyhow, and rounds where it writes.
"""

import contextlib
import contextvars
import functools
import string
from typing import Any

import jax
import jax.numpy as jnp

_portable = contextvars.ContextVar('portable', default=False)


def platform() -> str:
  """Returns the platform of the traced step: the mesh's, or the default."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.abstract_device is None:
    return jax.default_backend()
  return mesh.abstract_device.platform


@contextlib.contextmanager
def portable():
  """Context in which models are traced alike for all platforms and formats.

  Programs that leave this process need it: they do not always run on the
  platform that traces them.
  """
  token = _portable.set(True)
  try:
    yield
  finally:
    _portable.reset(token)


def on_cpu() -> bool:
  """Returns whether a step is traced for a CPU, and for nothing else."""
  return not _portable.get() and platform() == 'cpu'


def dense(
  inputs: jax.Array,
  kernel: jax.Array,
  dimension_numbers: jax.lax.DotDimensionNumbers,
  precision: Any = None,
  **settings: Any,
) -> jax.Array:
  """Multiplies like `jax.lax.dot_general`; for `dot_general` of `nn.Dense`.

  Args:
    inputs: [... d].
    kernel: [d f].
    dimension_numbers: those of a dense layer: the last axis with the first.
    precision: see `jax.lax.dot_general`.
    **settings: likewise.

  Returns:
    [... f], in the dtype of `inputs`.
  """
  if not _sums_wide(inputs, kernel):
    return jax.lax.dot_general(
      inputs, kernel, dimension_numbers, precision, **settings
    )
  rows = string.ascii_lowercase[: inputs.ndim - 1]
  return _wide(f'{rows}Y,YZ->{rows}Z', inputs, kernel)


def einsum(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
  """Computes `jnp.einsum` of two arrays in their dtype.

  Args:
    spec: 'ab,bc->ac' and the like, with letters alone. Each letter is in two of
      its three parts at least.
    a: first operand.
    b: second operand.

  Returns:
    The product, in the dtype of `a`.
  """
  if not _sums_wide(a, b):
    return jnp.einsum(spec, a, b)
  return _wide(spec, a, b)


def _sums_wide(a: jax.Array, b: jax.Array) -> bool:
  """Returns whether the product is one of halves on a CPU."""
  half = a.dtype == b.dtype == jnp.bfloat16
  return half and on_cpu()


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _wide(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
  """Multiplies with sums in float32, and rounds them to the operands' dtype."""
  wide = jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)
  return wide.astype(a.dtype)


def _forward(spec: str, a: jax.Array, b: jax.Array):
  return _wide(spec, a, b), (a, b)


def _backward(spec: str, operands, gradient: jax.Array):
  # JAX's own rule multiplies a float32 gradient by bfloat16 operands, which
  # the matrix units cannot.
  (a, b), (inputs, of_out) = operands, spec.split('->')
  of_a, of_b = inputs.split(',')
  return (
    _wide(f'{of_out},{of_b}->{of_a}', gradient, b),
    _wide(f'{of_a},{of_out}->{of_b}', a, gradient),
  )


_wide.defvjp(_forward, _backward)
