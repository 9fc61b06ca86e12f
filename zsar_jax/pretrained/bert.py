"""Loads public BERT weights into `TextEncoder`.

  weights = directory.read_weights('all-MiniLM-L6-v2')
  kwargs, params, pieces = load_text_encoder(weights, token_length=32)
  encoder = TextEncoder(**kwargs, pooling='mean')
  encoder.apply({'params': params}, *Tokenizer(pieces, 32)(names))

A directory holds config.json (model_type 'bert'), model.safetensors and
vocab.txt of an uncased model of any size. Tensor names may begin with 'bert.',
as in files with pre-training heads. Norms may be called gamma and beta, as in
the oldest files.
"""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

import jax
import numpy as np

from zsar_jax.data import tokenizer
from zsar_jax.models import text_encoder
from zsar_jax.pretrained import assemble, directory, tensor_files

VOCABULARY_FILE = 'vocab.txt'
# Tensors that the encoder does not need: the pre-training heads, the pooler
# that only next-sentence prediction trained, and position ids 0, 1, ... of old
# files.
_IGNORE = (r'^cls\.', r'^(bert\.)?pooler\.', r'embeddings\.position_ids$')


def positions(weights: directory.Weights) -> int:
  """Returns the maximum number of token ids."""
  return directory.setting(weights, 'max_position_embeddings', kind='size')


def pooling(path: str) -> str:
  """Finds the pooling of a sentence encoder, a BERT or another.

  sentence-transformers writes it to 1_Pooling/config.json. Without that file,
  or where that names no mode, it is 'mean'.

  Args:
    path: path of a directory of weights.

  Returns:
    'mean' or 'cls'.

  Raises:
    ValueError: another pooling, or a damaged file.
  """
  settings = os.path.join(os.path.expanduser(path), '1_Pooling', 'config.json')
  if not os.path.exists(settings):
    return 'mean'
  mean = 'pooling_mode_mean_tokens'
  given = {
    key: value
    for key, value in tensor_files.read_json(settings).items()
    if key.startswith('pooling_mode')
  }
  given.setdefault(mean, not any(given.values()))
  modes = {key: x for key, x in given.items() if x is not False}
  for name, key in (('mean', mean), ('cls', 'pooling_mode_cls_token')):
    if modes in ({key: True}, {'pooling_mode': name}):
      return name
  raise ValueError(
    f'{settings}: only mean and cls pooling are supported, found {modes}'
  )


def architecture(
  weights: directory.Weights, token_length: int, **keys: str
) -> dict[str, Any]:
  """Reads the settings that encoders of BERT's family share.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per class name.
    **keys: further sizes, see `directory.sizes`.

  Returns:
    Keyword arguments of `TextEncoder`.

  Raises:
    ValueError: a setting is missing or not supported.
  """
  sizes = directory.sizes(
    weights,
    vocabulary_size='vocab_size',
    width='hidden_size',
    depth='num_hidden_layers',
    num_heads='num_attention_heads',
    mlp_dim='intermediate_size',
    **keys,
  )
  directory.check_heads(weights, sizes['width'], sizes['num_heads'])
  return {
    **sizes,
    'max_length': token_length,
    'activation': directory.activation(
      weights, directory.setting(weights, 'hidden_act')
    ),
    'norm_epsilon': directory.setting(weights, 'layer_norm_eps', 1e-12),
  }


def text_encoder_kwargs(
  weights: directory.Weights, token_length: int
) -> dict[str, Any]:
  """Reads the architecture from config.json.

  Args:
    weights: from `directory.read_weights`.
    token_length: token ids per class name.

  Returns:
    Keyword arguments of `TextEncoder`. The caller chooses the pooling, which
    BERT's config does not hold.

  Raises:
    ValueError: the architecture is another one, a setting is missing or not
      supported, or there are fewer positions than `token_length`.
  """
  directory.expect_model_type(weights, 'bert')
  kwargs = architecture(weights, token_length)
  most = positions(weights)
  if token_length > most:
    raise ValueError(
      f'{weights.path}/config.json: max_position_embeddings={most}, '
      f'fewer than token_length={token_length}'
    )
  kind = directory.setting(weights, 'position_embedding_type', 'absolute')
  if kind != 'absolute':
    raise ValueError(
      f'{weights.path}/config.json: position_embedding_type {kind!r} is not '
      "'absolute'"
    )
  return kwargs


