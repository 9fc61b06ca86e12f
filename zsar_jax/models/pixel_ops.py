"""Pixel operations on the device, where clips arrive as uint8.

Augmentation that is cheap per pixel runs here too, inside the training step.
The step and each example's position in the global stream key all random
numbers, and an example's partner comes from the global batch. So neither hosts
nor devices change a result.
"""

import dataclasses

import jax
import jax.numpy as jnp

# ITU-R BT.601 luma.
_LUMA = (0.299, 0.587, 0.114)
# RGB to the two colour axes of YIQ (NTSC), and back to RGB at luma zero.
_TO_CHROMA = ((0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))
_FROM_CHROMA = ((0.9563, -0.2721, -1.1070), (0.6210, -0.6474, 1.7046))


@dataclasses.dataclass(frozen=True)
class ColourJitter:
  """Largest changes of colours; zero leaves a property alone.

  Attributes:
    brightness: the factor is drawn from [1 - x, 1 + x], never below zero.
    contrast: as for brightness.
    saturation: as for brightness.
    hue: the angle is drawn from [-x, x] turns; at most 0.5.
  """

  brightness: float = 0.0
  contrast: float = 0.0
  saturation: float = 0.0
  hue: float = 0.0

  def __post_init__(self):
    if min(dataclasses.astuple(self)) < 0 or self.hue > 0.5:
      raise ValueError(
        'augmentation.colour_jitter must not be negative, nor its hue above '
        f'0.5, got {self}'
      )

  def __bool__(self) -> bool:
    return any(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Mixing:
  """Mixes clips with others; if both are on, each gets half of the steps.

  Attributes:
    mixup_alpha: of the Beta distribution of mixup's share; 0 is off.
    cutmix_alpha: of the Beta distribution of cutmix's share; 0 is off.
  """

  mixup_alpha: float = 0.0
  cutmix_alpha: float = 0.0

  def __post_init__(self):
    if min(self.mixup_alpha, self.cutmix_alpha) < 0:
      raise ValueError(
        'augmentation.mixup_alpha and cutmix_alpha must not be negative, got '
        f'{self}'
      )

  def __bool__(self) -> bool:
    return bool(self.mixup_alpha or self.cutmix_alpha)


# Below this deviation of normalised pixels a clip counts as still and is not
# scaled up. It is about one grey level of 256 at a deviation of 0.25.
_LEAST_CONTRAST = 0.02


def num_channels(inputs: str) -> int:
  """Returns the number of channels of `to_inputs` for this kind of inputs."""
  return {
    'rgb': 3,
    'rgb+difference': 6,
    'grey': 1,
    'grey+difference': 2,
    'contrast+difference': 2,
    'contrast+motion': 3,
  }[inputs]


def to_inputs(
  clip: jax.Array,
  mean: tuple[float, float, float],
  std: tuple[float, float, float],
  inputs: str = 'rgb',
) -> jax.Array:
  """Normalises a clip and, if asked, adds frame differences as channels.

  A difference is a frame less the one before it; the first frame's is zero.
  It shows motion to a small model before attention has learnt to compare
  frames.

  Args:
    clip: uint8 or float [... t h w 3], values in [0, 255].
    mean: per channel, of pixels in [0, 1].
    std: per channel.
    inputs: one of
      'rgb' (3 channels) and 'rgb+difference' (6);
      'grey' (1) and 'grey+difference' (2): luma of the normalised colours;
      'contrast+difference' (2): luma without the clip's own mean and deviation,
      and its differences over their own deviation, so that a clip filmed in the
      dark looks like one filmed by day;
      'contrast+motion' (3): the same two, and the difference from the clip's
      mean frame, which shows what moves before a still background.

  Returns:
    float32 [... t h w c].
  """
  x = clip.astype(jnp.float32) / 255.0
  x = (x - jnp.asarray(mean)) / jnp.asarray(std)
  if inputs == 'rgb':
    return x
  own_contrast = inputs.startswith('contrast')
  if inputs != 'rgb+difference':
    x = _luma(x)
  if inputs == 'grey':
    return x
  if own_contrast:
    x = _over_deviation(x - x.mean(axis=(-4, -3, -2, -1), keepdims=True))
  channels = [x, jnp.diff(x, axis=-4, prepend=x[..., :1, :, :, :])]
  if inputs == 'contrast+motion':
    channels.append(x - x.mean(axis=-4, keepdims=True))
  if own_contrast:
    channels[1:] = [_over_deviation(y) for y in channels[1:]]
  return jnp.concatenate(channels, axis=-1)


def _over_deviation(x: jax.Array) -> jax.Array:
  """Divides a channel of mean zero, [... t h w 1], by its deviation."""
  square = (x * x).mean(axis=(-4, -3, -2, -1), keepdims=True)
  return x / jnp.sqrt(square + _LEAST_CONTRAST**2)


def _dot(x: jax.Array, weights: tuple[float, ...]) -> jax.Array:
  """Sums over channels [... 3] -> [... 1]: no matmul, so exact everywhere."""
  return (x * jnp.asarray(weights)).sum(-1, keepdims=True)


def _luma(x: jax.Array) -> jax.Array:
  return _dot(x, _LUMA)


def _in_range(x: jax.Array) -> jax.Array:
  return jnp.clip(x, 0.0, 255.0)


def _turn_hue(x: jax.Array, turns: jax.Array) -> jax.Array:
  """Turns the colours of YIQ about the grey axis; luma stays."""
  i, q = (_dot(x, row) for row in _TO_CHROMA)
  cos, sin = jnp.cos(2 * jnp.pi * turns), jnp.sin(2 * jnp.pi * turns)
  # Adding only the change keeps a turn of zero exact.
  di, dq = (cos - 1) * i - sin * q, sin * i + (cos - 1) * q
  return (
    x + di * jnp.asarray(_FROM_CHROMA[0]) + dq * jnp.asarray(_FROM_CHROMA[1])
  )


def colour_jitter(
  clip: jax.Array, jitter: ColourJitter, keys: jax.Array
) -> jax.Array:
  """Changes the colours of whole clips, every frame alike.

  Brightness scales a pixel, contrast its distance to the clip's mean luma, and
  saturation its distance to its own luma. Then the hue is turned, in YIQ. The
  order is fixed, and each step clips values to the range.

  Args:
    clip: uint8 or float [b t h w 3], values in [0, 255].
    jitter: the largest changes.
    keys: random keys [b], see `losses.global_index_keys`.

  Returns:
    float32 [b t h w 3], values in [0, 255].
  """

  def one(x, key):
    brightness, contrast, saturation, hue = jax.random.uniform(
      key, (4,), minval=-1.0
    )
    factor = lambda draw, reach: jnp.maximum(1 + draw * reach, 0.0)
    if jitter.brightness:
      x = _in_range(factor(brightness, jitter.brightness) * x)
    if jitter.contrast:
      middle = _luma(x).mean()
      change = factor(contrast, jitter.contrast) * (x - middle)
      x = _in_range(middle + change)
    if jitter.saturation:
      grey = _luma(x)
      x = _in_range(grey + factor(saturation, jitter.saturation) * (x - grey))
    if jitter.hue:
      x = _in_range(_turn_hue(x, hue * jitter.hue))
    return x

  return jax.vmap(one)(clip.astype(jnp.float32), keys)


def partner(x: jax.Array, shift: jax.Array) -> jax.Array:
  """Returns the rows `shift` places on in the global batch, x[(i+shift) % b].

  It rolls by powers of two, which the compiler knows. A roll by an unknown
  shift would gather the whole batch on every device.

  Args:
    x: [b ...].
    shift: int, in [0, b).

  Returns:
    [b ...].
  """
  for bit in range((len(x) - 1).bit_length()):
    rolled = jnp.roll(x, -(1 << bit), axis=0)
    x = jnp.where((shift >> bit) & 1, rolled, x)
  return x


def _kept_pixels(
  shares: jax.Array, middles: jax.Array, height: int, width: int
) -> jax.Array:
  """Makes cutmix's mask [b h w]: False in a box that covers 1 - share, or less.

  The box has the frame's proportions. Its middle, [b 2] in [0, 1), is anywhere
  in the frame. The part of the box outside the frame is cut off.
  """

  def within(size, middle):
    middle = jnp.floor(middle * size)[:, None]
    half = (jnp.floor(size * jnp.sqrt(1 - shares)) // 2)[:, None]
    at = jnp.arange(size)
    return (at >= middle - half) & (at < middle + half)

  rows, columns = within(height, middles[:, 0]), within(width, middles[:, 1])
  return ~(rows[:, :, None] & columns[:, None, :])


def mix(
  clip: jax.Array, mixing: Mixing, key: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Mixes clips: mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019).

  A step draws one number of rows, and every clip's partner is that many rows
  further on. Each clip has its own share ~ Beta(alpha, alpha). mixup adds
  share x clip and (1 - share) x partner. cutmix shows the partner in one box,
  the same in all frames. Its share is then exactly the clip's own part of the
  frame.

  Args:
    clip: uint8 or float [b t h w 3], values in [0, 255]; b at least 2.
    mixing: settings; mixup or cutmix must be on.
    key: the step's random key.
    keys: random keys [b], see `losses.global_index_keys`.

  Returns:
    Three values: the clips, float32 [b t h w 3]; the shift in rows to the
    partner, in [1, b), for `partner`; the clip's own share, [b], in [0, 1].
  """
  b, _, height, width = clip.shape[:4]
  shift_key, method_key = jax.random.split(key)
  shift = jax.random.randint(shift_key, (), 1, b)
  other = partner(clip, shift).astype(jnp.float32)
  share_keys, box_keys = jax.vmap(jax.random.split, out_axes=1)(keys)

  def drawn(alpha):
    return jax.vmap(lambda k: jax.random.beta(k, alpha, alpha))(share_keys)

  def mixup():
    share = drawn(mixing.mixup_alpha)
    return share, jnp.broadcast_to(share[:, None, None], (b, height, width))

  def cutmix():
    middles = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(box_keys)
    kept = _kept_pixels(drawn(mixing.cutmix_alpha), middles, height, width)
    weight = kept.astype(jnp.float32)
    return weight.mean(axis=(1, 2)), weight

  if mixing.mixup_alpha and mixing.cutmix_alpha:
    share, weight = jax.lax.cond(
      jax.random.bernoulli(method_key), mixup, cutmix
    )
  else:
    share, weight = mixup() if mixing.mixup_alpha else cutmix()
  weight = weight[:, None, :, :, None]
  mixed = weight * clip.astype(jnp.float32) + (1 - weight) * other
  return mixed, shift, share
