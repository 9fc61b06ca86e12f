"""I3D: Inception-v1 inflated to clips (Carreira and Zisserman 2017).

```python
model = I3D()
params = model.init(key, jnp.zeros((1, 32, 224, 224, 3)))
out = model.apply(params, clip)  # pooled [1 1024], logits [1 400]
```

Clips are float32 in [-1, 1]. Names and sizes of the layers are the paper's. The
norms' stored statistics are parameters that no training changes, as those of
`resnet.FrozenBatchNorm`.
"""

from collections.abc import Sequence
import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

NUM_CLASSES = 400
CONVOLUTIONS = ('taps', 'direct')
_EPSILON = 1e-3
# Block -> channels of its branches: 1x1; 1x1 then 3x3; likewise; pool then 1x1.
_BLOCKS = {
  'Mixed_3b': (64, (96, 128), (16, 32), 32),
  'Mixed_3c': (128, (128, 192), (32, 96), 64),
  'Mixed_4b': (192, (96, 208), (16, 48), 64),
  'Mixed_4c': (160, (112, 224), (24, 64), 64),
  'Mixed_4d': (128, (128, 256), (24, 64), 64),
  'Mixed_4e': (112, (144, 288), (32, 64), 64),
  'Mixed_4f': (256, (160, 320), (32, 128), 128),
  'Mixed_5b': (256, (160, 320), (32, 128), 128),
  'Mixed_5c': (384, (192, 384), (48, 128), 128),
}
# Blocks before which time is halved too, and the pool's window.
_POOLS = {'Mixed_4b': (3, 3, 3), 'Mixed_5b': (2, 2, 2)}
_SPATIAL = ((1, 3, 3), (1, 2, 2))
_HEAD_WINDOW = (2, 7, 7)


