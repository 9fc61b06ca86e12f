import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import fusion

B, N, C, L = 2, 5, 3, 4


@pytest.fixture(scope='module')
def parts():
  keys = jax.random.split(jax.random.key(0), 3)
  video = jax.random.normal(keys[0], (B, N, 12))
  text = jax.random.normal(keys[1], (B, C, L, 10))
  lengths = jnp.array([[2, 3, 4], [4, 2, 3]])
  mask = jnp.arange(L) < lengths[..., None]
  module = fusion.CrossModalTransformer(
    width=16, depth=2, num_heads=2, mlp_dim=32
  )
  params = jax.jit(module.init)(keys[2], video, text, mask)
  # The read-out starts small: make differences plain.
  kernel = params['params']['match']['kernel']
  params['params']['match']['kernel'] = (
    10 * jnp.ones_like(kernel) * jnp.sign(kernel)
  )
  return jax.jit(module.apply), params, video, text, mask


def test_each_pair_is_scored_as_if_alone(parts):
  apply, params, video, text, mask = parts
  whole = apply(params, video, text, mask)
  assert whole.shape == (B, C) and whole.dtype == jnp.float32
  for b in range(B):
    for c in range(C):
      alone = apply(
        params,
        video[b : b + 1],
        text[b : b + 1, c : c + 1],
        mask[b : b + 1, c : c + 1],
      )
      np.testing.assert_allclose(alone[0, 0], whole[b, c], atol=1e-4)
  assert np.unique(np.round(whole, 3)).size == B * C


def test_padding_does_not_change_the_logits(parts):
  apply, params, video, text, mask = parts
  whole = apply(params, video, text, mask)
  longer = jnp.pad(text, ((0, 0), (0, 0), (0, 3), (0, 0)), constant_values=7)
  longer_mask = jnp.pad(mask, ((0, 0), (0, 0), (0, 3)))
  np.testing.assert_allclose(
    apply(params, video, longer, longer_mask), whole, atol=1e-4
  )
  noise = jnp.where(mask[..., None], text, 99.0)
  np.testing.assert_allclose(
    apply(params, video, noise, mask), whole, atol=1e-4
  )


def test_logits_depend_on_both_sides(parts):
  apply, params, video, text, mask = parts
  whole = apply(params, video, text, mask)
  other_video = apply(params, video[::-1], text, mask)
  other_text = apply(params, video, text[:, ::-1], mask[:, ::-1])
  assert (np.abs(other_video - whole) > 1e-3).all()
  np.testing.assert_allclose(other_text[:, ::-1], whole, atol=1e-4)


def test_dropout_reaches_every_residual_branch(parts):
  # With all of every branch dropped nothing of the video is left.
  _, params, video, text, mask = parts
  module = fusion.CrossModalTransformer(
    width=16, depth=2, num_heads=2, mlp_dim=32, dropout_rate=1.0
  )
  apply = jax.jit(
    lambda video, mask: module.apply(
      params,
      video,
      text,
      mask,
      deterministic=False,
      rngs={'dropout': jax.random.key(0)},
    )
  )
  one_word = jnp.zeros_like(mask).at[..., 0].set(True)
  dropped = apply(video, one_word)
  np.testing.assert_array_equal(apply(-video, one_word), dropped)
  # Nor of the words that are not read out themselves.
  bare = fusion.CrossModalTransformer(
    width=16, depth=0, num_heads=2, mlp_dim=32
  )
  kept = {
    k: params['params'][k]
    for k in (
      'video_projection',
      'video_norm',
      'text_projection',
      'norm',
      'match',
    )
  }
  np.testing.assert_allclose(
    dropped,
    bare.apply({'params': kept}, video, text, one_word),
    atol=1e-4,
  )


SIDES = [
  (side, shared) for side in fusion.QUERY_SIDES for shared in (False, True)
]


@pytest.fixture(scope='module', params=SIDES, ids=str)
def sides(request):
  """The same tokens under every choice of sides and projections."""
  side, shared = request.param
  keys = jax.random.split(jax.random.key(1), 3)
  video = jax.random.normal(keys[0], (B, N, 12))
  text = jax.random.normal(keys[1], (B, C, L, 12))
  mask = jnp.arange(L) < jnp.array([[2, 3, 4], [4, 2, 3]])[..., None]
  module = fusion.CrossModalTransformer(
    width=16,
    depth=1,
    num_heads=2,
    mlp_dim=32,
    query_side=side,
    shared_projection=shared,
  )
  params = jax.jit(module.init)(keys[2], video, text, mask)
  kernel = params['params']['match']['kernel']
  params['params']['match']['kernel'] = 10 * jnp.sign(kernel)
  return jax.jit(module.apply), params, video, text, mask


def test_every_side_scores_each_pair_as_if_alone(sides):
  test_each_pair_is_scored_as_if_alone(sides)


def test_no_side_sees_padding(sides):
  test_padding_does_not_change_the_logits(sides)


def test_every_side_depends_on_both(sides):
  test_logits_depend_on_both_sides(sides)


def test_gradients_reach_every_parameter(sides):
  apply, params, video, text, mask = sides
  gradients = jax.jit(
    jax.grad(lambda p: jnp.square(apply(p, video, text, mask)).sum())
  )(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    # A key bias shifts all logits of a query alike: softmax cannot see it.
    if not name.endswith('key/bias'):
      assert np.abs(leaf).max() > 1e-6, name


def test_projections_are_shared_where_asked_and_read_outs_joined(sides):
  params = sides[1]['params']
  shared = 'projection' in params
  assert shared == ('video_projection' not in params)
  assert shared == ('text_projection' not in params)
  both = 'block_0' in params and 'video_block_0' in params
  assert params['match']['kernel'].shape == (32 if both else 16, 1)


def test_sides_that_cannot_be_raise():
  kwargs = dict(width=16, depth=1, num_heads=2, mlp_dim=32)
  arguments = (
    jax.random.key(0),
    jnp.zeros((B, N, 12)),
    jnp.zeros((B, C, L, 10)),
    jnp.ones((B, C, L), bool),
  )
  with pytest.raises(ValueError, match="query_side 'audio' is not one of"):
    fusion.CrossModalTransformer(**kwargs, query_side='audio').init(*arguments)
  with pytest.raises(ValueError, match='video 12 and text 10'):
    fusion.CrossModalTransformer(**kwargs, shared_projection=True).init(
      *arguments
    )
