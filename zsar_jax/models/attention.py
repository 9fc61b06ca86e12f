"""Scaled dot-product attention, and which implementation computes it.

Three implementations of one function:

- 'einsum': two einsums and a softmax. It runs everywhere, takes masks, and
  keeps the whole [b h q n] matrix. On one CPU it goes over long sequences in
  blocks of heads, whose matrices stay in the cache.
- 'cudnn': cuDNN's fused kernel, for GPUs and 16-bit floats. Not used if XLA is
  told to be deterministic.
- 'flash': the Pallas flash kernel that ships with JAX, for TPUs. Lengths are
  padded to whole tiles. If a mesh is set (`jax.set_mesh`), each device runs the
  kernel on its own clips and heads, because the compiler cannot split a Pallas
  kernel.

`choose` picks one by the platform and the type of the step. The log shows each
choice once.
"""

import functools
import math
import os

from absl import logging
import jax
import jax.numpy as jnp

from zsar_jax.models import products

P = jax.sharding.PartitionSpec

IMPLEMENTATIONS = ('auto', 'einsum', 'cudnn', 'flash')
# Tile of the flash kernel along both sequences, in tokens.
_TILE = 128
# With fewer keys than this, einsums are chosen. To fill the last tile would
# cost more than the kernel saves (a temporal attention of 8 frames would be
# padded sixteenfold). A round number, not a measured one.
_FLASH_MIN_LENGTH = 2 * _TILE
# On a CPU, attention goes in blocks if the matrices of one clip's heads are
# larger than this. Blocks are as large as it allows, and a head at least.
# 1 to 8 MiB are equally fast on an AMD EPYC.
_BLOCK_BYTES = 2**21
# Mesh axes that split the batch, and those that split the heads; the names of
# zsar_jax/parallel/sharding.py.
_BATCH_AXES = ('data', 'fsdp')
_HEAD_AXES = ('tensor',)


def choose(
  implementation: str,
  *,
  platform: str,
  dtype: jax.typing.DTypeLike,
  length: int,
  head_dim: int,
  masked: bool = False,
) -> str:
  """Chooses the implementation to run.

  Args:
    implementation: one of IMPLEMENTATIONS; any but 'auto' is final.
    platform: 'cpu', 'gpu' or 'tpu'.
    dtype: of query, key and value.
    length: number of keys.
    head_dim: width of a head.
    masked: whether there is a mask or a softcap; only the einsums take them.

  Returns:
    'einsum', 'cudnn' or 'flash'.

  Raises:
    ValueError: the name is unknown, or its implementation does not support the
      arguments.
  """
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f'attention implementation {implementation!r} is not one of '
      f'{IMPLEMENTATIONS}'
    )
  dtype = jnp.dtype(dtype)
  half = dtype in (jnp.bfloat16, jnp.float16)
  if implementation == 'auto':
    # cuDNN needs heads of a multiple of 8, up to 128 on every generation.
    fits_cudnn = half and head_dim % 8 == 0 and head_dim <= 128
    if masked:
      chosen = 'einsum'
    elif platform == 'gpu' and fits_cudnn and not _deterministic():
      chosen = 'cudnn'
    elif platform == 'tpu' and length >= _FLASH_MIN_LENGTH:
      chosen = 'flash'
    else:
      chosen = 'einsum'
  else:
    chosen = implementation
    if masked and chosen != 'einsum':
      raise ValueError(f'{chosen!r} attention takes no mask; use einsum')
    if chosen == 'cudnn' and not half:
      raise ValueError(
        f"'cudnn' attention runs in bfloat16 or float16, not {dtype}"
      )
  _log_choice(chosen, platform, str(dtype), length, masked)
  return chosen


def _deterministic() -> bool:
  """Returns whether XLA was told to repeat itself bit by bit.

  Under that flag XLA compiles its cuDNN attention under one key and looks it up
  under another (openxla/xla#46500). A step then ends with an IndexError.
  """
  flags = os.environ.get('XLA_FLAGS', '').split()
  return any(
    flag in ('--xla_gpu_deterministic_ops', '--xla_gpu_deterministic_ops=true')
    for flag in flags
  )


@functools.cache
def _log_choice(
  chosen: str, platform: str, dtype: str, length: int, masked: bool
) -> None:
  """Logs a choice; the cache makes it happen once."""
  logging.info(
    'attention on %s in %s over %d tokens%s: %s',
    platform,
    dtype,
    length,
    ' with a mask' if masked else '',
    chosen,
  )


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array | None = None,
  implementation: str = 'einsum',
  bias: jax.Array | None = None,
  softcap: float = 0.0,
) -> jax.Array:
  """Computes scaled dot-product attention.

  Args:
    query: [b q h k].
    key: [b n h k].
    value: [b n h k].
    mask: bool, broadcastable to [b h q n]; True is attended to. The result of a
      row without any True is meaningless, and callers never make one.
    implementation: one of IMPLEMENTATIONS.
    softcap: c bends logits x into c tanh(x / c), between -c and c (Gemma Team
      2024); 0 leaves them. Only the einsums do it.
    bias: added to the scaled products, broadcastable to [b h q n]; as a mask,
      the einsums alone take one.

  Returns:
    [b q h k] in the dtype of `query`.

  Raises:
    ValueError: see `choose`.
  """
  chosen = choose(
    implementation,
    platform=products.platform(),
    dtype=query.dtype,
    length=key.shape[1],
    head_dim=query.shape[-1],
    masked=mask is not None or bias is not None or softcap > 0,
  )
  if chosen == 'cudnn':
    return jax.nn.dot_product_attention(
      query, key, value, implementation='cudnn'
    )
  if chosen == 'flash':
    return _flash(query, key, value)
  return _einsum(query, key, value, mask, bias, softcap)


