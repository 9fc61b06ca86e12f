import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.training import losses


def unit_rows(seed, n, d):
  x = np.random.default_rng(seed).normal(size=(n, d))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def cross_entropy(logits, q):
  """Computes the loss by its definition, in float64."""
  logits = np.asarray(logits, np.float64)
  exp = np.exp(logits - logits.max(axis=1, keepdims=True))
  softmax = exp / exp.sum(axis=1, keepdims=True)
  return -(q * np.log(softmax)).sum(axis=1)


def test_targets_are_one_hot_without_smoothing():
  q = losses.targets(jnp.array([2, 0]), 3)
  np.testing.assert_array_equal(q, [[0, 0, 1], [1, 0, 0]])
  assert q.dtype == jnp.float32


def test_smoothing_spreads_its_mass_over_all_classes():
  # 0.3 over three classes, and 0.7 more on the true one.
  q = losses.targets(jnp.array([1]), 3, label_smoothing=0.3)
  np.testing.assert_allclose(q, [[0.1, 0.8, 0.1]], rtol=1e-6)


def test_targets_of_a_mixed_clip_by_hand():
  # The second is mixed with one of its own class.
  q = losses.targets(
    jnp.array([[2, 0], [1, 1]]), 3, mass=jnp.array([[0.7, 0.3], [0.6, 0.4]])
  )
  np.testing.assert_allclose(q, [[0.3, 0, 0.7], [0, 1, 0]], rtol=1e-6)


def test_smoothing_of_a_mix_is_the_mix_of_smoothed_targets():
  mass = jnp.array([[0.7, 0.3]])
  q = losses.targets(jnp.array([[2, 0]]), 3, 0.3, mass)
  np.testing.assert_allclose(q, [[0.31, 0.1, 0.59]], rtol=1e-5)


def test_one_label_of_full_mass_is_the_label_bit_for_bit():
  labels = jnp.array([2, 0, 1])
  np.testing.assert_array_equal(
    losses.targets(labels[:, None], 3, 0.1, jnp.ones((3, 1))),
    losses.targets(labels, 3, 0.1),
  )


@pytest.mark.parametrize('loss', [losses.visual_loss, losses.contrast_loss])
def test_cosine_losses_by_hand(loss):
  # Cosines 1 and 0 at scale ln 3: probabilities 3/4 and 1/4.
  video = jnp.array([[1.0, 0.0], [1.0, 0.0]])
  classes = jnp.eye(2)
  scale = jnp.log(3.0)
  q = jnp.array([[1.0, 0.0], [0.5, 0.5]])
  np.testing.assert_allclose(
    loss(video, classes, scale, q),
    [np.log(4 / 3), 0.5 * np.log(4 / 3) + 0.5 * np.log(4)],
    rtol=1e-6,
  )


@pytest.mark.parametrize('loss', [losses.visual_loss, losses.contrast_loss])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cosine_losses_against_numpy(loss, smoothing):
  video, classes = unit_rows(0, 6, 8), unit_rows(1, 5, 8)
  labels = np.arange(6) % 5
  q = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
  found = loss(
    video, classes, 20.0, losses.targets(jnp.array(labels), 5, smoothing)
  )
  assert found.shape == (6,)
  np.testing.assert_allclose(
    found, cross_entropy(20.0 * video.astype(float) @ classes.T, q), rtol=2e-5
  )


@pytest.mark.parametrize('loss', [losses.visual_loss, losses.contrast_loss])
def test_loss_of_a_clip_does_not_depend_on_its_batch(loss):
  video, classes = unit_rows(0, 6, 8), unit_rows(1, 5, 8)
  q = losses.targets(jnp.arange(6) % 5, 5)
  whole = loss(video, classes, 10.0, q)
  part = loss(video[2:4], classes, 10.0, q[2:4])
  np.testing.assert_allclose(part, whole[2:4], rtol=1e-6)


def negatives(video, text, scale, labels, key, index, smoothing=0.0):
  q = losses.targets(jnp.asarray(labels), len(text), smoothing)
  keys = losses.global_index_keys(key, jnp.asarray(index))
  return np.asarray(losses.hard_negatives(video, text, scale, q, keys))


