"""Tests whether a resumed run equals an uninterrupted one, and at what cost.

```
python -m benchmarks.determinism --config=configs/k400.py --clips=16
```

It runs the real training step of a config on clips of random pixels, in two
processes. One takes six steps and writes a checkpoint after three. The other
starts from that checkpoint and takes the last three. Their parameters,
optimiser state and metrics are compared bit by bit. This is done twice: with
XLA's defaults, and with `--xla_gpu_deterministic_ops`, which also turns off
autotuning, and changes nothing on a CPU. The ratio of the step times is the
cost of determinism. It also prints clips/s and MFU of the whole step, with text
encoder, fusion and losses.

It needs neither clu nor TensorFlow.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

_STEPS = 6
_NUM_CLASSES = 400
_VOCABULARY = 30522
# Name of the mode -> flags of XLA.
_MODES = {
  'default': '',
  'deterministic': '--xla_gpu_deterministic_ops=true',
}


def digest(tree) -> str:
  """Returns the SHA-256 over all arrays of a tree."""
  import jax
  import numpy as np

  found = hashlib.sha256()
  for leaf in jax.tree.leaves(tree):
    found.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
  return found.hexdigest()


def one_process(args: argparse.Namespace) -> dict:
  """Takes the steps of one process; see the module docstring."""
  import jax

  from experiments import grid
  from zsar_jax.inference import model_builder
  from zsar_jax.parallel import hardware, sharding
  from zsar_jax.training import (
    checkpointing,
    make_step,
    step_cost,
    train_state,
  )

  config = grid.load_config(args.config)
  config.train.batch_size = args.clips
  config.model.video.scan_blocks = True
  devices = jax.devices()[: args.devices]
  mesh = sharding.make_mesh({'preset': 'dp'}, devices)
  pieces = [f'piece{i}' for i in range(_VOCABULARY)]
  prep = model_builder.make_preprocessing(config, pieces)
  model = model_builder.build_model(config, prep, _VOCABULARY, _NUM_CLASSES)
  optimizer, step = make_step.make_step(config, model, prep, mesh)
  state = train_state.init_state(
    model,
    optimizer,
    model_builder.input_shapes(prep),
    jax.random.key(0),
    mesh,
    config.optim.ema_decay > 0,
  )
  batch_of, text = _inputs(prep, args.clips, mesh)
  metrics = {}
  with checkpointing.Checkpoints(args.workdir, keep=4) as checkpoints:
    first = 0
    if args.resume:
      state = checkpoints.restore(state)
      first = int(state.step)
    for number in range(first, _STEPS):
      state, metrics = step(state, batch_of(number), text)
      if not args.resume and number + 1 == _STEPS // 2:
        checkpoints.save(state, {})
    checkpoints.wait()
  found = {
    'first': first,
    'state': digest(state),
    'metrics': {k: float(v).hex() for k, v in sorted(metrics.items())},
  }
  batch, times = batch_of(0), []
  for _ in range(args.timed):
    began = time.perf_counter()
    state, metrics = step(state, batch, text)
    float(metrics['loss'])
    times.append(time.perf_counter() - began)
  found['seconds'] = statistics.median(times)
  found['device'] = name = devices[0].device_kind
  found['flops'] = step_cost.step_flops(config, prep, _VOCABULARY, _NUM_CLASSES)
  known = hardware.find(name)
  found['peak'] = known.peak_flops * len(devices) if known else None
  return found


def _inputs(prep, clips: int, mesh):
  """Returns a function number -> batch, and the texts of all classes."""
  import jax
  import numpy as np

  from zsar_jax.parallel import sharding
  from zsar_jax.training import step_cost

  batch, text = step_cost.step_inputs(prep, clips, _NUM_CLASSES)

  def batch_of(number: int):
    rng = np.random.default_rng(number)
    values = {
      'video': rng.integers(0, 256, batch['video'].shape, np.uint8),
      'label': rng.integers(0, _NUM_CLASSES, clips, np.int32),
      'index': number * clips + np.arange(clips, dtype=np.int32),
    }
    return sharding.put_batch(values, mesh)

  ids = text['ids'].shape
  words = np.random.default_rng(0).integers(5, _VOCABULARY, ids, np.int32)
  return batch_of, jax.device_put(
    {'ids': words, 'mask': np.ones(ids, bool)}, sharding.replicated(mesh)
  )


def run_side(
  args: argparse.Namespace, workdir: str, *, resume: bool, flags: str
) -> dict:
  """Runs `one_process` in a new process."""
  environment = dict(os.environ)
  environment['XLA_FLAGS'] = ' '.join(
    filter(None, (environment.get('XLA_FLAGS'), flags))
  )
  # Without a cache, each process compiles, and may choose another program.
  environment['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
  command = [sys.executable, '-m', 'benchmarks.determinism', '--one']
  command += [f'--config={args.config}', f'--clips={args.clips}']
  command += [f'--timed={args.timed}', f'--workdir={workdir}']
  command += [f'--devices={args.devices}']
  done = subprocess.run(
    command + ['--resume'] * resume,
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def parse(argv: list[str] | None = None) -> argparse.Namespace:
  """Parses the command line."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--config', default='configs/k400.py')
  parser.add_argument('--clips', type=int, default=16, help='clips per batch')
  parser.add_argument('--timed', type=int, default=20, help='steps to time')
  parser.add_argument(
    '--devices', type=int, default=1, help='devices of the mesh'
  )
  parser.add_argument(
    '--modes', nargs='+', choices=_MODES, default=list(_MODES)
  )
  parser.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
  parser.add_argument('--resume', action='store_true', help=argparse.SUPPRESS)
  parser.add_argument('--workdir', help=argparse.SUPPRESS)
  return parser.parse_args(argv)


def main() -> None:
  """Prints a line for each set of flags."""
  args = parse()
  if args.one:
    print(json.dumps(one_process(args)))
    return
  by_default = None
  for mode in args.modes:
    flags = _MODES[mode]
    with tempfile.TemporaryDirectory() as workdir:
      whole = run_side(args, workdir, resume=False, flags=flags)
      again = run_side(args, workdir, resume=True, flags=flags)
    assert again['first'] == _STEPS // 2, again
    equal = all(whole[k] == again[k] for k in ('state', 'metrics'))
    line = f'{mode:13} '
    line += f'{"equal" if equal else "NOT equal"} bit by bit'
    line += f'  {1e3 * whole["seconds"]:8.1f} ms'
    line += f'  {args.clips / whole["seconds"]:7.1f} clips/s'
    if whole['peak']:
      reached = whole['flops'] / whole['seconds'] / whole['peak']
      line += f'  MFU {reached:.1%}'
    if by_default:
      line += f'  {whole["seconds"] / by_default:.2f} times as long'
    else:
      print(f'{args.config}, {args.clips} clips, {whole["device"]}')
    by_default = by_default or whole['seconds']
    print(line, flush=True)


if __name__ == '__main__':
  main()
