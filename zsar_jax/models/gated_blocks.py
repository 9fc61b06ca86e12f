"""Transformer block of newer networks: gated MLPs, no biases, rotary positions.

Those of ModernBERT and of the Perception Encoder's video side.
"""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers

NORMS = ('layer', 'rms')


def norm(
  kind: str, epsilon: float, dtype: layers.Dtype, name: str
) -> nn.Module:
  """Returns a norm without bias.

  Args:
    kind: 'layer' takes the mean off, 'rms' does not (Zhang, Sennrich 2019).
    epsilon: added to the variance.
    dtype: computation dtype.
    name: of the module.
  """
  if kind not in NORMS:
    raise ValueError(f'norm {kind!r} is not one of {NORMS}')
  if kind == 'rms':
    return nn.RMSNorm(epsilon=epsilon, dtype=dtype, name=name)
  return nn.LayerNorm(epsilon=epsilon, use_bias=False, dtype=dtype, name=name)


class GatedMlp(nn.Module):
  """act(x W) * (x V), then a dense layer (Shazeer 2020); no biases.

  Attributes:
    hidden_dim: width of the hidden layer.
    activation: a key of `layers.ACTIVATIONS`.
    dtype: computation dtype.
  """

  hidden_dim: int
  activation: str
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [... d] to [... d]."""
    dense = functools.partial(nn.Dense, use_bias=False, dtype=self.dtype)
    act = layers.ACTIVATIONS[self.activation]
    hidden = act(dense(self.hidden_dim, name='in')(x))
    hidden = hidden * dense(self.hidden_dim, name='gate')(x)
    return dense(x.shape[-1], name='out')(hidden)


class GatedBlock(nn.Module):
  """Pre-norm block of self-attention and a gated MLP.

  Attributes:
    num_heads: attention heads.
    mlp_dim: width of the hidden layer.
    activation: of the MLP, a key of `layers.ACTIVATIONS`.
    norm: one of `NORMS`.
    norm_epsilon: added to the variance in every norm.
    inner_width: channels of all heads together; 0 for those of the tokens.
    normalise_qk: whether each head's queries and keys have RMS norms.
    normalise_first: False leaves out the norm before the attention.
    dtype: computation dtype.
  """

  num_heads: int
  mlp_dim: int
  activation: str
  norm: str
  norm_epsilon: float
  inner_width: int = 0
  normalise_qk: bool = False
  normalise_first: bool = True
  dtype: layers.Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    angles: jax.typing.ArrayLike | None = None,
  ) -> jax.Array:
    """Maps tokens [b n d] to tokens [b n d]; see `layers.Attention`."""
    make_norm = lambda name: norm(
      self.norm, self.norm_epsilon, self.dtype, name
    )
    y = make_norm('attention_norm')(x) if self.normalise_first else x
    x = x + layers.Attention(
      self.num_heads,
      self.dtype,
      qkv_bias='',
      inner_width=self.inner_width,
      out_bias=False,
      qk_norm_epsilon=self.norm_epsilon if self.normalise_qk else 0.0,
      name='attention',
    )(y, mask=mask, angles=angles)
    mlp = GatedMlp(self.mlp_dim, self.activation, self.dtype, name='mlp')
    return x + mlp(make_norm('mlp_norm')(x))
