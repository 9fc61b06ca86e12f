"""Compares the training step of a video ViT with PyTorch.

```
python -m benchmarks.train_step                     # on any device
python -m benchmarks.train_step --dtype=bfloat16    # on a CPU in half precision
python -m benchmarks.train_step --variant=B --frames=16 --size=224 --batch=32
```

The peer is transformers' VideoMAE for classification with PyTorch's `sdpa`
attention; on a GPU, `torch.compile` of it is a second peer. Both sides have
tubelets of 2 x 16 x 16, joint attention, mean pooling, a linear classifier of
400 classes, cross-entropy, backward pass, and AdamW with weight decay. They
have the same sizes, clips and dtypes: float32 on a CPU, bfloat16 computation
with float32 parameters on a GPU, in PyTorch by autocast; or what `--dtype`
says.

On a CPU both sides run in one process, in turns, and each step is timed. On a
GPU each side runs in its own process in every round, one after the other, so
that neither takes memory from the other.

It imports jax, flax, optax, numpy, torch and transformers, and only the models
of this project, so that it runs on a bare GPU machine.

Predicted before the first run: a ratio of 0.93 to 0.95 on two CPU cores. The
gap would be attention and GELU; matrix products would be equally fast. For
bfloat16 on a CPU with matrix units (AMX): 1.4 times our speed in float32, and
0.65 of PyTorch's in bfloat16.

Measured: 1.38 on an AMD EPYC; 0.75 on an Intel Xeon, where MKL multiplies
faster than XLA; 1.34 on an H200 against eager PyTorch. docs/benchmarks.md has
the figures with dates, a profile, and a list of what was not measured.
"""

import argparse
from collections.abc import Callable
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks import arguments, kernels
from zsar_jax.models import layers

CLASSES = 400
_SIZES = {'Ti': (192, 3), 'S': (384, 6), 'B': (768, 12)}
_LEARNING_RATE, _WEIGHT_DECAY = 1e-4, 0.05
TUBELET = (2, 16, 16)
_DTYPES = ('float32', 'bfloat16')
# Steps per timed row on a GPU.
_ROW = 5


