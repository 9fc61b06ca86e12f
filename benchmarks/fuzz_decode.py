"""Decodes damaged videos: each must decode or be refused, without a crash.

```
python -m benchmarks.fuzz_decode --clips=FOLDER --seeds=0:2000
```

A seed chooses a clip and damages it in one of four ways: flipped bits, a cut,
the header of another clip, or an overwritten stretch. A child process with a
deadline and a memory limit then checks the whole file and decodes eight frames.
Without --clips, the script makes small videos in several codecs.

The program fails if a child crashes, a deadline passes, memory runs out or
anything but a VideoError is raised.

2026-11-24, two cores of an AMD EPYC, 2,000 seeds over 20 real clips in H.264,
HEVC, MPEG-4, GIF and more, 30 s:

```
damage               decoded   refused  deadline     crash    memory       bug
flipped bits             202       295         0         0         0         0
cut                       64       445         0         0         0         0
another's header          50       442         0         0         0         0
overwritten              283       219         0         0         0         0
all                      599      1401         0         0         0         0
2000 seeds; largest child 168 MiB; slowest 0.50 s
```
"""

import argparse
from collections.abc import Sequence
import concurrent.futures
import dataclasses
import itertools
import os
import resource
import sys
import tempfile
import time

import numpy as np

from tests import videos
from zsar_jax.data import decode, isolated

DEADLINE = 5.0
MEMORY = 1 << 30
KINDS = ('flipped bits', 'cut', "another's header", 'overwritten')
OUTCOMES = ('decoded', 'refused', 'deadline', 'crash', 'memory', 'bug')

_TASK = 'zsar_jax.data.decode:check_and_decode'
_NUM_FRAMES = 8


@dataclasses.dataclass(frozen=True)
class Result:
  """The outcome of a seed.

  Attributes:
    seed: seed of the damage.
    clip: name of the damaged clip.
    kind: one of KINDS.
    outcome: one of OUTCOMES.
    reason: message of the error; '' if the file decoded.
    seconds: time taken.
  """

  seed: int
  clip: str
  kind: str
  outcome: str
  reason: str
  seconds: float


def damage(content: bytes, other: bytes, kind: str, rng) -> bytes:
  """Returns a damaged copy of a file.

  Args:
    content: content of the file.
    other: content of another file, for its header.
    kind: one of KINDS.
    rng: a numpy Generator.

  Returns:
    The damaged content.
  """
  size = len(content)
  bad = np.frombuffer(content, np.uint8).copy()
  # Headers are short and matter most, so half of the damage is at an end.
  end = min(size, 4096)
  start = (0, size - end, 0, 0)[rng.integers(4)]
  reach = end if rng.random() < 0.5 else size
  start = min(start, size - reach)
  if kind == 'flipped bits':
    at = start + rng.integers(reach, size=rng.integers(1, 65))
    bad[at] ^= (1 << rng.integers(8, size=len(at))).astype(np.uint8)
  elif kind == 'cut':
    bad = bad[: rng.integers(1, size)]
  elif kind == "another's header":
    length = int(2 ** rng.uniform(3, 13))
    header = np.frombuffer(other, np.uint8)[: min(length, size)]
    bad[: len(header)] = header
  elif kind == 'overwritten':
    length = min(int(2 ** rng.uniform(0, 16)), reach)
    at = start + rng.integers(reach - length + 1)
    fill = rng.integers(256, size=length, dtype=np.uint8)
    bad[at : at + length] = fill if rng.random() < 0.5 else fill[0]
  else:
    raise ValueError(f'kind={kind!r} is not one of {KINDS}')
  return bad.tobytes()


