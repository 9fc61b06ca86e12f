import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zsar_jax.data import preprocessing
from zsar_jax.models import pixel_ops
from zsar_jax.parallel import sharding
from zsar_jax.training import losses

MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)


def test_pixels_are_scaled_then_normalised_by_channel():
  clip = np.zeros((1, 2, 2, 3), np.uint8)
  clip[0, 0, 0] = 255, 255, 255
  x = np.asarray(pixel_ops.to_inputs(clip, MEAN, STD))
  assert x.dtype == np.float32
  np.testing.assert_allclose(x[0, 0, 0], [1, 3, 1], rtol=1e-6)
  np.testing.assert_allclose(x[0, 1, 1], [-1, -1, 0], rtol=1e-6)


def test_differences_are_of_a_frame_to_the_one_before():
  clip = np.zeros((3, 1, 1, 3), np.uint8)
  clip[:, 0, 0, 0] = 0, 255, 51
  x = np.asarray(
    pixel_ops.to_inputs(clip, (0,) * 3, (1,) * 3, 'rgb+difference')
  )
  np.testing.assert_allclose(x[:, 0, 0, 0], [0, 1, 0.2], rtol=1e-6)
  np.testing.assert_allclose(x[:, 0, 0, 3], [0, 1, -0.8], rtol=1e-6)
  np.testing.assert_array_equal(x[..., [1, 2, 4, 5]], 0)


def test_grey_is_the_luma_and_keeps_a_batch_dimension():
  clip = np.zeros((2, 2, 1, 1, 3), np.uint8)
  clip[1, 1, 0, 0] = 255, 0, 0
  clip[0, 0, 0, 0] = 0, 255, 0
  x = np.asarray(
    pixel_ops.to_inputs(clip, (0,) * 3, (1,) * 3, 'grey+difference')
  )
  assert x.shape == (2, 2, 1, 1, 2)
  np.testing.assert_allclose(x[1, :, 0, 0], [[0, 0], [0.299, 0.299]], rtol=1e-6)
  np.testing.assert_allclose(
    x[0, :, 0, 0], [[0.587, 0], [0, -0.587]], rtol=1e-6
  )


def test_luma_of_white_is_one():
  clip = np.full((1, 1, 1, 3), 255, np.uint8)
  x = pixel_ops.to_inputs(clip, (0,) * 3, (1,) * 3, 'grey+difference')
  np.testing.assert_allclose(x[..., 0], 1, rtol=1e-6)


@pytest.mark.parametrize('inputs', preprocessing.INPUTS)
def test_number_of_channels_is_the_promised_one(inputs):
  clip = np.zeros((2, 4, 4, 3), np.uint8)
  x = pixel_ops.to_inputs(clip, MEAN, STD, inputs)
  assert x.shape == (2, 4, 4, pixel_ops.num_channels(inputs))


def test_a_still_clip_has_no_differences():
  clip = np.random.default_rng(0).integers(256, size=(1, 4, 4, 3))
  still = np.repeat(clip.astype(np.uint8), 3, axis=0)
  x = pixel_ops.to_inputs(still, MEAN, STD, 'rgb+difference')
  np.testing.assert_array_equal(x[..., 3:], 0)


@pytest.mark.parametrize('inputs', ['contrast+difference', 'contrast+motion'])
def test_a_clip_in_the_dark_looks_like_one_by_day(inputs):
  day = np.random.default_rng(0).integers(0, 16, size=(2, 3, 4, 4, 3)) * 16.0
  dark = 4 + day / 8
  of_day, of_dark = (
    np.asarray(pixel_ops.to_inputs(x, (0.5,) * 3, (0.25,) * 3, inputs))
    for x in (day, dark)
  )
  np.testing.assert_allclose(of_dark, of_day, rtol=0.1, atol=0.05)
  # Every channel of every clip has deviation one.
  np.testing.assert_allclose(of_day.std(axis=(1, 2, 3)), 1, atol=0.02)