def convolve_by_taps(
  x: jax.Array, kernel: jax.Array, strides: Sequence[int]
) -> jax.Array:
  """Computes a 3-D convolution as a sum of 2-D ones, one per temporal tap.

  On CPUs XLA has fast 2-D convolutions and slow 3-D ones.

  Args:
    x: [b t h w i].
    kernel: [t h w i o].
    strides: of t, h and w.

  Returns:
    [b t' h' w' o], padded as TensorFlow's 'SAME': an odd rest at the end.
  """
  taps, stride = kernel.shape[0], strides[0]
  frames = -(-x.shape[1] // stride)
  padding = max((frames - 1) * stride + taps - x.shape[1], 0)
  before = padding // 2
  x = jnp.pad(x, [(0, 0), (before, padding - before)] + [(0, 0)] * 3)
  total = 0
  for tap in range(taps):
    part = x[:, tap : tap + (frames - 1) * stride + 1 : stride]
    out = lax.conv_general_dilated(
      part.reshape(-1, *part.shape[2:]),
      kernel[tap],
      strides[1:],
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    total = total + out.reshape(x.shape[0], frames, *out.shape[1:])
  return total


def _max_pool(
  x: jax.Array, window: Sequence[int], strides: Sequence[int]
) -> jax.Array:
  """Pools [b t h w c] with padding 'SAME', one axis after the other.

  The maximum of slices: on a CPU 2.6 times as fast as XLA's own pool where the
  stride is 1, and the export to ONNX can express it.
  """
  for axis, (size, stride) in enumerate(zip(window, strides, strict=True), 1):
    if size == stride == 1:
      continue
    length = x.shape[axis]
    last = (-(-length // stride) - 1) * stride  # where the last window begins
    padding = max(last + size - length, 0)
    pads = [(0, 0)] * x.ndim
    pads[axis] = padding // 2, padding - padding // 2
    padded = jnp.pad(x, pads, constant_values=-jnp.inf)
    x = functools.reduce(
      jnp.maximum,
      (
        lax.slice_in_dim(padded, k, k + last + 1, stride, axis)
        for k in range(size)
      ),
    )
  return x


def _pool_shares(shape: Sequence[int]) -> np.ndarray:
  """Returns each place's share [t h w] in the mean over all last windows."""
  shares = [
    np.convolve(np.ones(n - size + 1), np.ones(size)) / ((n - size + 1) * size)
    for n, size in zip(shape, _HEAD_WINDOW, strict=True)
  ]
  return np.einsum('t,h,w->thw', *shares).astype(np.float32)


class _Unit(nn.Module):
  """Convolution, norm with stored statistics, ReLU.

  The statistics have no gradient, and the optimiser decays only kernels. So
  they keep their values.
  """

  features: int
  window: tuple[int, int, int]
  strides: tuple[int, int, int] = (1, 1, 1)
  convolution: str = 'taps'
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (*self.window, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
    vector = lambda name, init: self.param(name, init, (self.features,))
    mean = vector('mean', nn.initializers.zeros)
    variance = vector('var', nn.initializers.ones)
    bias = vector('bias', nn.initializers.zeros)
    mean, variance = lax.stop_gradient((mean, variance))
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    if self.convolution == 'taps':
      x = convolve_by_taps(x, kernel, self.strides)
    else:
      x = lax.conv_general_dilated(
        x,
        kernel,
        self.strides,
        'SAME',
        dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
      )
    x = (x - mean) * lax.rsqrt(variance + _EPSILON) + bias
    return nn.relu(x).astype(self.dtype)


class I3D(nn.Module):
  """The network.

  Attributes:
    num_classes: of the last layer; 0 leaves it out.
    width: factor on all channels; 1 for the published weights.
    convolution: 'taps' sums 2-D convolutions, 'direct' is XLA's 3-D one. They
      give the same up to rounding.
    dtype: computation dtype; parameters, norms and the last layer stay float32.
  """

  num_classes: int = NUM_CLASSES
  width: float = 1.0
  convolution: str = 'taps'
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Classifies clips.

    Args:
      video: float32 [b t h w 3] in [-1, 1]; at least 16 frames of 224.
      deterministic: unused, since nothing here is random.

    Returns:
      `tokens` [b t'*h'*w' 1024], the last map; `pooled` [b 1024], float32, the
      last layer's input, mean over time and place; `logits` [b num_classes],
      if there is a last layer.

    Raises:
      ValueError: the convolution is unknown, or the clip is too small for the
        last pool.
    """
    del deterministic
    if self.convolution not in CONVOLUTIONS:
      raise ValueError(
        f'convolution={self.convolution!r} is not one of {CONVOLUTIONS}'
      )

    def unit(x, name, features, size, strides=(1, 1, 1)):
      window = (size,) * 3
      features = max(1, round(features * self.width))
      return _Unit(
        features, window, strides, self.convolution, self.dtype, name=name
      )(x)

    x = unit(video, 'Conv3d_1a_7x7', 64, 7, (2, 2, 2))
    x = _max_pool(x, *_SPATIAL)
    x = unit(x, 'Conv3d_2b_1x1', 64, 1)
    x = unit(x, 'Conv3d_2c_3x3', 192, 3)
    x = _max_pool(x, *_SPATIAL)
    for block, (one, three, other, pooled) in _BLOCKS.items():
      if block in _POOLS:
        x = _max_pool(x, _POOLS[block], (2, 2, 2))
      branches = [unit(x, f'{block}_0_1x1', one, 1)]
      for number, (narrow, wide) in ((1, three), (2, other)):
        y = unit(x, f'{block}_{number}_1x1', narrow, 1)
        branches.append(unit(y, f'{block}_{number}_3x3', wide, 3))
      y = _max_pool(x, (3, 3, 3), (1, 1, 1))
      branches.append(unit(y, f'{block}_3_1x1', pooled, 1))
      x = jnp.concatenate(branches, axis=-1)
    if any(n < w for n, w in zip(x.shape[1:4], _HEAD_WINDOW, strict=True)):
      raise ValueError(
        f'a clip of {video.shape[1:4]} gives {x.shape[1:4]} at the end; the '
        f'last pool needs {_HEAD_WINDOW}'
      )
    # The last layer is linear: the mean may be taken before it.
    shares = _pool_shares(x.shape[1:4])[..., None]
    pooled = (x.astype(jnp.float32) * shares).sum(axis=(1, 2, 3))
    tokens = x.reshape(len(x), -1, x.shape[-1])
    out = {'tokens': tokens, 'pooled': pooled}
    if self.num_classes:
      out['logits'] = nn.Dense(self.num_classes, name='logits')(pooled)
    return out
