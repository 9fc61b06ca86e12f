import numpy as np
import pytest

from zsar_jax.data import randaugment


def clip(seed=0, t=3):
  """Smooth frames, all alike."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(40, 200, (4, 5, 3))
  frame = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
  return np.repeat(frame[None], t, axis=0)


@pytest.mark.parametrize('name', randaugment.OPERATIONS)
@pytest.mark.parametrize('strength', [-1.0, 0.5, 1.0])
def test_every_operation_changes_all_frames_alike(name, strength):
  out = randaugment.OPERATIONS[name](clip(), strength)
  assert out.shape == clip().shape and out.dtype == np.uint8
  assert (out != clip()).any()
  for frame in out:
    np.testing.assert_array_equal(frame, out[0])


@pytest.mark.parametrize(
  'name', sorted(set(randaugment.OPERATIONS) - {'autocontrast'})
)
def test_no_strength_changes_nothing(name):
  out = randaugment.OPERATIONS[name](clip(), 0.0)
  np.testing.assert_allclose(out.astype(int), clip(), atol=1)


def test_brightness_and_translation_do_what_they_say():
  grey = np.full((1, 10, 10, 3), 100, np.uint8)
  bright = randaugment.OPERATIONS['brightness'](grey, 1.0)
  assert (bright == 190).all()
  moved = randaugment.OPERATIONS['translate_x'](grey, 1.0)
  # By three of ten columns; grey 128 comes in.
  assert (moved[0, :, 3:] == 100).all() and (moved[0, :, :3] == 128).all()
  assert (randaugment.OPERATIONS['solarize'](grey, 1.0) == 155).all()


def test_draws_are_the_rng_s_and_vary():
  draw = lambda seed: randaugment.randaugment(
    clip(), np.random.default_rng(seed), 2, 9.0
  )
  np.testing.assert_array_equal(draw(1), draw(1))
  assert len({draw(seed).tobytes() for seed in range(20)}) > 15


def test_no_layers_change_nothing():
  rng = np.random.default_rng(0)
  np.testing.assert_array_equal(
    randaugment.randaugment(clip(), rng, 0, 9.0), clip()
  )


@pytest.mark.parametrize('layers, magnitude', [(-1, 5), (1, -0.1), (1, 10.5)])
def test_bad_settings_raise(layers, magnitude):
  with pytest.raises(ValueError, match='randaugment'):
    randaugment.randaugment(clip(), np.random.default_rng(0), layers, magnitude)
