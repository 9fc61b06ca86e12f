"""Examples with centres of one scene, on random arrays."""

import numpy as np

from experiments import example_scenes
from tests.experiments import test_few_examples_clips


def seen(rng):
  labels = np.repeat(np.arange(6), 8)
  z = rng.normal(size=(48, 16))
  z[labels >= 3, 0] += 50  # the second scene
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  return example_scenes.Seen(z, labels, ('a',) * 3 + ('b',) * 3)


def test_a_centre_is_the_mean_of_a_few_clips_of_its_scene():
  rng = np.random.default_rng(0)
  clips = seen(rng)
  assert clips.centre('b', rng)[0] > 0.99 > 0.5 > clips.centre('a', rng)[0]
  assert 0.3 < clips.centre('', rng)[0] < 0.7
  # Other clips each time.
  assert not np.allclose(clips.centre('a', rng), clips.centre('a', rng))


def test_only_the_class_with_examples_changes():
  rng = np.random.default_rng(0)
  problem = test_few_examples_clips.problem(0)
  found = example_scenes.measure(problem, seen(rng), 0.5)
  for kind, values in found.items():
    assert len(values) == len(problem.draws) * 4, kind
    assert np.stack(values).shape[1:] == (2, 4)
  # Without examples the centre does not matter.
  before = {kind: np.stack(values)[:, 0] for kind, values in found.items()}
  np.testing.assert_array_equal(before['own scene'], before['all scenes'])
  lines = example_scenes.table([found, found])
  assert [line.split('  ')[0] for line in lines[2:]] == [
    'none given',
    'own scene',
    'another scene',
    'all scenes',
  ]
  own = 100 * np.stack(found['own scene'])[:, 1].mean(axis=0)
  assert lines[3].split()[-4:] == [f'{x:.1f}' for x in own]
