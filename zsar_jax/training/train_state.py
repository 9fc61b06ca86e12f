"""The state of training, and its initial value."""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from zsar_jax.parallel import sharding


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['step', 'params', 'opt_state', 'ema', 'skipped'],
  meta_fields=[],
)
@dataclasses.dataclass
class TrainState:
  """Everything that changes during training; `step` is the loader's state too.

  Attributes:
    step: int32, batches seen, also those whose update was skipped.
    params: model parameters.
    opt_state: optimiser state.
    ema: exponential moving average of the parameters; {} without one.
    skipped: int32, updates that were skipped because they were not finite.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  ema: Any = dataclasses.field(default_factory=dict)
  skipped: Any = None

  @property
  def best_params(self) -> Any:
    """Returns the averaged parameters if there are any, else the current."""
    return self.ema or self.params


def init_state(
  model: Any,
  optimizer: optax.GradientTransformation,
  example: Mapping[str, jax.ShapeDtypeStruct],
  key: jax.Array,
  mesh: jax.sharding.Mesh,
  with_ema: bool = False,
) -> TrainState:
  """Creates the state already sharded.

  Args:
    model: `models.zsar_model.ZsarModel`.
    optimizer: from `optim.make_optimizer`.
    example: shapes of the model's arguments `video`, `ids` and `mask`.
    key: random key.
    mesh: from `sharding.make_mesh`.
    with_ema: keep a moving average of the parameters, too.

  Returns:
    The state at step 0.
  """
  create = functools.partial(_create, model, optimizer, example, with_ema)
  shardings = sharding.tree_shardings(jax.eval_shape(create, key), mesh)
  with jax.set_mesh(mesh):
    return jax.jit(create, out_shardings=shardings)(key)


def abstract_state(
  model: Any,
  optimizer: optax.GradientTransformation,
  example: Mapping[str, jax.ShapeDtypeStruct],
  mesh: jax.sharding.Mesh,
  with_ema: bool = False,
) -> TrainState:
  """Returns shapes and shardings of `init_state`; its devices may be absent."""
  create = functools.partial(_create, model, optimizer, example, with_ema)
  shapes = jax.eval_shape(create, jax.random.key(0))
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    sharding.tree_shardings(shapes, mesh),
  )


def _create(model, optimizer, example, with_ema, key) -> TrainState:
  zeros = {k: jnp.zeros(v.shape, v.dtype) for k, v in example.items()}
  params = model.init(key, **zeros)['params']
  zero = jnp.zeros((), jnp.int32)
  ema = jax.tree.map(jnp.copy, params) if with_ema else {}
  return TrainState(zero, params, optimizer.init(params), ema, zero)
