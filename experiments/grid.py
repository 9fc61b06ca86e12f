"""Trains the runs of an experiment, each once, and keeps their arrays.

A *cell* is a config with some keys changed. It is trained in its own folder and
writes `evaluation.safetensors` there: all arrays that any method, setting or
statistic needs. So everything else is computed from these files in seconds. A
cell with such a file is never trained again. A grid can be stopped at any
moment; the same command resumes it.

Several worker processes share the cells, each with its own cores, because such
small runs gain nothing from a second core. Each worker decodes the videos once.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import fcntl
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

import jax
import ml_collections
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from zsar_jax import config_utils
from zsar_jax.data import clip_reader
from zsar_jax.evaluation import protocol_evaluation, task
from zsar_jax.inference import embedders, evaluate_run
from zsar_jax.system import interruption
from zsar_jax.training import train
from zsar_jax.zeroshot import prototypes

EVALUATION_FILE = 'evaluation.safetensors'
PLAN_FILE = 'plan.json'
_LOCK_FILE = '.lock'
# Paths of config files are relative to this folder.
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def load_config(name: str) -> ml_collections.ConfigDict:
  """Returns the config of a file, such as `configs/x.py:argument`."""
  path, _, argument = name.partition(':')
  spec = importlib.util.spec_from_file_location(
    'grid_config', os.path.join(_ROOT, path)
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(argument or None)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One training run.

  Attributes:
    name: name of its folder.
    config: path of a config file, with its argument.
    changes: dotted config key -> value.
  """

  name: str
  config: str
  changes: Mapping[str, Any]

  def make_config(self) -> ml_collections.ConfigDict:
    """Returns the whole config of the run."""
    config = load_config(self.config)
    values = {
      key: tuple(value) if isinstance(value, list) else value
      for key, value in self.changes.items()
    }
    config.update_from_flattened_dict(values)
    # One checkpoint at the end: starting a cell again costs less than saving.
    config.train.checkpoint_every = config.train.num_steps
    config.train.keep_checkpoints = 1
    config.train.tensorboard = False
    config_utils.check_config(config)
    return config


@dataclasses.dataclass(frozen=True)
class Trained:
  """The content of a finished cell.

  Attributes:
    evaluation: its arrays, without table.
    facts: `config`, `seen_val_top1`, `seconds`, `protocol`, `hash` and more.
  """

  evaluation: protocol_evaluation.Evaluation
  facts: dict[str, Any]


def _class_arrays(prefix: str, classes: task.Classes, arrays, header):
  arrays[f'{prefix}.text'] = classes.text
  if classes.initial_text is not None:
    arrays[f'{prefix}.initial_text'] = classes.initial_text
  header[prefix] = {
    'names': classes.names,
    'sources': classes.sources,
    'attributes': [dict(a) for a in classes.attributes],
  }


def _classes(prefix: str, arrays, header) -> task.Classes:
  known = header[prefix]
  return task.Classes(
    tuple(known['names']),
    arrays[f'{prefix}.text'],
    tuple(known['sources']),
    tuple(known['attributes']),
    arrays.get(f'{prefix}.initial_text'),
  )


_VIDEO_ARRAYS = ('embeddings', 'match', 'labels', 'metadata', 'pooled')


def _video_arrays(prefix: str, videos: task.TestVideos, arrays, header):
  for name in _VIDEO_ARRAYS:
    value = getattr(videos, name)
    if value is not None:
      arrays[f'{prefix}.{name}'] = value
  for change, value in videos.changed_embeddings.items():
    arrays[f'{prefix}.changed.{change}'] = value
  header[prefix] = {
    'groups': list(videos.groups),
    'unreadable_labels': list(map(int, videos.unreadable_labels)),
  }


def _videos(prefix: str, arrays, header) -> task.TestVideos:
  known, changed = header[prefix], f'{prefix}.changed.'
  return task.TestVideos(
    **{name: arrays.get(f'{prefix}.{name}') for name in _VIDEO_ARRAYS},
    groups=tuple(known['groups']),
    unreadable_labels=tuple(known['unreadable_labels']),
    changed_embeddings={
      name.removeprefix(changed): value
      for name, value in arrays.items()
      if name.startswith(changed)
    },
  )


