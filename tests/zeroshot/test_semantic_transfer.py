import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model

from zsar_jax.zeroshot import semantic_transfer


def test_relatedness_without_centring_is_the_cosine():
  related = semantic_transfer.relatedness(
    jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]]), centre=False
  )
  np.testing.assert_allclose(related, [[0.6, 0.8]], atol=1e-6)


def test_centring_takes_off_the_mean_of_the_seen_alone():
  # All names share 10 on the first axis. The seen mean is (10, 0, 0), so
  # centred seen are +y and -y and the unseen name points 3 to 4 off.
  seen = jnp.array([[10.0, 1.0, 0.0], [10.0, -1.0, 0.0]])
  unseen = jnp.array([[10.0, 3.0, 4.0], [10.0, -5.0, 0.0]])
  related = semantic_transfer.relatedness(unseen, seen)
  np.testing.assert_allclose(related, [[0.6, -0.6], [-1, 1]], atol=1e-6)
  # The unseen names have no say in the mean.
  alone = semantic_transfer.relatedness(unseen[:1], seen)
  np.testing.assert_allclose(alone, related[:1], atol=1e-6)
  # Without centring the shared part makes everything look related.
  raw = semantic_transfer.relatedness(unseen, seen, centre=False)
  assert (raw > 0.7).all()


def test_softmax_weights_by_hand():
  # exp(r / tau) = 4, 1 and 3.
  related = 0.5 * np.log([[4.0, 1.0, 3.0]])
  weights = semantic_transfer.softmax_weights(related, temperature=0.5)
  np.testing.assert_allclose(weights, [[0.5, 0.125, 0.375]], rtol=1e-6)


def test_top_k_keeps_the_largest_and_renormalises():
  related = np.log([[4.0, 1.0, 3.0], [1.0, 6.0, 2.0]])
  weights = semantic_transfer.softmax_weights(related, 1.0, top_k=2)
  np.testing.assert_allclose(
    weights, [[4 / 7, 0, 3 / 7], [0, 0.75, 0.25]], rtol=1e-6
  )


def test_top_k_gives_ties_to_the_lower_class():
  related = np.array([[0.0, 1.0, 1.0, 1.0]])
  weights = semantic_transfer.softmax_weights(related, 1.0, top_k=2)
  np.testing.assert_allclose(weights, [[0, 0.5, 0.5, 0]], rtol=1e-6)


def test_top_k_of_all_is_no_restriction():
  related = np.array([[0.3, 0.1, -0.2]])
  np.testing.assert_array_equal(
    semantic_transfer.softmax_weights(related, 0.1, top_k=3),
    semantic_transfer.softmax_weights(related, 0.1),
  )


def test_low_temperature_takes_the_most_related_class_alone():
  weights = semantic_transfer.softmax_weights(
    np.array([[0.9, 0.8, -1.0]]), temperature=1e-3
  )
  np.testing.assert_allclose(weights, [[1, 0, 0]], atol=1e-6)


def test_composite_by_hand():
  # Half of x and half of y, renormalised; and x alone.
  weights = jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
  prototypes = jnp.eye(3)
  root = 0.5**0.5
  np.testing.assert_allclose(
    semantic_transfer.composite(weights, prototypes),
    [[root, root, 0], [1, 0, 0]],
    rtol=1e-6,
  )


def test_names_to_prototypes_by_hand():
  seen_text = jnp.array([[0.0, 1.0], [0.0, -1.0]])
  unseen_text = jnp.array([[1.0, 0.0], [0.0, 3.0]])
  # r = [[0, 0], [1, -1]]; tau = 2 / ln 3 makes the second row's weights
  # 3 to 1.
  related = semantic_transfer.relatedness(unseen_text, seen_text)
  np.testing.assert_allclose(related, [[0, 0], [1, -1]], atol=1e-6)
  weights = semantic_transfer.softmax_weights(related, 2 / np.log(3))
  np.testing.assert_allclose(weights, [[0.5, 0.5], [0.75, 0.25]], rtol=1e-6)
  prototypes = semantic_transfer.composite(
    weights, jnp.array([[1.0, 0.0], [0.0, 1.0]])
  )
  np.testing.assert_allclose(
    prototypes,
    [[0.5**0.5, 0.5**0.5], [3 / 10**0.5, 1 / 10**0.5]],
    rtol=1e-6,
  )


def test_composites_can_win_against_seen_prototypes():
  # What the renormalisation is for: a video between two seen prototypes is
  # nearer to their composite than to either.
  seen = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  unseen = semantic_transfer.composite(jnp.array([[0.5, 0.5]]), seen)
  video = jnp.array([0.6, 0.8])
  assert (video @ unseen[0]) > (seen @ video).max()