def test_hard_negatives_are_never_the_true_class():
  # The true class is by far the likeliest, were it not excluded.
  text = unit_rows(1, 4, 8)
  labels = np.arange(400) % 4
  drawn = negatives(
    text[labels], text, 50.0, labels, jax.random.key(0), np.arange(400)
  )
  assert (drawn != labels).all()


def test_hard_negatives_are_neither_class_of_a_mixed_clip():
  text = unit_rows(1, 4, 8)
  n = 400
  labels = jnp.stack([jnp.arange(n) % 4, (jnp.arange(n) + 1) % 4], axis=1)
  mass = jnp.tile(jnp.array([[0.999, 0.001]]), (n, 1))
  q = losses.targets(labels, 4, mass=mass)
  keys = losses.global_index_keys(jax.random.key(0), jnp.arange(n))
  drawn = np.asarray(
    losses.hard_negatives(text[labels[:, 1]], text, 50.0, q, keys)
  )
  assert (drawn[:, None] != labels).all()
  # A partner without any mass is a wrong class like the others.
  q = losses.targets(labels, 4, mass=jnp.tile(jnp.array([[1.0, 0.0]]), (n, 1)))
  drawn = np.asarray(
    losses.hard_negatives(text[labels[:, 1]], text, 50.0, q, keys)
  )
  assert (drawn == labels[:, 1]).any() and (drawn != labels[:, 0]).all()


def test_hard_negatives_come_in_proportion_to_their_likeness():
  # Of the wrong classes, weights exp(scale cos) are 6, 3 and 1.
  cosines = jnp.log(jnp.array([100.0, 6.0, 3.0, 1.0]))
  text = jnp.stack([cosines, jnp.zeros(4)], axis=1)
  n = 20_000
  video = jnp.tile(jnp.array([[1.0, 0.0]]), (n, 1))
  drawn = negatives(
    video, text, 1.0, np.zeros(n, int), jax.random.key(1), np.arange(n)
  )
  shares = np.bincount(drawn, minlength=4) / n
  # Three standard errors are 0.01.
  np.testing.assert_allclose(shares, [0, 0.6, 0.3, 0.1], atol=0.012)


def test_hard_negatives_depend_on_key_and_global_index_alone():
  video, text = unit_rows(0, 64, 8), unit_rows(1, 12, 8)
  labels, index = np.arange(64) % 12, np.arange(1000, 1064)
  key = jax.random.key(3)
  whole = negatives(video, text, 5.0, labels, key, index)
  # Another host holds other rows, at other places in its batch.
  mine = np.arange(63, -1, -3)
  part = negatives(video[mine], text, 5.0, labels[mine], key, index[mine])
  np.testing.assert_array_equal(part, whole[mine])
  other_key = negatives(video, text, 5.0, labels, jax.random.key(4), index)
  assert (other_key != whole).any()
  other_index = negatives(video, text, 5.0, labels, key, index + 64)
  assert (other_index != whole).any()


def test_hard_negatives_carry_no_gradient():
  video, text = unit_rows(0, 4, 8), unit_rows(1, 5, 8)
  keys = losses.global_index_keys(jax.random.key(0), jnp.arange(4))
  q = losses.targets(jnp.arange(4), 5)

  def through_draw(video):
    drawn = losses.hard_negatives(video, text, 5.0, q, keys)
    return jnp.asarray(text)[drawn].sum()

  np.testing.assert_array_equal(jax.grad(through_draw)(jnp.asarray(video)), 0)


def test_match_loss_by_hand():
  # sigma(ln 3) = 3/4: the true pair is believed at 3/4, the wrong at 1/4.
  log3 = np.log(3.0)
  np.testing.assert_allclose(
    losses.match_loss(jnp.array([log3, 0.0]), jnp.array([-log3, log3])),
    [np.log(4 / 3), 0.5 * (np.log(2) + np.log(4))],
    rtol=1e-6,
  )


def test_match_loss_stays_finite_at_large_logits():
  np.testing.assert_allclose(
    losses.match_loss(jnp.array([-1000.0]), jnp.array([1000.0])), [1000.0]
  )