def test_what_moves_stands_before_what_does_not():
  clip = np.full((1, 4, 1, 8, 3), 40.0)
  clip[0, :, 0, 4:] = 90  # a still background
  clip[0, 1, 0, 0] = 200  # something that is there in one frame
  x = pixel_ops.to_inputs(clip, (0,) * 3, (1,) * 3, 'contrast+motion')
  motion = np.asarray(x)[0, :, 0, :, 2]
  np.testing.assert_allclose(motion[:, 1:], 0, atol=1e-5)
  # One of four frames: three times as far above the mean as the others below.
  np.testing.assert_allclose(motion[1, 0], -3 * motion[0, 0], rtol=1e-5)


def test_the_noise_of_a_still_clip_is_not_blown_up():
  still = np.full((1, 4, 2, 2, 3), 100.0)
  x = pixel_ops.to_inputs(still, (0,) * 3, (1,) * 3, 'contrast+motion')
  np.testing.assert_allclose(x, 0, atol=1e-3)


def random_clips(b=8, t=2, h=6, w=10):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(b, t, h, w, 3)).astype(np.uint8)


def keys_of(index, seed=0):
  return losses.global_index_keys(jax.random.key(seed), jnp.asarray(index))


ALL_COLOURS = pixel_ops.ColourJitter(0.4, 0.4, 0.4, 0.1)


def jittered(clips, jitter, index=None, seed=0):
  index = np.arange(len(clips)) if index is None else index
  function = jax.jit(pixel_ops.colour_jitter, static_argnums=1)
  return np.asarray(function(clips, jitter, keys_of(index, seed)))


def luma(x):
  return np.asarray(x, np.float64) @ [0.299, 0.587, 0.114]


def test_jitter_stays_in_range_and_changes_something():
  clips = random_clips()
  x = jittered(clips, pixel_ops.ColourJitter(2.0, 2.0, 2.0, 0.5))
  assert x.shape == clips.shape and x.dtype == np.float32
  assert x.min() == 0 and x.max() == 255
  assert np.abs(x - clips).mean() > 10


def test_a_clip_is_jittered_by_its_global_index_and_all_frames_alike():
  still = np.repeat(random_clips(t=1), 3, axis=1)
  whole = jittered(still, ALL_COLOURS)
  np.testing.assert_array_equal(whole[:, 1:], whole[:, :-1])
  mine = np.array([6, 3, 1])
  part = jittered(still[mine], ALL_COLOURS, mine)
  np.testing.assert_allclose(part, whole[mine], rtol=1e-6, atol=1e-4)
  same_clip = np.repeat(still[:1], 8, axis=0)
  means = jittered(same_clip, ALL_COLOURS).mean(axis=(1, 2, 3, 4))
  assert len(np.unique(means)) == 8
  assert (means != jittered(same_clip, ALL_COLOURS, seed=1).mean()).all()


def test_brightness_is_one_factor_a_clip_within_its_reach():
  clips = np.full((500, 1, 1, 2, 3), 100, np.uint8)
  clips[:, :, :, 1] = 50
  x = jittered(clips, pixel_ops.ColourJitter(brightness=0.4))
  factors = x / clips
  np.testing.assert_allclose(
    factors, np.broadcast_to(factors[..., :1, :1], x.shape), rtol=1e-6
  )
  assert 0.6 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4
  assert factors.mean() == pytest.approx(1, abs=0.03)


def test_contrast_scales_the_distance_to_the_mean_luma_of_the_clip():
  clips = 64 + random_clips() // 4
  x = jittered(clips, pixel_ops.ColourJitter(contrast=0.5))
  for before, after in zip(clips, x, strict=True):
    middle = luma(before).mean()
    factors = (after - middle) / (before - middle)
    far = np.abs(before - middle) > 5
    np.testing.assert_allclose(factors[far], factors[far][0], rtol=1e-3)
    assert 0.5 <= factors[far][0] <= 1.5


def test_saturation_scales_the_distance_to_the_luma_of_the_pixel():
  clips = 96 + random_clips() // 8
  x = jittered(clips, pixel_ops.ColourJitter(saturation=0.5))
  np.testing.assert_allclose(luma(x), luma(clips), rtol=1e-5)
  for before, after in zip(clips, x, strict=True):
    away = before - luma(before)[..., None]
    far = np.abs(away) > 3
    factors = (after - luma(after)[..., None])[far] / away[far]
    np.testing.assert_allclose(factors, factors[0], rtol=1e-3)
    assert 0.5 <= factors[0] <= 1.5