@pytest.mark.parametrize('temperature', [0.0, -1.0])
def test_temperature_that_is_not_positive_raises(temperature):
  with pytest.raises(ValueError, match='temperature must be positive'):
    semantic_transfer.softmax_weights(np.zeros((1, 2)), temperature)


@pytest.mark.parametrize('top_k', [-1, 3])
def test_top_k_outside_the_seen_classes_raises(top_k):
  with pytest.raises(ValueError, match=f'2 seen classes, got {top_k}'):
    semantic_transfer.softmax_weights(np.zeros((1, 2)), 1.0, top_k=top_k)


def test_numpy_gives_numpy_and_the_same_as_jax():
  rng = np.random.default_rng(0)
  unseen, seen, prototypes = (
    rng.normal(size=(n, 6)).astype(np.float32) for n in (3, 5, 5)
  )

  def composites(unseen, seen, prototypes):
    related = semantic_transfer.relatedness(unseen, seen)
    weights = semantic_transfer.softmax_weights(related, 0.1, top_k=3)
    return semantic_transfer.composite(weights, prototypes)

  ours = composites(unseen, seen, prototypes)
  assert type(ours) is np.ndarray and ours.dtype == np.float32
  theirs = composites(*map(jnp.asarray, (unseen, seen, prototypes)))
  assert isinstance(theirs, jax.Array) and theirs.dtype == jnp.float32
  np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_no_seen_class_raises():
  with pytest.raises(ValueError, match='no seen class'):
    semantic_transfer.relatedness(np.ones((2, 3)), np.zeros((0, 3)))


def test_a_name_that_is_the_mean_is_related_to_nothing():
  seen = np.array([[0.0, 1.0], [0.0, -1.0]])
  related = semantic_transfer.relatedness(np.zeros((1, 2)), seen)
  np.testing.assert_array_equal(related, [[0, 0]])


def test_rows_are_centred_unless_told_otherwise():
  unseen, seen = np.array([[3.0, 5.0]]), np.array([[3.0, 1.0], [3.0, -1.0]])
  rows = semantic_transfer.centred_rows(unseen, seen)
  np.testing.assert_allclose(rows[0], [[0, 1]])
  np.testing.assert_allclose(rows[1], [[0, 1], [0, -1]])


def test_top_1_is_the_most_related_class():
  related = np.array([[0.1, 0.3, 0.2]])
  weights = semantic_transfer.softmax_weights(related, 1.0, top_k=1)
  assert weights.tolist() == [[0, 1, 0]]


def test_many_ties_go_to_the_lower_classes():
  # Sorts that keep no order keep it for a few.
  related = np.zeros((3, 200))
  related[:, ::7] = -1
  weights = semantic_transfer.softmax_weights(related, 1.0, top_k=50)
  best = np.flatnonzero(related[0] == 0)[:50]
  for row in weights:
    assert np.flatnonzero(row).tolist() == best.tolist()


def names():
  rng = np.random.default_rng(3)
  return rng.normal(size=(4, 6)) + 2, rng.normal(size=(5, 6)) + 2


def rows_by_hand(centre):
  unseen, seen = names()
  mean = seen.mean(axis=0) if centre else 0
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  return unit(unseen - mean), unit(seen - mean)


