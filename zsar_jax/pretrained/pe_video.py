"""Public Perception Encoder video weights for `models.pe_video.PeVideo`.

  weights = directory.read_weights('pe-av-large')
  kwargs, params = load_pe_video(weights)
  model = pe_video.PeVideo(**kwargs)
  model.apply({'params': params}, clip, ids, mask)

A directory holds config.json (model_type 'pe_video', or 'pe_audio_video', of
which the sides of videos and texts are taken), model.safetensors, what the
video processor does, and tokenizer.json.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.data import sentence_pieces
from zsar_jax.models import pe_video
from zsar_jax.pretrained import (
  assemble,
  directory,
  modern_bert,
  pixels,
  video_plan,
)

_ALONE, _WITH_AUDIO = MODEL_TYPES = ('pe_video', 'pe_audio_video')
# The weights' own scale is for products of vectors that are no unit vectors.
# Our choice for cosines: a temperature of 0.01.
SCALE = 100.0
# The names of classes are short; the weights read longer texts.
_TOKEN_LENGTH = 64
# Of the published weights those that see a fixed number of frames see 16.
_FRAMES = 16
# Buffers that older versions of timm saved.
_IGNORE = (r'\.rope\.(bands|pos_embed)$',)
_TEXT_DEFAULTS = {
  'hidden_size': 1024,
  'intermediate_size': 2624,
  'num_hidden_layers': 22,
  'num_attention_heads': 16,
}
_VIDEO_DEFAULTS = {
  'hidden_size': 1792,
  'intermediate_size': 4800,
  'num_hidden_layers': 6,
  'num_attention_heads': 14,
  'num_key_value_heads': None,
  'head_dim': 128,
  'hidden_act': 'silu',
  'rms_norm_eps': 1e-5,
  'attention_bias': False,
}
_THETA = 20_000.0
_POOL = {'attn_pool_num_heads': 8, 'attn_pool_mlp_ratio': 4.0, 'mlp_ratio': 4.0}


def _tower(size, patch, width, depth, heads, **rest) -> dict[str, Any]:
  """A tower of timm under timm's names; square, of its training's grid."""
  return {
    **_POOL,
    'img_size': size,
    'patch_size': patch,
    'embed_dim': width,
    'depth': depth,
    'num_heads': heads,
    'class_token': True,
    'ref_feat_shape': (size // patch,) * 2,
    **rest,
  }


# Bolya et al. 2025, under timm's names.
_TOWERS = {
  'vit_pe_core_tiny_patch16_384': _tower(384, 16, 192, 12, 3),
  'vit_pe_core_small_patch16_384': _tower(384, 16, 384, 12, 6),
  'vit_pe_core_base_patch16_224': _tower(224, 16, 768, 12, 12),
  'vit_pe_core_large_patch14_336': _tower(336, 14, 1024, 24, 16),
  'vit_pe_core_gigantic_patch14_448': _tower(
    448, 14, 1536, 50, 16, class_token=False, mlp_ratio=8960 / 1536
  ),
}
_TIMM = 'video_encoder.embedder.vision_model.timm_model'


def _part(weights: directory.Weights, name: str, defaults) -> dict[str, Any]:
  config = weights.config
  if name == 'video_config' and config['model_type'] == _WITH_AUDIO:
    config = config.get('audio_video_config') or {}
  return directory.part_settings(weights, name, defaults, config.get(name))


def _tower_settings(weights: directory.Weights) -> dict[str, Any]:
  """The image tower's settings: those of its name, and what is changed."""
  video = _part(weights, 'video_config', _VIDEO_DEFAULTS)
  vision = video.get('vision_config') or {}
  name = vision.get('architecture', 'vit_pe_core_large_patch14_336')
  name = name.partition('.')[0]
  if name not in _TOWERS:
    raise ValueError(
      f'{weights.path}/config.json: the image tower {name!r} is not one of '
      f'{sorted(_TOWERS)}'
    )
  changed = vision.get('model_args') or {}
  unknown = sorted(set(changed) - set(_TOWERS[name]))
  if unknown:
    raise ValueError(
      f'{weights.path}/config.json: model_args has {unknown}, known are '
      f'{sorted(_TOWERS[name])}'
    )
  return directory.part_settings(weights, 'model_args', _TOWERS[name], changed)


