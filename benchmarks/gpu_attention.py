"""Compares attention kernels of one layer of ViT-B/16x2 on a GPU.

```
python -m benchmarks.gpu_attention [--batch=32] [--tune_s=45]
```

cuDNN's kernel computes the attention of 32 clips of 1568 tokens, 12 heads of
64. If tokamax is installed (Python 3.12, jax 0.11.1), its kernel for NVIDIA
GPUs does the same. Blocks and stages of both directions are tuned first, for
`--tune_s` seconds each. The choices are printed. `gradients` is the relative
error of bfloat16 gradients beside einsums in float32.

Predicted before the first run, for an H100: tokamax's kernel is a tenth faster.

One run, 2026-11-27, an H100: in both directions together, cuDNN's kernel is 8%
faster (2.61 against 2.82 ms). So the prediction was wrong.
"""

import argparse
import functools
import itertools
import json
import statistics
import time

from benchmarks import train_step

# Of a clip of 16 x 224.
_TOKENS = 1568


def seconds(run, *values, repeats: int = 10) -> float:
  """Returns the seconds per call: the median of three rows of calls."""
  import jax

  jax.block_until_ready(run(*values))
  found = []
  for _ in range(3):
    began = time.perf_counter()
    for _ in range(repeats):
      out = run(*values)
    jax.block_until_ready(out)
    found.append((time.perf_counter() - began) / repeats)
  return statistics.median(found)


def directions(attend):
  """Compiles an attention; returns (forward, backward)."""
  import jax

  def backward(q, k, v, out):
    return jax.vjp(attend, q, k, v)[1](out)

  return jax.jit(attend), jax.jit(backward)


def attention_times(attend, shape: tuple[int, ...]) -> tuple[float, float]:
  """Returns seconds of forward, and of forward and backward.

  Args:
    attend: function of query, key and value [b n h d].
    shape: shape of query, key and value.
  """
  import jax
  import jax.numpy as jnp

  keys = jax.random.split(jax.random.key(0), 4)
  q, k, v, out = (jax.random.normal(x, shape, jnp.bfloat16) for x in keys)
  forward, both = directions(attend)
  return seconds(forward, q, k, v), seconds(both, q, k, v, out)


def tokamax_attention(forward: dict, backward: dict):
  """Returns tokamax's attention of [b n h d] with the given blocks."""
  from tokamax._src.ops.attention import pallas_mosaic_gpu as kernel
  from tokamax._src.ops.attention import (
    pallas_mosaic_gpu_vjp_kernel_sm90 as backward_kernel,
  )

  vjp = kernel.vjp.PallasMosaicGpuFlashAttentionVjp(
    config=backward_kernel.Config(**backward)
  )
  return kernel.PallasMosaicGpuFlashAttention(
    config=kernel.ConfigSM90(**forward), vjp=vjp
  )


def tune(shape: tuple[int, ...], limit: float) -> tuple[dict, dict] | None:
  """Finds the fastest blocks of tokamax's attention.

  Args:
    shape: shape of query, key and value, [b n h d].
    limit: seconds for each direction.

  Returns:
    Settings (forward, backward); None if no kernel runs.
  """
  backward = dict(
    block_q_dkv=64, block_kv_dkv=64, block_q_dq=64, block_kv_dq=64
  )
  forwards = [
    dict(block_q=q, block_kv=kv, num_stages=n, persistent=p)
    for q, kv, n, p in itertools.product(
      (128, 64), (128, 64), (2, 3), (True, False)
    )
  ]
  backwards = [
    dict(
      block_q_dkv=q,
      block_kv_dkv=kv,
      block_q_dq=q2,
      block_kv_dq=kv2,
      num_stages=n,
      compute_wgs=w,
    )
    for (q, kv), (q2, kv2), n, w in itertools.product(
      ((64, 64), (64, 128), (128, 64), (128, 128)),
      ((64, 64), (64, 128), (128, 64), (128, 128)),
      (2, 3),
      (2, 1),
    )
  ]
  # Try equal blocks for both parts first, since those settings differ most.
  backwards.sort(
    key=lambda c: (
      (c['block_q_dkv'], c['block_kv_dkv'])
      != (c['block_q_dq'], c['block_kv_dq'])
    )
  )
  forward = _fastest(forwards, lambda c: (c, backward), shape, 0, limit)
  if forward is None:
    return None
  found = _fastest(backwards, lambda c: (forward, c), shape, 1, limit)
  return (forward, found) if found else None


