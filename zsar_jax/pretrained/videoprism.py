"""Loads public VideoPrism-LvT weights into `models.videoprism.VideoPrism`.

  weights = directory.read_weights('videoprism-lvt-base-f16r288')
  kwargs, params = load_videoprism(weights)
  model = videoprism.VideoPrism(**kwargs)
  model.apply({'params': params}, clip, ids, mask)

A directory holds config.json (model_type 'videoprism'), model.safetensors,
video_preprocessor_config.json and tokenizer.json.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.data import sentence_pieces
from zsar_jax.models import text_encoder, videoprism
from zsar_jax.pretrained import assemble, clip, directory, pixels, video_plan

MODEL_TYPE = 'videoprism'
# The weights hold no scale. Our choice: a temperature of 0.01.
SCALE = 100.0
# Fixed positions; the model computes them.
_IGNORE = (r'\.position_ids$', r'^text_model\.embeddings\.position_embedding$')
# A saved config omits values that equal those of LvT-B.
_DEFAULTS = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_attention_heads': 12,
  'layer_norm_eps': 1e-6,
  'attn_logit_softcapping': 50.0,
  'qkv_bias': True,
}
_TEXT_DEFAULTS = {
  **_DEFAULTS,
  'vocab_size': 32000,
  'num_hidden_layers': 12,
  'max_position_embeddings': 64,
  'hidden_act': 'relu',
}
_VISION_DEFAULTS = {
  **_DEFAULTS,
  'image_size': 288,
  'num_frames': 16,
  'tubelet_size': (1, 18, 18),
  'num_spatial_layers': 12,
  'num_temporal_layers': 4,
  'num_auxiliary_layers': 2,
  'hidden_act': 'gelu_python',
}
# All public models share these values; the network supports no others.
_FIXED = ('hidden_act', 'layer_norm_eps', 'qkv_bias')
_HEAD = 'video_model.head'
# 1 / ln 2: an untrained scale, softplus(0) = ln 2, becomes 1.
_SCALE_OF_ZERO = 1 / np.log(2)


def _part(weights: directory.Weights, name: str) -> dict[str, Any]:
  defaults = _TEXT_DEFAULTS if name == 'text_config' else _VISION_DEFAULTS
  part = clip.config_part(weights, name, defaults)
  for key in _FIXED:
    if part[key] != defaults[key]:
      raise ValueError(
        f'{weights.path}/config.json: {name} has {key}={part[key]!r}, '
        f'expected {defaults[key]!r}'
      )
  return part


def videoprism_kwargs(weights: directory.Weights) -> dict[str, Any]:
  """Reads the architecture from config.json.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Keyword arguments of `models.videoprism.VideoPrism`.

  Raises:
    ValueError: the architecture is another one, or a setting is not supported.
  """
  directory.expect_model_type(weights, MODEL_TYPE)
  text, vision = _part(weights, 'text_config'), _part(weights, 'vision_config')
  for part in (text, vision):
    directory.check_heads(
      weights, part['hidden_size'], part['num_attention_heads']
    )
  shared = lambda part: dict(
    width=part['hidden_size'],
    num_heads=part['num_attention_heads'],
    mlp_dim=part['intermediate_size'],
    softcap=part['attn_logit_softcapping'],
  )
  kinds = ('spatial', 'temporal', 'auxiliary')
  return {
    'video': dict(
      **shared(vision),
      depth=tuple(vision[f'num_{kind}_layers'] for kind in kinds),
      tubelet_size=tuple(vision['tubelet_size']),
    ),
    'text': dict(
      **shared(text),
      depth=text['num_hidden_layers'],
      vocabulary_size=text['vocab_size'],
      max_length=text['max_position_embeddings'],
    ),
  }


def _norm(target: str, name: str) -> dict[str, assemble.Source]:
  """Plans a norm; the file stores its scale minus one."""
  plan = assemble.norm(target, name)
  plan[f'{target}/scale'] = assemble.Source(f'{name}.weight', lambda x: x + 1)
  return plan


def _attention(target: str, name: str) -> dict[str, assemble.Source]:
  plan = {}
  for part in ('query', 'key', 'value', 'out'):
    plan |= assemble.dense(f'{target}/{part}', f'{name}.{part[0]}_proj')
  return plan


def _blocks(target: str, name: str, depth: int) -> dict[str, assemble.Source]:
  plan = {}
  for i in range(depth):
    block, layer = f'{target}/block_{i}', f'{name}.{i}'
    plan |= _attention(f'{block}/attention', f'{layer}.attention')
    plan |= _norm(f'{block}/attention_norm', f'{layer}.layernorm_before')
    plan |= _norm(f'{block}/mlp_norm', f'{layer}.layernorm_after')
    plan |= assemble.dense(f'{block}/mlp/in', f'{layer}.mlp.fc1')
    plan |= assemble.dense(f'{block}/mlp/out', f'{layer}.mlp.fc2')
  return plan


def _fold_scale(weights: directory.Weights, heads: int) -> directory.Weights:
  """Multiplies the attention pool's queries by its learnt scale."""
  names = [f'{_HEAD}.{x}' for x in ('per_dim_scale', 'q_proj.weight')]
  missing = [name for name in names if name not in weights.tensors]
  if missing:
    raise ValueError(
      f'{weights.path} has no {missing}: only LvT, the VideoPrism with a text '
      'encoder, is supported'
    )
  tensors = dict(weights.tensors)
  learnt = np.asarray(tensors.pop(names[0]), np.float32)
  scale = np.tile(np.logaddexp(0, learnt) * _SCALE_OF_ZERO, heads)
  for name, factor in (('weight', scale[:, None]), ('bias', scale)):
    name = f'{_HEAD}.q_proj.{name}'
    tensors[name] = tensors[name] * factor
  return dataclasses.replace(weights, tensors=tensors)


