import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.models import clip

TEXT = dict(
  vocabulary_size=30,
  width=16,
  depth=2,
  num_heads=4,
  mlp_dim=24,
  max_length=10,
  end_id=29,
)
VIDEO = dict(
  width=16, depth=2, num_heads=4, mlp_dim=24, image_size=16, patch_size=8
)
MODEL = clip.Clip(video=VIDEO, text=TEXT, embedding_dim=12)
# Two texts of four and six tokens; padding repeats the end token.
IDS = jnp.array([[28, 5, 6, 29, 29, 29], [28, 7, 8, 9, 4, 29]])
MASK = jnp.arange(6) < jnp.array([[4], [6]])


@pytest.fixture(scope='module')
def clips():
  return jax.random.normal(jax.random.key(1), (2, 3, 16, 16, 3))


@pytest.fixture(scope='module')
def params(clips):
  return jax.jit(MODEL.init)(jax.random.key(0), clips, IDS, MASK)


encode_text = jax.jit(lambda *args: MODEL.apply(*args, method='encode_text'))
encode_video = jax.jit(lambda *args: MODEL.apply(*args, method='encode_video'))


@pytest.mark.parametrize('end_id', [29, clip.LEGACY_END_ID, None])
def test_padding_a_text_changes_nothing(params, end_id):
  model = clip.Clip(VIDEO, {**TEXT, 'end_id': end_id}, embedding_dim=12)
  encode = jax.jit(lambda *args: model.apply(*args, method='encode_text'))
  out = encode(params, IDS, MASK)['embedding']
  for filler in (0, 29):
    ids = jnp.pad(IDS, ((0, 0), (0, 3)), constant_values=filler)
    ids = ids.at[0, 4:].set(filler)
    longer = encode(params, ids, jnp.pad(MASK, ((0, 0), (0, 3))))['embedding']
    np.testing.assert_allclose(longer, out, atol=1e-6)
  np.testing.assert_allclose(
    encode(params, IDS[:1, :4], MASK[:1, :4])['embedding'], out[:1], atol=1e-6
  )


def test_end_of_a_text_is_found():
  ids = jnp.array([[3, 9, 2, 9], [1, 9, 9, 9]])
  mask = jnp.array([[True] * 4, [True, False, False, False]])
  # The first largest id, and the first of the named one.
  assert clip.end_positions(ids, mask).tolist() == [1, 0]
  assert clip.end_positions(ids, mask, clip.LEGACY_END_ID).tolist() == [1, 0]
  assert clip.end_positions(ids, mask, 9).tolist() == [1, 0]
  assert clip.end_positions(ids, mask, 3).tolist() == [0, 0]


def test_a_token_does_not_see_those_after_it(params):
  before = encode_text(params, IDS, MASK)['tokens']
  after = encode_text(params, IDS.at[1, 3].set(11), MASK)['tokens']
  np.testing.assert_array_equal(before[1, :3], after[1, :3])
  assert (jnp.abs(before - after)[1, 3:].max(-1) > 1e-4).all()


def test_frames_are_encoded_alone_and_averaged(params, clips):
  out = encode_video(params, clips)
  assert out['tokens'].shape == (2, 3 * 5, 16)
  assert out['frames'].shape == (2, 3, 16)
  frames = clips.reshape(6, 1, 16, 16, 3)
  alone = encode_video(params, frames)['embedding'].reshape(2, 3, 12)
  np.testing.assert_allclose(out['frame_embeddings'], alone, atol=1e-6)
  mean = alone.mean(axis=1)
  mean = mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)
  np.testing.assert_allclose(out['embedding'], mean, atol=1e-6)
  # Hence the order of the frames does not show.
  turned = encode_video(params, clips[:, ::-1])['embedding']
  np.testing.assert_allclose(turned, out['embedding'], atol=1e-6)


def test_gradients_reach_every_parameter(params, clips):
  @jax.jit
  def loss(params):
    out = MODEL.apply(params, clips, IDS, MASK)
    cosines = out['video']['embedding'] @ out['text']['embedding'].T
    return -jax.nn.log_softmax(out['scale'] * cosines)[:, 0].sum()

  gradients = jax.grad(loss)(params)
  # The bias of a key shifts all logits of a query alike: softmax is blind.
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    names = [key.key for key in path]
    assert np.isfinite(gradient).all(), path
    assert gradient.any() or names[-2:] == ['key', 'bias'], path


def test_bfloat16_stays_near_float32(params, clips):
  half = clip.Clip(VIDEO, TEXT, embedding_dim=12, dtype=jnp.bfloat16)
  exact = jax.jit(MODEL.apply)(params, clips, IDS, MASK)
  rough = jax.jit(half.apply)(params, clips, IDS, MASK)
  for side in ('video', 'text'):
    assert rough[side]['tokens'].dtype == jnp.bfloat16
    assert rough[side]['embedding'].dtype == jnp.float32
    # Eight bits of mantissa through two blocks; cosines lose far less.
    error = jnp.abs(rough[side]['embedding'] - exact[side]['embedding'])
    assert error.max() < 0.02
    cosine = (rough[side]['embedding'] * exact[side]['embedding']).sum(-1)
    assert cosine.min() > 0.999


def test_frames_of_another_size_raise():
  with pytest.raises(ValueError, match='frames of 8x16 pixels for .* 16x16'):
    jax.eval_shape(
      MODEL.init, jax.random.key(0), jnp.zeros((1, 1, 8, 16, 3)), IDS, MASK
    )


@pytest.mark.parametrize(
  'patch, width, depth, text_width, dim, millions',
  [(32, 768, 12, 512, 512, 151.3), (14, 1024, 24, 768, 768, 427.6)],
)
def test_public_sizes_have_their_parameters(
  patch, width, depth, text_width, dim, millions
):
  video = dict(
    width=width,
    depth=depth,
    num_heads=width // 64,
    mlp_dim=4 * width,
    image_size=224,
    patch_size=patch,
  )
  text = dict(
    vocabulary_size=49408,
    width=text_width,
    depth=12,
    num_heads=text_width // 64,
    mlp_dim=4 * text_width,
    max_length=77,
  )
  model = clip.Clip(video=video, text=text, embedding_dim=dim)
  frames = jax.ShapeDtypeStruct((1, 1, 224, 224, 3), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), frames, IDS, MASK)
  count = sum(x.size for x in jax.tree.leaves(shapes))
  assert count / 1e6 == pytest.approx(millions, abs=0.1)