def _einsum(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array | None,
  bias: jax.Array | None,
  softcap: float,
) -> jax.Array:
  """Computes attention by einsums, with its softmax in float32."""
  if not products.on_cpu():
    return _products('bqhk', query, key, value, mask, bias, softcap)
  # A CPU multiplies faster where a head's rows lie next to each other.
  q, k, v = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
  if mask is None and bias is None and not softcap and _is_one_device():
    out = _blocks(q, k, v)
  else:
    out = _products('bhqk', q, k, v, mask, bias, softcap)
  return out.transpose(0, 2, 1, 3)


def _is_one_device() -> bool:
  """Returns whether the traced step runs on one device: no or a small mesh."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.empty or mesh.size == 1


def _blocks(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Computes the attention of some heads at a time, all [b h n k]."""
  b, h, n, _ = k.shape
  of_head = q.shape[2] * n * 4
  if h * of_head <= _BLOCK_BYTES:
    return _products('bhqk', q, k, v)
  most = max(1, _BLOCK_BYTES // of_head)
  heads = max(x for x in range(1, h + 1) if h % x == 0 and x <= most)
  split = lambda x: x.reshape(b * h // heads, 1, heads, *x.shape[2:])
  blocks = tuple(map(split, (q, k, v)))
  out = jax.lax.map(lambda x: _products('bhqk', *x), blocks)
  return out.reshape(q.shape)


def _products(
  layout: str,
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array | None = None,
  bias: jax.Array | None = None,
  softcap: float = 0.0,
) -> jax.Array:
  """Computes attention with the whole matrix [b h q n].

  The division by the softmax sum comes after the value product. Then it touches
  [b q h k] numbers instead of [b h q n], which is faster on CPUs.

  Args:
    layout: of the queries and the result, 'bqhk' or 'bhqk'. Those of keys and
      values follow.
    query: see `attend`.
    key: likewise.
    value: likewise.
    mask: likewise.
    bias: likewise.
    softcap: likewise.

  Returns:
    The attention, in the layout of the queries.
  """
  scale = query.shape[-1] ** -0.5
  of_keys = layout.replace('q', 'n')
  logits = jnp.einsum(
    f'{layout},{of_keys}->bhqn',
    query * scale,
    key,
    preferred_element_type=jnp.float32,
  )
  if softcap:
    logits = softcap * jnp.tanh(logits / softcap)
  if bias is not None:
    logits = logits + bias.astype(logits.dtype)
  if mask is not None:
    logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  logits -= jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
  unnormalised = jnp.exp(logits)
  total = unnormalised.sum(axis=-1)  # [b h q]
  out = products.einsum(
    f'bhqn,{of_keys}->{layout}', unnormalised.astype(query.dtype), value
  )
  if layout == 'bqhk':
    total = total.transpose(0, 2, 1)
  return out / total[..., None].astype(out.dtype)


def _flash(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """Runs the flash kernel; with a mesh, each device runs its share."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return _flash_local(query, key, value)
  batch, _, heads, _ = query.shape

  def split(size, axes):
    # Every device computes the whole axis if it does not divide: a batch of
    # one at initialisation, or fewer heads than devices.
    axes = tuple(axis for axis in axes if axis in mesh.shape)
    shards = math.prod(mesh.shape[axis] for axis in axes)
    return axes if axes and size % shards == 0 else None

  spec = P(split(batch, _BATCH_AXES), None, split(heads, _HEAD_AXES))
  return jax.shard_map(
    _flash_local,
    mesh=mesh,
    in_specs=(spec, spec, spec),
    out_specs=spec,
    # The kernel does not say along which mesh axes its outputs vary.
    check_vma=False,
  )(query, key, value)


def _flash_local(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """Runs the flash kernel on one device: pads to tiles, and cuts again."""
  from jax.experimental.pallas.ops.tpu import flash_attention

  batch, length = query.shape[:2]
  tiles = lambda x: _pad_length(x, _TILE).transpose(0, 2, 1, 3)
  # Padding is a segment of its own, so real tokens do not attend to it.
  segment = lambda x: jnp.broadcast_to(
    _pad_length(jnp.ones((1, x.shape[1]), jnp.int32), _TILE),
    (batch, -(-x.shape[1] // _TILE) * _TILE),
  )
  out = flash_attention.flash_attention(
    tiles(query),
    tiles(key),
    tiles(value),
    segment_ids=flash_attention.SegmentIds(segment(query), segment(key)),
    sm_scale=query.shape[-1] ** -0.5,
  )
  return out.transpose(0, 2, 1, 3)[:, :length]


def _pad_length(x: jax.Array, multiple: int) -> jax.Array:
  """Fills axis 1 up to a multiple with zeros."""
  pad = [(0, 0)] * x.ndim
  pad[1] = (0, -x.shape[1] % multiple)
  return jnp.pad(x, pad)
