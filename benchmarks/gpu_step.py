"""Compares variants of the training step of ViT-B/16x2 on a GPU.

```
python -m benchmarks.gpu_step [--batch=32] [--rounds=4] [--profile=NAMES]
```

The variants of the step of `benchmarks.train_step` differ in the activation,
XLA's options, the batch size and the attention kernel. All run in one process.
After each new one is compiled, all variants so far take turns, five steps at a
time. It prints the median of each, its MFU, and its speed relative to the
first, with a 95% interval over rows.

If tokamax is installed (Python 3.12, jax 0.11.1), its attention for NVIDIA GPUs
is tuned first: blocks and stages of both directions, for `--tune_s` seconds.
The choices are printed; the best one is a variant of the step.

Predicted before the first run, for an H100, in milliseconds per step at batch
32: erf 92, tanh 89, with cublasLt's epilogues 87, with cuDNN's norms no
change, tokamax's attention 86, all together 83; batch 64 gives 3% more clips/s.

One run, 2026-11-27, an H100: a variant takes 50 s to compile on that machine,
and the run was stopped before it timed the steps. It did time the attention of
one layer: in both directions together, cuDNN's kernel is 8% faster than
tokamax's (2.61 against 2.82 ms). So the prediction for tokamax was wrong.
"""

import argparse
import copy
import dataclasses
import functools
import itertools
import json
import statistics
import time
from typing import Any
from unittest import mock

from benchmarks import kernels, train_step


@dataclasses.dataclass(frozen=True)
class Variant:
  """A variant of the step.

  Attributes:
    activation: a key of `layers.ACTIVATIONS`.
    options: options of XLA, name -> value.
    times: batch size in multiples of `--batch`.
    tokamax: whether tokamax computes the attention.
  """

  activation: str = 'gelu_tanh'
  options: tuple[tuple[str, Any], ...] = ()
  times: int = 1
  tokamax: bool = False


_CUBLASLT = (('xla_gpu_enable_cublaslt', True),)
VARIANTS = {
  'erf': Variant('gelu'),
  'tanh': Variant(),
  'tanh, cublasLt': Variant(options=_CUBLASLT),
  'tanh, tokamax': Variant(tokamax=True),
  'tanh, cublasLt, tokamax': Variant(options=_CUBLASLT, tokamax=True),
  'tanh, batch x 2': Variant(times=2),
  'tanh, cuDNN norms': Variant(
    options=(('xla_gpu_enable_cudnn_layer_norm', True),)
  ),
  'tanh, any Triton product': Variant(
    options=(('xla_gpu_triton_gemm_any', True),)
  ),
  'tanh, fusions tuned': Variant(
    options=(('xla_gpu_experimental_enable_fusion_autotuner', True),)
  ),
}


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


def build(args, variant: Variant, blocks):
  """Compiles the step of a variant, and runs it once."""
  args = copy.copy(args)
  args.activation = variant.activation
  args.jax_options = dict(variant.options) or None
  args.batch *= variant.times
  from zsar_jax.models import layers

  attend = layers.attend
  if variant.tokamax:
    kernel = tokamax_attention(*blocks)
    attend = lambda q, k, v, *_: kernel(q, k, v)
  # The first call traces the step, and looks up the attention.
  with mock.patch.object(layers, 'attend', attend):
    step, _ = train_step.jax_step(args)
    train_step.several_seconds(step, 1)
  return step


def gradients_error(attend) -> float:
  """Returns the relative error of an attention's gradients, in bfloat16.

  The reference is computed by einsums in float32, over 1568 tokens.
  """
  import jax
  import jax.numpy as jnp

  from zsar_jax.models import attention

  keys = jax.random.split(jax.random.key(1), 4)
  values = [jax.random.normal(x, (1, 1568, 2, 64), jnp.bfloat16) for x in keys]
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


