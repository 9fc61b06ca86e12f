"""Compares exported models with our own: scores, size, start-up and clips/s.

```
python -m benchmarks.exported --workdir=FOLDER --video=FILE
```

It exports the model to StableHLO and, if `zsar_jax[onnx]` is installed, to ONNX
in float32 and int8. With --dataset=DIR, a prepared dataset, it also measures
the top-1 accuracy of each on the dataset's test videos, among all classes of
these videos.
Start-up is the time from the start of a process to the ranking of one video:
the median of --rounds, in turns. For our own command JAX's compilation cache is
warm, as for users; StableHLO compiles every time. Clips/s are those of the
video encoder alone, in this process: the best of --rounds.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from zsar_jax import bank
from zsar_jax.data.protocols import prepared_dataset
from zsar_jax.inference import (
  action_model,
  candidates,
  embedders,
  exported_model,
  exported_predict,
)

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


def _own_size(workdir: str, scratch: str) -> float:
  """Returns the megabytes of our own export, without its example videos."""
  folder = os.path.join(scratch, 'zsar_jax')
  bank.main(['bank', 'export', f'--workdir={workdir}', f'--output={folder}'])
  shutil.rmtree(os.path.join(folder, 'examples'), ignore_errors=True)
  return _megabytes(folder)


def _export(model, kind: str, folder: str, video: str):
  """Exports; returns the largest score difference, the size, the encoder."""
  names = model.classes
  exported_model.write(model.recognizer, model.bank, names, folder, kind)
  described = json.loads(pathlib.Path(folder, 'export.json').read_text())
  encode = exported_predict.load_encoder(described['video'], folder)
  views = exported_predict.read_clips(video, described['preprocessing'])
  with np.load(os.path.join(folder, described['bank'])) as arrays:
    theirs = (encode(views) @ arrays['prototypes'].T).mean(axis=0)
  ours = {r.name: r.score for r in model.predict(video).ranking}
  worst = np.abs(theirs - [ours[name] for name in described['classes']]).max()
  return float(worst), _megabytes(folder), encode


def _accuracies(model, encoders, dataset_dir: str) -> dict[str, float]:
  """Top-1 of each video encoder on the test videos, by the same prototypes."""
  dataset = prepared_dataset.PreparedDataset(dataset_dir)
  index = dataset.indices['test']
  names = sorted(set(index.labels))
  videos = dataset.select('test', names)
  prototypes = candidates.Candidates(model.recognizer, model.bank)
  prototypes.clear()
  prototypes.add(names, model.recognizer)
  right = dict.fromkeys(encoders, 0)
  for batch in embedders.eval_batches(model.recognizer, videos):
    real = batch['example_mask']
    views, labels = batch['video'][real], batch['label'][real]
    for name, encode in encoders.items():
      flat = encode(views.reshape(-1, *views.shape[2:]))
      z = flat.reshape(*views.shape[:2], -1).mean(axis=1)
      found = np.argmax(z @ prototypes.prototypes.T, axis=1)
      right[name] += int(np.sum(found == labels))
  return {name: n / len(videos) for name, n in right.items()}


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--workdir', default='stick_figures')
  parser.add_argument(
    '--video', default=str(_EXAMPLES / 'waving_the_right_arm_slowly.mp4')
  )
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--dataset', default='', help='a prepared dataset')
  args = parser.parse_args()
  model = action_model.load(args.workdir)
  model.clear_classes().add_classes(model.bank.seen_classes)
  prep = model.recognizer.prep
  clips = np.random.default_rng(0).integers(
    0, 256, (_BATCH, prep.num_frames, prep.size, prep.size, 3), np.uint8
  )
  ours = lambda x: model.recognizer.encode_videos(x[:, None])[0]
  flags = f'--workdir={args.workdir}', f'--video={args.video}'
  names = f'--classes={",".join(model.classes)}'
  commands = {'zsar_jax': ['-m', 'zsar_jax.predict', *flags, names]}
  with tempfile.TemporaryDirectory() as scratch:
    rows = {'zsar_jax': (0.0, _own_size(args.workdir, scratch), ours)}
    for kind in exported_model.FORMATS:
      if kind != 'stablehlo' and not importlib.util.find_spec('jax2onnx'):
        continue
      folder = os.path.join(scratch, kind)
      rows[kind] = _export(model, kind, folder, args.video)
      commands[kind] = [f'{folder}/predict.py', args.video]
    startup = {name: [] for name in commands}
    for i in range(args.rounds + 1):
      for name, command in commands.items():
        seconds = _seconds([sys.executable, *command])
        if i:  # the first warms caches
          startup[name].append(seconds)
  found = {}
  if args.dataset:
    encoders = {name: encode for name, (_, _, encode) in rows.items()}
    found = _accuracies(model, encoders, args.dataset)
  print(f'{os.cpu_count()} cores, {args.rounds} rounds, batches of {_BATCH}')
  print('            largest difference   MB  start-up (s)  clips/s  top-1')
  for name, (worst, size, encode) in rows.items():
    rate = _clips_a_second(encode, clips, args.rounds)
    print(
      f'{name:12}{worst:18.1e}{size:5.1f}'
      f'{statistics.median(startup[name]):14.2f}{rate:9.0f}'
      + (f'{found[name]:7.1%}' if found else '')
    )


if __name__ == '__main__':
  main()
