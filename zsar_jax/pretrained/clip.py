"""Public CLIP weights for `models.clip.Clip`.

  weights = directory.read_weights('clip-vit-base-patch32')
  kwargs, params = load_clip(weights)
  clip.Clip(**kwargs).apply({'params': params}, video, ids, mask)

A directory holds config.json (model_type 'clip'), model.safetensors,
preprocessor_config.json and tokenizer.json, or vocab.json and merges.txt.
The subtrees of `params` are those of the two encoders and of their
projections, so that a model that shares an encoder takes its part.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.data import byte_pairs
from zsar_jax.models import clip, text_encoder
from zsar_jax.pretrained import assemble, directory

# Numbers 0 to n that old files hold.
_IGNORE = (r'\.position_ids$',)
# A saved config leaves out what equals CLIP ViT-B/32: the two parts of
# config.json are read over these.
_TEXT_DEFAULTS = {
  'vocab_size': 49408,
  'hidden_size': 512,
  'intermediate_size': 2048,
  'num_hidden_layers': 12,
  'num_attention_heads': 8,
  'max_position_embeddings': 77,
  'hidden_act': 'quick_gelu',
  'layer_norm_eps': 1e-5,
  'eos_token_id': 49407,
}
_VISION_DEFAULTS = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'image_size': 224,
  'patch_size': 32,
  'hidden_act': 'quick_gelu',
  'layer_norm_eps': 1e-5,
}


def _part(
  weights: directory.Weights, name: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """The text_config or vision_config of config.json, with its defaults."""
  # Where both are there, transformers takes the one with the odd name.
  given = weights.config.get(f'{name}_dict') or weights.config.get(name) or {}
  return {**defaults, **given}


def _encoder_kwargs(
  weights: directory.Weights, part: Mapping[str, Any]
) -> dict[str, Any]:
  return {
    'width': part['hidden_size'],
    'depth': part['num_hidden_layers'],
    'num_heads': part['num_attention_heads'],
    'mlp_dim': part['intermediate_size'],
    'activation': directory.activation(weights, part['hidden_act']),
    'norm_epsilon': part['layer_norm_eps'],
  }


def clip_kwargs(
  weights: directory.Weights, token_length: int | None = None
) -> dict[str, Any]:
  """Reads the architecture from config.json.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per text; None takes as many as there are
      positions.

  Returns:
    Keyword arguments of `models.clip.Clip`.

  Raises:
    ValueError: another architecture, an activation that is not known, or
      fewer positions than `token_length`.
  """
  directory.expect_model_type(weights, 'clip')
  text = _part(weights, 'text_config', _TEXT_DEFAULTS)
  vision = _part(weights, 'vision_config', _VISION_DEFAULTS)
  positions = text['max_position_embeddings']
  if token_length is not None and token_length > positions:
    raise ValueError(
      f'{weights.path}/config.json: max_position_embeddings={positions}, '
      f'fewer than token_length={token_length}'
    )
  return {
    'video': {
      **_encoder_kwargs(weights, vision),
      'image_size': vision['image_size'],
      'patch_size': vision['patch_size'],
    },
    'text': {
      **_encoder_kwargs(weights, text),
      'vocabulary_size': text['vocab_size'],
      'max_length': token_length or positions,
      'end_id': text['eos_token_id'],
    },
    'embedding_dim': directory.setting(weights, 'projection_dim', 512),
  }


def _patch_kernel(x: np.ndarray) -> np.ndarray:
  """Convolution weight [out in h w] to the kernel [h*w*in out] of tubelets."""
  return assemble.conv2d_kernel(x).reshape(-1, len(x))


def _blocks(target: str, name: str, depth: int) -> dict[str, assemble.Source]:
  plan = {}
  for i in range(depth):
    block, layer = f'{target}/block_{i}', f'{name}.encoder.layers.{i}'
    for ours, theirs in (
      ('query', 'q_proj'),
      ('key', 'k_proj'),
      ('value', 'v_proj'),
      ('out', 'out_proj'),
    ):
      plan |= assemble.dense(
        f'{block}/attention/{ours}', f'{layer}.self_attn.{theirs}'
      )
    plan |= assemble.norm(f'{block}/attention_norm', f'{layer}.layer_norm1')
    plan |= assemble.dense(f'{block}/mlp/in', f'{layer}.mlp.fc1')
    plan |= assemble.dense(f'{block}/mlp/out', f'{layer}.mlp.fc2')
    plan |= assemble.norm(f'{block}/mlp_norm', f'{layer}.layer_norm2')
  return plan


def plan(kwargs: Mapping[str, Any]) -> dict[str, assemble.Source]:
  """Maps every parameter of a `Clip` to its tensor.

  Args:
    kwargs: from `clip_kwargs`.

  Returns:
    A plan for `assemble.assemble`.
  """
  text, video = kwargs['text'], kwargs['video']
  rows = text['vocabulary_size']
  words = assemble.padded_rows(rows, text_encoder.word_rows(rows))
  source, transpose = assemble.Source, assemble.transpose
  at_text, at_image = 'text_model.embeddings', 'vision_model.embeddings'
  return {
    'text_encoder/word': source(f'{at_text}.token_embedding.weight', words),
    'text_encoder/position': source(
      f'{at_text}.position_embedding.weight', lambda x: x[: text['max_length']]
    ),
    **_blocks('text_encoder', 'text_model', text['depth']),
    **assemble.norm('text_encoder/norm', 'text_model.final_layer_norm'),
    'text_projection/kernel': source('text_projection.weight', transpose),
    'video_encoder/patch_embed/projection/kernel': source(
      f'{at_image}.patch_embedding.weight', _patch_kernel
    ),
    'video_encoder/cls': source(f'{at_image}.class_embedding'),
    'video_encoder/position': source(f'{at_image}.position_embedding.weight'),
    # Misspelt in all public weights.
    **assemble.norm('video_encoder/embed_norm', 'vision_model.pre_layrnorm'),
    **_blocks('video_encoder', 'vision_model', video['depth']),
    **assemble.norm('video_encoder/norm', 'vision_model.post_layernorm'),
    'video_projection/kernel': source('visual_projection.weight', transpose),
    'log_scale': source('logit_scale'),
  }


def load_clip(
  weights: directory.Weights, token_length: int | None = None
) -> tuple[dict[str, Any], Any]:
  """Loads a CLIP completely, or says what does not fit.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per text; the rows of the position table beyond
      it are left out. None keeps them all.

  Returns:
    Keyword arguments of `models.clip.Clip` and its parameters (float32
    numpy).

  Raises:
    ValueError: anything that is missing, left over or does not agree; the
      message names file and tensor.
  """
  kwargs = clip_kwargs(weights, token_length)
  size = kwargs['video']['image_size']

  def init(key):
    texts = (1, kwargs['text']['max_length'])
    return clip.Clip(**kwargs).init(
      key,
      jnp.zeros((1, 1, size, size, 3)),
      jnp.zeros(texts, jnp.int32),
      jnp.ones(texts, bool),
    )

  shapes = jax.eval_shape(init, jax.random.key(0))['params']
  return kwargs, assemble.assemble(weights, plan(kwargs), shapes, _IGNORE)


def load_tokenizer(
  weights: directory.Weights, token_length: int
) -> byte_pairs.BytePairTokenizer:
  """Reads the tokenizer that belongs to the weights.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per text.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is damaged or of another kind, or the size of its
      vocabulary is not config.json's.
  """
  tokenize = byte_pairs.BytePairTokenizer.from_directory(
    weights.path, token_length
  )
  size = _part(weights, 'text_config', _TEXT_DEFAULTS)['vocab_size']
  if tokenize.num_tokens != size:
    raise ValueError(
      f'the tokenizer of {weights.path} has {tokenize.num_tokens} tokens, '
      f'{weights.path}/config.json has vocab_size={size}'
    )
  return tokenize


def _pixels(path: str, key: str, value: Any) -> int:
  """Returns a size, in any form that preprocessor_config.json may have."""
  forms = {'size': {'shortest_edge'}, 'crop_size': {'height', 'width'}}
  if isinstance(value, dict) and set(value) == forms[key]:
    first, *rest = value.values()
    value = first if all(side == first for side in rest) else value
  if not isinstance(value, int):
    raise ValueError(f'{path}: {key}={value!r} is not understood')
  return value


def pixel_settings(weights: directory.Weights) -> dict[str, Any]:
  """Reads the pixel settings of the weights from preprocessor_config.json.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    `size`, `short_side`, `mean` and `std` of `preprocessing.Preprocessing`.

  Raises:
    FileNotFoundError: the file is missing: what it says is part of the
      weights and not guessed.
    ValueError: a setting is missing, of a form that is not known, or does
      not fit the model.
  """
  path, given = f'{weights.path}/preprocessor_config.json', weights.preprocessor
  if not given:
    raise FileNotFoundError(
      f'{path} is missing: size and normalisation belong to the weights'
    )
  missing = {'size', 'crop_size', 'image_mean', 'image_std'} - set(given)
  if missing:
    raise ValueError(f'{path} lacks {sorted(missing)}')
  for key in ('do_resize', 'do_center_crop', 'do_rescale', 'do_normalize'):
    if not given.get(key, True):
      raise ValueError(f'{path}: {key} is false, which is not supported')

  size = _pixels(path, 'crop_size', given['crop_size'])
  expected = _part(weights, 'vision_config', _VISION_DEFAULTS)['image_size']
  if size != expected:
    raise ValueError(
      f'{path}: crop_size {size} is not the image_size {expected} of '
      f'{weights.path}/config.json'
    )
  return {
    'size': size,
    'short_side': _pixels(path, 'size', given['size']),
    'mean': tuple(given['image_mean']),
    'std': tuple(given['image_std']),
  }
