"""Checkpoints that are whole or absent, and self-contained.

A checkpoint holds the items `params`, `ema` (where there is an average),
`training` (step and optimiser state) and `meta` (JSON: config, preprocessing,
seen classes, vocabulary), so that inference restores the parameters alone and
needs nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import fcntl
import json
import os
from typing import Any

from absl import logging
import jax
import orbax.checkpoint as ocp

from zsar_jax import checkpoint_files, json_files, sharding, train_step

_CONFIG_FILE = 'config.json'
_FOLDER = 'checkpoints'
_LOCK_FILE = '.lock'
# Differences that an error lists.
_SHOWN = 12


def _quieten_orbax() -> None:
  """Drops orbax's INFO lines: 68 of them per save would bury ours."""

  def is_wanted(record) -> bool:
    return record.levelno > 20 or '/orbax/' not in record.pathname

  logging.get_absl_handler().addFilter(is_wanted)


_quieten_orbax()


def check_workdir(
  workdir: str,
  config: Mapping[str, Any],
  differences: Callable[[Any, Any], list[str]],
) -> None:
  """Checks that a workdir is new or holds a run of the same config.

  Args:
    workdir: may be missing.
    config: the run's config as plain values.
    differences: lists how two plain configs differ.

  Raises:
    ValueError: it holds a run of another config, and the message says which
      keys differ; or its config is damaged.
  """
  path = os.path.join(workdir, _CONFIG_FILE)
  if not os.path.exists(path):
    return
  changes = differences(json_files.read(path), config)
  if changes:
    shown = '\n  '.join(changes)
    raise ValueError(
      f'{workdir} holds a run of another config; choose another --workdir '
      f'or remove it. What differs (there -> here):\n  {shown}'
    )


@contextlib.contextmanager
def lock_workdir(workdir: str) -> Iterator[None]:
  """Keeps other runs out of a workdir for as long as this one works.

  The lock goes with the process, however it ends.

  Args:
    workdir: made if missing.

  Raises:
    ValueError: another process holds it.
    OSError: the workdir cannot be written.
  """
  os.makedirs(workdir, exist_ok=True)
  with open(os.path.join(workdir, _LOCK_FILE), 'a+') as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      f.seek(0)
      raise ValueError(
        f'{workdir} is in use by process {f.read().strip() or "?"}: two runs '
        'on one workdir would spoil each other'
      ) from e
    f.truncate(0)
    f.write(str(os.getpid()))
    f.flush()
    yield


def claim_workdir(workdir: str, config: Mapping[str, Any]) -> None:
  """Makes a workdir, and writes the config that it belongs to."""
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, _CONFIG_FILE)
  with open(f'{path}.tmp', 'w') as f:
    json.dump(config, f, indent=2)
  os.replace(f'{path}.tmp', path)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Path -> shape of arrays, abstract arrays or orbax's metadata of them."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(
      tree, is_leaf=lambda x: hasattr(x, 'shape')
    )
  }


def shape_differences(stored: Any, wanted: Any) -> list[str]:
  """How the parameters that are stored differ from those that are wanted.

  Args:
    stored: tree of arrays, or of what has their shape.
    wanted: likewise.

  Returns:
    'path: shape there, shape here' of each that differs; none where equal.
  """
  there, here = _shapes(stored), _shapes(wanted)
  return [
    f'{name}: {there.get(name, "none")} there, {here.get(name, "none")} here'
    for name in sorted(there.keys() | here.keys())
    if there.get(name) != here.get(name)
  ]


def _training_item(state: train_step.TrainState) -> dict[str, Any]:
  """What is needed beside the parameters to go on."""
  item = {'step': state.step, 'opt_state': state.opt_state}
  if state.skipped is not None:
    item['skipped'] = state.skipped
  return item


