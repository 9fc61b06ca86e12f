"""Loads public CLIP weights into `models.clip.Clip`.

  weights = directory.read_weights('clip-vit-base-patch32')
  kwargs, params = load_clip(weights)
  clip.Clip(**kwargs).apply({'params': params}, video, ids, mask)

A directory holds config.json (with a model_type of MODEL_TYPES),
model.safetensors, preprocessor_config.json and tokenizer.json, or vocab.json
and merges.txt instead of the last.

The two encoders and their projections are subtrees of `params`. So a model that
shares only one encoder can take its subtree.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.data import byte_pairs, sentence_pieces
from zsar_jax.models import clip, text_encoder
from zsar_jax.pretrained import assemble, directory, pixels

# MetaCLIP 2 is a CLIP with another tokenizer; X-CLIP has layers for videos.
MODEL_TYPES = ('clip', 'metaclip_2', 'xclip')
# Tensors that are not needed: position ids 0, 1, ... of old files, and X-CLIP's
# prompt generator. The generator adapts a name's embedding to each video, but a
# bank needs one embedding per name.
_IGNORE = (r'\.position_ids$',)
_XCLIP_IGNORE = (*_IGNORE, r'^prompts_(generator|visual)')
_ATTENTION_PARTS = (
  ('query', 'q_proj'),
  ('key', 'k_proj'),
  ('value', 'v_proj'),
  ('out', 'out_proj'),
)
# A saved config omits values that equal those of CLIP ViT-B/32.
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
  # Only of X-CLIP.
  'num_frames': 8,
  'mit_hidden_size': 512,
  'mit_intermediate_size': 2048,
  'mit_num_hidden_layers': 1,
  'mit_num_attention_heads': 8,
}


def config_part(
  weights: directory.Weights, name: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """Reads a part of config.json.

  Args:
    weights: from `directory.read_weights`.
    name: 'text_config' or 'vision_config'.
    defaults: values that a saved config may omit.

  Returns:
    The defaults, updated by the part.

  Raises:
    ValueError: see `directory.part_settings`.
  """
  # If both keys exist, transformers reads the one that ends in _dict.
  given = weights.config.get(f'{name}_dict') or weights.config.get(name)
  return directory.part_settings(weights, name, defaults, given)


def encoder_kwargs(
  weights: directory.Weights, part: Mapping[str, Any]
) -> dict[str, Any]:
  """Reads the sizes of a Transformer.

  Args:
    weights: from `directory.read_weights`, for messages.
    part: from `config_part`.

  Returns:
    The keyword arguments that all encoders share.

  Raises:
    ValueError: the activation is not supported, or the heads do not divide
      the width.
  """
  directory.check_heads(
    weights, part['hidden_size'], part['num_attention_heads']
  )
  return {
    'width': part['hidden_size'],
    'depth': part['num_hidden_layers'],
    'num_heads': part['num_attention_heads'],
    'mlp_dim': part['intermediate_size'],
    'activation': directory.activation(weights, part['hidden_act']),
    'norm_epsilon': part['layer_norm_eps'],
  }


def _xclip_kwargs(
  weights: directory.Weights, vision: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the keyword arguments that only `XClipVideoEncoder` has."""
  part = {**vision, **{k[4:]: x for k, x in vision.items() if k[:4] == 'mit_'}}
  kwargs = encoder_kwargs(weights, part)
  del kwargs['width']
  return {
    'embedding_dim': directory.setting(weights, 'projection_dim', 512),
    'integration': {**kwargs, 'num_frames': vision['num_frames']},
  }


