"""Tests parity with PyTorch at full size.

python -m benchmarks.parity_full_size [--models=NAME,...]

The tests compare small networks. This script compares networks of the sizes of
public weights. Each is built by transformers from a fixed seed, saved, loaded
by `zsar_jax.pretrained`, and run on both sides in float32 on the CPU, on the
same random input of batch size 1. A row is ok if the last hidden states (for
X-CLIP, VideoPrism, V-JEPA 2 and PE-Video the pooled output) differ by at most
1e-4. The exit code is 1 if any row is not ok. It needs the extra `parity`, and
`pip install timm` for PE-Video.

Random weights are not as transformers leaves them: a Transformer's all get
noise, so that a bias, norm, class token or position that starts at zero or one
cannot hide in a wrong place. A ResNet's norms get random scales and biases,
and the statistics of random images, off by random amounts: with arbitrary ones
the activations of a deep network would grow without bound. The last norm of
each residual branch is scaled down (Goyal et al. 2017 start it at zero). With
_BRANCH_SCALE = 1 a random ResNet amplifies rounding so much that the deeper
two cannot meet the tolerance: at depths 18, 50 and 101 PyTorch's float32 then
differs from its own float64 by 6e-5, 7e-4 and 3e-3, ours from it by 5e-5, 7e-4
and 4e-3, and the two in float32 from each other by 5e-5, 7e-4 and 3e-3.

`Mparam` are the millions of parameters of our encoder, without heads, poolers
and stored statistics (the word tables are padded to a multiple of 128 rows);
`std` is the standard deviation of PyTorch's output, the scale that the
difference is to be seen against; `rounding` is the max abs difference between
PyTorch in float32 and in float64, the size of difference that is no fault.

docs/public_weights.md has the table.
"""

import argparse
import gc
import sys
import tempfile

import flax
import jax
import numpy as np
import torch
import transformers

from benchmarks import parity_models, parity_tools

TOLERANCE = 1e-4


def compare(case: parity_models.Case) -> bool:
  """Runs a case, prints its row and says whether it is ok.

  Args:
    case: a value of parity_models.CASES.

  Returns:
    Whether the last hidden states agree.

  Raises:
    ValueError: they are of different shapes.
  """
  torch.manual_seed(parity_tools.SEED)
  with tempfile.TemporaryDirectory() as path:
    outcome = case.run(path)
  theirs, ours = outcome.theirs, np.asarray(outcome.ours)
  if theirs.shape != ours.shape:
    raise ValueError(f'{case.title}: shapes {theirs.shape} and {ours.shape}')
  difference = np.abs(theirs - ours).max()
  # A NaN is not ok either.
  ok = bool(difference <= TOLERANCE)
  print(
    f'| {case.title} | {outcome.parameters / 1e6:.2f} '
    f'| {"x".join(map(str, outcome.shape))} '
    f'| {theirs.std():.2f} | {outcome.rounding:.1e} | {difference:.1e} '
    f'| {"yes" if ok else "NO"} |',
    flush=True,
  )
  return ok


def main(argv: list[str]) -> int:
  """Prints the table; returns the exit code."""
  parser = argparse.ArgumentParser(prog='parity_full_size')
  parser.add_argument(
    '--models',
    default=','.join(parity_models.CASES),
    help='names separated by commas, of %(default)s',
  )
  names = parser.parse_args(argv).models.split(',')
  unknown = sorted(set(names) - set(parity_models.CASES))
  if unknown:
    parser.error(
      f'unknown models {unknown}, known are {list(parity_models.CASES)}'
    )
  # Other devices may multiply float32 less exactly.
  jax.config.update('jax_platforms', 'cpu')
  transformers.utils.logging.disable_progress_bar()
  versions = (torch, transformers, jax, flax)
  print(', '.join(f'{m.__name__} {m.__version__}' for m in versions) + '\n')
  print('| model | Mparam | input | std | rounding | max abs difference | ok |')
  print('| --- | --- | --- | --- | --- | --- | --- |', flush=True)
  ok = True
  for name in names:
    ok = compare(parity_models.CASES[name]) and ok
    jax.clear_caches()
    gc.collect()
  return 0 if ok else 1


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
