"""Does a stream keep up, how late is its answer, and does its memory grow?

```
python -m benchmarks.stream [--workdir=FOLDER] [--minutes=30]
```

names a synthetic stream, as fast as it can: pictures of 640x480 at 30 frames a
second, of a texture that moves. Printed: memory (VmRSS) after each tenth of the
time, and after the first minute; windows a second, and how many times as fast
as the stream itself that is; milliseconds from the frame that completes a
window to its name, median and 95th percentile; and which share of a core such a
stream takes in real time, which hardly depends on what else the machine does.
The first windows, which compile, do not count in these.

It exits with 1 where memory grew by more than 32 MiB after the first minute, or
the stream was slower than real time.
"""

import argparse
from collections.abc import Iterator
import sys
import time

import numpy as np

import zsar_jax
from zsar_jax.inference import predictions

_RATE = 30
_HEIGHT, _WIDTH = 480, 640
_CLASSES = 'juggling', 'rowing', 'walking to the right slowly', 'bowling'
_WARM_UP = 20
_MOST_GROWTH = 32.0


def frames(seconds: float, seed: int = 0) -> Iterator[tuple[float, np.ndarray]]:
  """Yields (seconds, uint8 [h w 3]) of a texture that moves.

  Args:
    seconds: how long.
    seed: of the texture, which is coarse, as filmed pictures are.
  """
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 255, (_HEIGHT // 16, _WIDTH // 8, 3), np.uint8)
  wide = coarse.repeat(16, 0).repeat(16, 1)
  for i in range(round(seconds * _RATE)):
    left = 4 * i % _WIDTH
    yield i / _RATE, wide[:, left : left + _WIDTH]


def memory() -> float:
  """Returns this process's memory in MiB."""
  with open('/proc/self/status') as f:
    (line,) = [line for line in f if line.startswith('VmRSS')]
  return int(line.split()[1]) / 1024


def measure(model, minutes: float, say=print) -> tuple[float, float]:
  """Names a stream.

  Args:
    model: with classes.
    minutes: how long the stream lasts.
    say: prints a line.

  Returns:
    MiB that memory grew by after the first minute, and how many times as fast
    as the stream its windows were named.
  """
  stream = model.open_stream()
  waits, windows, found = [], 0, 0
  marks = {round(_RATE * 60 * minutes * k / 10) for k in range(1, 11)}
  marks.add(_RATE * 60)
  first_minute, began = None, time.perf_counter()
  for i, (seconds, frame) in enumerate(frames(60 * minutes), 1):
    asked = time.perf_counter()
    for event in stream.add(seconds, frame):
      if isinstance(event, predictions.NamedWindow):
        waits.append(1000 * (time.perf_counter() - asked))
        windows += 1
      else:
        found += 1
    if windows == _WARM_UP and len(waits) == _WARM_UP:
      waits.clear()
      counted_from, began = seconds, time.perf_counter()
      core = time.process_time()
    if i in marks:
      now = memory()
      first_minute = now if i == _RATE * 60 else first_minute
      say(f'minute {i / _RATE / 60:6.1f}: {now:6.1f} MiB, {windows} windows')
  took = time.perf_counter() - began
  core = time.process_time() - core
  found += sum(1 for _ in stream.finish())
  speed = (60 * minutes - counted_from) / took
  median, late = np.percentile(waits, [50, 95])
  say(
    f'{len(waits) / took:.1f} windows/s, {speed:.1f} times real time; frame to '
    f'answer {median:.1f} ms median, {late:.1f} ms 95th percentile; '
    f'{core / (60 * minutes - counted_from):.1%} of a core'
  )
  return memory() - first_minute, speed


def main() -> None:
  """Parses the command line, prints the figures and checks them."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', default='stick_figures')
  parser.add_argument('--minutes', type=float, default=30.0)
  args = parser.parse_args()
  if args.minutes < 2:
    parser.error('--minutes: at least 2, or memory has no time to grow')
  model = zsar_jax.load(args.workdir).clear_classes().add_classes(_CLASSES)
  growth, speed = measure(model, args.minutes)
  print(f'memory grew by {growth:.1f} MiB after the first minute')
  if growth > _MOST_GROWTH or speed < 1:
    sys.exit(f'expected at most {_MOST_GROWTH:g} MiB, and at least real time')


if __name__ == '__main__':
  main()