class Checkpoints:
  """The checkpoints of a workdir."""

  def __init__(self, workdir: str, keep: int = 2):
    self._manager = ocp.CheckpointManager(
      os.path.abspath(os.path.join(workdir, _FOLDER)),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep),
      item_names=('params', 'ema', 'training', 'meta'),
    )

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.close()

  def latest_step(self) -> int | None:
    """Step of the newest whole checkpoint, or None."""
    return self._manager.latest_step()

  def newest_committed(self) -> int | None:
    """As `latest_step`, once what `save` started is written."""
    self.wait()
    return self.latest_step()

  def save(self, state: train_step.TrainState, meta: Mapping[str, Any]) -> None:
    """Starts saving; returns before the checkpoint is committed."""
    items = {
      'params': ocp.args.StandardSave(state.params),
      'training': ocp.args.StandardSave(_training_item(state)),
      'meta': ocp.args.JsonSave(dict(meta)),
    }
    if state.ema:
      items['ema'] = ocp.args.StandardSave(state.ema)
    self._manager.save(int(state.step), args=ocp.args.Composite(**items))

  def wait(self) -> None:
    """Returns when every started save is committed."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and lets go of the folder."""
    self._manager.wait_until_finished()
    self._manager.close()

  def restore(
    self, like: train_step.TrainState, step: int | None = None
  ) -> train_step.TrainState:
    """Restores a state onto the shardings of another.

    Args:
      like: a state of the wanted shapes and shardings.
      step: of the checkpoint; None means the newest.

    Returns:
      The state.

    Raises:
      ValueError: the checkpoint is of another architecture; what differs is
        listed.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    self._check_shapes(abstract.params, step)
    items = {
      'params': ocp.args.StandardRestore(abstract.params),
      'training': ocp.args.StandardRestore(_training_item(abstract)),
    }
    if like.ema:
      items['ema'] = ocp.args.StandardRestore(abstract.ema)
    restored = self._manager.restore(
      self.latest_step() if step is None else step,
      args=ocp.args.Composite(**items),
    )
    training = restored['training']
    return train_step.TrainState(
      training['step'],
      restored['params'],
      training['opt_state'],
      restored['ema'] if like.ema else {},
      training.get('skipped'),
    )

  def _check_shapes(self, wanted: Any, step: int | None, item='params') -> None:
    """Compares a checkpoint's parameters with those that are wanted."""
    step = self.latest_step() if step is None else step
    metadata = ocp.StandardCheckpointHandler().metadata(
      self._manager.directory / str(step) / item
    )
    found = shape_differences(metadata.tree, wanted)
    if found:
      more = len(found) - _SHOWN
      listed = '\n  '.join(
        found[:_SHOWN] + ([f'and {more} more'] if more > 0 else [])
      )
      raise ValueError(
        f'the checkpoint of step {step} in {self._manager.directory} is of '
        f'another architecture:\n  {listed}'
      )

  def _check_whole(self, step: int, item: str) -> None:
    """Raises ValueError if an item cannot be read; names what can be."""
    folder = str(self._manager.directory)
    fault = checkpoint_files.find_fault(folder, step, (item,))
    if not fault:
      return
    others = (
      s
      for s in reversed(checkpoint_files.list_steps(folder))
      if s != step and not checkpoint_files.find_fault(folder, s)
    )
    other = next(others, None)
    advice = 'no other is whole: train again'
    if other is not None:
      advice = (
        f'the one of step {other} is whole: evaluate takes it with '
        f'--step={other}; for predict make its bank first, with `python -m '
        f'zsar_jax.bank build --step={other} --output=FILE` and its other '
        f'flags, then give predict --step={other} --bank=FILE'
      )
    raise ValueError(
      f'the checkpoint of step {step} in {folder} is damaged ({fault}); '
      f'{advice}'
    )

  def restore_meta(self, step: int | None = None) -> dict[str, Any]:
    """The JSON item of a checkpoint.

    Args:
      step: of the checkpoint; None means the newest.

    Raises:
      ValueError: it is damaged; the message says which other is whole.
    """
    step = self.latest_step() if step is None else step
    self._check_whole(step, 'meta')
    return self._manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    )['meta']

  def restore_params(
    self,
    shapes: Any,
    mesh: jax.sharding.Mesh,
    ema: bool = False,
    step: int | None = None,
  ) -> Any:
    """The parameters of a checkpoint, laid out for a mesh.

    Args:
      shapes: abstract parameters.
      mesh: from `sharding.make_mesh`.
      ema: their moving average instead.
      step: of the checkpoint; None means the newest.

    Returns:
      The parameters.

    Raises:
      ValueError: they are damaged, or of another architecture.
    """
    step = self.latest_step() if step is None else step
    abstract = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes,
      sharding.tree_shardings(shapes, mesh),
    )
    item = 'ema' if ema else 'params'
    self._check_whole(step, item)
    self._check_shapes(abstract, step, item)
    return self._manager.restore(
      step,
      args=ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract)}),
    )[item]


def set_aside_damaged(
  workdir: str, with_ema: bool, say: Callable[[str], None]
) -> None:
  """Makes sure that the newest checkpoint of a run can be restored.

  Only one process may do this, and none may have opened the checkpoints.

  Args:
    workdir: of the run.
    with_ema: whether a checkpoint has an average of the parameters.
    say: is told which checkpoints are damaged, and where they are moved.

  Raises:
    ValueError: there are checkpoints, and all are damaged; none is moved.
  """
  items = ('params', 'training', 'meta') + (('ema',) if with_ema else ())
  folder = os.path.abspath(os.path.join(workdir, _FOLDER))
  checkpoint_files.set_aside_damaged(folder, items, say)


def newest_fault(workdir: str) -> str:
  """What of a run's newest checkpoint cannot be read; '' if all of it can.

  Args:
    workdir: of a run.

  Returns:
    Step, file and reason, or ''; '' where there is no checkpoint.
  """
  folder = os.path.abspath(os.path.join(workdir, _FOLDER))
  steps = checkpoint_files.list_steps(folder)
  fault = checkpoint_files.find_fault(folder, steps[-1]) if steps else ''
  if not fault:
    return ''
  return f'the checkpoint of step {steps[-1]} is damaged ({fault})'


def open_existing(workdir: str, step: int | None = None) -> Checkpoints:
  """Opens the checkpoints of a run that was at least started.

  Args:
    workdir: of the run.
    step: that one of them must be of; None for any.

  Returns:
    Its checkpoints, at least one.

  Raises:
    FileNotFoundError: no checkpoint there, or none of that step.
  """
  if not os.path.isdir(os.path.join(workdir, _FOLDER)):
    raise FileNotFoundError(
      f'{workdir} holds no checkpoint; train one with '
      f'`python -m zsar_jax.main --workdir={workdir} --config=...`'
    )
  checkpoints = Checkpoints(workdir)
  if checkpoints.latest_step() is None:
    checkpoints.close()
    raise FileNotFoundError(f'{workdir} holds no finished checkpoint')
  steps = checkpoint_files.list_steps(os.path.join(workdir, _FOLDER))
  if step is not None and step not in steps:
    checkpoints.close()
    raise FileNotFoundError(
      f'{workdir} has no checkpoint of step {step}, only of {steps}'
    )
  return checkpoints