def test_match_loss_of_a_mixed_clip_is_the_mean_of_its_pairs_losses():
  rng = np.random.default_rng(0)
  positive, negative = rng.normal(size=(5, 2)), rng.normal(size=5)
  share = rng.random(5)
  found = losses.match_loss(
    positive, negative, np.stack([share, 1 - share], axis=1)
  )
  np.testing.assert_allclose(
    found,
    share * losses.match_loss(positive[:, 0], negative)
    + (1 - share) * losses.match_loss(positive[:, 1], negative),
    rtol=1e-5,
  )


def test_match_loss_of_one_pair_of_full_mass_is_the_plain_one():
  positive, negative = jnp.array([0.3, -2.0]), jnp.array([1.0, 0.5])
  np.testing.assert_array_equal(
    losses.match_loss(positive[:, None], negative, jnp.ones((2, 1))),
    losses.match_loss(positive, negative),
  )


def test_transfer_composites_each_class_from_the_others_alone():
  # Two kinds of class: 0 and 1 have like names, as have 2 and 3.
  text = jnp.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
  text /= jnp.linalg.norm(text, axis=1, keepdims=True)
  centres = jnp.eye(4)
  loss = lambda z, q, tau: losses.transfer_loss(z, text, centres, 20.0, q, tau)
  # At a low temperature the composite of 0 is the centre of 1, and so on.
  others = centres[jnp.array([1, 0, 3, 2])]
  np.testing.assert_allclose(loss(others, jnp.eye(4), 0.01), 0, atol=1e-4)
  assert (loss(centres, jnp.eye(4), 0.01) > 10).all()
  # At a very high one it is the mean of the other three, n([0 1 1 1]).
  z, q = unit_rows(0, 5, 4), np.eye(4)[[0, 1, 2, 3, 0]]
  composites = (1 - np.eye(4)) / np.sqrt(3)
  np.testing.assert_allclose(
    loss(z, q, 1e6), cross_entropy(20 * z @ composites.T, q), rtol=1e-4
  )


def test_transfer_loss_is_the_inference_of_one_class_left_out():
  from zsar_jax.zeroshot import semantic_transfer

  z, text, centres = (unit_rows(i, n, 8) for i, n in ((0, 6), (1, 5), (2, 5)))
  rows = text - text.mean(axis=0)  # all names are seen here
  composites = []
  for c in range(5):
    rest = np.arange(5) != c
    weights = semantic_transfer.transfer_weights(
      rows[[c]], rows[rest], temperature=0.2, centre=False
    )
    composites.append(
      np.asarray(semantic_transfer.composite(weights, centres[rest]))[0]
    )
  q = np.eye(5)[np.arange(6) % 5]
  np.testing.assert_allclose(
    losses.transfer_loss(z, text, centres, 10.0, q, 0.2),
    cross_entropy(10 * z @ np.stack(composites).T, q),
    rtol=1e-4,
  )


def test_regression_is_the_squared_distance_and_holds_the_names():
  z, text = unit_rows(0, 4, 8), unit_rows(1, 3, 8)
  labels = np.array([0, 2, 1, 1])
  q = np.eye(3, dtype=np.float32)[labels]
  np.testing.assert_allclose(
    losses.regression_loss(z, text, q),
    ((z - text[labels]) ** 2).sum(axis=1),
    rtol=1e-5,
  )
  grad = jax.grad(lambda t: losses.regression_loss(z, t, q).sum())(text)
  np.testing.assert_array_equal(grad, 0)


def test_equal_names_have_a_finite_transfer_loss():
  # All rows are zero once their mean is off: no direction, even weights.
  text, centres = jnp.ones((3, 4)) / 2, jnp.eye(3, 4)
  z, q = unit_rows(0, 5, 4), np.eye(3)[[0, 1, 2, 0, 1]]
  composites = (1 - np.eye(3)) @ np.eye(3, 4) / np.sqrt(2)
  np.testing.assert_allclose(
    losses.transfer_loss(z, text, centres, 5.0, q, 0.1),
    cross_entropy(5 * z @ composites.T, q),
    rtol=1e-4,
  )


def test_keys_are_those_of_the_index_in_the_stream():
  key = jax.random.key(2)
  keys = losses.global_index_keys(key, jnp.array([5, 0]))
  for found, i in zip(keys, (5, 0), strict=True):
    np.testing.assert_array_equal(
      jax.random.key_data(found),
      jax.random.key_data(jax.random.fold_in(key, i)),
    )