def plan(kwargs: Mapping[str, Any]) -> dict[str, assemble.Source]:
  """Maps every parameter of a `VideoPrism` to its tensor.

  Args:
    kwargs: from `videoprism_kwargs`.

  Returns:
    A plan for `assemble.assemble`.
  """
  text, depth = kwargs['text'], kwargs['video']['depth']
  words = assemble.padded_rows(
    text['vocabulary_size'], text_encoder.word_rows(text['vocabulary_size'])
  )
  source, first = assemble.Source, lambda x: x[0]
  ours, theirs = 'video_encoder', 'video_model.vision_model'
  patches = f'{theirs}.spatial_embeddings.patch_embeddings.projection'
  return {
    f'{ours}/tubelet_embed/projection/kernel': source(
      f'{patches}.weight',
      lambda x: video_plan.tubelet_kernel(x, x.shape[2], 'centre'),
    ),
    f'{ours}/tubelet_embed/projection/bias': source(f'{patches}.bias'),
    f'{ours}/space/position': source(
      f'{theirs}.spatial_embeddings.position_embeddings', first
    ),
    f'{ours}/time/position': source(
      f'{theirs}.temporal_embeddings.position_embeddings', first
    ),
    **_blocks(f'{ours}/space', f'{theirs}.spatial_layers', depth[0]),
    **_norm(f'{ours}/space/norm', f'{theirs}.layernorm1'),
    **_blocks(f'{ours}/time', f'{theirs}.temporal_layers', depth[1]),
    **_norm(f'{ours}/time/norm', f'{theirs}.layernorm2'),
    **_blocks(f'{ours}/both', 'video_model.auxiliary_layers', depth[2]),
    f'{ours}/pool/query': source(f'{_HEAD}.pooling_attention_query', first),
    **_attention(f'{ours}/pool/attention', _HEAD),
    **_norm(f'{ours}/pool/norm', 'video_model.head_layernorm'),
    'text_encoder/word': source(
      'text_model.embeddings.token_embedding.weight', words
    ),
    'text_encoder/cls': source('text_model.embeddings.cls_emb', first),
    **_blocks('text_encoder/stack', 'text_model.layers', text['depth']),
    **_norm('text_encoder/stack/norm', 'text_model.layernorm'),
  }


def load_videoprism(weights: directory.Weights) -> tuple[dict[str, Any], Any]:
  """Loads a VideoPrism-LvT.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Keyword arguments of `models.videoprism.VideoPrism` and its parameters
    (float32 numpy).

  Raises:
    ValueError: a tensor or setting is missing, left over or does not fit. The
      message names file and tensor.
  """
  kwargs = videoprism_kwargs(weights)
  vision = _part(weights, 'vision_config')
  size = vision['image_size']

  def init(key):
    return videoprism.VideoPrism(**kwargs).init(
      key,
      jnp.zeros((1, vision['num_frames'], size, size, 3)),
      jnp.zeros((1, 2), jnp.int32),
      jnp.ones((1, 2), bool),
    )

  shapes = jax.eval_shape(init, jax.random.key(0))['params']
  return kwargs, assemble.assemble(
    _fold_scale(weights, vision['num_attention_heads']),
    plan(kwargs),
    shapes,
    _IGNORE,
  )


def load_tokenizer(
  weights: directory.Weights,
) -> sentence_pieces.SentencePieceTokenizer:
  """Reads the tokenizer of the weights: T5's, without an end token.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    The tokenizer, with the model's text length.

  Raises:
    FileNotFoundError: tokenizer.json is missing.
    ValueError: it is damaged.
  """
  framing = sentence_pieces.Framing('', '', '<pad>')
  return sentence_pieces.SentencePieceTokenizer(
    sentence_pieces.make_definition(weights.path, framing),
    _part(weights, 'text_config')['max_position_embeddings'],
  )


def native_frames(weights: directory.Weights) -> int:
  """Returns the number of frames of a clip."""
  return _part(weights, 'vision_config')['num_frames']


def pixel_settings(weights: directory.Weights) -> dict[str, Any]:
  """Reads the pixel settings of the weights; see `pixels.read`."""
  return pixels.read(weights, _part(weights, 'vision_config')['image_size'])