def try_seed(
  pool: isolated.Pool, clips: Sequence[str], seed: int, folder: str
) -> Result:
  """Damages a clip and decodes it in a child process.

  Args:
    pool: child processes.
    clips: paths of undamaged videos.
    seed: chooses the clip and the damage.
    folder: folder for the damaged file, which is deleted afterwards.
  """
  rng = np.random.default_rng(seed)
  clip, other = (clips[i] for i in rng.integers(len(clips), size=2))
  kind = KINDS[rng.integers(len(KINDS))]
  contents = []
  for path in (clip, other):
    with open(path, 'rb') as f:
      contents.append(f.read())
  name = f'{seed}_{os.path.basename(clip)}'
  path = os.path.join(folder, name)
  with open(path, 'wb') as f:
    f.write(damage(*contents, kind, rng))
  kwargs = dict(path=path, name=name, num_frames=_NUM_FRAMES)
  outcome, reason = 'decoded', ''
  began = time.monotonic()
  try:
    facts, (frames,) = pool.run(_TASK, kwargs, name=name, deadline=DEADLINE)
    if len(frames) != np.prod(facts['shape']):
      outcome, reason = 'bug', f'{len(frames)} bytes for {facts["shape"]}'
  except decode.VideoError as e:
    reason, outcome = e.reason, 'refused'
    if e.transient:
      words = {'took longer': 'deadline', 'takes more': 'memory'}
      found = (words[w] for w in words if e.reason.startswith(w))
      outcome = next(found, 'crash')
  except RuntimeError as e:
    reason, outcome = str(e), 'bug'
  seconds = time.monotonic() - began
  os.remove(path)
  return Result(seed, os.path.basename(clip), kind, outcome, reason, seconds)


def try_seeds(
  clips: Sequence[str], seeds: Sequence[int], num_workers: int
) -> list[Result]:
  """Returns the outcome of each seed; see `try_seed`."""
  with (
    tempfile.TemporaryDirectory() as folder,
    isolated.Pool(num_workers, memory_bytes=MEMORY) as pool,
    concurrent.futures.ThreadPoolExecutor(num_workers) as threads,
  ):
    args = (itertools.repeat(pool), itertools.repeat(clips), seeds)
    return list(threads.map(try_seed, *args, itertools.repeat(folder)))


def make_clips(folder: str) -> list[str]:
  """Writes small videos in several codecs and containers; returns the paths."""
  frames = videos.numbered_frames(30)
  frames[:, 8:24, 8:24] = np.random.default_rng(0).integers(
    256, size=(30, 16, 16, 3), dtype=np.uint8
  )
  formats = {
    'a.mp4': dict(),
    'b.mkv': dict(gop=250),
    'c.avi': dict(codec='mpeg4'),
    'd.webm': dict(codec='libvpx-vp9'),
    'e.ts': dict(),
    'f.gif': dict(codec='gif', fps=10),
  }
  return [
    videos.write_video(os.path.join(folder, name), frames, **options)
    for name, options in formats.items()
  ]


def find_clips(folder: str) -> list[str]:
  """Returns the sorted paths of videos below a folder, except empty ones."""
  suffixes = ('.mp4', '.mkv', '.avi', '.mov', '.webm', '.gif')
  paths = [
    os.path.join(parent, file)
    for parent, _, files in os.walk(folder)
    for file in files
    if file.endswith(suffixes)
  ]
  paths = sorted(p for p in paths if os.path.getsize(p))
  if not paths:
    raise SystemExit(f'--clips={folder} holds no videos ({suffixes})')
  return paths


def report(results: Sequence[Result]) -> str:
  """Returns a table of outcomes by kind of damage, then all failures."""
  lines = [f'{"damage":18}' + ''.join(f'{o:>10}' for o in OUTCOMES)]
  for kind in (*KINDS, 'all'):
    counts = [
      sum(r.outcome == o and kind in (r.kind, 'all') for r in results)
      for o in OUTCOMES
    ]
    lines.append(f'{kind:18}' + ''.join(f'{c:10}' for c in counts))
  peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
  slowest = max(results, key=lambda r: r.seconds)
  lines.append(
    f'{len(results)} seeds; largest child {peak:.0f} MiB; slowest '
    f'{slowest.seconds:.2f} s (seed {slowest.seed}, {slowest.clip})'
  )
  lines += [
    f'seed {r.seed}, {r.clip}, {r.kind}: {r.outcome}: {r.reason}'
    for r in results
    if is_bad(r)
  ]
  return '\n'.join(lines)


def is_bad(result: Result) -> bool:
  """Returns whether a seed neither decoded nor was refused."""
  return result.outcome not in ('decoded', 'refused')


def main() -> None:
  """Parses the flags, runs all seeds and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--clips', default='', help='folder of videos')
  parser.add_argument('--seeds', default='0:2000', help='range, first:end')
  parser.add_argument('--workers', type=int, default=2)
  args = parser.parse_args()
  seeds = range(*map(int, args.seeds.split(':')))
  with tempfile.TemporaryDirectory() as folder:
    clips = find_clips(args.clips) if args.clips else make_clips(folder)
    results = try_seeds(clips, seeds, args.workers)
  print(report(results))
  sys.exit(any(map(is_bad, results)))


if __name__ == '__main__':
  main()
