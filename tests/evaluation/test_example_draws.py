import types

import numpy as np
import pytest

from zsar_jax.evaluation import choosing, example_draws, methods, task

NAMES = ('a', 'b')


def videos(per_class=6, per_session=2):
  labels = np.repeat([0, 1], per_class)
  groups = [f'{i // per_session}' for i in range(2 * per_class)]
  return types.SimpleNamespace(labels=labels, groups=groups)


def test_sessions_stand_on_one_side_and_examples_are_of_their_class():
  given = videos()
  seen = set()
  for seed in range(20):
    drawn = example_draws.draw(given, NAMES, 3, np.random.default_rng(seed))
    assert drawn.pool.shape == (2, 3)
    for c, rows in enumerate(drawn.pool):
      assert (given.labels[rows] == c).all() and len(set(rows)) == 3
    groups = np.array(given.groups)
    assert not set(groups[drawn.pool.ravel()]) & set(groups[drawn.tested])
    # Three examples take two sessions; what is left of them is not tested.
    assert len(drawn.tested) == 4
    seen.add(tuple(drawn.pool.ravel()))
  assert len(seen) > 10


def test_classes_share_the_sessions_of_their_examples():
  # 20 sessions, each with one video of each of four classes.
  given = types.SimpleNamespace(
    labels=np.tile(np.arange(4), 20), groups=[f'{i // 4}' for i in range(80)]
  )
  groups = np.array(given.groups)
  drawn = example_draws.draw(given, 'abcd', 10, np.random.default_rng(0))
  assert len(set(groups[drawn.pool.ravel()])) == 10 and len(drawn.tested) == 40
  assert not set(groups[drawn.pool.ravel()]) & set(groups[drawn.tested])


def test_sessions_that_leave_nothing_to_test_are_drawn_again():
  # 'a' is in two sessions, 'b' in these and a small third one. Where 'a' takes
  # one of the first two, 'b' has to leave the other.
  labels = np.array([0] * 8 + [1] * 9)
  groups = ['x'] * 4 + ['y'] * 4 + ['x'] * 4 + ['y'] * 4 + ['z']
  given = types.SimpleNamespace(labels=labels, groups=groups)
  for seed in range(20):
    drawn = example_draws.draw(given, NAMES, 4, np.random.default_rng(seed))
    assert set(labels[drawn.tested]) == {0, 1}


@pytest.mark.parametrize('most', [5, 7])
def test_too_few_videos_or_sessions_raise(most):
  with pytest.raises(ValueError, match="'a' has 6 videos of 3 recording"):
    example_draws.draw(videos(), NAMES, most, np.random.default_rng(0))


def test_more_examples_find_a_class_that_its_name_does_not():
  rng = np.random.default_rng(0)
  given = videos(12, 1)
  true = np.eye(4)[:2]
  embeddings = true[given.labels] + 0.3 * rng.normal(size=(24, 4))
  embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
  # Names that mix the two classes up.
  composites = true[::-1]
  drawn = example_draws.draw(given, NAMES, 6, rng)
  found = [
    example_draws.per_class_accuracy(
      example_draws.scores(
        drawn, embeddings[:, None], embeddings, composites, n, 1.0
      ),
      given.labels[drawn.tested],
    ).mean()
    for n in (0, 6)
  ]
  assert found[0] < 0.3 and found[1] > 0.9
  # Examples of one class alone.
  half = example_draws.scores(
    drawn, embeddings[:, None], embeddings, composites, np.array([6, 0]), 1.0
  )
  none = example_draws.scores(
    drawn, embeddings[:, None], embeddings, composites, 0, 1.0
  )
  np.testing.assert_array_equal(half[:, 1], none[:, 1])
  assert not np.allclose(half[:, 0], none[:, 0])


def evaluation(per_class=8, names_are_right=False):
  """Two unseen classes that are mixtures of three seen ones."""
  rng = np.random.default_rng(1)
  labels = np.repeat([0, 1], per_class)
  true = np.eye(3)[:2]
  z = true[labels] + 0.2 * rng.normal(size=(2 * per_class, 3))
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  text = true if names_are_right else true[::-1]
  return types.SimpleNamespace(
    seen=task.Seen(task.Classes(('x', 'y', 'z'), np.eye(3)), np.eye(3)),
    unseen=task.Classes(NAMES, text),
    videos=task.TestVideos(
      z[:, None], None, labels, [str(i) for i in range(2 * per_class)]
    ),
    seen_videos=None,
  )


def test_the_prior_is_chosen_by_whether_names_help():
  settings = methods.TransferSettings(example_prior=1.0)
  wrong = [evaluation(), evaluation(9)]
  compared = choosing.compare_priors(wrong, settings)
  assert [*compared][0] == 1.0 and set(compared) == set(choosing.PRIORS)
  assert all(len(values) == 2 for values in compared.values())
  assert np.mean(compared[0.25]) > np.mean(compared[4.0])
  assert choosing.best([*compared.items()]) < 1
  right = choosing.compare_priors(
    [evaluation(names_are_right=True)] * 2, settings
  )
  assert choosing.best([*right.items()]) >= 1
  # Too few videos to draw from: nothing is compared.
  assert choosing.compare_priors([evaluation(5)], settings) == {}


def test_the_best_must_beat_the_default_by_a_standard_error():
  assert choosing.best([('default', [0.5, 0.5]), ('b', [0.6, 0.62])]) == 'b'
  assert (
    choosing.best([('default', [0.5, 0.5]), ('b', [0.3, 0.8])]) == 'default'
  )
  assert choosing.best([('default', [0.5]), ('b', [0.9])]) == 'default'
