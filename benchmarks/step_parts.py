"""Compares the parts of a CPU's training step with PyTorch's, one by one.

```
python -m benchmarks.step_parts [--rounds=30]
```

The parts are those of `benchmarks.train_step`'s ViT-S: 4 clips of 8 x 112, 784
tokens, float32. Each is compiled alone, forward and backward. The sides take
turns. Times are medians, multiplied by how often the part is in a step. So the
table shows which part of the difference is the libraries', and which comes from
putting the parts together.

Predicted before the first run, for two cores with AVX-512: matrix products 0.7
of PyTorch's speed, attention 0.8, GELU 0.7, norms 1.0, AdamW 1.5; the parts
together explain the whole ratio of 0.75. Measured (2026-11-27, two cores of an
Intel Xeon): products 0.64 to 0.77, attention 0.62, GELU 0.79, norms 0.43, AdamW
3.8; all together 0.78, and the whole step 0.80.
"""

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import os
import statistics
import time

import numpy as np

from benchmarks import arguments, train_step

_CLIPS, _TOKENS, _WIDTH, _HEADS, _DEPTH = 4, 196, 384, 6, 12
_PARAMETERS = 22_000_000


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of the step.

  Attributes:
    count: how often it is in a step.
    shapes: of its inputs; the first has the shape of the output unless
      `gradient` says otherwise.
    ours: function of JAX arrays.
    theirs: function of PyTorch tensors.
    gradient: shape of the output.
  """

  count: int
  shapes: Sequence[tuple[int, ...]]
  ours: Callable
  theirs: Callable
  gradient: tuple[int, ...]


def parts() -> dict[str, Part]:
  """Returns the parts by name."""
  from flax import linen as nn
  import torch
  from torch.nn import functional

  from zsar_jax.models import attention, layers

  rows = _CLIPS * _TOKENS
  heads = (_CLIPS, _TOKENS, _HEADS, _WIDTH // _HEADS)
  hidden = 4 * _WIDTH

  def product(inner, outer, count):
    return Part(
      count * _DEPTH,
      [(rows, inner), (inner, outer), (outer,)],
      lambda x, w, b: x @ w + b,
      # PyTorch's layers keep the transposed matrix.
      lambda x, w, b: functional.linear(x, w.T, b),
      (rows, outer),
    )

  def sdpa(q, k, v):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = functional.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2)

  def norm(x, scale, bias):
    params = {'params': {'scale': scale, 'bias': bias}}
    return nn.LayerNorm(epsilon=1e-6).apply(params, x)

  return {
    f'product {_WIDTH} x {_WIDTH}': product(_WIDTH, _WIDTH, 4),
    f'product {_WIDTH} x {hidden}': product(_WIDTH, hidden, 1),
    f'product {hidden} x {_WIDTH}': product(hidden, _WIDTH, 1),
    'attention': Part(_DEPTH, [heads] * 3, attention.attend, sdpa, heads),
    'GELU': Part(
      _DEPTH,
      [(rows, hidden)],
      layers.gelu,
      functional.gelu,
      (rows, hidden),
    ),
    'norm': Part(
      2 * _DEPTH + 1,
      [(rows, _WIDTH), (_WIDTH,), (_WIDTH,)],
      norm,
      lambda x, w, b: torch.layer_norm(x, (_WIDTH,), w, b, 1e-6),
      (rows, _WIDTH),
    ),
  }


def our_run(part: Part) -> Callable[[], object]:
  """Returns a function that computes a part, forward and backward."""
  import jax

  *values, slope = map(jax.numpy.asarray, _numbers(part))

  @jax.jit
  def both(values, slope):
    out, pullback = jax.vjp(part.ours, *values)
    return out, pullback(slope)

  return lambda: jax.block_until_ready(both(values, slope))


def their_run(part: Part) -> Callable[[], object]:
  """Returns the same in PyTorch."""
  import torch

  *values, slope = map(torch.from_numpy, _numbers(part))
  values = [x.requires_grad_() for x in values]

  def both():
    for x in values:
      x.grad = None
    part.theirs(*values).backward(slope)

  return both


def _numbers(part: Part) -> list[np.ndarray]:
  rng = np.random.default_rng(0)
  shapes = (*part.shapes, part.gradient)
  return [rng.standard_normal(shape, np.float32) for shape in shapes]


def optimisers() -> tuple[Callable[[], object], Callable[[], object]]:
  """Returns a step of AdamW on both sides, on as many parameters as ViT-S."""
  import jax
  import jax.numpy as jnp
  import optax
  import torch

  shape = (_PARAMETERS // _WIDTH, _WIDTH)
  values = jnp.ones(shape)
  adam = optax.adamw(1e-4, weight_decay=0.05)
  state = [values, adam.init(values)]

  def update(values, state, slopes):
    changes, state = adam.update(slopes, state, values)
    return optax.apply_updates(values, changes), state

  run = jax.jit(update, donate_argnums=(0, 1))
  slopes = 0.1 * jnp.ones(shape)

  def ours():
    state[:] = run(*state, slopes)
    jax.block_until_ready(state[0])

  tensor = torch.ones(shape, requires_grad=True)
  tensor.grad = 0.1 * torch.ones(shape)
  other = torch.optim.AdamW([tensor], lr=1e-4, weight_decay=0.05)
  return ours, other.step


def measure(
  ours: Callable, theirs: Callable, rounds: int
) -> tuple[list[float], list[float]]:
  """Returns the seconds of each call, with sides in turns."""
  sides = (ours, theirs)
  for side in sides:
    for _ in range(3):
      side()
  found = ([], [])
  for number in range(rounds):
    for i in (0, 1) if number % 2 else (1, 0):
      began = time.perf_counter()
      sides[i]()
      found[i].append(time.perf_counter() - began)
  return found


def main(argv: list[str] | None = None) -> None:
  """Prints a line for each part, and their sum."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--rounds', type=arguments.positive, default=30)
  parser.add_argument(
    '--threads', type=arguments.positive, default=os.cpu_count()
  )
  args = parser.parse_args(argv)
  import torch

  torch.set_num_threads(args.threads)
  runs = {
    name: (part.count, our_run(part), their_run(part))
    for name, part in parts().items()
  }
  runs['AdamW'] = (1, *optimisers())
  total = np.zeros(2)
  print(
    f'{"part":20} {"count":>5} {"ours ms":>8} {"PyTorch":>8}  speed of ours'
  )
  for name, (count, *sides) in runs.items():
    found = measure(*sides, args.rounds)
    medians = np.array([1e3 * count * statistics.median(x) for x in found])
    total += medians
    ratio, low, high = train_step.ratio_interval(*found)
    print(
      f'{name:20} {count:5} {medians[0]:8.1f} {medians[1]:8.1f}  '
      f'{ratio:.2f} ({low:.2f} - {high:.2f})',
      flush=True,
    )
  ours, theirs = total
  print(f'{"sum":20} {"":5} {ours:8.1f} {theirs:8.1f}  {theirs / ours:.2f}')


if __name__ == '__main__':
  main()
