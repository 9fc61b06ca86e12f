"""Accelerators multiply float32 in lower precision unless told otherwise."""

import re

import jax
import jax.numpy as jnp
import pytest

from zsar_jax.training import losses
from zsar_jax.zeroshot import baselines, ranking, scoring, semantic_transfer

B, S, U, D = 4, 5, 3, 8


def _shape(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def _hard_negatives(video, text, scale, q, index):
  keys = losses.global_index_keys(jax.random.key(0), index)
  return losses.hard_negatives(video, text, scale, q, keys)


def _transfer_loss(video, text, centres, scale, q):
  return losses.transfer_loss(video, text, centres, scale, q, 0.1)


_COSINES = (_shape(B, D), _shape(S, D), _shape(), _shape(B, S))
_WITH_CENTRES = (_shape(B, D), _shape(S, D), *_COSINES[1:])
_WITHOUT_SCALE = (_shape(B, D), _shape(S, D), _shape(B, S))
MULTIPLYING = {
  'visual_loss': (losses.visual_loss, _COSINES),
  'visual_loss_gradient': (
    jax.grad(lambda *a: losses.visual_loss(*a).sum(), argnums=(0, 1)),
    _COSINES,
  ),
  'contrast_loss': (losses.contrast_loss, _COSINES),
  'contrast_loss_gradient': (
    jax.grad(lambda *a: losses.contrast_loss(*a).sum(), argnums=(0, 1)),
    _COSINES,
  ),
  'transfer_loss': (_transfer_loss, _WITH_CENTRES),
  'transfer_loss_gradient': (
    jax.grad(lambda *a: _transfer_loss(*a).sum(), argnums=(0, 1, 2)),
    _WITH_CENTRES,
  ),
  'regression_loss': (losses.regression_loss, _WITHOUT_SCALE),
  'regression_loss_gradient': (
    jax.grad(lambda *a: losses.regression_loss(*a).sum()),
    _WITHOUT_SCALE,
  ),
  'hard_negatives': (
    _hard_negatives,
    (*_COSINES, _shape(B, dtype=jnp.int32)),
  ),
  'similarity_scores': (
    scoring.similarity_scores,
    (_shape(B, 2, D), _shape(U, D)),
  ),
  'relatedness': (
    semantic_transfer.relatedness,
    (_shape(U, D), _shape(S, D)),
  ),
  'conse_weights': (
    lambda z, w: baselines.conse_weights(z, w, 10.0, 2),
    (_shape(B, D), _shape(S, D)),
  ),
  'conse': (baselines._conse, (_shape(B, S), _shape(S, D), _shape(U, D))),
  'tile_scores': (scoring._tile_scores, (_shape(B, D), _shape(U, D))),
  'tile_top': (
    lambda z, p: scoring._tile_top(z, p, 2),
    (_shape(B, D), _shape(U, D)),
  ),
  'tile_ranks': (
    lambda *a: ranking._tile_ranks(*a, False),
    (
      _shape(B, U),
      _shape(B, dtype=jnp.int32),
      _shape(U, 2, dtype=jnp.bool_),
      _shape(1, 1, dtype=jnp.bool_),
    ),
  ),
  'composite': (semantic_transfer.composite, (_shape(U, S), _shape(S, D))),
}
# Inside public functions that loop over tiles on the host.
_PRIVATE = {'conse_weights', 'conse', 'tile_scores', 'tile_top', 'tile_ranks'}
_ON_THE_HOST = {
  'ridge_weights',
  'kernel_weights',
  'left_out_kernel_weights',
  'simplex_weights',
  'transfer_weights',
  'view_means',
  'score_videos',
  'stream_top_k',
}
NOT_MULTIPLYING = {
  'targets': (
    lambda labels: losses.targets(labels, S, 0.1),
    (_shape(B, dtype=jnp.int32),),
  ),
  'match_loss': (losses.match_loss, (_shape(B), _shape(B))),
  'softmax_weights': (
    lambda r: semantic_transfer.softmax_weights(r, 0.1, 2),
    (_shape(U, S),),
  ),
  'centred_rows': (
    semantic_transfer.centred_rows,
    (_shape(U, D), _shape(S, D)),
  ),
}


def _products(function, shapes):
  """The matrix products of the function's StableHLO, one text each."""
  text = jax.jit(function).lower(*shapes).as_text()
  assert 'convolution' not in text
  return re.findall(r'.*dot_general.*', text)


def _public_functions(*modules):
  return {
    name
    for module in modules
    for name, value in vars(module).items()
    if callable(value)
    and getattr(value, '__module__', '') == module.__name__
    and not name.startswith('_')
  }


def test_every_public_function_is_looked_at():
  assert (
    _public_functions(losses, scoring, semantic_transfer)
    == {
      name.removesuffix('_gradient')
      for name in (*MULTIPLYING, *NOT_MULTIPLYING)
    }
    - _PRIVATE
    | {'global_index_keys'}
    | _ON_THE_HOST
  )


@pytest.mark.parametrize('name', MULTIPLYING)
def test_every_product_is_of_highest_precision(name):
  products = _products(*MULTIPLYING[name])
  assert products
  for product in products:
    assert 'precision = [HIGHEST, HIGHEST]' in product, product


@pytest.mark.parametrize('name', NOT_MULTIPLYING)
def test_the_rest_has_no_products(name):
  assert not _products(*NOT_MULTIPLYING[name])


def test_a_product_of_default_precision_would_be_seen():
  (product,) = _products(jnp.matmul, (_shape(B, D), _shape(D, S)))
  assert 'HIGHEST' not in product
