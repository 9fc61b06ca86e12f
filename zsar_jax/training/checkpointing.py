"""Writes checkpoints that are whole or absent, and guards the workdir.

`saved_checkpoints` describes the content of a checkpoint, and reads it.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import fcntl
import os
from typing import Any

import jax
import orbax.checkpoint as ocp

from zsar_jax.data import preprocessing
from zsar_jax.inference import checkpoint_files, saved_checkpoints
from zsar_jax.system import json_files
from zsar_jax.training import train_state

_CONFIG_FILE = 'config.json'
_LOCK_FILE = '.lock'
# Bytes of an array that is worth dividing among its replicas. Our choice.
_LEAST_TO_DIVIDE = 1 << 20


def _divide_only_large_arrays() -> None:
  """Lets one device write what is small, where all devices have it.

  Otherwise each device writes a slice, which orbax first cuts off by a program
  for each device and array. Of the 2 s for which a checkpoint of 500 small
  arrays paused a run on eight devices, that took 1.4 s.
  """
  ocp.type_handlers.register_type_handler(
    jax.Array,
    ocp.type_handlers.ArrayHandler(
      min_slice_bytes_for_replica_parallel=_LEAST_TO_DIVIDE
    ),
    override=True,
  )


_divide_only_large_arrays()


def check_workdir(
  workdir: str,
  config: Mapping[str, Any],
  differences: Callable[[Any, Any], list[str]],
) -> None:
  """Checks that a workdir is new or holds a run of the same config.

  Args:
    workdir: of the run; may be missing.
    config: the run's config as plain values.
    differences: function that lists how two plain configs differ.

  Raises:
    ValueError: the workdir holds a run of another config, and the message lists
      the keys that differ. Or its config is damaged.
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
  """Keeps other runs out of a workdir while this process lives.

  The lock ends with the process, however it ends.

  Args:
    workdir: created if missing.

  Raises:
    ValueError: another process holds the lock.
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
        'on one workdir would damage each other'
      ) from e
    f.truncate(0)
    f.write(str(os.getpid()))
    f.flush()
    yield


def claim_workdir(workdir: str, config: Mapping[str, Any]) -> None:
  """Creates a workdir, and writes its config."""
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, _CONFIG_FILE)
  json_files.write(config, path)


def _training_item(state: train_state.TrainState) -> dict[str, Any]:
  """Returns the state that resuming needs in addition to the parameters."""
  item = {'step': state.step, 'opt_state': state.opt_state}
  if state.skipped is not None:
    item['skipped'] = state.skipped
  return item


class Checkpoints(saved_checkpoints.SavedCheckpoints):
  """The checkpoints of a run: saves its states and restores them."""

  def newest_committed(self) -> int | None:
    """Waits for `save`, then returns the same as `latest_step`."""
    self.wait()
    return self.latest_step()

  def save(
    self, state: train_state.TrainState, meta: Mapping[str, Any]
  ) -> None:
    """Starts saving; returns before the checkpoint is committed."""
    items = {
      'params': ocp.args.StandardSave(state.params),
      'training': ocp.args.StandardSave(_training_item(state)),
      'meta': ocp.args.JsonSave(dict(meta)),
    }
    if state.ema:
      items['ema'] = ocp.args.StandardSave(state.ema)
    self.manager.save(int(state.step), args=ocp.args.Composite(**items))

  def wait(self) -> None:
    """Returns when every started save is committed."""
    self.manager.wait_until_finished()

  def restore(
    self, like: train_state.TrainState, step: int | None = None
  ) -> train_state.TrainState:
    """Restores a state onto the shardings of another.

    Args:
      like: a state of the wanted shapes and shardings.
      step: of the checkpoint; None means the newest.

    Returns:
      The state.

    Raises:
      ValueError: the checkpoint has another architecture; the message lists the
        differences.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    self.check_shapes(abstract.params, step)
    items = {
      'params': ocp.args.StandardRestore(abstract.params),
      'training': ocp.args.StandardRestore(_training_item(abstract)),
    }
    if like.ema:
      items['ema'] = ocp.args.StandardRestore(abstract.ema)
    restored = self.manager.restore(
      self.latest_step() if step is None else step,
      args=ocp.args.Composite(**items),
    )
    training = restored['training']
    return train_state.TrainState(
      training['step'],
      restored['params'],
      training['opt_state'],
      restored['ema'] if like.ema else {},
      training.get('skipped'),
    )


def read_preprocessing(workdir: str) -> preprocessing.Preprocessing | None:
  """Reads the preprocessing of a run's newest checkpoint.

  Args:
    workdir: of the run; its newest checkpoint is whole.

  Returns:
    The preprocessing; None where there is no checkpoint.
  """
  folder = os.path.join(workdir, saved_checkpoints.FOLDER)
  if not checkpoint_files.list_steps(folder):
    return None
  with saved_checkpoints.SavedCheckpoints(workdir) as checkpoints:
    meta = checkpoints.restore_meta()
  return preprocessing.Preprocessing.from_json(meta['preprocessing'])


def set_aside_damaged(
  workdir: str, with_ema: bool, say: Callable[[str], None]
) -> None:
  """Makes sure that the newest checkpoint of a run can be restored.

  Only one process may call this, before any opens the checkpoints.

  Args:
    workdir: of the run.
    with_ema: whether a checkpoint has an average of the parameters.
    say: prints a line for each damaged checkpoint, with its new place.

  Raises:
    ValueError: all checkpoints are damaged; none is moved.
  """
  items = ('params', 'training', 'meta') + (('ema',) if with_ema else ())
  folder = os.path.abspath(os.path.join(workdir, saved_checkpoints.FOLDER))
  checkpoint_files.set_aside_damaged(folder, items, say)
