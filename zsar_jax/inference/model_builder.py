"""Builds a config's model and preprocessing."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from zsar_jax import config_utils
from zsar_jax.data import byte_pairs
from zsar_jax.data import preprocessing as preprocessing_lib
from zsar_jax.data import tokenizer as tokenizer_lib
from zsar_jax.models import pixel_ops, video_encoder, zsar_model


def make_preprocessing(
  config: ml_collections.ConfigDict, pieces: Sequence[str]
) -> preprocessing_lib.Preprocessing:
  """Returns the config's preprocessing, with the hash of its vocabulary."""
  return preprocessing_lib.Preprocessing.from_dict(
    {
      **config_utils.to_dict(config.preprocessing),
      'vocabulary_hash': tokenizer_lib.vocabulary_hash(pieces),
    }
  )


def video_encoder_kwargs(video: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the keyword arguments of a config's video encoder.

  Args:
    video: `model.video` of a config.

  Returns:
    Keyword arguments of `video_encoder.VideoEncoder`. A variant's sizes replace
    the config's.

  Raises:
    ValueError: the variant is unknown, or the tubelet size is not three
      numbers.
  """
  kwargs = video.to_dict()
  variant = kwargs.pop('variant')
  if variant:
    kwargs.update(video_encoder.variant(variant))
  # A config read from JSON has lists, which Flax modules cannot hash.
  if len(kwargs['tubelet_size']) != 3:
    raise ValueError(
      'model.video.tubelet_size must be (frames, height, width), got '
      f'{tuple(kwargs["tubelet_size"])}'
    )
  return _hashable(kwargs)


def _hashable(value: Any) -> Any:
  """Turns lists into tuples, at any depth."""
  if isinstance(value, Mapping):
    return {key: _hashable(x) for key, x in value.items()}
  return tuple(map(_hashable, value)) if isinstance(value, list) else value


def vocabulary_size(pieces: Sequence[str]) -> int:
  """Returns the number of tokens of a vocabulary; see `byte_pairs`."""
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
    prep: preprocessing of the model's inputs.
    vocabulary_size: number of tokens.
    num_classes: number of seen classes.

  Returns:
    The model, without parameters.
  """
  return zsar_model.ZsarModel(
    video={**video_encoder_kwargs(config.model.video), 'image_size': prep.size},
    text={
      **_hashable(config.model.text.to_dict()),
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
  """Returns shapes of the model's arguments, for one video and one name."""
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
  """Returns the shapes of a model's parameters, without computing them.

  Raises:
    ValueError: the model's sizes do not fit each other or the clips.
  """
  init = functools.partial(random_parameters, model, prep)
  return jax.eval_shape(init, jax.random.key(0))


def random_parameters(
  model: zsar_model.ZsarModel,
  prep: preprocessing_lib.Preprocessing,
  key: jax.Array,
) -> Any:
  """Draws a model's parameters, as training does; call it inside `jax.jit`."""
  shapes = input_shapes(prep)
  zeros = {k: jnp.zeros(v.shape, v.dtype) for k, v in shapes.items()}
  return model.init(key, **zeros)['params']


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Returns path -> shape of arrays, abstract arrays or orbax's metadata."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(
      tree, is_leaf=lambda x: hasattr(x, 'shape')
    )
  }


def shape_differences(stored: Any, wanted: Any) -> list[str]:
  """Lists differences in shape between stored and expected parameters.

  Args:
    stored: tree of arrays, or of anything with a shape.
    wanted: likewise.

  Returns:
    'path: shape there, shape here' for each difference.
  """
  there, here = _shapes(stored), _shapes(wanted)
  return [
    f'{name}: {there.get(name, "none")} there, {here.get(name, "none")} here'
    for name in sorted(there.keys() | here.keys())
    if there.get(name) != here.get(name)
  ]
