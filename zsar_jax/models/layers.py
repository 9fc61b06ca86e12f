"""Attention, MLP, and the two Transformer blocks that all encoders use."""

from collections.abc import Callable
import functools
import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import attention, positions, products
from zsar_jax.parallel import sharding

Dtype = jax.typing.DTypeLike
# ViT's initialisation (Dosovitskiy et al. 2021); BERT's is close to it.
_KERNEL_INIT = nn.initializers.xavier_uniform()
_EMBEDDING_INIT = nn.initializers.normal(0.02)


@jax.custom_jvp
def gelu(x: jax.typing.ArrayLike) -> jax.Array:
  """Computes x times the normal distribution function (Hendrycks, Gimpel 2016).

  By erf, which costs half of the erfc in `jax.nn.gelu`. Far below zero, where
  the result is almost zero, its relative error is larger.

  Args:
    x: floating-point numbers, any shape.

  Returns:
    The same shape and dtype; within 3e-7 max(1, |x|) of `jax.nn.gelu` in
    float32.

  Raises:
    TypeError: `x` is of integers, or of another dtype that is not of floating
      point.
  """
  return _gelu_and_slope(x)[0]


@gelu.defjvp
def _gelu_jvp(primals, tangents):
  # The backward pass keeps the slope alone, in the dtype of the input.
  value, slope = _gelu_and_slope(*primals)
  return value, slope * tangents[0]


def _gelu_and_slope(x: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
  """Computes GELU and its derivative, in float32 at least."""
  x = jnp.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f'gelu needs floating-point numbers, got {x.dtype}')
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  share = 0.5 * (1 + jax.lax.erf(wide * 0.5**0.5))
  density = jnp.exp(-0.5 * wide * wide) * (2 * math.pi) ** -0.5
  return (wide * share).astype(x.dtype), (share + wide * density).astype(
    x.dtype
  )


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'gelu': gelu,
  'gelu_tanh': functools.partial(nn.gelu, approximate=True),
  'relu': nn.relu,
  # CLIP's cheap stand-in for gelu (Hendrycks and Gimpel 2016).
  'quick_gelu': lambda x: x * nn.sigmoid(1.702 * x),
  'silu': nn.silu,
}


# The dense layers of the blocks.
Dense = functools.partial(
  nn.Dense, kernel_init=_KERNEL_INIT, dot_general=products.dense
)
# The one way to attend; see zsar_jax/models/attention.py.
attend = attention.attend


class Attention(nn.Module):
  """Multi-head attention of `inputs` to `context` (itself by default).

  Attributes:
    num_heads: must divide the width of the inputs.
    dtype: computation dtype; parameters stay float32.
    qkv_bias: which of query, key and value have a bias, by their initials.
    implementation: see `attention.choose`.
    rotary_grid: tokens along (t, h, w) of inputs whose queries and keys have
      rotary positions; () for none.
    project: whether a dense layer follows the heads.
    inner_width: channels of all heads together; 0 for those of the inputs.
    softcap: see `attention.attend`.
    out_bias: whether that dense layer has a bias.
    qk_norm_epsilon: of RMS norms of each head's queries and keys; 0 for none.
  """

  num_heads: int
  dtype: Dtype = jnp.float32
  qkv_bias: str = 'qkv'
  implementation: str = 'einsum'
  rotary_grid: tuple[int, ...] = ()
  project: bool = True
  inner_width: int = 0
  softcap: float = 0.0
  out_bias: bool = True
  qk_norm_epsilon: float = 0.0

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    context: jax.Array | None = None,
    mask: jax.Array | None = None,
    bias: jax.Array | None = None,
    angles: jax.typing.ArrayLike | None = None,
  ) -> jax.Array:
    """Computes the attention of `inputs` to `context`.

    Args:
      inputs: [b q d].
      context: [b n e], or None for self-attention.
      mask: bool, broadcastable to [b h q n].
      bias: see `attention.attend`.
      angles: [q k] of rotary positions, for self-attention; see
        `positions.rotate`. None for those of `rotary_grid`.

    Returns:
      [b q d].
    """
    width = self.inner_width or inputs.shape[-1]
    if width % self.num_heads:
      raise ValueError(f'{self.num_heads} heads do not divide width {width}')
    context = inputs if context is None else context
    dense = functools.partial(Dense, dtype=self.dtype)
    heads = lambda x: x.reshape(*x.shape[:-1], self.num_heads, -1)
    biased = lambda name: dense(
      width, use_bias=name[0] in self.qkv_bias, name=name
    )
    query = heads(biased('query')(inputs))
    key = heads(biased('key')(context))
    value = heads(biased('value')(context))
    if self.qk_norm_epsilon:
      norm = functools.partial(
        nn.RMSNorm, epsilon=self.qk_norm_epsilon, dtype=self.dtype
      )
      query, key = norm(name='query_norm')(query), norm(name='key_norm')(key)
    if self.rotary_grid:
      angles = positions.rotary_angles(self.rotary_grid, query.shape[-1])
    if angles is not None:
      query, key = (positions.rotate(x, angles) for x in (query, key))
    out = attend(
      query, key, value, mask, self.implementation, bias, self.softcap
    )
    out = out.reshape(*out.shape[:-2], width)
    if not self.project:
      return out
    return dense(inputs.shape[-1], use_bias=self.out_bias, name='out')(out)