def write_evaluation(
  evaluation: protocol_evaluation.Evaluation, facts: dict[str, Any], path: str
) -> None:
  """Writes the arrays of one split.

  Args:
    evaluation: from `protocol_evaluation.embed_protocols`, of one split with a
      test.
    facts: JSON-able values.
    path: path of the file, which is written whole or not at all.
  """
  seen, arrays, header = evaluation.seen, {}, {'facts': facts}
  arrays['prototypes'] = seen.prototypes
  arrays['gram'], arrays['sums'] = seen.sums.gram, seen.sums.sums
  arrays['counts'] = seen.sums.counts
  for name in ('centres', 'metadata_prototypes'):
    if getattr(seen, name) is not None:
      arrays[name] = getattr(seen, name)
  header['scale'] = seen.scale
  header['video_ids'] = list(evaluation.video_ids)
  _class_arrays('seen', seen.classes, arrays, header)
  _class_arrays('unseen', evaluation.unseen, arrays, header)
  _video_arrays('videos', evaluation.videos, arrays, header)
  if evaluation.seen_videos is not None:
    _video_arrays('seen_videos', evaluation.seen_videos, arrays, header)
  safetensors_numpy.save_file(
    {name: np.ascontiguousarray(x) for name, x in arrays.items()},
    f'{path}.tmp',
    metadata={'header': json.dumps(header)},
  )
  os.replace(f'{path}.tmp', path)


def read_evaluation(path: str) -> Trained:
  """Reads a file of `write_evaluation`.

  Args:
    path: path of the file.

  Raises:
    OSError: no such file.
    SafetensorError: the file is damaged.
  """
  with safetensors.safe_open(path, framework='numpy') as f:
    header = json.loads(f.metadata()['header'])
    arrays = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
  shape = arrays['sums'].shape
  sums = prototypes.PrototypeSums(*shape, with_gram=True)
  sums.sums, sums.gram = arrays['sums'], arrays['gram']
  sums.counts = arrays['counts']
  seen = task.Seen(
    _classes('seen', arrays, header),
    arrays['prototypes'],
    arrays.get('centres'),
    header['scale'],
    sums,
    arrays.get('metadata_prototypes'),
  )
  kept = None
  if 'seen_videos' in header:
    kept = _videos('seen_videos', arrays, header)
  evaluation = protocol_evaluation.Evaluation(
    seen,
    unseen=_classes('unseen', arrays, header),
    videos=_videos('videos', arrays, header),
    video_ids=tuple(header['video_ids']),
    seen_videos=kept,
  )
  return Trained(evaluation, header['facts'])


def is_finished(out: str, name: str) -> bool:
  """Returns whether a cell's file exists."""
  return os.path.exists(os.path.join(out, name, EVALUATION_FILE))


def read_cell(out: str, name: str) -> Trained:
  """Returns a finished cell of a grid.

  Args:
    out: folder of the grid.
    name: name of the cell.

  Raises:
    OSError: the cell is not finished.
  """
  return read_evaluation(os.path.join(out, name, EVALUATION_FILE))


@contextlib.contextmanager
def _claim(folder: str):
  """Context manager that locks a cell; yields whether it got the lock."""
  os.makedirs(folder, exist_ok=True)
  with open(os.path.join(folder, _LOCK_FILE), 'w') as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      yield False
      return
    yield True


def _train(cell: Cell, folder: str, caches: dict[int, clip_reader.VideoCache]):
  """Trains a cell and writes its file."""
  config, began = cell.make_config(), time.monotonic()
  cache = None
  if config.data.cache_mb:
    cache = caches.setdefault(
      config.preprocessing.short_side, evaluate_run.video_cache(config)
    )
  facts = {}

  def measure(recognizer, protocols, cache):
    embed = embedders.make_embedder(recognizer, cache)
    evaluation = protocol_evaluation.embed_protocols(protocols, embed)
    row = evaluate_run.validate(recognizer, protocols[0], cache, embed)
    facts.update(
      config=config_utils.to_dict(recognizer.config),
      protocol=protocols[0].name,
      hash=protocols[0].hash,
      step=recognizer.step,
      seen_val_top1=row.value,
      num_validation=row.n_videos,
    )
    return {'evaluation': evaluation}

  log = io.StringIO()
  with contextlib.redirect_stdout(log):
    found = train.train(config, os.path.join(folder, 'run'), cache, measure)
  facts['seconds'] = time.monotonic() - began
  write_evaluation(
    found['evaluation'], facts, os.path.join(folder, EVALUATION_FILE)
  )
  with open(os.path.join(folder, 'log.txt'), 'w') as f:
    f.write(log.getvalue())
  shutil.rmtree(os.path.join(folder, 'run'))