def _stored_names(weights: directory.Weights) -> dict[str, str]:
  """Maps each tensor's current name to its name in the file."""
  names = {}
  for stored in weights.tensors:
    name = stored.removeprefix('bert.')
    name = name.replace('LayerNorm.gamma', 'LayerNorm.weight')
    names[name.replace('LayerNorm.beta', 'LayerNorm.bias')] = stored
  return names


def plan(
  weights: directory.Weights, kwargs: Mapping[str, Any]
) -> dict[str, assemble.Source]:
  """Maps every parameter of a `TextEncoder` to its tensor.

  Args:
    weights: from `directory.read_weights`.
    kwargs: from `text_encoder_kwargs`.

  Returns:
    A plan for `assemble.assemble`.
  """
  rows = kwargs['vocabulary_size']
  words = assemble.padded_rows(rows, text_encoder.word_rows(rows))
  length = kwargs['max_length']
  result = {
    'word': assemble.Source('embeddings.word_embeddings.weight', words),
    'position': assemble.Source(
      'embeddings.position_embeddings.weight', lambda x: x[:length]
    ),
    'token_type': assemble.Source('embeddings.token_type_embeddings.weight'),
    **assemble.norm('embed_norm', 'embeddings.LayerNorm'),
  }
  for i in range(kwargs['depth']):
    block, layer = f'block_{i}', f'encoder.layer.{i}'
    attention, output = f'{block}/attention', f'{layer}.attention.output'
    for part in ('query', 'key', 'value'):
      result |= assemble.dense(
        f'{attention}/{part}', f'{layer}.attention.self.{part}'
      )
    result |= assemble.dense(f'{attention}/out', f'{output}.dense')
    result |= assemble.norm(f'{attention}_norm', f'{output}.LayerNorm')
    result |= assemble.dense(f'{block}/mlp/in', f'{layer}.intermediate.dense')
    result |= assemble.dense(f'{block}/mlp/out', f'{layer}.output.dense')
    result |= assemble.norm(f'{block}/mlp_norm', f'{layer}.output.LayerNorm')
  stored = _stored_names(weights)
  return {
    target: dataclasses.replace(
      source, name=stored.get(source.name, source.name)
    )
    for target, source in result.items()
  }


def read_pieces(weights: directory.Weights) -> list[str]:
  """Reads the vocabulary that belongs to the weights.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    The word pieces, in the order of their ids.

  Raises:
    FileNotFoundError: the vocabulary is missing.
    ValueError: its size is not that of config.json, or it is cased. Class
      names are in lower case, so they need an uncased vocabulary.
  """
  path = weights.file(VOCABULARY_FILE)
  pieces = tokenizer.read_vocabulary(path)
  size = directory.setting(weights, 'vocab_size', kind='size')
  if len(pieces) != size:
    raise ValueError(
      f'{path} has {len(pieces)} word pieces, {weights.path}/config.json has '
      f'vocab_size={size}'
    )
  settings = os.path.join(weights.path, 'tokenizer_config.json')
  if os.path.exists(settings):
    if not tensor_files.read_json(settings).get('do_lower_case', True):
      raise ValueError(
        f'{settings}: do_lower_case is false; only uncased vocabularies fit'
      )
  return pieces


def load_text_encoder(
  weights: directory.Weights, token_length: int
) -> tuple[dict[str, Any], Any, list[str]]:
  """Loads a BERT.

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
  kwargs = text_encoder_kwargs(weights, token_length)
  pieces = read_pieces(weights)
  ids = jax.ShapeDtypeStruct((1, token_length), np.int32)
  mask = jax.ShapeDtypeStruct((1, token_length), bool)
  shapes = jax.eval_shape(
    text_encoder.TextEncoder(**kwargs).init, jax.random.key(0), ids, mask
  )['params']
  params = assemble.assemble(weights, plan(weights, kwargs), shapes, _IGNORE)
  return kwargs, params, pieces
