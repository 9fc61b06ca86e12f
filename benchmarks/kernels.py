"""Sums the time of a GPU step by kind of kernel.

It traces a few steps with JAX's or PyTorch's profiler and adds up the kernels'
times. Both frameworks are counted in the same way.
"""

from collections.abc import Callable, Iterable, Mapping
import glob
import os
import re
import tempfile

_STEPS = 5
# Kind -> parts of its kernels' names. The first kind that matches counts.
KINDS = {
  'attention': r'sdpa|flash|fmha|attention',
  'matrix products': r'gemm|nvjet|cutlass|xmma|cublas|dot',
  'copies': r'memcpy|memset',
}
OTHER = 'elementwise, norms and sums'


def by_kind(kernels: Mapping[str, float]) -> dict[str, float]:
  """Adds up the times of kernels by kind.

  Args:
    kernels: name -> seconds.

  Returns:
    Kind -> seconds, for every kind.
  """
  total = dict.fromkeys((*KINDS, OTHER), 0.0)
  for name, seconds in kernels.items():
    fits = (k for k, words in KINDS.items() if re.search(words, name.lower()))
    total[next(fits, OTHER)] += seconds
  return total


def of_jax(
  step: Callable[[], object], plane: str = '/device:GPU', line: str = 'Stream'
) -> dict[str, float]:
  """Measures the seconds per step of each kernel with JAX's profiler.

  Args:
    step: runs a step to its end.
    plane: prefix of the profile's planes to count.
    line: prefix of the lines of a plane to count; a GPU has one per stream.

  Returns:
    Kernel name -> seconds.

  Raises:
    ValueError: the profile has no such events.
  """
  import jax

  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(_STEPS):
        step()
    (path,) = glob.glob(
      os.path.join(folder, '**', '*.xplane.pb'), recursive=True
    )
    found = jax.profiler.ProfileData.from_file(path)
    times = _add_up(
      (event.name, event.duration_ns * 1e-9)
      for one in found.planes
      if one.name.startswith(plane)
      for stream in one.lines
      if stream.name.startswith(line)
      for event in stream.events
    )
    if not times:
      known = [(p.name, [s.name for s in p.lines]) for p in found.planes]
      raise ValueError(f'no events in {line!r} of {plane!r}, only in {known}')
    return times


def of_torch(step: Callable[[], object]) -> dict[str, float]:
  """Measures the same as `of_jax`, with PyTorch's profiler."""
  from torch import profiler

  with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as found:
    for _ in range(_STEPS):
      step()
  return _add_up(
    (event.key, event.self_device_time_total * 1e-6)
    for event in found.key_averages()
  )


def _add_up(events: Iterable[tuple[str, float]]) -> dict[str, float]:
  total: dict[str, float] = {}
  for name, seconds in events:
    total[name] = total.get(name, 0.0) + seconds / _STEPS
  return total


def lines(kernels: Mapping[str, float], most: int = 12) -> list[str]:
  """Returns lines with the kinds and their shares, then the slowest kernels."""
  whole = sum(kernels.values()) or 1.0
  show = lambda name, seconds: (
    f'  {1e3 * seconds:8.2f} ms {seconds / whole:6.1%}  {name[:90]}'
  )
  longest = sorted(kernels.items(), key=lambda item: -item[1])[:most]
  return [
    *(show(*item) for item in by_kind(kernels).items()),
    '  longest:',
    *(show(*item) for item in longest),
  ]