def work(
  cells: Sequence[Cell], out: str, say: Callable[[str], Any] = print
) -> list[str]:
  """Trains the cells that are neither finished nor locked.

  Args:
    cells: cells, most important first.
    out: folder of the grid.
    say: called with a line for every cell.

  Returns:
    Names of the cells that failed.
  """
  caches: dict[int, clip_reader.VideoCache] = {}
  failed = []
  for cell in cells:
    folder = os.path.join(out, cell.name)
    if is_finished(out, cell.name):
      continue
    with _claim(folder) as mine:
      if not mine or is_finished(out, cell.name):
        continue
      began = time.monotonic()
      try:
        _train(cell, folder, caches)
      except interruption.Interrupted:
        raise
      except Exception as e:  # a failed cell must not stop the others
        failed.append(cell.name)
        say(f'{cell.name} failed: {type(e).__name__}: {e}')
        continue
      say(f'{cell.name}: {time.monotonic() - began:.0f} s')
  return failed


def run(
  cells: Sequence[Cell], out: str, workers: int = 0, num_threads: int = 1
) -> list[str]:
  """Trains all cells of a grid that are not finished.

  Args:
    cells: cells, most important first.
    out: folder of the grid.
    workers: number of processes; 0 takes one per `num_threads` cores, or a
      single one if there is an accelerator.
    num_threads: cores per process.

  Returns:
    Names of the cells that are not finished.
  """
  names = [cell.name for cell in cells]
  if len(set(names)) < len(names):
    raise ValueError('two cells of a grid have the same name')
  left = [cell for cell in cells if not is_finished(out, cell.name)]
  if not left:
    return []
  for cell in left:
    cell.make_config()  # finds a misspelt key now, not in an hour
  os.makedirs(out, exist_ok=True)
  plan = os.path.join(out, PLAN_FILE)
  with open(plan, 'w') as f:
    json.dump([dataclasses.asdict(cell) for cell in left], f, indent=1)
  cores = sorted(os.sched_getaffinity(0))
  if jax.default_backend() != 'cpu':
    workers, num_threads = 1, len(cores)
  workers = min(workers or max(len(cores) // num_threads, 1), len(left))
  print(f'{len(left)} of {len(cells)} cells to train, {workers} workers')
  processes = [
    subprocess.Popen(
      [
        *(sys.executable, '-m', 'experiments.grid', out),
        ','.join(
          str(cores[(i * num_threads + k) % len(cores)])
          for k in range(num_threads)
        ),
      ]
    )
    for i in range(workers)
  ]
  try:
    # By default SIGTERM would end this process alone, and leave the workers.
    with interruption.on_termination():
      for process in processes:
        process.wait()
  finally:
    for process in processes:
      process.kill()
      process.wait()
  return [name for name in names if not is_finished(out, name)]


def main(argv: list[str]) -> None:
  """Runs a worker: `python -m experiments.grid OUT CORES`."""
  out, cores = argv[1:]
  os.sched_setaffinity(0, {int(core) for core in cores.split(',')})
  jax.config.update('jax_compilation_cache_dir', os.path.join(out, '.compiled'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  from absl import flags

  flags.FLAGS.mark_as_parsed()  # grain needs it
  with open(os.path.join(out, PLAN_FILE)) as f:
    cells = [Cell(**values) for values in json.load(f)]
  try:
    work(cells, out, lambda text: print(text, flush=True))
  except interruption.Interrupted as e:
    sys.exit(str(e))


if __name__ == '__main__':
  main(sys.argv)
