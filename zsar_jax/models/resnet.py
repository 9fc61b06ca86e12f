"""ResNets, and the paper's video encoder: frames, ResNet, Transformer.

The paper names its encoders ResT_18 and ResT_101. A ResNet of that depth gives
each frame's feature map, and a Transformer reads all maps. The text that we
could read does not say more. So these are our choices: every cell of the last
feature map becomes a token, positions are learnt and separable, and the
Transformer is the joint space-time one of `VideoEncoder`.

  encoder = ResTEncoder(resnet_depth=18, width=512, depth=4, num_heads=8,
                        mlp_dim=2048)
  params = encoder.init(key, jnp.zeros((1, 8, 224, 224, 3)))
  out = encoder.apply(params, clip)  # tokens [1 8*7*7 512], pooled [1 512]
"""

import dataclasses
import functools
import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers, video_encoder

NORMS = ('group', 'frozen')
_EPSILON = 1e-5
# He et al. 2015, by fan-out, as the published ResNets are initialised.
_KERNEL_INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


@dataclasses.dataclass(frozen=True)
class Layout:
  """The differences between ResNets (He et al. 2016, table 1).

  Attributes:
    stage_depths: blocks in each stage; all but the first stage halve the
      resolution and double the channels.
    bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions with four times the
      channels outside, or of two 3x3 convolutions.
    width: channels of the stem.
  """

  stage_depths: tuple[int, ...]
  bottleneck: bool
  width: int = 64

  @property
  def out_channels(self) -> int:
    """Channels of the last feature map."""
    last = self.width * 2 ** (len(self.stage_depths) - 1)
    return last * (4 if self.bottleneck else 1)


LAYOUTS = {
  18: Layout((2, 2, 2, 2), bottleneck=False),
  50: Layout((3, 4, 6, 3), bottleneck=True),
  101: Layout((3, 4, 23, 3), bottleneck=True),
}


class FrozenBatchNorm(nn.Module):
  """Batch normalisation by stored statistics that no training changes.

  Detectors do this with loaded weights, because small batches of correlated
  frames estimate statistics badly. `mean` and `var` are parameters, so they are
  saved and sharded like the rest. Their gradient is zero, and the optimiser
  decays only kernels. So they keep their values bit for bit. `scale` and `bias`
  learn.

  Attributes:
    dtype: of the result; the arithmetic is in float32.
    scale_init: initialiser of `scale`.
  """

  dtype: layers.Dtype = jnp.float32
  scale_init: nn.initializers.Initializer = nn.initializers.ones

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [... c] to [... c]."""
    vector = lambda name, init: self.param(name, init, (x.shape[-1],))
    mean = vector('mean', nn.initializers.zeros)
    var = vector('var', nn.initializers.ones)
    scale = vector('scale', self.scale_init)
    bias = vector('bias', nn.initializers.zeros)
    mean, var = jax.lax.stop_gradient((mean, var))
    multiplier = scale * jax.lax.rsqrt(var + _EPSILON)
    y = (x.astype(jnp.float32) - mean) * multiplier + bias
    return y.astype(self.dtype)


class ConvNorm(nn.Module):
  """A convolution without bias, and the norm after it.

  Attributes:
    channels: of the result.
    size: of the kernel, odd.
    stride: 1 or 2.
    norm: see `ResNet`.
    scale_init: initialiser of the norm's scale.
    dtype: computation dtype.
  """

  channels: int
  size: int
  stride: int = 1
  norm: str = 'group'
  scale_init: nn.initializers.Initializer = nn.initializers.ones
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b h w c] to [b h/stride w/stride channels]."""
    x = nn.Conv(
      self.channels,
      (self.size, self.size),
      self.stride,
      # As in PyTorch; with a stride 'SAME' pads an even input on one side.
      padding=self.size // 2,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=_KERNEL_INIT,
      name='conv',
    )(x)
    if self.norm == 'frozen':
      return FrozenBatchNorm(self.dtype, self.scale_init, name='norm')(x)
    # 32 groups (Wu and He 2018); narrow models have fewer.
    return nn.GroupNorm(
      math.gcd(32, self.channels),
      epsilon=_EPSILON,
      dtype=self.dtype,
      scale_init=self.scale_init,
      name='norm',
    )(x)


