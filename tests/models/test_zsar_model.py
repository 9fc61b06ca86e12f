import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import zsar_model

IDS = jnp.array([[2, 50, 3, 0], [2, 60, 61, 3], [2, 7, 3, 0]])
MASK = IDS > 0


def make_model(**kwargs):
  encoder = dict(depth=1, num_heads=2, mlp_dim=32)
  return zsar_model.ZsarModel(
    **{
      'video': dict(width=16, tubelet_size=(2, 4, 4), **encoder),
      'text': dict(width=24, vocabulary_size=100, max_length=4, **encoder),
      'fusion': dict(width=8, **encoder),
      'embedding_dim': 12,
      'num_classes': 5,
      **kwargs,
    }
  )


def clip():
  return jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 3))


@pytest.fixture(scope='module')
def params():
  model = make_model()
  return jax.jit(model.init)(jax.random.key(1), clip(), IDS, MASK)['params']


def run(model, params):
  return jax.jit(model.apply)({'params': params}, clip(), IDS, MASK)


@pytest.fixture(scope='module')
def out(params):
  return run(make_model(), params)


def test_embeddings_and_centres_are_unit_vectors_in_one_space(out):
  for vectors, n in (
    (out['video']['embedding'], 2),
    (out['text']['embedding'], 3),
    (out['class_centres'], 5),
  ):
    assert vectors.shape == (n, 12)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_every_video_is_matched_with_every_name(out):
  assert out['match'].shape == (2, 3)
  assert out['match'].dtype == jnp.float32


def test_parts_alone_give_what_the_whole_gives(out, params):
  apply = lambda *args, method: jax.jit(
    lambda params, *args: make_model().apply(
      {'params': params}, *args, method=method
    )
  )(params, *args)
  video = apply(clip(), method='encode_video')
  text = apply(IDS, MASK, method='encode_text')
  np.testing.assert_allclose(
    video['embedding'], out['video']['embedding'], atol=1e-6
  )
  np.testing.assert_allclose(
    text['embedding'], out['text']['embedding'], atol=1e-6
  )
  spread = lambda x: jnp.broadcast_to(x, (2, *x.shape))
  match = apply(
    video['tokens'], spread(text['tokens']), spread(MASK), method='match'
  )
  np.testing.assert_allclose(match, out['match'], atol=1e-5)


def test_bfloat16_computes_with_float32_parameters(out):
  model = make_model(dtype=jnp.bfloat16)
  params = jax.jit(model.init)(jax.random.key(1), clip(), IDS, MASK)['params']
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  half = run(model, params)
  assert half['video']['tokens'].dtype == jnp.bfloat16
  assert half['text']['tokens'].dtype == jnp.bfloat16
  assert half['match'].dtype == jnp.float32
  for part in ('video', 'text'):
    embedding = half[part]['embedding']
    assert embedding.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    cosines = (embedding * out[part]['embedding']).sum(1)
    assert (cosines > 0.99).all()


def test_scales_start_at_ten_and_end_at_a_hundred(out, params):
  assert out['visual_scale'] == pytest.approx(10)
  assert out['text_scale'] == pytest.approx(10)
  large = {**params, 'visual_log_scale': jnp.float32(9.0)}
  heads = make_model().apply({'params': large}, method='heads')
  assert heads['visual_scale'] == zsar_model.MAX_SCALE
  assert heads['text_scale'] == pytest.approx(10)