class Mlp(nn.Module):
  """Two dense layers with an activation between.

  Attributes:
    hidden_dim: width of the hidden layer.
    activation: a key of ACTIVATIONS.
    dropout_rate: of the hidden layer.
    dtype: computation dtype.
  """

  hidden_dim: int
  activation: str = 'gelu_tanh'
  dropout_rate: float = 0.0
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
    """Maps [... d] to [... d]."""
    width = x.shape[-1]
    dense = functools.partial(Dense, dtype=self.dtype)
    x = ACTIVATIONS[self.activation](dense(self.hidden_dim, name='in')(x))
    x = nn.Dropout(self.dropout_rate)(x, deterministic)
    return dense(width, name='out')(x)


class PreNormBlock(nn.Module):
  """Transformer block of ViT: normalise, transform, add.

  If the call has a `context`, the block first attends to itself and then to
  the context (cross-attention). Each is a residual step.

  Attributes:
    num_heads: attention heads.
    mlp_dim: width of the hidden layer.
    dropout_rate: on every residual branch.
    self_attention: False makes a block of cross-attention alone.
    activation: of the MLP, a key of ACTIVATIONS.
    norm_epsilon: added to the variance in every norm.
    dtype: computation dtype.
    qkv_bias: see `Attention`.
    implementation: of the self-attention, see `attention.choose`.
    rotary_grid: of the self-attention, see `Attention`.
    softcap: likewise.
  """

  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.0
  self_attention: bool = True
  activation: str = 'gelu_tanh'
  norm_epsilon: float = 1e-6
  dtype: Dtype = jnp.float32
  qkv_bias: str = 'qkv'
  implementation: str = 'einsum'
  rotary_grid: tuple[int, ...] = ()
  softcap: float = 0.0

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    context: jax.Array | None = None,
    deterministic: bool = True,
    drop_path: jax.typing.ArrayLike | None = None,
    angles: jax.typing.ArrayLike | None = None,
  ) -> jax.Array:
    """Maps tokens [b n d] to tokens [b n d].

    Args:
      x: tokens.
      mask: bool, broadcastable to [b h n n], for the self-attention.
      context: tokens [b m e] to attend to as well.
      deterministic: False turns dropout and stochastic depth on.
      drop_path: probability of skipping each branch, see `stochastic_depth`.
      angles: of the self-attention, see `Attention`.

    Returns:
      Tokens of the same shape.
    """
    norm = functools.partial(
      nn.LayerNorm, epsilon=self.norm_epsilon, dtype=self.dtype
    )
    dropout = nn.Dropout(self.dropout_rate)
    drop = lambda y: stochastic_depth(
      self, dropout(y, deterministic), drop_path, deterministic
    )
    if self.self_attention:
      y = Attention(
        self.num_heads,
        self.dtype,
        self.qkv_bias,
        self.implementation,
        self.rotary_grid,
        softcap=self.softcap,
        name='attention',
      )(norm(name='attention_norm')(x), mask=mask, angles=angles)
      x = x + drop(y)
    if context is not None:
      y = Attention(self.num_heads, self.dtype, name='cross_attention')(
        norm(name='cross_attention_norm')(x), context
      )
      x = x + drop(y)
    mlp = Mlp(
      self.mlp_dim,
      self.activation,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      name='mlp',
    )
    y = mlp(norm(name='mlp_norm')(x), deterministic)
    return x + drop(y)