class ResidualBlock(nn.Module):
  """Basic or bottleneck block.

  The stride sits on the first 3x3 convolution ("v1.5"), as in torchvision
  and unlike in He et al. 2016, whose bottleneck strides in its first 1x1.

  Attributes:
    channels: of the 3x3 convolutions.
    bottleneck: see `Layout`.
    stride: 1 or 2.
    norm: see `ResNet`.
    dtype: computation dtype.
  """

  channels: int
  bottleneck: bool
  stride: int = 1
  norm: str = 'group'
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b h w c] to [b h/stride w/stride c']."""
    part = functools.partial(ConvNorm, norm=self.norm, dtype=self.dtype)
    # A branch that starts at zero makes the block start as an identity
    # (Goyal et al. 2017).
    last = functools.partial(part, scale_init=nn.initializers.zeros)
    if self.bottleneck:
      out = 4 * self.channels
      y = nn.relu(part(self.channels, 1, name='conv_0')(x))
      y = nn.relu(part(self.channels, 3, self.stride, name='conv_1')(y))
      y = last(out, 1, name='conv_2')(y)
    else:
      out = self.channels
      y = nn.relu(part(out, 3, self.stride, name='conv_0')(x))
      y = last(out, 3, name='conv_1')(y)
    if x.shape[-1] != out or self.stride != 1:
      x = part(out, 1, self.stride, name='shortcut')(x)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """The convolutional part of a ResNet (He et al. 2016).

  The published models normalise by batch statistics. Here a step must give the
  same gradient however its batch is split over devices or accumulated. And the
  train state holds only parameters. So `norm` is one of

  - 'group': GroupNorm (Wu and He 2018), for training from random weights.
    Our choice: the paper does not say, and probably used batch norm.
  - 'frozen': `FrozenBatchNorm`, for weights from outside.

  Attributes:
    layout: a value of LAYOUTS, or a layout of your own.
    norm: one of NORMS.
    dtype: computation dtype; parameters stay float32.
  """

  layout: Layout
  norm: str = 'group'
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps images [b h w c] to a feature map [b h/32 w/32 d], rounded up.

    Raises:
      ValueError: the norm is unknown.
    """
    if self.norm not in NORMS:
      raise ValueError(f'norm {self.norm!r} is not one of {NORMS}')
    width = self.layout.width
    stem = ConvNorm(width, 7, 2, self.norm, dtype=self.dtype, name='stem')
    x = nn.relu(stem(images))
    x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    for stage, depth in enumerate(self.layout.stage_depths):
      for block in range(depth):
        x = ResidualBlock(
          width * 2**stage,
          self.layout.bottleneck,
          2 if stage and not block else 1,
          self.norm,
          self.dtype,
          name=f'stage_{stage}_block_{block}',
        )(x)
    return x


class ResTEncoder(video_encoder.VideoEncoder):
  """A space-time Transformer on the cells of a ResNet's feature maps.

  Input, output and attributes are those of `VideoEncoder`. The grid of tokens
  is (t, h/32, w/32) here, so `tubelet_size` has no meaning.

  Attributes:
    resnet_depth: a key of LAYOUTS.
    resnet_norm: norm of the ResNet, one of NORMS.
  """

  tubelet_size: tuple[int, ...] = ()
  resnet_depth: int = 18
  resnet_norm: str = 'group'

  def embed(self, video: jax.Array) -> jax.Array:
    """Maps a clip [b t h w c] to tokens on their grid [b t h/32 w/32 d].

    Raises:
      ValueError: the ResNet depth is unknown.
    """
    if self.resnet_depth not in LAYOUTS:
      raise ValueError(
        f'resnet_depth {self.resnet_depth} is not one of {sorted(LAYOUTS)}'
      )
    b, t = video.shape[:2]
    x = ResNet(
      LAYOUTS[self.resnet_depth], self.resnet_norm, self.dtype, name='resnet'
    )(video.reshape(b * t, *video.shape[2:]))
    x = nn.Dense(self.width, dtype=self.dtype, name='projection')(x)
    return x.reshape(b, t, *x.shape[1:])
