"""From a config to the model and the preprocessing that goes with it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from zsar_jax import config_utils, pixel_ops, program_cost
from zsar_jax import preprocessing as preprocessing_lib
from zsar_jax.data import byte_pairs
from zsar_jax.data import tokenizer as tokenizer_lib
from zsar_jax.models import video_encoder, zsar_model


def make_preprocessing(
  config: ml_collections.ConfigDict, pieces: Sequence[str]
) -> preprocessing_lib.Preprocessing:
  """The config's preprocessing, tied to a vocabulary."""
  return preprocessing_lib.Preprocessing.from_dict(
    {
      **config_utils.to_dict(config.preprocessing),
      'vocabulary_hash': tokenizer_lib.vocabulary_hash(pieces),
    }
  )


def video_encoder_kwargs(video: ml_collections.ConfigDict) -> dict[str, Any]:
  """The keyword arguments of the video encoder that a config asks for.

  Args:
    video: `model.video` of a config.

  Returns:
    Arguments of `video_encoder.VideoEncoder`; a variant's sizes take the
    place of those beside it.

  Raises:
    ValueError: an unknown variant, or a tubelet size that is not three.
  """
  kwargs = video.to_dict()
  variant = kwargs.pop('variant')
  if variant:
    kwargs.update(video_encoder.variant(variant))
  # A config that was read from JSON has lists, which modules cannot hash.
  if len(kwargs['tubelet_size']) != 3:
    raise ValueError(
      'model.video.tubelet_size must be (frames, height, width), got '
      f'{tuple(kwargs["tubelet_size"])}'
    )
  for key in ('tubelet_size', 'sincos_grid'):
    kwargs[key] = tuple(kwargs[key])
  return kwargs


def vocabulary_size(pieces: Sequence[str]) -> int:
  """Number of tokens of a vocabulary; see `byte_pairs.open_tokenizer`."""
  return byte_pairs.open_tokenizer(pieces, token_length=3).num_tokens


def build_model(
  config: ml_collections.ConfigDict,
  prep: preprocessing_lib.Preprocessing,
  vocabulary_size: int,
  num_classes: int,
) -> zsar_model.ZsarModel:
  """Builds the config's model.

  Args:
    config: the whole config.
    prep: the preprocessing that goes with the model.
    vocabulary_size: number of tokens.
    num_classes: number of seen classes.

  Returns:
    The model, without parameters.
  """
  return zsar_model.ZsarModel(
    video={**video_encoder_kwargs(config.model.video), 'image_size': prep.size},
    text={
      **config.model.text.to_dict(),
      'vocabulary_size': vocabulary_size,
      'max_length': prep.token_length,
    },
    fusion=config.model.fusion.to_dict(),
    embedding_dim=config.model.embedding_dim,
    num_classes=num_classes,
    dtype=jnp.dtype(config.model.dtype),
  )


def input_shapes(
  prep: preprocessing_lib.Preprocessing,
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of the model's arguments, for a batch and a name list of one."""
  channels = pixel_ops.num_channels(prep.inputs)
  clip = (1, prep.num_frames, prep.size, prep.size, channels)
  names = (1, prep.token_length)
  return {
    'video': jax.ShapeDtypeStruct(clip, jnp.float32),
    'ids': jax.ShapeDtypeStruct(names, jnp.int32),
    'mask': jax.ShapeDtypeStruct(names, jnp.bool_),
  }


def parameter_shapes(
  model: zsar_model.ZsarModel, prep: preprocessing_lib.Preprocessing
) -> Any:
  """Shapes of a model's parameters, without computing anything.

  Raises:
    ValueError: the model's sizes do not fit each other or the clips.
  """

  def init(key):
    shapes = input_shapes(prep)
    zeros = {k: jnp.zeros(v.shape, v.dtype) for k, v in shapes.items()}
    return model.init(key, **zeros)

  return jax.eval_shape(init, jax.random.key(0))['params']


def step_inputs(
  prep: preprocessing_lib.Preprocessing, batch_size: int, num_classes: int
) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]:
  """Shapes of a training step's batch and text."""
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
  prep: preprocessing_lib.Preprocessing,
  vocabulary_size: int,
  num_classes: int,
) -> int:
  """Model operations of one training step over the whole batch.

  Every matrix product of the forward pass, traced and counted exactly, times
  three for the backward pass; see `program_cost.training_flops`.

  Args:
    config: the whole config.
    prep: the preprocessing that goes with the model.
    vocabulary_size: number of tokens.
    num_classes: number of seen classes.

  Returns:
    Floating-point operations.
  """
  from zsar_jax import train_step  # inference needs no optimiser

  config = config.copy_and_resolve_references()
  with config.unlocked():
    # A kernel would hide its products.
    config.model.video.attention_implementation = 'einsum'
  model = build_model(config, prep, vocabulary_size, num_classes)
  batch, text = step_inputs(prep, config.train.batch_size, num_classes)
  weights = train_step.LossWeights(**config.loss)
  return program_cost.training_flops(
    lambda params, batch, text: train_step.compute_loss(
      params, model, batch, text, jax.random.key(0), weights, prep
    ),
    parameter_shapes(model, prep),
    batch,
    text,
  )