def _fastest(settings, make, shape, direction: int, limit: float):
  began, best, found = time.monotonic(), None, float('inf')
  tried = failed = 0
  for one in settings:
    if time.monotonic() - began > limit:
      break
    tried += 1
    try:
      taken = attention_times(tokamax_attention(*make(one)), shape)[direction]
    except Exception as error:  # blocks that do not fit raise various errors
      failed += 1
      if failed < 4:
        print(f'  {one}: {type(error).__name__} {str(error)[:120]}', flush=True)
      continue
    if taken < found:
      best, found = one, taken
      print(f'  {1e3 * taken:.3f} ms {one}', flush=True)
  print(f'  {tried} of {len(settings)} tried, {failed} not possible')
  return best


def gradients_error(attend) -> float:
  """Returns the relative error of an attention's gradients, in bfloat16.

  The reference is computed by einsums in float32, over 1568 tokens.
  """
  import jax
  import jax.numpy as jnp

  from zsar_jax.models import attention

  keys = jax.random.split(jax.random.key(1), 4)
  values = [
    jax.random.normal(x, (1, _TOKENS, 2, 64), jnp.bfloat16) for x in keys
  ]
  _, ours = directions(attend)
  _, exact = directions(attention.attend)
  left = ours(*values)
  with jax.default_matmul_precision('highest'):
    right = exact(*(x.astype(jnp.float32) for x in values))
  apart = sum(
    float(jnp.sum((a.astype(jnp.float32) - b) ** 2))
    for a, b in zip(left, right, strict=True)
  )
  return (apart / sum(float(jnp.sum(b**2)) for b in right)) ** 0.5


def print_attention(shape, blocks) -> None:
  """Prints the time of one layer's attention, both kernels."""
  import jax

  cudnn = functools.partial(
    jax.nn.dot_product_attention, implementation='cudnn'
  )
  b, n, h, d = shape
  work = 4 * b * h * n * n * d
  kinds = {'cuDNN': cudnn}
  if blocks:
    kinds['tokamax'] = tokamax_attention(*blocks)
  for name, attend in kinds.items():
    forward, both = attention_times(attend, shape)
    print(
      f'attention {shape}, {name:8} forward {1e3 * forward:.3f} ms '
      f'({work / forward / 1e12:.0f} TFLOP/s), with backward '
      f'{1e3 * both:.3f} ms ({3.5 * work / both / 1e12:.0f} TFLOP/s), '
      f'gradients {gradients_error(attend):.1e} off',
      flush=True,
    )


def blocks_of(limit: float, shape: tuple[int, ...]):
  """Returns tuned blocks of tokamax's attention, or None without tokamax."""
  try:
    import tokamax
  except ImportError as error:
    print(f'no tokamax: {error}')
    return None
  print(f'tokamax {getattr(tokamax, "__version__", "")}: tuning')
  blocks = tune(shape, limit)
  print('tuned', json.dumps(blocks), flush=True)
  return blocks


def main(argv: list[str] | None = None) -> None:
  """Prints a line for each kernel."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--batch', type=int, default=32)
  parser.add_argument('--tune_s', type=float, default=45)
  args = parser.parse_args(argv)
  width, heads = train_step._SIZES['B']
  shape = (args.batch, _TOKENS, heads, width // heads)
  print_attention(shape, blocks_of(args.tune_s, shape))


if __name__ == '__main__':
  main()