@pytest.mark.parametrize('centre', [True, False])
def test_ridge_weights_predict_as_scikit_learns_ridge_does(centre):
  unseen, seen = rows_by_hand(centre)
  prototypes = np.random.default_rng(4).normal(size=(5, 3))
  model = linear_model.Ridge(alpha=0.3, fit_intercept=False)
  model.fit(seen, prototypes)
  weights = semantic_transfer.ridge_weights(*names(), 0.3, centre)
  assert weights.dtype == np.float64 and weights.shape == (4, 5)
  np.testing.assert_allclose(
    weights @ prototypes, model.predict(unseen), rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize('ridge', [0, -0.5])
def test_ridge_that_is_not_positive_raises(ridge):
  with pytest.raises(ValueError, match='ridge must be positive'):
    semantic_transfer.ridge_weights(*names(), ridge)
  with pytest.raises(ValueError, match='no seen class'):
    semantic_transfer.ridge_weights(np.ones((2, 3)), np.zeros((0, 3)), 0.1)


@pytest.mark.parametrize('centre', [True, False])
def test_simplex_weights_are_the_nearest_of_many_mixtures(centre):
  unseen, seen = rows_by_hand(centre)
  weights = semantic_transfer.simplex_weights(*names(), centre)
  np.testing.assert_allclose(weights.sum(axis=1), 1)
  assert weights.min() >= 0
  mixtures = np.random.default_rng(5).dirichlet(np.full(5, 0.5), 20_000)
  for row, target in zip(weights, unseen, strict=True):
    least = ((mixtures @ seen - target) ** 2).sum(axis=1).min()
    assert ((row @ seen - target) ** 2).sum() <= least + 1e-6


@pytest.mark.parametrize('centre', [True, False])
def test_kernel_weights_predict_as_scikit_learns_kernel_ridge(centre):
  kernel_ridge = pytest.importorskip('sklearn.kernel_ridge')
  unseen, seen = rows_by_hand(centre)
  prototypes = np.random.default_rng(2).normal(size=(len(seen), 6))
  peer = kernel_ridge.KernelRidge(alpha=0.2, kernel='rbf', gamma=1.7)
  expected = peer.fit(seen, prototypes).predict(unseen)
  weights = semantic_transfer.kernel_weights(*names(), 1.7, 0.2, centre)
  assert weights.dtype == np.float64
  np.testing.assert_allclose(weights @ prototypes, expected, atol=1e-5)


def test_weights_of_a_class_left_out_are_those_without_it():
  _, seen = rows_by_hand(False)
  found = semantic_transfer.left_out_kernel_weights(
    seen, 1.5, 0.3, np.array([3, 1]), centre=False
  )
  for row, left in zip(found, (3, 1), strict=True):
    rest = np.delete(np.arange(len(seen)), left)
    expected = semantic_transfer.kernel_weights(
      seen[[left]], seen[rest], 1.5, 0.3, centre=False
    )
    np.testing.assert_allclose(row[rest], expected[0], atol=1e-6)
    assert row[left] == 0


def test_a_seen_name_is_made_of_itself_by_a_narrow_kernel():
  _, seen = names()
  weights = semantic_transfer.kernel_weights(seen[:2], seen, 200.0, 1e-3)
  np.testing.assert_allclose(weights, np.eye(len(seen))[:2], atol=2e-3)


@pytest.mark.parametrize('gamma, ridge', [(0.0, 0.1), (1.0, 0.0), (-1.0, 1.0)])
def test_kernels_of_no_width_are_refused(gamma, ridge):
  with pytest.raises(ValueError, match='gamma and ridge must be positive'):
    semantic_transfer.kernel_weights(*names(), gamma, ridge)


def test_any_weighting_by_its_name():
  unseen, seen = names()
  weights = semantic_transfer.transfer_weights
  related = semantic_transfer.relatedness(unseen, seen)
  raw = semantic_transfer.relatedness(unseen, seen, centre=False)
  softmax = semantic_transfer.softmax_weights
  for given, wanted in (
    ({}, softmax(related, 0.1)),
    ({'temperature': 0.7}, softmax(related, 0.7)),
    ({'top_k': 2}, softmax(related, 0.1, 2)),
    ({'centre': False}, softmax(raw, 0.1)),
    (
      {'weighting': 'ridge'},
      semantic_transfer.ridge_weights(unseen, seen, 0.1, True),
    ),
    (
      {'weighting': 'ridge', 'ridge': 2.0, 'centre': False},
      semantic_transfer.ridge_weights(unseen, seen, 2.0, False),
    ),
    (
      {'weighting': 'simplex', 'centre': False},
      semantic_transfer.simplex_weights(unseen, seen, False),
    ),
    (
      {'weighting': 'kernel', 'gamma': 3.0, 'ridge': 0.4},
      semantic_transfer.kernel_weights(unseen, seen, 3.0, 0.4),
    ),
    (
      {'weighting': 'kernel', 'centre': False},
      semantic_transfer.kernel_weights(unseen, seen, 1.0, 0.1, False),
    ),
  ):
    found = weights(unseen, seen, **given)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, atol=1e-7)
  # The centred ones are the default of each.
  np.testing.assert_array_equal(
    weights(unseen, seen, weighting='simplex'),
    semantic_transfer.simplex_weights(unseen, seen),
  )
  np.testing.assert_array_equal(
    weights(unseen, seen, weighting='ridge'),
    semantic_transfer.ridge_weights(unseen, seen, 0.1),
  )
  with pytest.raises(ValueError, match="weighting='nearest'"):
    weights(unseen, seen, weighting='nearest')


def test_a_composite_of_nothing_is_no_direction():
  found = semantic_transfer.composite(np.zeros((1, 2)), np.eye(2))
  np.testing.assert_array_equal(found, [[0, 0]])