def test_hue_turns_colours_about_the_grey_axis():
  clips = 96 + random_clips(b=32, t=1, h=1, w=2) // 8
  clips[:, :, :, 1] = 128
  x = jittered(clips, pixel_ops.ColourJitter(hue=0.25))
  np.testing.assert_allclose(x[:, :, :, 1], 128, rtol=1e-5)
  np.testing.assert_allclose(luma(x), luma(clips), rtol=1e-4)
  turns = []
  for before, after in zip(clips[:, 0, 0, 0], x[:, 0, 0, 0], strict=True):
    was, now = (
      complex(*colorsys.rgb_to_yiq(*map(float, colour))[1:])
      for colour in (before, after)
    )
    assert abs(now) == pytest.approx(abs(was), rel=0.02)
    turns.append(np.angle(now / was) / (2 * np.pi))
  assert -0.26 < min(turns) < -0.1 and 0.1 < max(turns) < 0.26


@pytest.mark.parametrize('values', [(-0.1, 0, 0, 0), (0, 0, 0, 0.6)])
def test_jitter_out_of_bounds_is_refused(values):
  with pytest.raises(ValueError, match='colour_jitter must not be negative'):
    pixel_ops.ColourJitter(*values)


def test_nothing_asked_for_is_false():
  assert not pixel_ops.ColourJitter() and not pixel_ops.Mixing()
  assert pixel_ops.ColourJitter(hue=0.1) and pixel_ops.Mixing(cutmix_alpha=1.0)


@pytest.mark.parametrize('b', [1, 2, 6, 8])
def test_partner_is_a_roll_by_any_shift(b):
  x = np.arange(2 * b).reshape(b, 2)
  for shift in range(b):
    np.testing.assert_array_equal(
      pixel_ops.partner(jnp.asarray(x), jnp.int32(shift)),
      np.roll(x, -shift, axis=0),
    )


MIXUP = pixel_ops.Mixing(mixup_alpha=0.8)
CUTMIX = pixel_ops.Mixing(cutmix_alpha=1.0)
BOTH = pixel_ops.Mixing(mixup_alpha=0.8, cutmix_alpha=1.0)


@functools.partial(jax.jit, static_argnums=1)
def _mix(clips, mixing, key, index):
  keys = losses.global_index_keys(key, index)
  return pixel_ops.mix(clips, mixing, key, keys)


def mixed(clips, mixing, seed=0):
  return _mix(clips, mixing, jax.random.key(seed), jnp.arange(len(clips)))


def test_mixup_is_the_weighted_mean_of_a_clip_and_its_partner():
  clips = random_clips()
  x, shift, share = (np.asarray(y) for y in mixed(clips, MIXUP))
  assert 1 <= shift < 8 and x.dtype == np.float32
  assert len(np.unique(share)) == 8 and share.min() >= 0 and share.max() <= 1
  share = share[:, None, None, None, None]
  other = np.roll(clips, -shift, axis=0)
  np.testing.assert_allclose(
    x, share * clips + (1 - share) * other, rtol=1e-5, atol=1e-4
  )


def test_cutmix_shows_the_partner_in_one_box_of_all_frames():
  own = random_clips(t=3, h=12, w=20) // 2
  # The lowest bit says whose a pixel is.
  own = 2 * own.astype(np.float32) + np.arange(8)[:, None, None, None, None] % 2
  boxes = 0
  for seed in range(8):
    x, shift, share = (np.asarray(y) for y in mixed(own, CUTMIX, seed))
    other = np.roll(own, -shift, axis=0)
    kept = (x == own).all(axis=(1, 4))
    for i in range(8):
      box = np.zeros((12, 20), bool)
      rows, columns = np.nonzero(~kept[i])
      if len(rows):
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = (
          True
        )
        boxes += 1
      np.testing.assert_array_equal(x[i][:, box], other[i][:, box])
      np.testing.assert_array_equal(x[i][:, ~box], own[i][:, ~box])
      assert share[i] == pytest.approx(1 - box.mean(), abs=1e-6)
  assert boxes > 40


