"""Times `predict` on one short video, as a whole process.

```
python -m benchmarks.startup --before=DIR
```

It runs `predict` on an example of the shipped model, and the shortest program
that computes with JAX, `jax.jit(lambda x: x + 1)(1.)`, in turns. The result is
the ratio of the two within a round, which other work on the machine hardly
changes. DIR is another checkout to run in the same rounds. A first call finds
no compiled programs; later calls find those of an earlier one.

Predicted from a profile of the earlier version (commit 926db35: 1.5 s of
imports, 34 programs, a trace of the whole model for its shapes): later calls
take 2.0 times as long as the shortest program; the goal was 2.5. Measured on
2026-11-26 on two cores of an AMD EPYC with much other work, 9 rounds, medians
(least to most):

             seconds  CPU seconds  ratio (least to most)  of CPU seconds
before          8.32         5.26   8.62 (5.35 to 11.04)              8.06
first call      4.13         2.71   4.18 (2.83 to 5.33)               4.28
jax             0.99         0.62   1.00                              1.00
later call      2.14         1.29   2.05 (1.46 to 2.51)               2.12

The parts of a later call, in least seconds of 9 rounds: 0.35 to import JAX;
0.20 to import the rest (a third of it Flax); 0.58 after that, of which 0.29 to
trace two programs (about a third of it Flax's check of every parameter's
shape), 0.08 to lower and 0.06 to read them, and 0.05 to load the model. The
child process that decodes the video starts while JAX is imported; waiting for
it takes 0.02.
"""

import argparse
from collections.abc import Mapping, Sequence
import contextlib
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

_ROOT = pathlib.Path(__file__).parents[1]
_JAX = 'import jax; jax.jit(lambda x: x + 1)(1.)'
_EXAMPLE = (
  'zsar_jax/shipped_models/stick_figures/examples/'
  'waving_the_right_arm_slowly.mp4'
)
_FLAGS = (
  '--workdir=stick_figures',
  f'--video={_EXAMPLE}',
  '--classes=waving the right arm slowly,waving the right arm quickly,'
  'walking to the right slowly',
  '--explain',
)
# Event of JAX -> name of the stage.
_EVENTS = {
  '/jax/core/compile/jaxpr_trace_duration': 'trace',
  '/jax/core/compile/jaxpr_to_mlir_module_duration': 'lower',
  '/jax/core/compile/backend_compile_duration': 'read or compile',
}


def _environment(folder: str, caches: str) -> dict[str, str]:
  """Returns the environment, with a cache of its own."""
  variables = {
    key: value
    for key, value in os.environ.items()
    if 'COMPILATION_CACHE' not in key
  }
  return {**variables, 'PYTHONPATH': folder, 'XDG_CACHE_HOME': caches}


def _run(argv: Sequence[str], folder: str, caches: str) -> tuple[float, float]:
  """Runs a program; returns seconds of wall and CPU time, with children."""
  start = time.perf_counter()
  process = subprocess.Popen(
    [sys.executable, *argv],
    cwd=folder,
    env=_environment(folder, caches),
    stdout=subprocess.DEVNULL,
  )
  _, status, usage = os.wait4(process.pid, 0)
  seconds = time.perf_counter() - start
  if status:
    raise SystemExit(f'{argv} failed')
  return seconds, usage.ru_utime + usage.ru_stime


def _measure(before: str | None, rounds: int) -> dict[str, list]:
  """Returns the seconds of every program in every round."""
  predict = ('-m', 'zsar_jax.predict', *_FLAGS)
  measured = {}
  with tempfile.TemporaryDirectory() as kept:
    _run(predict, str(_ROOT), kept)
    for i in range(rounds):
      with tempfile.TemporaryDirectory() as empty:
        programs = {
          'jax': (('-c', _JAX), str(_ROOT), empty),
          'first call': (predict, str(_ROOT), empty),
          'later call': (predict, str(_ROOT), kept),
        }
        if before:
          programs['before'] = (predict, os.path.abspath(before), empty)
        names = sorted(programs)
        # Rotate, so that no program always follows the same one.
        for name in names[i % len(names) :] + names[: i % len(names)]:
          measured.setdefault(name, []).append(_run(*programs[name]))
  return measured


def _report(measured: Mapping[str, Sequence[tuple[float, float]]]) -> None:
  print(f'{"":12} seconds  CPU seconds  ratio (least to most)  of CPU seconds')
  for name, values in measured.items():
    seconds = [
      statistics.median(column) for column in zip(*values, strict=True)
    ]
    ratios = [
      sorted(x[i] / y[i] for x, y in zip(values, measured['jax'], strict=True))
      for i in (0, 1)
    ]
    wall, cpu = map(statistics.median, ratios)
    print(
      f'{name:12} {seconds[0]:7.2f}  {seconds[1]:11.2f}  {wall:5.2f} '
      f'({ratios[0][0]:.2f} to {ratios[0][-1]:.2f})    {cpu:14.2f}'
    )


def _print_stages() -> None:
  """Predicts in this process; prints seconds per stage as JSON."""
  seconds = {}

  def timed(stage, function):
    def call(*args, **kwargs):
      start = time.perf_counter()
      try:
        return function(*args, **kwargs)
      finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start

    return call

  def load_jax():
    import jax

    return jax

  def load_rest():
    from zsar_jax import cli, predict
    from zsar_jax.data import user_videos
    from zsar_jax.inference import action_model

    return action_model, cli, predict, user_videos

  gc.disable()  # as in the command while it loads
  jax = timed('import jax', load_jax)()
  jax.monitoring.register_event_duration_secs_listener(
    lambda name, duration, **_: (
      seconds.update(
        {_EVENTS[name]: seconds.get(_EVENTS[name], 0.0) + duration}
      )
      if name in _EVENTS
      else None
    )
  )
  action_model, cli, predict, user_videos = timed(
    'import the rest', load_rest
  )()
  action_model.load = timed('load the model', action_model.load)
  user_videos.read_views = timed('wait for the video', user_videos.read_views)
  sys.argv = ['predict', *_FLAGS]
  out = sys.stdout
  with open(os.devnull, 'w') as sys.stdout, contextlib.suppress(SystemExit):
    cli.run(timed('all after imports', predict.main))
  print(json.dumps(seconds), file=out)


def _report_stages(rounds: int) -> None:
  found = []
  with tempfile.TemporaryDirectory() as kept:
    for _ in range(rounds + 1):
      done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.startup', '--stages'],
        cwd=_ROOT,
        env=_environment(str(_ROOT), kept),
        stdout=subprocess.PIPE,
        check=True,
      )
      found.append(json.loads(done.stdout))
  print('\na later call, seconds: the least of all rounds')
  for stage in found[0]:
    print(f'{stage:20}{min(x[stage] for x in found[1:]):6.2f}')


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--before', help='folder of another checkout')
  parser.add_argument('--stages', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.stages:
    _print_stages()
    return
  print(f'{os.cpu_count()} cores, {args.rounds} rounds')
  _report(_measure(args.before, args.rounds))
  _report_stages(args.rounds)


if __name__ == '__main__':
  main()
