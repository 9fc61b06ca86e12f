"""ModernBERT as a part of public weights, for `models.modern_bert`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.models import text_encoder
from zsar_jax.pretrained import assemble, directory

_DEFAULTS = {
  'vocab_size': 50368,
  'hidden_size': 768,
  'intermediate_size': 1152,
  'num_hidden_layers': 22,
  'num_attention_heads': 12,
  'hidden_activation': 'gelu',
  'norm_eps': 1e-5,
  'norm_bias': False,
  'attention_bias': False,
  'mlp_bias': False,
  'local_attention': 128,
  'global_attn_every_n_layers': 3,
  'global_rope_theta': 160_000.0,
  'local_rope_theta': 10_000.0,
}
_FULL, _SLIDING = 'full_attention', 'sliding_attention'


def kwargs_of(
  weights: directory.Weights, config: Mapping[str, Any], token_length: int
) -> dict[str, Any]:
  """Reads the architecture from a config.

  Args:
    weights: from `directory.read_weights`, for messages.
    config: a ModernBertConfig; what it leaves out is ModernBERT-base's.
    token_length: token ids a text.

  Returns:
    Keyword arguments of `models.modern_bert.ModernBert`.

  Raises:
    ValueError: a kind of it that is not known, or a damaged value.
  """
  part = directory.part_settings(weights, 'text_config', _DEFAULTS, config)
  directory.check_heads(
    weights, part['hidden_size'], part['num_attention_heads']
  )
  for key in ('norm_bias', 'attention_bias', 'mlp_bias'):
    if part[key]:
      raise ValueError(
        f'{weights.path}/config.json: a ModernBERT with {key}={part[key]!r} is '
        'not known, expected False'
      )
  depth, every = part['num_hidden_layers'], part['global_attn_every_n_layers']
  kinds = part.get('layer_types') or [
    _SLIDING if i % every else _FULL for i in range(depth)
  ]
  if len(kinds) != depth or set(kinds) - {_FULL, _SLIDING}:
    raise ValueError(
      f'{weights.path}/config.json: layer_types must name {_FULL!r} or '
      f'{_SLIDING!r} for each of {depth} layers, got {kinds}'
    )
  return {
    'vocabulary_size': part['vocab_size'],
    'width': part['hidden_size'],
    'depth': depth,
    'num_heads': part['num_attention_heads'],
    'mlp_dim': part['intermediate_size'],
    'max_length': token_length,
    'everywhere': tuple(kind == _FULL for kind in kinds),
    'reach': part['local_attention'] // 2,
    'theta': (
      _theta(weights, part, _FULL, 'global_rope_theta'),
      _theta(weights, part, _SLIDING, 'local_rope_theta'),
    ),
    'activation': directory.activation(weights, part['hidden_activation']),
    'norm_epsilon': part['norm_eps'],
  }


def _theta(weights, part, kind: str, before: str) -> float:
  """The base of the rotary positions; `before` is its name until 2025."""
  given = (part.get('rope_parameters') or {}).get(kind) or {}
  return rope_theta(weights, given, part[before])


def rope_theta(
  weights: directory.Weights, given: Mapping[str, Any], default: float
) -> float:
  """Reads the base of rotary positions.

  Args:
    weights: from `directory.read_weights`, for the message.
    given: `rope_parameters` of a config; may be empty.
    default: where they do not say.

  Returns:
    The base.

  Raises:
    ValueError: positions of another kind.
  """
  if given.get('rope_type', 'default') != 'default':
    raise ValueError(
      f'{weights.path}/config.json: rope_type {given["rope_type"]!r} is not '
      "known, expected 'default'"
    )
  return float(given.get('rope_theta', default))


def _paired(part: np.ndarray, heads: int) -> np.ndarray:
  """Puts channels that turn together side by side: halves become pairs."""
  out, width = part.shape
  return (
    part.reshape(heads, 2, out // heads // 2, width)
    .swapaxes(1, 2)
    .reshape(out, width)
  )


def plan(
  kwargs: Mapping[str, Any], target: str, name: str
) -> dict[str, assemble.Source]:
  """Maps every parameter of a `ModernBert` to its tensor.

  Args:
    kwargs: from `kwargs_of`.
    target: path of the module's parameters, ending in '/'.
    name: what the tensors' names begin with, ending in '.'.

  Returns:
    A plan for `assemble.assemble`.
  """
  rows, heads = kwargs['vocabulary_size'], kwargs['num_heads']
  source = assemble.Source
  scale = lambda at, tensor: {
    f'{target}{at}/scale': source(f'{name}{tensor}.weight')
  }
  result = {
    f'{target}word': source(
      f'{name}embeddings.tok_embeddings.weight',
      assemble.padded_rows(rows, text_encoder.word_rows(rows)),
    ),
    **scale('embed_norm', 'embeddings.norm'),
    **scale('norm', 'final_norm'),
  }

  def third(i, paired):
    def take(x):
      part = np.split(x, 3)[i]
      return (_paired(part, heads) if paired else part).T

    return take

  half = lambda i: lambda x: np.split(x, 2)[i].T
  for i in range(kwargs['depth']):
    block, layer = f'{target}block_{i}', f'layers.{i}'
    for j, part in enumerate(('query', 'key', 'value')):
      result[f'{block}/attention/{part}/kernel'] = source(
        f'{name}{layer}.attn.Wqkv.weight', third(j, part != 'value')
      )
    for at, tensor in (('attention', 'attn'), ('mlp', 'mlp')):
      result[f'{block}/{at}/out/kernel'] = source(
        f'{name}{layer}.{tensor}.Wo.weight', assemble.transpose
      )
    for j, part in enumerate(('in', 'gate')):
      result[f'{block}/mlp/{part}/kernel'] = source(
        f'{name}{layer}.mlp.Wi.weight', half(j)
      )
    if i:
      result |= scale(f'block_{i}/attention_norm', f'{layer}.attn_norm')
    result |= scale(f'block_{i}/mlp_norm', f'{layer}.mlp_norm')
  return result
