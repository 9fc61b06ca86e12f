"""Compares variants of the training step of ViT-B/16x2 on a GPU.

```
python -m benchmarks.gpu_step [--batch=32] [--rounds=12] [--profile=NAMES]
```

The variants of the step of `benchmarks.train_step` differ in the activation,
XLA's options and the batch size. All run in one process. They are compiled
several at a time, then they take turns, five steps at a time. It prints the
median of each, its MFU, and its speed relative to the first, with a 95%
interval over rows. With `--cache=FOLDER` a second run compiles nothing.

Predicted before the first run that timed them, for an H200 at batch 32: erfc 89
ms, erf 85, its slope kept 84, tanh 86, by a sigmoid 84, with cublasLt's
epilogues 83, with cuDNN's norms no change; batch 64 gives 3% more clips/s.
Measured: erfc 90 to 92 ms, erf and every other GELU 85 to 89, cuDNN's norms no
change, batch 64 1.4% more clips/s. docs/benchmarks.md has the table.
"""

import argparse
from concurrent import futures
import copy
import dataclasses
import statistics
import time
from typing import Any
from unittest import mock

from benchmarks import arguments, kernels, train_step
from zsar_jax.models import layers

# sqrt(2 / pi), of GELU by tanh (Hendrycks and Gimpel 2016).
_TANH_SCALE = 0.7978845608028654


@dataclasses.dataclass(frozen=True)
class Variant:
  """A variant of the step.

  Attributes:
    activation: a key of `ACTIVATIONS`.
    options: options of XLA, name -> value.
    times: batch size in multiples of `--batch`.
  """

  activation: str = 'gelu'
  options: tuple[tuple[str, Any], ...] = ()
  times: int = 1


def erfc_gelu(x):
  """Computes GELU by erfc, as `jax.nn.gelu` does."""
  import jax

  return jax.nn.gelu(x, approximate=False)


def sigmoid_gelu(x):
  """Computes the same as GELU by tanh, but by a sigmoid."""
  import jax

  return x * jax.nn.sigmoid(2 * _TANH_SCALE * (x + 0.044715 * x * x * x))


def kept_gelu(x):
  """Computes GELU, and its derivative in the forward pass too."""
  import jax
  import jax.numpy as jnp

  @jax.custom_vjp
  def apply(x):
    return layers.gelu(x)

  def forward(x):
    # The barrier keeps XLA from computing the derivative again.
    return jax.lax.optimization_barrier(
      jax.jvp(layers.gelu, (x,), (jnp.ones_like(x),))
    )

  apply.defvjp(forward, lambda slope, y: (slope * y,))
  return apply(x)


def narrow_gelu(x):
  """Computes GELU by erf, in the dtype of `x`, constants included."""
  import jax

  return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


ACTIVATIONS = layers.ACTIVATIONS | {
  'narrow': narrow_gelu,
  'erfc': erfc_gelu,
  'sigmoid': sigmoid_gelu,
  'kept': kept_gelu,
}
VARIANTS = {
  'erf': Variant(),
  'erfc': Variant('erfc'),
  'erf in bfloat16': Variant('narrow'),
  'erf, slope kept': Variant('kept'),
  'tanh': Variant('gelu_tanh'),
  'tanh by sigmoid': Variant('sigmoid'),
  'erf, batch x 2': Variant(times=2),
  'erf, no cublasLt': Variant(options=(('xla_gpu_enable_cublaslt', False),)),
  'erf, cuDNN norms': Variant(
    options=(('xla_gpu_enable_cudnn_layer_norm', True),)
  ),
  'erf, any Triton product': Variant(
    options=(('xla_gpu_triton_gemm_any', True),)
  ),
  'erf, fusions tuned': Variant(
    options=(('xla_gpu_experimental_enable_fusion_autotuner', True),)
  ),
  'erf, no graphs': Variant(options=(('xla_gpu_enable_command_buffer', ''),)),
}


def build(args, name: str):
  """Compiles the step of a variant and runs it; prints how long it took."""
  began = time.monotonic()
  if began > args.deadline:
    print(f'{name}: left out for lack of time', flush=True)
    return None
  variant = VARIANTS[name]
  args = copy.copy(args)
  args.activation = variant.activation
  args.jax_options = dict(variant.options) or None
  args.batch *= variant.times
  try:
    step, _ = train_step.jax_step(args)
    train_step.several_seconds(step, 1)
  except Exception as error:  # too little memory, or an unknown option
    print(f'{name}: {type(error).__name__} {str(error)[:300]}', flush=True)
    return None
  print(f'{name}: ready in {time.monotonic() - began:.0f} s', flush=True)
  return step


def build_all(args) -> dict[str, Any]:
  """Returns the steps of all variants that could be built, by name."""
  args.deadline = time.monotonic() + args.build_s
  first, *others = args.only
  with mock.patch.dict(layers.ACTIVATIONS, ACTIVATIONS):
    # XLA tunes the products of the first one, and keeps what it found.
    steps = {first: build(args, first)}
    with futures.ThreadPoolExecutor(args.workers) as pool:
      found = pool.map(lambda name: build(args, name), others)
      steps.update(zip(others, found, strict=True))
  return {name: step for name, step in steps.items() if step}


def print_table(args, times: dict[str, list[float]], peak) -> None:
  """Prints the variants measured so far beside the first of them."""
  if not times:
    raise SystemExit('no variant could be built; the lines above say why')
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
  parser.add_argument('--batch', type=arguments.positive, default=32)
  parser.add_argument('--variant', choices=train_step._SIZES, default='B')
  parser.add_argument(
    '--depth', type=arguments.positive, default=12, help='number of blocks'
  )
  parser.add_argument('--frames', type=arguments.positive, default=16)
  parser.add_argument('--size', type=arguments.positive, default=224)
  parser.add_argument(
    '--rounds', type=arguments.positive, default=12, help='rows of each variant'
  )
  parser.add_argument(
    '--workers',
    type=arguments.positive,
    default=4,
    help='variants compiled at a time',
  )
  parser.add_argument(
    '--build_s',
    type=float,
    default=1e9,
    help='seconds after which no more variants are built',
  )
  parser.add_argument('--cache', help='folder for compiled programs')
  parser.add_argument(
    '--only', type=lambda x: x.split(';'), default=list(VARIANTS)
  )
  parser.add_argument(
    '--profile',
    type=lambda x: x.split(';'),
    default=[],
    help='variants to profile',
  )
  parser.add_argument(
    '--longest',
    type=arguments.positive,
    default=12,
    help='kernels that a profile shows',
  )
  args = parser.parse_args(argv)
  for name in (*args.only, *args.profile):
    if name not in VARIANTS:
      parser.error(f'{name!r} is not one of {list(VARIANTS)}')
  return args


def main(argv: list[str] | None = None) -> None:
  """Prints a line for each variant."""
  args = parse(argv)
  import jax

  from zsar_jax.parallel import hardware

  if args.cache:
    jax.config.update('jax_compilation_cache_dir', args.cache)
  device = jax.devices()[0]
  print(f'{device.device_kind}, jax {jax.__version__}', flush=True)
  steps = build_all(args)
  times = {name: [] for name in steps}
  for _ in range(args.rounds):
    for name, step in steps.items():
      times[name] += train_step.several_seconds(step, 1)
  print_table(args, times, hardware.find(device.device_kind))
  for name in args.profile:
    if name in steps:
      step = steps[name]
      print(
        name,
        *kernels.lines(kernels.of_jax(lambda s=step: float(s())), args.longest),
        sep='\n',
        flush=True,
      )


if __name__ == '__main__':
  main()
