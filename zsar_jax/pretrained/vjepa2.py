"""Loads public V-JEPA 2 classifiers into `models.vjepa2.VJepa2`.

  weights = directory.read_weights('vjepa2-vitl-fpc16-256-ssv2')
  kwargs, params = load_vjepa2(weights)
  out = vjepa2.VJepa2(**kwargs).apply({'params': params}, clip)

A directory holds config.json (model_type 'vjepa2'), model.safetensors of a
classifier, and video_preprocessor_config.json. Pre-trained weights without
pooler are refused, because nothing turns their tokens into one embedding.
"""

from collections.abc import Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp

from zsar_jax.models import vjepa2
from zsar_jax.pretrained import assemble, directory, pixels, video_plan

MODEL_TYPE = 'vjepa2'
# `heads` reads the last layer; the predictor is only for pre-training.
_IGNORED = (r'^classifier\.', r'^vjepa2\.predictor\.')
_QUERY = 'pooler.query_tokens'


def vjepa2_kwargs(weights: directory.Weights) -> dict[str, Any]:
  """Reads the architecture from config.json.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Keyword arguments of `models.vjepa2.VJepa2`.

  Raises:
    ValueError: the architecture is another one, or a setting is missing.
  """
  directory.expect_model_type(weights, MODEL_TYPE)
  setting = functools.partial(directory.setting, weights)
  sizes = directory.sizes(
    weights,
    width='hidden_size',
    depth='num_hidden_layers',
    num_heads='num_attention_heads',
  )
  width, patch = sizes['width'], setting('patch_size', kind='size')
  directory.check_heads(weights, width, sizes['num_heads'])
  return {
    **sizes,
    'mlp_dim': int(width * setting('mlp_ratio', kind='number')),
    'tubelet_size': (setting('tubelet_size', kind='size'), patch, patch),
    'positions': 'rotary',
    'activation': directory.activation(weights, setting('hidden_act')),
    'norm_epsilon': setting('layer_norm_eps', 1e-6),
    'qkv_bias': 'qkv' if setting('qkv_bias', True) else '',
    'pool_depth': setting('num_pooler_layers', 3),
  }


def _encoder_plan(depth: int, biased: bool) -> dict[str, assemble.Source]:
  name = 'vjepa2.encoder'
  patches = f'{name}.embeddings.patch_embeddings.proj'
  projection = 'tubelet_embed/projection'
  plan = {
    f'{projection}/kernel': assemble.Source(
      f'{patches}.weight',
      lambda x: video_plan.tubelet_kernel(x, x.shape[2], 'centre'),
    ),
    f'{projection}/bias': assemble.Source(f'{patches}.bias'),
    **assemble.norm('norm', f'{name}.layernorm'),
  }
  for i in range(depth):
    block, layer = f'block_{i}', f'{name}.layer.{i}'
    for part in ('query', 'key', 'value'):
      dense = assemble.dense(
        f'{block}/attention/{part}', f'{layer}.attention.{part}'
      )
      if not biased:
        del dense[f'{block}/attention/{part}/bias']
      plan |= dense
    plan |= assemble.dense(f'{block}/attention/out', f'{layer}.attention.proj')
    plan |= assemble.norm(f'{block}/attention_norm', f'{layer}.norm1')
    plan |= assemble.norm(f'{block}/mlp_norm', f'{layer}.norm2')
    plan |= _mlp_plan(block, layer)
  return plan


def _mlp_plan(target: str, name: str) -> dict[str, assemble.Source]:
  return {
    **assemble.dense(f'{target}/mlp/in', f'{name}.mlp.fc1'),
    **assemble.dense(f'{target}/mlp/out', f'{name}.mlp.fc2'),
  }


def _pooler_plan(depth: int) -> dict[str, assemble.Source]:
  cross = 'pooler.cross_attention_layer'
  plan = {'pooler/query': assemble.Source(_QUERY, lambda x: x[0])}
  layers = [('pooler', cross, 'cross_attention', 'cross_attn')]
  for i in range(depth):
    name = f'pooler.self_attention_layers.{i}'
    layers.append((f'pooler/block_{i}', name, 'attention', 'self_attn'))
    plan |= assemble.dense(
      f'pooler/block_{i}/attention/out', f'{name}.self_attn.out_proj'
    )
  for target, name, ours, theirs in layers:
    for part in ('query', 'key', 'value'):
      plan |= assemble.dense(
        f'{target}/{ours}/{part}', f'{name}.{theirs}.{part[0]}_proj'
      )
    plan |= assemble.norm(f'{target}/{ours}_norm', f'{name}.layer_norm1')
    plan |= assemble.norm(f'{target}/mlp_norm', f'{name}.layer_norm2')
    plan |= _mlp_plan(target, name)
  return plan


def plan(kwargs: Mapping[str, Any]) -> dict[str, assemble.Source]:
  """Maps every parameter of a `VJepa2` to its tensor.

  Args:
    kwargs: from `vjepa2_kwargs`.

  Returns:
    A plan for `assemble.assemble`.
  """
  return {
    **_encoder_plan(kwargs['depth'], bool(kwargs['qkv_bias'])),
    **_pooler_plan(kwargs['pool_depth']),
  }


def load_vjepa2(weights: directory.Weights) -> tuple[dict[str, Any], Any]:
  """Loads a classifier's encoder and pooler.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    Keyword arguments of `models.vjepa2.VJepa2` and its parameters (float32
    numpy).

  Raises:
    ValueError: a tensor or setting is missing, left over or does not fit. The
      message names file and tensor.
  """
  kwargs = vjepa2_kwargs(weights)
  if _QUERY not in weights.tensors:
    raise ValueError(
      f'{weights.path} has no {_QUERY}: these weights of V-JEPA 2 are no '
      'classifier, so they have no pooler'
    )
  t, h, w = kwargs['tubelet_size']
  shapes = jax.eval_shape(
    vjepa2.VJepa2(**kwargs).init, jax.random.key(0), jnp.zeros((1, t, h, w, 3))
  )['params']
  return kwargs, assemble.assemble(weights, plan(kwargs), shapes, _IGNORED)


def preprocessing(weights: directory.Weights) -> dict[str, Any]:
  """Returns the preprocessing that belongs to weights.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    The values of `pixels.read`, and `num_frames` of a clip.

  Raises:
    FileNotFoundError, ValueError: see `pixels.read`.
  """
  size = directory.setting(weights, 'crop_size', kind='size')
  frames = directory.setting(weights, 'frames_per_clip', kind='size')
  return {**pixels.read(weights, size), 'num_frames': frames}
