import numpy as np
import pytest

from zsar_jax.data import preprocessing
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


def random_clip(clip, seed=0, **how):
  how = {'mirror_allowed': False, 'size': 16, **how}
  view = vt.RandomView(np.random.default_rng(seed), **how)
  return np.stack([view(frame) for frame in clip])


def test_random_view_is_one_rectangle_for_all_frames():
  clip = random_clip(gradient(), area=(0.2, 0.5))
  assert clip.shape == (3, 16, 16, 3) and clip.dtype == np.uint8
  for i in range(3):
    np.testing.assert_array_equal(clip[i, ..., :2], clip[0, ..., :2])
    assert (clip[i, ..., 2] == i).all()


def test_random_rectangles_have_the_areas_and_shapes_asked_for():
  rng = np.random.default_rng(0)
  drawn = np.array(
    [vt.random_rectangle(40, 60, rng, (0.3, 0.6), (0.5, 2)) for _ in range(200)]
  )
  top, left, height, width = drawn.T
  assert (top >= 0).all() and (top + height <= 40).all()
  assert (left >= 0).all() and (left + width <= 60).all()
  shares = height * width / (40 * 60)
  assert 0.27 < shares.min() < 0.35 and 0.55 < shares.max() < 0.63
  shapes = width / height
  assert 0.48 < shapes.min() < 0.7 and 1.5 < shapes.max() < 2.1


def test_rectangle_that_cannot_fit_is_the_middle_square():
  rng = np.random.default_rng(0)
  rectangle = vt.random_rectangle(10, 60, rng, (1.0, 1.0), (1.0, 1.0))
  assert rectangle == (0, 25, 10, 10)


@pytest.mark.parametrize('area', [(0, 0.5), (0.5, 1.5), (0.6, 0.5)])
def test_bad_ranges_raise(area):
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match='area'):
    vt.random_rectangle(8, 8, rng, area)
  with pytest.raises(ValueError, match='aspect'):
    vt.random_rectangle(8, 8, rng, aspect=(2, 1))


def test_half_are_mirrored_and_only_where_allowed():
  mirrored = []
  for seed in range(200):
    allowed, plain = (
      random_clip(gradient(), seed, mirror_allowed=m) for m in (True, False)
    )
    assert plain[0, 0, 0, 0] < plain[0, 0, -1, 0]
    is_mirrored = allowed[0, 0, 0, 0] > allowed[0, 0, -1, 0]
    np.testing.assert_array_equal(
      allowed[:, :, ::-1] if is_mirrored else allowed, plain
    )
    mirrored.append(is_mirrored)
  assert 70 < sum(mirrored) < 130


def test_a_square_is_the_middle_one():
  frame = gradient()[0]
  np.testing.assert_array_equal(vt.square(frame, 40), frame[:, 10:50])
  np.testing.assert_array_equal(vt.square(frame, 20), frame[10:30, 20:40])


def test_squares_reach_both_ends():
  frame = gradient()[0]
  for crop, left in enumerate((0, 10, 20)):
    np.testing.assert_array_equal(
      vt.square(frame, 40, crop, num_crops=3), frame[:, left : left + 40]
    )
  tall = gradient(h=60, w=40)[0]
  np.testing.assert_array_equal(vt.square(tall, 40, 2, 3), tall[20:])
  with pytest.raises(ValueError, match='crop 3 of 3'):
    vt.square(frame, 40, crop=3, num_crops=3)


def prep(**changes):
  values = dict(size=32, short_side=40, resize='bicubic', crop='centre')
  return preprocessing.Preprocessing(
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    num_frames=8,
    sampling='uniform',
    frame_stride=1,
    sample_fps=25.0,
    inputs='rgb',
    token_length=8,
    vocabulary_hash='',
    **{**values, **changes},
  )


def test_crops_of_a_frame_are_those_asked_for():
  frame = gradient()[0]
  seen = lambda **how: vt.eval_views(vt.shrink(frame, prep(**how)), prep(**how))
  # At its own short side nothing is resized.
  np.testing.assert_array_equal(seen()[0], frame[4:36, 14:46])
  largest = vt.resize_frame(frame[:, 10:50], 32, 32, 'bicubic')
  np.testing.assert_array_equal(seen(crop='square')[0], largest)
  whole = vt.resize_frame(frame, 32, 32, 'bilinear')
  how = dict(crop='whole', resize='bilinear')
  np.testing.assert_array_equal(seen(**how)[0], whole)
  assert vt.eval_views(frame, prep(**how), 3).shape == (3, 32, 32, 3)


def test_resizing_takes_the_method_that_is_asked_for():
  """A bright line: antialiased, bicubic undershoots beside it."""
  frame = np.full((60, 60, 3), 100, np.uint8)
  frame[:, 30] = 255
  found = {
    method: vt.resize_frame(frame, 30, 30, method)[15, :, 0].astype(int)
    for method in preprocessing.RESIZES
  }
  assert found['area'].tolist() == [100] * 15 + [178] + [100] * 14
  assert found['bicubic'].min() < 100 < found['bicubic'].max() < 255
  assert found['bilinear'].min() == 100
  assert (found['bilinear'] > 100).sum() > 1
  # A frame of 3:2 whose longer side has no whole number of pixels.
  assert vt.resize_short_side(frame[:43], 20).shape == (20, 28, 3)
  assert vt.resize_short_side(frame[:43], 20, 'bicubic').shape == (20, 27, 3)


def test_inputs_are_left_alone():
  clip = gradient()
  before = clip.copy()
  random_clip(clip, mirror_allowed=True)
  vt.eval_views(vt.shrink(clip[0], prep()), prep())
  np.testing.assert_array_equal(clip, before)