def print_table(args, times: dict[str, list[float]], peak) -> None:
  """Prints the variants measured so far beside the first of them."""
  first = next(iter(times))
  for name, found in times.items():
    median = statistics.median(found)
    times_batch = VARIANTS[name].times
    batch = args.batch * times_batch
    work = batch * train_step.model_flops(
      args.variant, args.frames, args.size, args.depth
    )
    line = f'{name:26} {1e3 * median:8.1f} ms {batch / median:7.1f} clips/s'
    if peak:
      line += f'  MFU {work / median / peak.peak_flops:.1%}'
    per_clip = [x / times_batch for x in found]
    ratio, low, high = train_step.ratio_interval(per_clip, times[first])
    print(
      f'{line}  speed to {first} {ratio:.3f} ({low:.3f} - {high:.3f})',
      flush=True,
    )


def parse(argv: list[str] | None = None) -> argparse.Namespace:
  """Parses the command line, sizes included."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--batch', type=int, default=32)
  parser.add_argument('--variant', choices=train_step._SIZES, default='B')
  parser.add_argument('--depth', type=int, default=12, help='number of blocks')
  parser.add_argument('--frames', type=int, default=16)
  parser.add_argument('--size', type=int, default=224)
  parser.add_argument(
    '--rounds', type=int, default=4, help='rounds after each new variant'
  )
  parser.add_argument('--tune_s', type=float, default=45)
  parser.add_argument(
    '--build_s',
    type=float,
    default=1e9,
    help='seconds after which no more variants are built',
  )
  parser.add_argument(
    '--only', type=lambda x: x.split(';'), default=list(VARIANTS)
  )
  parser.add_argument(
    '--profile',
    type=lambda x: x.split(';'),
    default=[],
    help='variants to profile',
  )
  return parser.parse_args(argv)


def blocks_of(args, shape):
  """Returns tuned blocks of tokamax's attention, or None without tokamax."""
  try:
    import tokamax
  except ImportError as error:
    print(f'no tokamax: {error}')
    return None
  print(f'tokamax {getattr(tokamax, "__version__", "")}: tuning')
  blocks = tune(shape, args.tune_s)
  print('tuned', json.dumps(blocks), flush=True)
  return blocks


def main(argv: list[str] | None = None) -> None:
  """Prints a line for each variant."""
  args = parse(argv)
  import jax

  from zsar_jax.parallel import hardware

  device = jax.devices()[0]
  peak = hardware.find(device.device_kind)
  width, heads = train_step._SIZES[args.variant]
  t, h, w = train_step.TUBELET
  length = (args.frames // t) * (args.size // h) * (args.size // w)
  shape = (args.batch, length, heads, width // heads)
  print(f'{device.device_kind}, jax {jax.__version__}', flush=True)
  blocks = None
  if any(VARIANTS[name].tokamax for name in args.only):
    blocks = blocks_of(args, shape)
  if device.platform == 'gpu':
    print_attention(shape, blocks)
  steps, times = {}, {}
  whole = time.monotonic()
  for name in args.only:
    if VARIANTS[name].tokamax and not blocks:
      continue
    if time.monotonic() - whole > args.build_s:
      print(f'{name}: left out for lack of time')
      continue
    began = time.monotonic()
    try:
      steps[name] = build(args, VARIANTS[name], blocks)
    except Exception as error:  # too little memory, or an unknown option
      print(f'{name}: {type(error).__name__} {str(error)[:300]}', flush=True)
      continue
    times[name] = []
    print(f'{name}: ready in {time.monotonic() - began:.0f} s', flush=True)
    # Measure before building the next: a stopped run has printed its results.
    for _ in range(args.rounds):
      for built, step in steps.items():
        times[built] += train_step.several_seconds(step, 1)
    print_table(args, times, peak)
  for name in args.profile:
    if name in steps:
      step = steps[name]
      print(
        name,
        *kernels.lines(kernels.of_jax(lambda s=step: float(s()))),
        sep='\n',
        flush=True,
      )


if __name__ == '__main__':
  main()