def _frame_kwargs(weights: directory.Weights) -> dict[str, Any]:
  tower = _tower_settings(weights)
  head = f'{_TIMM}.head.weight'
  if head not in weights.tensors:
    raise ValueError(f'{weights.path}: tensor {head!r} is missing')
  width, reference = tower['embed_dim'], tower['ref_feat_shape']
  return {
    'width': width,
    'depth': tower['depth'],
    'num_heads': tower['num_heads'],
    'mlp_dim': int(width * tower['mlp_ratio']),
    'patch_size': tower['patch_size'],
    'grid': tuple(reference),
    'has_cls': tower['class_token'],
    'pool_heads': tower['attn_pool_num_heads'],
    'pool_mlp_dim': int(width * tower['attn_pool_mlp_ratio']),
    # transformers counts the dimensions as labels, which configs do not keep.
    'features': weights.tensors[head].shape[0],
  }


def _clip_kwargs(weights: directory.Weights) -> dict[str, Any]:
  part = _part(weights, 'video_config', _VIDEO_DEFAULTS)
  heads = part['num_attention_heads']
  grouped = part['num_key_value_heads'] or heads
  if grouped != heads or part['attention_bias']:
    raise ValueError(
      f'{weights.path}/config.json: video_config has '
      f'num_key_value_heads={grouped} and attention_bias='
      f'{part["attention_bias"]}, expected {heads} and False'
    )
  return {
    'width': part['hidden_size'],
    'depth': part['num_hidden_layers'],
    'num_heads': heads,
    'head_dim': part['head_dim'],
    'mlp_dim': part['intermediate_size'],
    'theta': modern_bert.rope_theta(
      weights, part.get('rope_parameters') or {}, _THETA
    ),
    'activation': directory.activation(weights, part['hidden_act']),
    'norm_epsilon': part['rms_norm_eps'],
  }


def pe_video_kwargs(weights: directory.Weights) -> dict[str, Any]:
  """Reads the architecture from config.json.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Keyword arguments of `models.pe_video.PeVideo`.

  Raises:
    ValueError: another architecture, or a kind of it that is not known.
  """
  directory.expect_model_type(weights, *MODEL_TYPES)
  weights = _without_audio(weights)
  text = _part(weights, 'text_config', _TEXT_DEFAULTS)
  kind = text.get('model_type', 'modernbert')
  if kind != 'modernbert':
    raise ValueError(
      f'{weights.path}/config.json: text_config is of a {kind!r}, expected '
      "'modernbert'"
    )
  return {
    'video': {
      'frames': _frame_kwargs(weights),
      'clips': _clip_kwargs(weights),
    },
    'text': modern_bert.kwargs_of(weights, text, _TOKEN_LENGTH),
  }


def _without_audio(weights: directory.Weights) -> directory.Weights:
  """The tensors of the video model, under the names that it has alone."""
  if weights.config['model_type'] == _ALONE:
    return weights
  tensors, origin = {}, {}
  # The text side, and the video side, may be stored at any of the places that
  # share them.
  for place, name in (
    ('video_model.', ''),
    ('audio_video_encoder.embedder.video_encoder.', 'video_encoder.'),
    ('text_model.', 'text_model.'),
    ('audio_model.text_model.', 'text_model.'),
  ):
    for key, x in weights.tensors.items():
      if key.startswith(place):
        ours = name + key.removeprefix(place)
        if ours not in tensors:
          tensors[ours], origin[ours] = x, weights.origin[key]
  return dataclasses.replace(weights, tensors=tensors, origin=origin)