def model_flops(variant: str, frames: int, size: int, depth: int = 12) -> int:
  """Computes the floating-point operations of one training clip.

  Multiply-adds of the forward pass, with n tokens of width d: patches n d p,
  each block 12 n d^2 + 2 n^2 d, classifier d c. Operations are twice that, and
  with the backward pass three times as many.

  Args:
    variant: a key of `_SIZES`.
    frames: frames of the clip.
    size: height and width in pixels.
    depth: number of blocks.

  Returns:
    Floating-point operations.
  """
  d = _SIZES[variant][0]
  t, h, w = TUBELET
  n = (frames // t) * (size // h) * (size // w)
  macs = n * d * 3 * t * h * w
  macs += depth * (12 * n * d * d + 2 * n * n * d)
  return 6 * (macs + d * CLASSES)


def clips_and_labels(args: argparse.Namespace):
  """Returns the same batch for both sides: [b t h w 3] float32, int [b]."""
  rng = np.random.default_rng(0)
  shape = (args.batch, args.frames, args.size, args.size, 3)
  return (
    rng.standard_normal(shape).astype(np.float32),
    rng.integers(0, CLASSES, args.batch),
  )


def in_half(args: argparse.Namespace, platform: str) -> bool:
  """Returns whether both sides compute in bfloat16."""
  return (args.dtype or _DTYPES[platform != 'cpu']) == 'bfloat16'


def jax_step(args: argparse.Namespace) -> tuple[Callable[[], Any], str]:
  """Returns a step, which returns its loss asynchronously, and the device."""
  from flax import linen as nn
  import jax
  import jax.numpy as jnp
  import optax

  from zsar_jax.models import video_encoder

  device = jax.devices()[0]
  depth = dict(depth=args.depth)
  dtype = jnp.bfloat16 if in_half(args, device.platform) else jnp.float32

  class Classifier(nn.Module):
    @nn.compact
    def __call__(self, video):
      encoder = video_encoder.VideoEncoder(
        **(video_encoder.variant(f'{args.variant}/16x2') | depth),
        dtype=dtype,
        activation=args.activation,
        scan_blocks=False,
      )
      pooled = encoder(video)['pooled']
      return nn.Dense(CLASSES, dtype=jnp.float32)(pooled)

  model = Classifier()
  video, labels = (jnp.asarray(x) for x in clips_and_labels(args))
  params = jax.jit(model.init)(jax.random.key(0), video[:1])
  optimizer = optax.adamw(_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

  def loss(params, video, labels):
    logits = model.apply(params, video.astype(dtype))
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels
    ).mean()

  def update(params, opt_state, video, labels):
    value, grads = jax.value_and_grad(loss)(params, video, labels)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value

  update = jax.jit(
    update, donate_argnums=(0, 1), compiler_options=args.jax_options
  )
  state = [params, jax.jit(optimizer.init)(params)]

  def step():
    *state[:], value = update(*state, video, labels)
    return value

  return step, device.device_kind


def torch_step(
  args: argparse.Namespace, compile_it: bool = False
) -> tuple[Callable[[], Any], str]:
  """Returns the same as `jax_step`, in PyTorch."""
  import torch
  import transformers

  cuda = torch.cuda.is_available()
  device = torch.device('cuda' if cuda else 'cpu')
  half = in_half(args, device.type)
  width, heads = _SIZES[args.variant]
  config = transformers.VideoMAEConfig(
    image_size=args.size,
    num_frames=args.frames,
    tubelet_size=TUBELET[0],
    patch_size=TUBELET[1],
    hidden_size=width,
    num_hidden_layers=args.depth,
    num_attention_heads=heads,
    intermediate_size=4 * width,
    num_labels=CLASSES,
    attn_implementation='sdpa',
  )
  torch.manual_seed(0)
  model = transformers.VideoMAEForVideoClassification(config).to(device).train()
  video, labels = (torch.from_numpy(x) for x in clips_and_labels(args))
  video = video.permute(0, 1, 4, 2, 3).contiguous().to(device)
  labels = labels.to(device)
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
  )
  run = torch.compile(model) if compile_it else model

  def step():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
      loss = run(pixel_values=video, labels=labels).loss
    loss.backward()
    optimizer.step()
    return loss.detach()

  name = torch.cuda.get_device_name() if cuda else 'cpu'
  return step, name


SIDES = {
  'jax': jax_step,
  'torch': torch_step,
  'torch.compile': lambda args: torch_step(args, compile_it=True),
}


def seconds_of(step: Callable[[], Any]) -> float:
  """Returns the seconds of one step."""
  began = time.perf_counter()
  float(step())
  return time.perf_counter() - began


def several_seconds(step: Callable[[], Any], turns: int) -> list[float]:
  """Returns the mean seconds per step of each of several rows of `_ROW` steps.

  Only the last step of a row is waited for. Each step is dispatched while the
  one before it runs, as in training.
  """
  found = []
  for _ in range(turns):
    began = time.perf_counter()
    for _ in range(_ROW):
      value = step()
    float(value)
    found.append((time.perf_counter() - began) / _ROW)
  return found


def interleaved(args, sides) -> dict[str, list[float]]:
  """Returns the seconds of every step, with sides in turns in one process."""
  import torch

  torch.set_num_threads(args.threads)
  steps = {side: SIDES[side](args)[0] for side in sides}
  for step in steps.values():
    for _ in range(2):
      seconds_of(step)
  times = {side: [] for side in sides}
  for number in range(args.rounds):
    # Alternate which side goes first: a warm machine may be faster.
    for side in sides if number % 2 else reversed(sides):
      times[side].append(seconds_of(steps[side]))
  return times


