"""Exported models beside our own: scores, size, start-up and clips a second.

```
python -m benchmarks.exported --workdir=FOLDER --video=FILE
```

exports the model to StableHLO and, where `zsar_jax[onnx]` is installed, ONNX.
Start-up is from the start of a process to the ranking of one video, the median
of --rounds, in turns. JAX's cache of compiled programs is warm for our own
command, as it is for users, and StableHLO compiles anew. Clips a second are of
the video encoder alone, in this process, the best of --rounds.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from zsar_jax.inference import action_model, exported_model, exported_predict

_EXAMPLES = pathlib.Path(__file__).parents[1] / (
  'zsar_jax/shipped_models/stick_figures/examples'
)
_BATCH = 8


def _seconds(argv) -> float:
  start = time.perf_counter()
  subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
  return time.perf_counter() - start


def _clips_a_second(encode, clips: np.ndarray, rounds: int) -> float:
  encode(clips)  # compiles

  def once():
    start = time.perf_counter()
    encode(clips)
    return time.perf_counter() - start

  return len(clips) / min(once() for _ in range(rounds))


def _megabytes(folder: str) -> float:
  files = pathlib.Path(folder).rglob('*')
  return sum(f.stat().st_size for f in files if f.is_file()) / 1e6


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--workdir', default='stick_figures')
  parser.add_argument(
    '--video', default=str(_EXAMPLES / 'waving_the_right_arm_slowly.mp4')
  )
  parser.add_argument('--rounds', type=int, default=5)
  args = parser.parse_args()
  model = action_model.load(args.workdir)
  ours = model.recognizer
  names = model.bank.seen_classes
  score = {
    r.name: r.score
    for r in model.add_classes(names).predict(args.video).ranking
  }
  prep = ours.prep
  clips = np.random.default_rng(0).integers(
    0, 256, (_BATCH, prep.num_frames, prep.size, prep.size, 3), np.uint8
  )
  kinds = ['stablehlo']
  if importlib.util.find_spec('jax2onnx'):
    kinds.append('onnx')
  with tempfile.TemporaryDirectory() as scratch:
    rows = {}
    commands = {
      'zsar_jax': [
        *(sys.executable, '-m', 'zsar_jax.predict'),
        *(f'--workdir={args.workdir}', f'--video={args.video}'),
        f'--classes={",".join(names)}',
      ]
    }
    own = os.path.join(scratch, 'zsar_jax')
    subprocess.run(
      [
        *(sys.executable, '-m', 'zsar_jax.bank', 'export'),
        *(f'--workdir={args.workdir}', f'--output={own}'),
      ],
      check=True,
      stdout=subprocess.DEVNULL,
    )
    for unwanted in pathlib.Path(own).glob('examples/*'):
      unwanted.unlink()  # no part of the model
    encode = lambda x: ours.encode_videos(x[:, None])
    rows['zsar_jax'] = [0.0, _megabytes(own), encode]
    for kind in kinds:
      folder = os.path.join(scratch, kind)
      exported_model.write(ours, model.bank, names, folder, kind)
      commands[kind] = [sys.executable, f'{folder}/predict.py', args.video]
      described = json.loads(pathlib.Path(folder, 'export.json').read_text())
      encode = exported_predict.load_encoder(described['video'], folder)
      views = exported_predict.read_clips(
        args.video, described['preprocessing']
      )
      with np.load(os.path.join(folder, described['bank'])) as bank:
        theirs = (encode(views) @ bank['prototypes'].T).mean(axis=0)
      expected = [score[name] for name in described['classes']]
      worst = float(np.abs(theirs - expected).max())
      rows[kind] = [worst, _megabytes(folder), encode]
    for command in commands.values():
      _seconds(command)  # warms caches
    startup = {name: [] for name in commands}
    for _ in range(args.rounds):
      for name, command in commands.items():
        startup[name].append(_seconds(command))
  print(f'{os.cpu_count()} cores, {args.rounds} rounds, batches of {_BATCH}')
  print('            largest difference   MB  start-up (s)  clips/s')
  for name, (worst, size, encode) in rows.items():
    rate = _clips_a_second(encode, clips, args.rounds)
    print(
      f'{name:12}{worst:18.1e}{size:5.1f}'
      f'{statistics.median(startup[name]):14.2f}{rate:9.0f}'
    )


if __name__ == '__main__':
  main()
