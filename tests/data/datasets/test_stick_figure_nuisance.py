import dataclasses

import numpy as np
import pytest

from zsar_jax.data.datasets import stick_figure_nuisance as nuisances


def _luma(color):
  return float(np.dot(color, (0.299, 0.587, 0.114)))


@pytest.fixture(scope='module')
def many():
  return [nuisances.draw_nuisance(seed) for seed in range(500)]


def test_same_seed_gives_the_same_nuisance(many):
  assert nuisances.draw_nuisance(7) == many[7]
  assert many[7] != many[8]


def test_no_strength_is_one_canonical_figure():
  first, second = (nuisances.draw_nuisance(seed, 0.0) for seed in (1, 2))
  ignored = {'seed': 0, 'texture_seed': 0}
  assert dataclasses.replace(first, **ignored) == dataclasses.replace(
    second, **ignored
  )
  assert first.texture_contrast == first.drift_x == first.drift_y == 0.0


def test_strength_scales_the_spread():
  half = [nuisances.draw_nuisance(seed, 0.5) for seed in range(20)]
  full = [nuisances.draw_nuisance(seed, 1.0) for seed in range(20)]
  for field, middle in (('speed', 1.0), ('height', 0.68), ('drift_x', 0.0)):
    np.testing.assert_allclose(
      [2.0 * (getattr(n, field) - middle) for n in half],
      [getattr(n, field) - middle for n in full],
      atol=1e-9,
    )


@pytest.mark.parametrize('strength', [-0.1, 1.1])
def test_strength_outside_the_unit_interval_raises(strength):
  with pytest.raises(ValueError, match='strength'):
    nuisances.draw_nuisance(0, strength)


def test_figure_stands_out_from_background_and_face_from_figure(many):
  for nuisance in many:
    figure = _luma(nuisance.figure_color)
    background = _luma(nuisance.background_color)
    assert abs(figure - background) - nuisance.texture_contrast > 0.2
    assert abs(figure - _luma(nuisance.face_color)) > 0.3
  darker = [_luma(n.figure_color) < _luma(n.background_color) for n in many]
  assert 0.4 < np.mean(darker) < 0.6


def test_times_cover_the_duration(many):
  assert {n.fps for n in many} == set(nuisances.FRAME_RATES)
  for nuisance in many:
    times = nuisance.times()
    assert len(times) == nuisance.num_frames
    assert abs(nuisance.duration / nuisances.CLIP_SECONDS - 1) <= 0.05
    assert abs(times[-1] + 1 / nuisance.fps - nuisance.duration) < 0.03


def test_drift_is_slow_and_zero_in_the_middle(many):
  for nuisance in many:
    ends = nuisances.camera_offset(np.array([0.0, nuisance.duration]), nuisance)
    np.testing.assert_allclose(ends.sum(axis=0), 0.0, atol=1e-12)
    speed = np.linalg.norm(ends[1] - ends[0]) / nuisance.duration
    assert speed <= nuisances.MAX_DRIFT + 1e-9