@pytest.mark.parametrize('share', [0.0, 0.2, 0.5, 0.75, 0.97, 1.0])
@pytest.mark.parametrize(
  'middle', [(0.5, 0.5), (0.0, 0.0), (0.99, 0.2), (0.3, 0.9)]
)
def test_the_box_of_cutmix_covers_the_part_that_is_not_kept(share, middle):
  height, width = 20, 36
  kept = pixel_ops._kept_pixels(
    jnp.array([share]), jnp.array([middle]), height, width
  )
  # Sides in the frame's proportions, area 1 - share, rounded down to even
  # numbers, about the middle; what lies outside the frame is cut off.
  box = np.zeros((height, width), bool)
  sides = []
  for size, at in zip((height, width), middle, strict=True):
    half = int(np.floor(size * np.sqrt(1 - share))) // 2
    centre = int(np.floor(at * size))
    sides.append(slice(max(centre - half, 0), centre + half))
  box[tuple(sides)] = True
  np.testing.assert_array_equal(~np.asarray(kept[0]), box)
  if middle == (0.5, 0.5):
    assert 1 - share - 0.15 < box.mean() <= 1 - share


def test_shares_follow_their_beta_distribution():
  clips = np.zeros((4000, 1, 1, 1, 3), np.uint8)
  share = np.asarray(mixed(clips, MIXUP)[2], np.float64)
  # Variance of Beta(a, a) is 1 / (4 (2 a + 1)).
  assert share.mean() == pytest.approx(0.5, abs=0.02)
  assert share.var() == pytest.approx(1 / (4 * 2.6), rel=0.05)


def test_with_both_each_has_half_of_the_steps():
  own = random_clips(b=4, t=1)
  was_cutmix = []
  for seed in range(60):
    x, shift, _ = (np.asarray(y) for y in mixed(own, BOTH, seed))
    other = np.roll(own, -shift, axis=0)
    whole = ((x == own) | (x == other)).all(axis=-1).mean()
    assert whole == 1 or whole < 0.5
    was_cutmix.append(whole == 1)
  # Three standard deviations are 12 of 60.
  assert 18 < sum(was_cutmix) < 42


@pytest.mark.parametrize('mixing', [MIXUP, CUTMIX, BOTH])
def test_devices_do_not_change_a_mix(mixing):
  clips = random_clips(b=16)
  mesh = sharding.make_mesh({'data': 4, 'fsdp': 2, 'tensor': 1})
  split = sharding.put_batch({'video': clips}, mesh)['video']
  for seed in range(3):
    for one, many in zip(
      mixed(clips, mixing, seed), mixed(split, mixing, seed), strict=True
    ):
      # Compilers may round the sum of two products once or twice.
      np.testing.assert_allclose(one, many, rtol=1e-6)


def test_no_device_gathers_the_whole_batch():
  mesh = sharding.make_mesh({'data': 8, 'fsdp': 1, 'tensor': 1})
  split = sharding.put_batch({'video': random_clips(b=16)}, mesh)['video']
  compiled = _mix.lower(split, BOTH, jax.random.key(0), jnp.arange(16))
  text = compiled.compile().as_text()
  assert 'collective-permute' in text and 'all-gather' not in text
  assert mixed(split, BOTH)[0].sharding.is_equivalent_to(split.sharding, 5)


def test_negative_alpha_is_refused():
  with pytest.raises(ValueError, match='must not be negative'):
    pixel_ops.Mixing(mixup_alpha=-0.1)


def inputs_by_hand(clip, mean, std, inputs):
  """All kinds, in float64, a clip at a time."""
  x = (clip / 255.0 - np.array(mean)) / np.array(std)
  if not inputs.startswith('rgb'):
    x = luma(x)[..., None]
  over = lambda y: y / np.sqrt((y * y).mean() + 0.02**2)
  steady = lambda y: y
  if inputs.startswith('contrast'):
    steady, x = over, over(x - x.mean())
  channels = [x]
  if inputs.endswith(('difference', 'motion')):
    channels.append(steady(np.concatenate([0 * x[:1], x[1:] - x[:-1]])))
  if inputs.endswith('motion'):
    channels.append(steady(x - x.mean(axis=0)))
  return np.concatenate(channels, axis=-1)


@pytest.mark.parametrize('inputs', preprocessing.INPUTS)
def test_every_kind_of_inputs_by_its_definition(inputs):
  clips = random_clips(b=2, t=3, h=4, w=5)
  found = np.asarray(pixel_ops.to_inputs(clips, MEAN, STD, inputs))
  wanted = [inputs_by_hand(clip, MEAN, STD, inputs) for clip in clips]
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  assert found.dtype == np.float32


