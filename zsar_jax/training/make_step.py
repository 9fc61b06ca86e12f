"""Makes the optimiser, the objective and the training step of a config."""

from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import optax

from zsar_jax.data import preprocessing
from zsar_jax.models import pixel_ops
from zsar_jax.training import optim, step_loss, train_step


def make_objective(
  config: ml_collections.ConfigDict,
  model: Any,
  prep: preprocessing.Preprocessing | None,
) -> step_loss.Objective:
  """Makes the objective that a config's training step minimises.

  Args:
    config: from a config file.
    model: from `model_builder.build_model`.
    prep: the preprocessing that goes with it.

  Returns:
    The objective.

  Raises:
    ValueError: the loss weights or the augmentation are invalid.
  """
  return step_loss.Objective(
    model,
    prep,
    step_loss.LossWeights(**config.loss),
    make_augmentation(config.augmentation),
    config.train.fusion_chunks,
  )


def make_augmentation(
  section: ml_collections.ConfigDict,
) -> step_loss.Augmentation:
  """Makes the part of the config's `augmentation` that runs in the step."""
  return step_loss.Augmentation(
    pixel_ops.ColourJitter(**section.colour_jitter),
    pixel_ops.Mixing(section.mixup_alpha, section.cutmix_alpha),
  )


def make_optimizer(
  config: ml_collections.ConfigDict,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Makes a config's optimiser, and its learning rate as step -> rate.

  Args:
    config: from a config file.

  Returns:
    The optimiser and the schedule.

  Raises:
    ValueError: the schedule cannot work. Patterns of `optim.frozen` are looked
      at only when the optimiser sees parameters.
  """
  schedule = optim.make_schedule(
    learning_rate=config.optim.learning_rate,
    warmup_steps=config.optim.warmup_steps,
    num_steps=config.train.num_steps,
    name=config.optim.schedule,
  )
  optimizer = optim.make_optimizer(
    schedule,
    weight_decay=config.optim.weight_decay,
    clip_norm=config.optim.clip_norm,
    b2=config.optim.b2,
    frozen=tuple(config.optim.frozen),
    layer_decay=config.optim.layer_decay,
  )
  return optimizer, schedule


def make_step(
  config: ml_collections.ConfigDict,
  model: Any,
  prep: preprocessing.Preprocessing,
  mesh: jax.sharding.Mesh,
) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
  """Makes a config's optimiser and its training step.

  Args:
    config: from a config file.
    model: from `model_builder.build_model`.
    prep: the preprocessing that goes with it.
    mesh: from `sharding.make_mesh`.

  Returns:
    The optimiser, and the step of `train_step.make_train_step`.
  """
  optimizer, schedule = make_optimizer(config)
  step = train_step.make_train_step(
    make_objective(config, model, prep),
    optimizer,
    schedule,
    mesh,
    seed=config.seed,
    accumulate=config.train.accumulate,
    ema_decay=config.optim.ema_decay,
    frozen=tuple(config.optim.frozen),
  )
  return optimizer, step