def in_processes(args, sides) -> dict[str, list[float]]:
  """Returns the seconds per step of all rows, with sides in turns."""
  times = {side: [] for side in sides}
  for _ in range(args.rounds):
    for side in sides:
      done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.train_step', *sys.argv[1:]]
        + [f'--side={side}'],
        capture_output=True,
        text=True,
        check=True,
      )
      found = json.loads(done.stdout.splitlines()[-1])
      times[side] += found
      print(f'{side}: {1e3 * statistics.median(found):.1f} ms', file=sys.stderr)
  return times


def ratio_interval(ours, theirs, resamples: int = 2000):
  """Returns the ratio of medians theirs / ours, and its 95% interval.

  Above 1, ours is faster.
  """
  rng = np.random.default_rng(0)
  draw = lambda x: np.median(rng.choice(x, (resamples, len(x))), axis=1)
  low, high = np.percentile(draw(theirs) / draw(ours), [2.5, 97.5])
  return statistics.median(theirs) / statistics.median(ours), low, high


def parse(argv: list[str] | None = None) -> argparse.Namespace:
  """Parses the command line."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--variant', choices=_SIZES, default='S')
  parser.add_argument(
    '--depth', type=arguments.positive, default=12, help='number of blocks'
  )
  parser.add_argument('--frames', type=arguments.positive, default=8)
  parser.add_argument('--size', type=arguments.positive, default=112)
  parser.add_argument('--batch', type=arguments.positive, default=4)
  parser.add_argument(
    '--dtype',
    choices=_DTYPES,
    help='of the computation; float32 on a CPU, else bfloat16',
  )
  parser.add_argument(
    '--activation',
    choices=layers.ACTIVATIONS,
    default='gelu',
    help="activation of our side; PyTorch's is gelu, by erf",
  )
  parser.add_argument(
    '--jax_options', type=json.loads, help="XLA's options as JSON"
  )
  parser.add_argument('--rounds', type=arguments.positive, default=30)
  parser.add_argument(
    '--steps',
    type=int,
    default=10,
    help=f'steps to time; on a GPU {_ROW} times as many',
  )
  parser.add_argument(
    '--threads', type=arguments.positive, default=os.cpu_count()
  )
  parser.add_argument('--side', choices=SIDES, help='run only this side')
  parser.add_argument(
    '--profile',
    action='store_true',
    help='with --side, on a GPU: print the time per kernel',
  )
  return parser.parse_args(argv)


def main() -> None:
  """Prints the medians, and the ratio of each peer to ours."""
  args = parse()
  if args.side:
    step, _ = SIDES[args.side](args)
    several_seconds(step, 1)
    if args.profile:
      of = kernels.of_jax if args.side == 'jax' else kernels.of_torch
      print(args.side, *kernels.lines(of(lambda: float(step()))), sep='\n')
    print(json.dumps(several_seconds(step, args.steps)))
    return
  import torch

  cuda = torch.cuda.is_available()
  sides = ['jax', 'torch', 'torch.compile'] if cuda else ['jax', 'torch']
  times = (in_processes if cuda else interleaved)(args, sides)
  name = torch.cuda.get_device_name() if cuda else 'cpu'
  print(
    f'ViT-{args.variant}, {args.batch} clips of {args.frames} x {args.size}, '
    f'{name}, n={len(times["jax"])}'
  )
  work = args.batch * model_flops(
    args.variant, args.frames, args.size, args.depth
  )
  from zsar_jax.parallel import hardware

  device = hardware.find(name)
  for side in sides:
    median = statistics.median(times[side])
    line = f'{side:14} {1e3 * median:8.1f} ms'
    line += f'  {args.batch / median:7.1f} clips/s'
    if device:
      line += f'  MFU {work / median / device.peak_flops:.1%}'
    if side != 'jax':
      ratio, low, high = ratio_interval(times['jax'], times[side])
      line += f'  speed of ours to it {ratio:.3f} ({low:.3f} - {high:.3f})'
    print(line)


if __name__ == '__main__':
  main()
