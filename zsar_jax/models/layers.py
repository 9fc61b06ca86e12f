"""Attention, MLP and the two Transformer blocks everything is built from."""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

Dtype = jax.typing.DTypeLike
# ViT's initialisation (Dosovitskiy et al. 2021); BERT's is close to it.
_KERNEL_INIT = nn.initializers.xavier_uniform()
_EMBEDDING_INIT = nn.initializers.normal(0.02)

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'gelu': functools.partial(nn.gelu, approximate=False),
  'gelu_tanh': functools.partial(nn.gelu, approximate=True),
  'relu': nn.relu,
}


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array | None = None,
) -> jax.Array:
  """Scaled dot-product attention by einsums.

  The softmax sum divides after the value product: the division then touches
  [b q h k] numbers instead of [b h q n], which is faster on CPUs.

  Args:
    query: [b q h k].
    key: [b n h k].
    value: [b n h k].
    mask: bool, broadcastable to [b h q n]; True may be attended. A row with
      no True attends to nothing sensible: callers never make one.

  Returns:
    [b q h k] in the dtype of `query`.
  """
  scale = query.shape[-1] ** -0.5
  logits = jnp.einsum('bqhk,bnhk->bhqn', query * scale, key)
  logits = logits.astype(jnp.float32)
  if mask is not None:
    logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  logits -= jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
  unnormalised = jnp.exp(logits)
  total = unnormalised.sum(axis=-1)  # [b h q]
  out = jnp.einsum('bhqn,bnhk->bqhk', unnormalised.astype(query.dtype), value)
  return out / total.transpose(0, 2, 1)[..., None].astype(out.dtype)


class Attention(nn.Module):
  """Multi-head attention of `inputs` to `context` (itself by default).

  Attributes:
    num_heads: must divide the width of the inputs.
    dtype: computation dtype; parameters stay float32.
  """

  num_heads: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    context: jax.Array | None = None,
    mask: jax.Array | None = None,
  ) -> jax.Array:
    """Attends.

    Args:
      inputs: [b q d].
      context: [b n e], or None for self-attention.
      mask: bool, broadcastable to [b h q n].

    Returns:
      [b q d].
    """
    width = inputs.shape[-1]
    if width % self.num_heads:
      raise ValueError(f'{self.num_heads} heads do not divide width {width}')
    context = inputs if context is None else context
    dense = functools.partial(
      nn.Dense, width, dtype=self.dtype, kernel_init=_KERNEL_INIT
    )
    heads = lambda x: x.reshape(*x.shape[:-1], self.num_heads, -1)
    query = heads(dense(name='query')(inputs))
    key = heads(dense(name='key')(context))
    value = heads(dense(name='value')(context))
    out = attend(query, key, value, mask)
    return dense(name='out')(out.reshape(*out.shape[:-2], width))


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
    dense = functools.partial(
      nn.Dense, dtype=self.dtype, kernel_init=_KERNEL_INIT
    )
    x = ACTIVATIONS[self.activation](dense(self.hidden_dim, name='in')(x))
    x = nn.Dropout(self.dropout_rate)(x, deterministic)
    return dense(width, name='out')(x)


class PreNormBlock(nn.Module):
  """Transformer block of ViT: normalise, transform, add.

  With `context` given to the call it first attends to itself and then to
  the context (cross-attention), each a residual step.

  Attributes:
    num_heads: attention heads.
    mlp_dim: width of the hidden layer.
    dropout_rate: on every residual branch.
    self_attention: leave out to make a block of cross-attention alone.
    dtype: computation dtype.
  """

  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.0
  self_attention: bool = True
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    context: jax.Array | None = None,
    deterministic: bool = True,
  ) -> jax.Array:
    """Maps tokens [b n d] to tokens [b n d].

    Args:
      x: tokens.
      mask: bool, broadcastable to [b h n n], for the self-attention.
      context: tokens [b m e] to attend to as well.
      deterministic: False turns dropout on.

    Returns:
      Tokens of the same shape.
    """
    norm = functools.partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
    drop = nn.Dropout(self.dropout_rate)
    if self.self_attention:
      y = Attention(self.num_heads, self.dtype, name='attention')(
        norm(name='attention_norm')(x), mask=mask
      )
      x = x + drop(y, deterministic)
    if context is not None:
      y = Attention(self.num_heads, self.dtype, name='cross_attention')(
        norm(name='cross_attention_norm')(x), context
      )
      x = x + drop(y, deterministic)
    mlp = Mlp(
      self.mlp_dim,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      name='mlp',
    )
    y = mlp(norm(name='mlp_norm')(x), deterministic)
    return x + drop(y, deterministic)


class PostNormBlock(nn.Module):
  """Transformer block of BERT: transform, add, normalise (Devlin 2019).

  Attributes:
    num_heads: attention heads.
    mlp_dim: width of the hidden layer.
    dropout_rate: on every residual branch.
    dtype: computation dtype.
  """

  num_heads: int
  mlp_dim: int
  dropout_rate: float = 0.0
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    deterministic: bool = True,
  ) -> jax.Array:
    """Maps tokens [b n d] to tokens [b n d]; mask as in `attend`."""
    norm = functools.partial(nn.LayerNorm, epsilon=1e-12, dtype=self.dtype)
    drop = nn.Dropout(self.dropout_rate)
    y = Attention(self.num_heads, self.dtype, name='attention')(x, mask=mask)
    x = norm(name='attention_norm')(x + drop(y, deterministic))
    mlp = Mlp(self.mlp_dim, activation='gelu', dtype=self.dtype, name='mlp')
    y = mlp(x, deterministic)
    return norm(name='mlp_norm')(x + drop(y, deterministic))


def masked_mean(tokens: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean of the real tokens: [... n d], mask [... n] -> [... d]."""
  weights = mask[..., None].astype(tokens.dtype)
  return (tokens * weights).sum(-2) / jnp.maximum(weights.sum(-2), 1)


def l2_normalise(x: jax.Array) -> jax.Array:
  """Unit vectors along the last axis, in float32; zero stays zero."""
  x = x.astype(jnp.float32)
  squared = jnp.square(x).sum(-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-12))


def embedding_table(module: nn.Module, name: str, *shape: int) -> jax.Array:
  """A learnt table of vectors, initialised as BERT's and ViT's positions."""
  return module.param(name, _EMBEDDING_INIT, shape)
