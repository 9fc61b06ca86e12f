"""Loads public SigLIP and SigLIP 2 weights into `models.siglip.Siglip`.

  weights = directory.read_weights('siglip2-base-patch16-224')
  kwargs, params = load_siglip(weights)
  siglip.Siglip(**kwargs).apply({'params': params}, video, ids, mask)

A directory holds config.json (model_type 'siglip'), model.safetensors,
preprocessor_config.json, tokenizer.json and tokenizer_config.json. Both
generations have this model type, unless they take images of any size.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.data import sentence_pieces
from zsar_jax.models import siglip, text_encoder
from zsar_jax.pretrained import (
  assemble,
  clip,
  directory,
  pixels,
  tensor_files,
  video_plan,
)

MODEL_TYPE = 'siglip'
_IGNORE = (r'\.position_ids$',)
# A saved config omits values that equal those of SigLIP-B/16.
_DEFAULTS = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'hidden_act': 'gelu_pytorch_tanh',
  'layer_norm_eps': 1e-6,
}
_TEXT_DEFAULTS = {
  **_DEFAULTS,
  'vocab_size': 32000,
  'max_position_embeddings': 64,
  'projection_size': None,
}
_VISION_DEFAULTS = {
  **_DEFAULTS,
  'image_size': 224,
  'patch_size': 16,
  'vision_use_head': True,
}
# Tokenizer class -> how it frames texts. Both generations were trained on texts
# of one length, and attend to the padding.
_FRAMINGS = {
  'SiglipTokenizer': sentence_pieces.Framing(
    '', '</s>', '</s>', pads_are_read=True, lowercase=True, punctuation=False
  ),
  'GemmaTokenizer': sentence_pieces.Framing(
    '', '<eos>', '<pad>', pads_are_read=True, lowercase=True
  ),
}
_FRAMINGS['Siglip2Tokenizer'] = _FRAMINGS['GemmaTokenizer']


def siglip_kwargs(weights: directory.Weights) -> dict[str, Any]:
  """Reads the architecture from config.json.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Keyword arguments of `models.siglip.Siglip`.

  Raises:
    ValueError: the architecture is another one, or a setting is not supported.
  """
  directory.expect_model_type(weights, MODEL_TYPE)
  text = clip.config_part(weights, 'text_config', _TEXT_DEFAULTS)
  vision = clip.config_part(weights, 'vision_config', _VISION_DEFAULTS)
  for key in ('hidden_act', 'layer_norm_eps', 'vision_use_head'):
    # The pooling head supports only these values.
    if vision[key] != _VISION_DEFAULTS[key]:
      raise ValueError(
        f'{weights.path}/config.json: vision_config has {key}={vision[key]!r}, '
        f'expected {_VISION_DEFAULTS[key]!r}'
      )
  patch = vision['patch_size']
  return {
    'video': {
      **clip.encoder_kwargs(weights, vision),
      'tubelet_size': (1, patch, patch),
      'pooling': 'attention',
      'positions': 'full',
    },
    'text': {
      **clip.encoder_kwargs(weights, text),
      'vocabulary_size': text['vocab_size'],
      'max_length': text['max_position_embeddings'],
      'causal': False,
      'pooled_token': 'last',
    },
    'embedding_dim': text['projection_size'] or text['hidden_size'],
  }


def _pool_plan(target: str, name: str) -> dict[str, assemble.Source]:
  """Plans the attention pool; PyTorch stores query, key, value together."""
  source = assemble.Source
  plan = {f'{target}/query': source(f'{name}.probe', lambda x: x[0])}
  at = f'{name}.attention'
  for i, part in enumerate(('query', 'key', 'value')):
    third = lambda x, i=i: np.split(x, 3)[i]
    plan |= {
      f'{target}/attention/{part}/kernel': source(
        f'{at}.in_proj_weight', lambda x, third=third: third(x).T
      ),
      f'{target}/attention/{part}/bias': source(f'{at}.in_proj_bias', third),
    }
  return plan | {
    **assemble.dense(f'{target}/attention/out', f'{at}.out_proj'),
    **assemble.norm(f'{target}/mlp_norm', f'{name}.layernorm'),
    **assemble.dense(f'{target}/mlp/in', f'{name}.mlp.fc1'),
    **assemble.dense(f'{target}/mlp/out', f'{name}.mlp.fc2'),
  }


def plan(
  kwargs: Mapping[str, Any], grid: tuple[int, int]
) -> dict[str, assemble.Source]:
  """Maps every parameter of a `Siglip` to its tensor.

  Args:
    kwargs: from `siglip_kwargs`.
    grid: number of patches along height and width.

  Returns:
    A plan for `assemble.assemble`.
  """
  text, video = kwargs['text'], kwargs['video']
  rows = text['vocabulary_size']
  words = assemble.padded_rows(rows, text_encoder.word_rows(rows))
  source = assemble.Source
  at_text, at_image = 'text_model.embeddings', 'vision_model.embeddings'
  patches = f'{at_image}.patch_embedding'
  projection = 'video_encoder/tubelet_embed/projection'
  return {
    'text_encoder/word': source(f'{at_text}.token_embedding.weight', words),
    'text_encoder/position': source(f'{at_text}.position_embedding.weight'),
    **clip.encoder_blocks('text_encoder', 'text_model', text['depth']),
    **assemble.norm('text_encoder/norm', 'text_model.final_layer_norm'),
    **assemble.dense('text_projection', 'text_model.head'),
    f'{projection}/kernel': source(
      f'{patches}.weight',
      lambda x: video_plan.tubelet_kernel(x, 1, 'centre'),
    ),
    f'{projection}/bias': source(f'{patches}.bias'),
    'video_encoder/position': source(
      f'{at_image}.position_embedding.weight',
      lambda x: x.reshape(1, *grid, -1),
    ),
    **clip.encoder_blocks('video_encoder', 'vision_model', video['depth']),
    **assemble.norm('video_encoder/norm', 'vision_model.post_layernorm'),
    **_pool_plan('video_encoder/pool', 'vision_model.head'),
    'log_scale': source('logit_scale', lambda x: x.reshape(())),
    'logit_bias': source('logit_bias', lambda x: x.reshape(())),
  }


def load_siglip(weights: directory.Weights) -> tuple[dict[str, Any], Any]:
  """Loads a SigLIP.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Keyword arguments of `models.siglip.Siglip` and its parameters (float32
    numpy).

  Raises:
    ValueError: a tensor or setting is missing, left over or does not fit. The
      message names file and tensor.
  """
  kwargs = siglip_kwargs(weights)
  vision = clip.config_part(weights, 'vision_config', _VISION_DEFAULTS)
  size = vision['image_size']

  def init(key):
    texts = (1, kwargs['text']['max_length'])
    return siglip.Siglip(**kwargs).init(
      key,
      jnp.zeros((1, 1, size, size, 3)),
      jnp.zeros(texts, jnp.int32),
      jnp.ones(texts, bool),
    )

  shapes = jax.eval_shape(init, jax.random.key(0))['params']
  grid = (size // vision['patch_size'],) * 2
  return kwargs, assemble.assemble(weights, plan(kwargs, grid), shapes, _IGNORE)


def load_tokenizer(
  weights: directory.Weights,
) -> sentence_pieces.SentencePieceTokenizer:
  """Reads the tokenizer that belongs to the weights.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    The tokenizer, with the text length of the training.

  Raises:
    FileNotFoundError: tokenizer.json or tokenizer_config.json is missing.
    ValueError: the tokenizer is damaged, of another kind, or has more tokens
      than the model.
  """
  text = clip.config_part(weights, 'text_config', _TEXT_DEFAULTS)
  path = weights.file('tokenizer_config.json')
  settings = tensor_files.read_json(path)
  kind = str(settings.get('tokenizer_class')).removesuffix('Fast')
  if kind not in _FRAMINGS:
    raise ValueError(
      f'{path}: tokenizer_class is {kind!r}, expected one of '
      f'{sorted(_FRAMINGS)}'
    )
  if settings.get('padding_side', 'right') != 'right':
    raise ValueError(f'{path}: texts are padded on the left; expected right')
  definition = sentence_pieces.make_definition(weights.path, _FRAMINGS[kind])
  read = sentence_pieces.SentencePieceTokenizer(
    definition, text['max_position_embeddings']
  )
  if read.num_tokens > text['vocab_size']:
    raise ValueError(
      f'the tokenizer of {weights.path} has {read.num_tokens} tokens, '
      f'{weights.path}/config.json has vocab_size={text["vocab_size"]}'
    )
  return read


def pixel_settings(weights: directory.Weights) -> dict[str, Any]:
  """Reads the pixel settings of the weights; see `pixels.read`."""
  vision = clip.config_part(weights, 'vision_config', _VISION_DEFAULTS)
  return pixels.read(weights, vision['image_size'])