def _frame_plan(kwargs: Mapping[str, Any]) -> dict[str, assemble.Source]:
  source, at = assemble.Source, 'video_encoder/frames'

  def split(target, name, parts):
    plan = {}
    for i, part in enumerate(parts):
      take = lambda x, i=i: np.split(x, len(parts))[i]
      plan[f'{target}/{part}/bias'] = source(f'{name}.bias', take)
      plan[f'{target}/{part}/kernel'] = source(
        f'{name}.weight', lambda x, take=take: take(x).T
      )
    return plan

  def mlp(target, name):
    return {
      **assemble.dense(f'{target}/in', f'{name}.fc1'),
      **assemble.dense(f'{target}/out', f'{name}.fc2'),
    }

  plan = {
    f'{at}/tubelet_embed/projection/kernel': source(
      f'{_TIMM}.patch_embed.proj.weight',
      lambda x: video_plan.tubelet_kernel(x, 1, 'centre'),
    ),
    f'{at}/cls': source(f'{_TIMM}.cls_token', lambda x: x[0]),
    f'{at}/position': source(f'{_TIMM}.pos_embed', lambda x: x[0]),
    **assemble.norm(f'{at}/embed_norm', f'{_TIMM}.norm_pre'),
    **assemble.norm(f'{at}/norm', f'{_TIMM}.norm'),
    f'{at}/pool/query': source(f'{_TIMM}.attn_pool.latent', lambda x: x[0]),
    **assemble.dense(f'{at}/pool/attention/query', f'{_TIMM}.attn_pool.q'),
    **split(f'{at}/pool/attention', f'{_TIMM}.attn_pool.kv', ('key', 'value')),
    **assemble.dense(f'{at}/pool/attention/out', f'{_TIMM}.attn_pool.proj'),
    **assemble.norm(f'{at}/pool/mlp_norm', f'{_TIMM}.attn_pool.norm'),
    **mlp(f'{at}/pool/mlp', f'{_TIMM}.attn_pool.mlp'),
    **assemble.dense(f'{at}/head', f'{_TIMM}.head'),
  }
  for i in range(kwargs['depth']):
    block, layer = f'{at}/block_{i}', f'{_TIMM}.blocks.{i}'
    plan |= split(
      f'{block}/attention', f'{layer}.attn.qkv', ('query', 'key', 'value')
    )
    plan |= assemble.dense(f'{block}/attention/out', f'{layer}.attn.proj')
    plan |= assemble.norm(f'{block}/attention_norm', f'{layer}.norm1')
    plan |= assemble.norm(f'{block}/mlp_norm', f'{layer}.norm2')
    plan |= mlp(f'{block}/mlp', f'{layer}.mlp')
  return plan


def _clip_plan(kwargs: Mapping[str, Any]) -> dict[str, assemble.Source]:
  source = assemble.Source
  at, name = 'video_encoder/clips', 'video_encoder'
  kernel = lambda target, tensor: {
    f'{target}/kernel': source(f'{tensor}.weight', assemble.transpose)
  }
  scale = lambda target, tensor: {f'{target}/scale': source(f'{tensor}.weight')}
  patches = f'{name}.patch_embedder'
  plan = {
    **kernel(f'{at}/projection', f'{name}.embedder.proj'),
    **assemble.dense(f'{at}/data_projection', f'{name}.embedder.data_proj'),
    f'{at}/cls': source(f'{patches}.class_embedding', lambda x: x[0]),
    **scale(f'{at}/norm', f'{name}.norm'),
    **kernel(f'{at}/out', f'{name}.output'),
  }
  for i in range(2):
    mixer, tensor = f'{at}/mixer', f'{patches}.resnet_block.block{i + 1}'
    plan |= assemble.norm(f'{mixer}/norm_{i}', f'{tensor}.groupnorm')
    plan[f'{mixer}/conv_{i}/bias'] = source(f'{tensor}.project.bias')
    plan[f'{mixer}/conv_{i}/kernel'] = source(
      f'{tensor}.project.weight', lambda x: x.transpose(2, 1, 0)
    )
  for i in range(kwargs['depth']):
    block, layer = f'{at}/block_{i}', f'{name}.layers.{i}'
    attention = f'{layer}.self_attn'
    for part in ('query', 'key', 'value', 'out'):
      plan |= kernel(f'{block}/attention/{part}', f'{attention}.{part[0]}_proj')
    plan |= scale(f'{block}/attention/query_norm', f'{attention}.q_norm')
    plan |= scale(f'{block}/attention/key_norm', f'{attention}.k_norm')
    plan |= scale(f'{block}/attention_norm', f'{layer}.input_layernorm')
    plan |= scale(f'{block}/mlp_norm', f'{layer}.post_attention_layernorm')
    for ours, theirs in (('in', 'gate'), ('gate', 'up'), ('out', 'down')):
      plan |= kernel(f'{block}/mlp/{ours}', f'{layer}.mlp.{theirs}_proj')
  return plan