class PostNormBlock(nn.Module):
  """Transformer block of BERT: transform, add, normalise (Devlin 2019).

  Attributes:
    num_heads: attention heads.
    mlp_dim: width of the hidden layer.
    dropout_rate: on every residual branch.
    activation: of the MLP, a key of ACTIVATIONS.
    norm_epsilon: added to the variance in every norm.
    dtype: computation dtype.
  """

  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.0
  activation: str = 'gelu'
  norm_epsilon: float = 1e-12
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    deterministic: bool = True,
    bias: jax.Array | None = None,
  ) -> jax.Array:
    """Maps tokens [b n d] to tokens [b n d]; mask and bias as in `attend`."""
    norm = functools.partial(
      nn.LayerNorm, epsilon=self.norm_epsilon, dtype=self.dtype
    )
    drop = nn.Dropout(self.dropout_rate)
    x = sharding.constrain_batch(x)
    attend = Attention(self.num_heads, self.dtype, name='attention')
    y = attend(x, mask=mask, bias=bias)
    x = norm(name='attention_norm')(x + drop(y, deterministic))
    mlp = Mlp(self.mlp_dim, self.activation, dtype=self.dtype, name='mlp')
    y = mlp(x, deterministic)
    x = norm(name='mlp_norm')(x + drop(y, deterministic))
    return sharding.constrain_batch(x)


class AttentionPool(nn.Module):
  """Pools tokens by the attention of one learnt query.

  The head of Zhai et al. 2022 (Scaling Vision Transformers): the query
  attends, then a residual MLP.

  Attributes:
    num_heads: attention heads.
    mlp_dim: width of the hidden layer.
    dtype: computation dtype.
    activation: of the MLP, a key of ACTIVATIONS.
    norm_epsilon: added to the variance in the norm.
  """

  num_heads: int
  mlp_dim: int
  dtype: Dtype = jnp.float32
  activation: str = 'gelu_tanh'
  norm_epsilon: float = 1e-6

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps tokens [b n d] to their pooled vectors [b d]."""
    b, _, d = tokens.shape
    query = embedding_table(self, 'query', 1, d).astype(tokens.dtype)
    x = Attention(self.num_heads, self.dtype, name='attention')(
      jnp.broadcast_to(query, (b, 1, d)), tokens
    )
    y = nn.LayerNorm(
      epsilon=self.norm_epsilon, dtype=self.dtype, name='mlp_norm'
    )(x)
    mlp = Mlp(self.mlp_dim, self.activation, dtype=self.dtype, name='mlp')
    return (x + mlp(y))[:, 0]


def stochastic_depth(
  module: nn.Module,
  branch: jax.Array,
  rate: jax.typing.ArrayLike | None,
  deterministic: bool,
) -> jax.Array:
  """Skips a residual branch for some examples (Huang et al. 2016).

  Kept branches are divided by the probability of being kept. So the
  expectation is the branch itself.

  Args:
    module: module that draws the `dropout` random numbers.
    branch: [b ...].
    rate: probability of skipping, below 1; None never skips. It may be
      traced: a scanned stack has one per layer.
    deterministic: True never skips.

  Returns:
    The branch, with zeros for skipped examples.
  """
  if deterministic or rate is None:
    return branch
  shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
  kept = jax.random.bernoulli(module.make_rng('dropout'), 1 - rate, shape)
  return jnp.where(kept, branch / jnp.asarray(1 - rate, branch.dtype), 0)


def masked_mean(tokens: jax.Array, mask: jax.Array) -> jax.Array:
  """Averages the real tokens: [... n d], mask [... n] -> [... d]."""
  weights = mask[..., None].astype(tokens.dtype)
  return (tokens * weights).sum(-2) / jnp.maximum(weights.sum(-2), 1)


def l2_normalise(x: jax.Array) -> jax.Array:
  """Scales to unit length along the last axis, in float32; zero stays zero."""
  x = x.astype(jnp.float32)
  squared = jnp.square(x).sum(-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-12))


def embedding_table(module: nn.Module, name: str, *shape: int) -> jax.Array:
  """Adds a learnt table of vectors, initialised as in BERT and ViT."""
  return module.param(name, _EMBEDDING_INIT, shape)