def clip_kwargs(
  weights: directory.Weights, token_length: int | None = None
) -> dict[str, Any]:
  """Reads the architecture from config.json.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per text; None takes the number of positions.

  Returns:
    Keyword arguments of `models.clip.Clip`.

  Raises:
    ValueError: the architecture is another one, the activation is not
      supported, or there are fewer positions than `token_length`.
  """
  kind = directory.expect_model_type(weights, *MODEL_TYPES)
  text = config_part(weights, 'text_config', _TEXT_DEFAULTS)
  vision = config_part(weights, 'vision_config', _VISION_DEFAULTS)
  positions = text['max_position_embeddings']
  if token_length is not None and token_length > positions:
    raise ValueError(
      f'{weights.path}/config.json: max_position_embeddings={positions}, '
      f'fewer than token_length={token_length}'
    )
  is_xclip = kind == 'xclip'
  return {
    'video': {
      **encoder_kwargs(weights, vision),
      'image_size': vision['image_size'],
      'patch_size': vision['patch_size'],
      **(_xclip_kwargs(weights, vision) if is_xclip else {}),
    },
    'text': {
      **encoder_kwargs(weights, text),
      'vocabulary_size': text['vocab_size'],
      'max_length': token_length or positions,
      'end_id': text['eos_token_id'],
      **({'pooled_token': 'exact_end'} if kind == 'metaclip_2' else {}),
    },
    'embedding_dim': directory.setting(weights, 'projection_dim', 512),
  }


def _patch_kernel(x: np.ndarray) -> np.ndarray:
  """Turns a convolution [out in h w] into a tubelet kernel [h*w*in out]."""
  return assemble.conv2d_kernel(x).reshape(-1, len(x))


def encoder_blocks(
  target: str, name: str, depth: int
) -> dict[str, assemble.Source]:
  """Plans the blocks of a Transformer.

  Args:
    target: path of our encoder.
    name: name of the encoder in the file.
    depth: number of blocks.

  Returns:
    A plan for `assemble.assemble`.
  """
  plan = {}
  for i in range(depth):
    block, layer = f'{target}/block_{i}', f'{name}.encoder.layers.{i}'
    for ours, theirs in _ATTENTION_PARTS:
      plan |= assemble.dense(
        f'{block}/attention/{ours}', f'{layer}.self_attn.{theirs}'
      )
    plan |= assemble.norm(f'{block}/attention_norm', f'{layer}.layer_norm1')
    plan |= assemble.dense(f'{block}/mlp/in', f'{layer}.mlp.fc1')
    plan |= assemble.dense(f'{block}/mlp/out', f'{layer}.mlp.fc2')
    plan |= assemble.norm(f'{block}/mlp_norm', f'{layer}.layer_norm2')
  return plan


def _xclip_plan(kwargs: Mapping[str, Any]) -> dict[str, assemble.Source]:
  """Plans what `XClipVideoEncoder` adds: messages and the integration."""
  integration = 'video_encoder/integration'
  plan = {
    f'{integration}/position': assemble.Source(
      'mit.position_embedding', lambda x: x[0]
    ),
    **encoder_blocks(integration, 'mit', kwargs['integration']['depth']),
  }
  for i in range(kwargs['depth']):
    ours = f'video_encoder/messages_{i}'
    theirs = f'vision_model.encoder.layers.{i}.message'
    plan |= assemble.dense(f'{ours}/dense', f'{theirs}_fc')
    plan |= assemble.norm(f'{ours}/norm', f'{theirs}_ln')
    for part, name in _ATTENTION_PARTS:
      plan |= assemble.dense(
        f'{ours}/attention/{part}', f'{theirs}_attn.{name}'
      )
  return plan