def plan(kwargs: Mapping[str, Any]) -> dict[str, assemble.Source]:
  """Maps every parameter of a `PeVideo` to its tensor.

  Args:
    kwargs: from `pe_video_kwargs`.

  Returns:
    A plan for `assemble.assemble`.
  """
  scalar = lambda x: x.reshape(())
  result = {
    **_frame_plan(kwargs['video']['frames']),
    **_clip_plan(kwargs['video']['clips']),
    **modern_bert.plan(kwargs['text'], 'text_encoder/', 'text_model.'),
    'logit_scale': assemble.Source('text_video_logit_scale', scalar),
    'logit_bias': assemble.Source('text_video_logit_bias', scalar),
  }
  for side, head in (('video', 'video_head'), ('text', 'text_video_head')):
    result |= assemble.norm(f'{side}_encoder/head_norm', f'{head}.layer_norm')
    result[f'{side}_projection/kernel'] = assemble.Source(
      f'{head}.proj.weight', assemble.transpose
    )
  return result


def load_pe_video(weights: directory.Weights) -> tuple[dict[str, Any], Any]:
  """Loads both sides completely, or says what does not fit.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Keyword arguments of `models.pe_video.PeVideo` and its parameters (float32
    numpy).

  Raises:
    ValueError: anything that is missing, left over or does not agree; the
      message names file and tensor.
  """
  kwargs = pe_video_kwargs(weights)
  size = _tower_settings(weights)['img_size']

  def init(key):
    return pe_video.PeVideo(**kwargs).init(
      key,
      jnp.zeros((1, 1, size, size, 3)),
      jnp.zeros((1, 2), jnp.int32),
      jnp.ones((1, 2), bool),
    )

  shapes = jax.eval_shape(init, jax.random.key(0))['params']
  return kwargs, assemble.assemble(
    _without_audio(weights), plan(kwargs), shapes, _IGNORE
  )


def load_tokenizer(
  weights: directory.Weights,
) -> sentence_pieces.SentencePieceTokenizer:
  """Reads the tokenizer that belongs to the weights: ModernBERT's.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    The tokenizer.

  Raises:
    FileNotFoundError: tokenizer.json is missing.
    ValueError: it is damaged, or lacks ModernBERT's special tokens.
  """
  framing = sentence_pieces.Framing('[CLS]', '[SEP]', '[PAD]')
  return sentence_pieces.SentencePieceTokenizer(
    sentence_pieces.make_definition(weights.path, framing), _TOKEN_LENGTH
  )


def pixel_settings(weights: directory.Weights) -> dict[str, Any]:
  """Reads how frames are chosen and prepared.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    What `pixels.read` gives, `sampling` and `num_frames`.

  Raises:
    FileNotFoundError, ValueError: see `pixels.read`.
  """
  return {
    **pixels.read(weights, _tower_settings(weights)['img_size']),
    'sampling': 'ends',
    'num_frames': weights.preprocessor.get('num_frames') or _FRAMES,
  }