def test_colours_are_all_that_is_asked_for_by_default():
  clips = random_clips(b=1)
  np.testing.assert_array_equal(
    pixel_ops.to_inputs(clips, MEAN, STD),
    pixel_ops.to_inputs(clips, MEAN, STD, 'rgb'),
  )


def jittered_by_hand(clip, jitter, key):
  """One clip in float64, from the same four draws in [-1, 1)."""
  draws = np.asarray(jax.random.uniform(key, (4,), minval=-1.0), np.float64)
  reach = np.array([jitter.brightness, jitter.contrast, jitter.saturation])
  brightness, contrast, saturation = np.maximum(1 + draws[:3] * reach, 0)
  cut = lambda x: np.clip(x, 0, 255)
  x = cut(brightness * clip.astype(np.float64))
  middle = luma(x).mean()
  x = cut(middle + contrast * (x - middle))
  grey = luma(x)[..., None]
  x = cut(grey + saturation * (x - grey))
  angle = 2 * np.pi * draws[3] * jitter.hue
  to_iq = np.array(
    [[0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
  )
  from_iq = np.array([[0.9563, -0.2721, -1.1070], [0.6210, -0.6474, 1.7046]])
  cos, sin = np.cos(angle), np.sin(angle)
  turn = np.array([[cos, -sin], [sin, cos]])
  before = x @ to_iq.T
  return cut(x + (before @ turn.T - before) @ from_iq)


@pytest.mark.parametrize(
  'jitter',
  [
    (0.4, 0, 0, 0),
    (0, 0.4, 0, 0),
    (0, 0, 0.4, 0),
    (0, 0, 0, 0.5),
    (0.4, 0.4, 0.4, 0.1),
    (2.0, 2.0, 2.0, 0.5),
  ],
)
def test_jitter_by_its_definition(jitter):
  jitter, clips = pixel_ops.ColourJitter(*jitter), random_clips()
  wanted = [
    jittered_by_hand(clip, jitter, key)
    for clip, key in zip(clips, keys_of(np.arange(8)), strict=True)
  ]
  np.testing.assert_allclose(jittered(clips, jitter), wanted, atol=0.02)


def test_each_bound_of_a_jitter_and_of_a_mix():
  for i in range(4):
    values = [0.1] * 4
    values[i] = -0.1
    with pytest.raises(ValueError, match='must not be negative'):
      pixel_ops.ColourJitter(*values)
    values = [0.0] * 4
    values[i] = 0.5
    assert pixel_ops.ColourJitter(*values)
  with pytest.raises(ValueError, match='above 0.5'):
    pixel_ops.ColourJitter(hue=0.51)
  with pytest.raises(ValueError, match='must not be negative'):
    pixel_ops.Mixing(cutmix_alpha=-0.1)
  assert pixel_ops.Mixing(mixup_alpha=0.1)


@pytest.mark.parametrize('mixing', [MIXUP, CUTMIX])
def test_mixes_come_from_their_keys(mixing):
  clips, key = random_clips(), jax.random.key(0)
  keys = losses.global_index_keys(key, jnp.arange(8))
  shares, boxes = jax.vmap(jax.random.split, out_axes=1)(keys)
  alpha = mixing.mixup_alpha or mixing.cutmix_alpha
  beta = jax.jit(jax.vmap(lambda k: jax.random.beta(k, alpha, alpha)))(shares)
  middles = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(boxes)
  wanted = int(jax.random.randint(jax.random.split(key)[0], (), 1, 8))
  x, shift, share = mixed(clips, mixing)
  assert shift == wanted
  weight = jnp.broadcast_to(beta[:, None, None], (8, 6, 10))
  if mixing is CUTMIX:
    weight = pixel_ops._kept_pixels(beta, middles, 6, 10)
  weight = np.asarray(weight, np.float64)
  np.testing.assert_allclose(share, weight.mean(axis=(1, 2)), rtol=1e-5)
  weight = weight[:, None, :, :, None]
  other = np.roll(clips, -wanted, axis=0)
  np.testing.assert_allclose(
    x, weight * clips + (1 - weight) * other, rtol=1e-4, atol=1e-3
  )
