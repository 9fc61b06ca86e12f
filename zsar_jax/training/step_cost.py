"""Finds shapes and operations of a training step without running one."""

import jax
import jax.numpy as jnp
import ml_collections

from zsar_jax.data import preprocessing
from zsar_jax.inference import model_builder
from zsar_jax.parallel import program_cost
from zsar_jax.training import step_loss


def step_inputs(
  prep: preprocessing.Preprocessing, batch_size: int, num_classes: int
) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]:
  """Returns the shapes of a training step's batch and text."""
  b = batch_size
  clip = (b, prep.num_frames, prep.size, prep.size, 3)
  names = (num_classes, prep.token_length)
  batch = {
    'video': jax.ShapeDtypeStruct(clip, jnp.uint8),
    'label': jax.ShapeDtypeStruct((b,), jnp.int32),
    'index': jax.ShapeDtypeStruct((b,), jnp.int32),
  }
  text = {
    'ids': jax.ShapeDtypeStruct(names, jnp.int32),
    'mask': jax.ShapeDtypeStruct(names, jnp.bool_),
  }
  return batch, text


def step_flops(
  config: ml_collections.ConfigDict,
  prep: preprocessing.Preprocessing,
  vocabulary_size: int,
  num_classes: int,
) -> int:
  """Counts the model operations of one training step over the whole batch.

  It traces and counts every matrix product of the forward pass exactly. The
  backward pass makes this three times as much; see
  `program_cost.training_flops`.

  Args:
    config: the whole config.
    prep: the preprocessing that goes with the model.
    vocabulary_size: number of tokens.
    num_classes: number of seen classes.

  Returns:
    Floating-point operations.
  """
  config = config.copy_and_resolve_references()
  with config.unlocked():
    # A kernel would hide its products.
    config.model.video.attention_implementation = 'einsum'
  model = model_builder.build_model(config, prep, vocabulary_size, num_classes)
  batch, text = step_inputs(prep, config.train.batch_size, num_classes)
  objective = step_loss.Objective(
    model, prep, step_loss.LossWeights(**config.loss)
  )
  return program_cost.training_flops(
    lambda params, batch, text: step_loss.compute_loss(
      params, objective, batch, text, jax.random.key(0)
    ),
    model_builder.parameter_shapes(model, prep),
    batch,
    text,
  )
