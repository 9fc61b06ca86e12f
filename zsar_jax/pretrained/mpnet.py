"""Loads public MPNet weights (Song et al. 2020) into `TextEncoder`.

An example is all-mpnet-base-v2. A directory holds config.json (model_type
'mpnet'), model.safetensors and vocab.txt of the uncased model.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from zsar_jax.models import text_encoder
from zsar_jax.pretrained import assemble, bert, directory

_IGNORE = (r'^lm_head\.', r'^pooler\.', r'embeddings\.position_ids$')
# Positions count from 2, after the padding id 1.
_FIRST_POSITION = 2
_PARTS = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}


def positions(weights: directory.Weights) -> int:
  """Returns the maximum number of token ids."""
  stored = directory.setting(weights, 'max_position_embeddings', kind='size')
  return stored - _FIRST_POSITION


def _kwargs(weights: directory.Weights, token_length: int) -> dict[str, Any]:
  """Returns keyword arguments of `TextEncoder`, without the pooling."""
  kwargs = bert.architecture(
    weights, token_length, relative='relative_attention_num_buckets'
  )
  most = positions(weights)
  if token_length > most:
    raise ValueError(
      f'{weights.path}/config.json: max_position_embeddings leaves {most} '
      f'positions, fewer than token_length={token_length}'
    )
  return kwargs


def _plan(kwargs: Mapping[str, Any], prefix: str) -> dict[str, assemble.Source]:
  """Maps every parameter of the `TextEncoder` to its tensor."""
  rows, length = kwargs['vocabulary_size'], kwargs['max_length']
  words = assemble.padded_rows(rows, text_encoder.word_rows(rows))
  plan = {
    'word': assemble.Source(
      f'{prefix}embeddings.word_embeddings.weight', words
    ),
    'position': assemble.Source(
      f'{prefix}embeddings.position_embeddings.weight',
      lambda x: x[_FIRST_POSITION : _FIRST_POSITION + length],
    ),
    'relative': assemble.Source(
      f'{prefix}encoder.relative_attention_bias.weight'
    ),
    **assemble.norm('embed_norm', f'{prefix}embeddings.LayerNorm'),
  }
  for i in range(kwargs['depth']):
    block, layer = f'block_{i}', f'{prefix}encoder.layer.{i}'
    for part, theirs in _PARTS.items():
      plan |= assemble.dense(
        f'{block}/attention/{part}', f'{layer}.attention.attn.{theirs}'
      )
    plan |= assemble.norm(
      f'{block}/attention_norm', f'{layer}.attention.LayerNorm'
    )
    plan |= assemble.dense(f'{block}/mlp/in', f'{layer}.intermediate.dense')
    plan |= assemble.dense(f'{block}/mlp/out', f'{layer}.output.dense')
    plan |= assemble.norm(f'{block}/mlp_norm', f'{layer}.output.LayerNorm')
  return plan


def load_text_encoder(
  weights: directory.Weights, token_length: int
) -> tuple[dict[str, Any], Any, list[str]]:
  """Loads an MPNet.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per class name. Rows of the position table beyond
      it are dropped.

  Returns:
    Keyword arguments of `TextEncoder`, its parameters (float32 numpy), and
    the word pieces, in the order of their ids.

  Raises:
    FileNotFoundError: the vocabulary is missing.
    ValueError: a tensor or setting is missing, left over or does not fit. The
      message names file and tensor.
  """
  directory.expect_model_type(weights, 'mpnet')
  kwargs = _kwargs(weights, token_length)
  pieces = bert.read_pieces(weights)
  ids = jax.ShapeDtypeStruct((1, token_length), np.int32)
  mask = jax.ShapeDtypeStruct((1, token_length), bool)
  shapes = jax.eval_shape(
    text_encoder.TextEncoder(**kwargs).init, jax.random.key(0), ids, mask
  )['params']
  prefix = (
    'mpnet.' if 'mpnet.embeddings.LayerNorm.bias' in weights.tensors else ''
  )
  plan = _plan(kwargs, prefix)
  return kwargs, assemble.assemble(weights, plan, shapes, _IGNORE), pieces