def plan(kwargs: Mapping[str, Any]) -> dict[str, assemble.Source]:
  """Maps every parameter of a `Clip` to its tensor.

  Args:
    kwargs: from `clip_kwargs`.

  Returns:
    A plan for `assemble.assemble`.
  """
  text, video = kwargs['text'], kwargs['video']
  is_xclip = 'integration' in video
  at = 'video_encoder/' if is_xclip else 'video_'
  rows = text['vocabulary_size']
  words = assemble.padded_rows(rows, text_encoder.word_rows(rows))
  source, transpose = assemble.Source, assemble.transpose
  at_text, at_image = 'text_model.embeddings', 'vision_model.embeddings'
  return {
    'text_encoder/word': source(f'{at_text}.token_embedding.weight', words),
    'text_encoder/position': source(
      f'{at_text}.position_embedding.weight', lambda x: x[: text['max_length']]
    ),
    **encoder_blocks('text_encoder', 'text_model', text['depth']),
    **assemble.norm('text_encoder/norm', 'text_model.final_layer_norm'),
    'text_projection/kernel': source('text_projection.weight', transpose),
    'video_encoder/patch_embed/projection/kernel': source(
      f'{at_image}.patch_embedding.weight', _patch_kernel
    ),
    'video_encoder/cls': source(f'{at_image}.class_embedding'),
    'video_encoder/position': source(f'{at_image}.position_embedding.weight'),
    # All public weights except X-CLIP's misspell this name.
    **assemble.norm(
      'video_encoder/embed_norm',
      f'vision_model.pre_lay{"er" if is_xclip else "r"}norm',
    ),
    **encoder_blocks('video_encoder', 'vision_model', video['depth']),
    **assemble.norm('video_encoder/norm', 'vision_model.post_layernorm'),
    f'{at}projection/kernel': source('visual_projection.weight', transpose),
    'log_scale': source('logit_scale'),
    **(_xclip_plan(video) if is_xclip else {}),
  }


def native_frames(weights: directory.Weights) -> int | None:
  """Returns the number of frames of a clip; None for any number."""
  if weights.config['model_type'] != 'xclip':
    return None
  return config_part(weights, 'vision_config', _VISION_DEFAULTS)['num_frames']


def load_clip(
  weights: directory.Weights, token_length: int | None = None
) -> tuple[dict[str, Any], Any]:
  """Loads a CLIP.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per text. Rows of the position table beyond it are
      dropped. None keeps them all.

  Returns:
    Keyword arguments of `models.clip.Clip` and its parameters (float32
    numpy).

  Raises:
    ValueError: a tensor or setting is missing, left over or does not fit. The
      message names file and tensor.
  """
  kwargs = clip_kwargs(weights, token_length)
  size = kwargs['video']['image_size']
  frames = native_frames(weights) or 1

  def init(key):
    texts = (1, kwargs['text']['max_length'])
    return clip.Clip(**kwargs).init(
      key,
      jnp.zeros((1, frames, size, size, 3)),
      jnp.zeros(texts, jnp.int32),
      jnp.ones(texts, bool),
    )

  shapes = jax.eval_shape(init, jax.random.key(0))['params']
  ignore = _XCLIP_IGNORE if native_frames(weights) else _IGNORE
  return kwargs, assemble.assemble(weights, plan(kwargs), shapes, ignore)


def load_tokenizer(
  weights: directory.Weights, token_length: int
) -> byte_pairs.BytePairTokenizer | sentence_pieces.SentencePieceTokenizer:
  """Reads the tokenizer that belongs to the weights.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per text.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: the tokenizer is missing.
    ValueError: it is damaged or of another kind, or its vocabulary size or end
      token is not that of config.json.
  """
  text = config_part(weights, 'text_config', _TEXT_DEFAULTS)
  size = text['vocab_size']
  if weights.config['model_type'] == 'metaclip_2':
    framing = sentence_pieces.Framing('<s>', '</s>', '<pad>')
    definition = sentence_pieces.make_definition(weights.path, framing)
    read = sentence_pieces.SentencePieceTokenizer(definition, token_length)
    if read.end_id != text['eos_token_id']:
      raise ValueError(
        f'the tokenizer of {weights.path} ends texts with {read.end_id}, '
        f'{weights.path}/config.json has eos_token_id={text["eos_token_id"]}'
      )
  else:
    read = byte_pairs.BytePairTokenizer.from_directory(
      weights.path, token_length
    )
  if read.num_tokens != size:
    raise ValueError(
      f'the tokenizer of {weights.path} has {read.num_tokens} tokens, '
      f'{weights.path}/config.json has vocab_size={size}'
    )
  return read


def pixel_settings(weights: directory.Weights) -> dict[str, Any]:
  """Reads the pixel settings of the weights.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    See `pixels.read`.

  Raises:
    FileNotFoundError, ValueError: see `pixels.read`.
  """
  vision = config_part(weights, 'vision_config', _VISION_DEFAULTS)
  return pixels.read(weights, vision['image_size'])
