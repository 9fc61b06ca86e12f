import numpy as np
import pytest

from zsar_jax.data import video_transforms as vt


def gradient(t=3, h=40, w=60):
  """A clip whose red says the column and whose green says the row."""
  clip = np.zeros((t, h, w, 3), np.uint8)
  clip[..., 0] = np.arange(w) * 4
  clip[..., 1] = np.arange(h)[:, None] * 4
  clip[..., 2] = np.arange(t)[:, None, None]
  return clip


@pytest.mark.parametrize(
  'size, short_side, expected',
  [
    ((48, 64), 24, (24, 32)),
    ((64, 48), 24, (32, 24)),
    ((48, 85), 24, (24, 43)),  # 42.5 goes up.
    ((10, 10), 20, (20, 20)),
    ((1, 1000), 1, (1, 1000)),
  ],
)
def test_resize_short_side(size, short_side, expected):
  frame = np.zeros((*size, 3), np.uint8)
  assert vt.resize_short_side(frame, short_side).shape == (*expected, 3)


def test_resize_short_side_averages():
  frame = np.zeros((4, 4, 3), np.uint8)
  frame[::2] = 200
  np.testing.assert_array_equal(
    vt.resize_short_side(frame, 2), np.full((2, 2, 3), 100)
  )
  with pytest.raises(ValueError, match='at least 1'):
    vt.resize_short_side(frame, 0)


def test_centre_crop():
  crop = vt.centre_crop(gradient(), 20)
  np.testing.assert_array_equal(crop, gradient()[:, 10:30, 20:40])
  with pytest.raises(ValueError, match='40x60'):
    vt.centre_crop(gradient(), 41)


def test_mirror():
  clip = gradient()
  np.testing.assert_array_equal(vt.mirror(clip)[:, :, 0], clip[:, :, -1])
  np.testing.assert_array_equal(vt.mirror(vt.mirror(clip)), clip)


def test_random_crop_is_one_rectangle_for_all_frames():
  rng = np.random.default_rng(0)
  clip = vt.random_resized_crop(gradient(), 16, rng, (0.2, 0.5))
  assert clip.shape == (3, 16, 16, 3) and clip.dtype == np.uint8
  for i in range(3):
    np.testing.assert_array_equal(clip[i, ..., :2], clip[0, ..., :2])
    assert (clip[i, ..., 2] == i).all()


def test_random_crop_areas():
  rng = np.random.default_rng(0)
  shares = []
  for _ in range(100):
    clip = vt.random_resized_crop(gradient(), 32, rng, (0.3, 0.6))
    columns = np.ptp(clip[0, 0, :, 0].astype(float)) / 4 + 1
    rows = np.ptp(clip[0, :, 0, 1].astype(float)) / 4 + 1
    shares.append(columns * rows / (40 * 60))
  assert 0.25 < min(shares) < 0.35 and 0.5 < max(shares) < 0.65


def test_random_crop_that_cannot_fit_takes_the_centre():
  clip = gradient(h=10, w=60)
  crop = vt.random_resized_crop(
    clip, 10, np.random.default_rng(0), (1.0, 1.0), (1.0, 1.0)
  )
  np.testing.assert_array_equal(crop, vt.centre_crop(clip, 10))


@pytest.mark.parametrize('area', [(0, 0.5), (0.5, 1.5), (0.6, 0.5)])
def test_random_crop_refuses_bad_areas(area):
  with pytest.raises(ValueError, match='area'):
    vt.random_resized_crop(gradient(), 8, np.random.default_rng(0), area)
  with pytest.raises(ValueError, match='aspect'):
    vt.random_resized_crop(
      gradient(), 8, np.random.default_rng(0), aspect=(2, 1)
    )


def test_train_transform_mirrors_half_and_only_where_allowed():
  mirrored = []
  for seed in range(200):
    allowed, plain = (
      vt.train_transform(
        gradient(),
        np.random.default_rng(seed),
        size=16,
        area=(0.5, 1.0),
        mirror_allowed=m,
      )
      for m in (True, False)
    )
    assert allowed.flags.c_contiguous
    assert plain[0, 0, 0, 0] < plain[0, 0, -1, 0]
    is_mirrored = allowed[0, 0, 0, 0] > allowed[0, 0, -1, 0]
    np.testing.assert_array_equal(
      vt.mirror(allowed) if is_mirrored else allowed, plain
    )
    mirrored.append(is_mirrored)
  assert 70 < sum(mirrored) < 130


def test_eval_transform_takes_the_middle_square():
  np.testing.assert_array_equal(
    vt.eval_transform(gradient(), 40), gradient()[:, :, 10:50]
  )
  assert vt.eval_transform(gradient(), 16).shape == (3, 16, 16, 3)


def test_eval_transform_crops_reach_both_ends():
  crops = [
    vt.eval_transform(gradient(), 40, crop=c, num_crops=3) for c in range(3)
  ]
  for crop, left in zip(crops, (0, 10, 20), strict=True):
    np.testing.assert_array_equal(crop, gradient()[:, :, left : left + 40])
  tall = gradient(h=60, w=40)
  np.testing.assert_array_equal(
    vt.eval_transform(tall, 40, crop=2, num_crops=3), tall[:, 20:]
  )
  with pytest.raises(ValueError, match='crop 3 of 3'):
    vt.eval_transform(gradient(), 40, crop=3, num_crops=3)


def test_inputs_are_left_alone():
  clip = gradient()
  before = clip.copy()
  vt.train_transform(
    clip, np.random.default_rng(0), size=16, mirror_allowed=True
  )
  vt.eval_transform(clip, 16)
  np.testing.assert_array_equal(clip, before)
