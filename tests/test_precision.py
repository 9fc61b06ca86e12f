"""Accelerators multiply float32 in lower precision unless told otherwise."""

import re

import jax
import jax.numpy as jnp
import pytest

from zsar_jax import losses
from zsar_jax.zeroshot import scoring, semantic_transfer

B, S, U, D = 4, 5, 3, 8


def _shape(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def _hard_negatives(video, text, scale, q, index):
  keys = losses.global_index_keys(jax.random.key(0), index)
  return losses.hard_negatives(video, text, scale, q, keys)


_COSINES = (_shape(B, D), _shape(S, D), _shape(), _shape(B, S))
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
  'composite': (semantic_transfer.composite, (_shape(U, S), _shape(S, D))),
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
  'restrict_candidates': (
    scoring.restrict_candidates,
    (_shape(B, U), _shape(B, U, dtype=jnp.bool_)),
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
  assert _public_functions(losses, scoring, semantic_transfer) == {
    name.removesuffix('_gradient') for name in (*MULTIPLYING, *NOT_MULTIPLYING)
  } | {'global_index_keys'}


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
