"""Checkpoints that are whole or absent, and self-contained.

A checkpoint holds three items: `params`, `training` (step and optimiser
state) and `meta` (JSON: config, preprocessing, seen classes, vocabulary), so
that inference restores the parameters alone and needs nothing else.
"""

from collections.abc import Callable, Mapping
import json
import os
from typing import Any

from absl import logging
import jax
import orbax.checkpoint as ocp

from zsar_jax import sharding, train_step

_CONFIG_FILE = 'config.json'
_FOLDER = 'checkpoints'


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
    ValueError: it holds a run of another config; the message says which
      keys differ.
  """
  path = os.path.join(workdir, _CONFIG_FILE)
  if not os.path.exists(path):
    return
  with open(path) as f:
    changes = differences(json.load(f), config)
  if changes:
    shown = '\n  '.join(changes)
    raise ValueError(
      f'{workdir} holds a run of another config; choose another --workdir '
      f'or remove it. What differs (there -> here):\n  {shown}'
    )


def claim_workdir(workdir: str, config: Mapping[str, Any]) -> None:
  """Makes a workdir, and writes the config that it belongs to."""
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, _CONFIG_FILE)
  with open(f'{path}.tmp', 'w') as f:
    json.dump(config, f, indent=2)
  os.replace(f'{path}.tmp', path)


class Checkpoints:
  """The checkpoints of a workdir."""

  def __init__(self, workdir: str, keep: int = 2):
    self._manager = ocp.CheckpointManager(
      os.path.abspath(os.path.join(workdir, _FOLDER)),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep),
      item_names=('params', 'training', 'meta'),
    )

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.close()

  def latest_step(self) -> int | None:
    """Step of the newest whole checkpoint, or None."""
    return self._manager.latest_step()

  def save(self, state: train_step.TrainState, meta: Mapping[str, Any]) -> None:
    """Starts saving; returns before the checkpoint is committed."""
    self._manager.save(
      int(state.step),
      args=ocp.args.Composite(
        params=ocp.args.StandardSave(state.params),
        training=ocp.args.StandardSave(
          {'step': state.step, 'opt_state': state.opt_state}
        ),
        meta=ocp.args.JsonSave(dict(meta)),
      ),
    )

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
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    restored = self._manager.restore(
      self.latest_step() if step is None else step,
      args=ocp.args.Composite(
        params=ocp.args.StandardRestore(abstract.params),
        training=ocp.args.StandardRestore(
          {'step': abstract.step, 'opt_state': abstract.opt_state}
        ),
      ),
    )
    training = restored['training']
    return train_step.TrainState(
      training['step'], restored['params'], training['opt_state']
    )

  def restore_meta(self) -> dict[str, Any]:
    """The JSON item of the newest checkpoint."""
    return self._manager.restore(
      self.latest_step(), args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    )['meta']

  def restore_params(self, shapes: Any, mesh: jax.sharding.Mesh) -> Any:
    """The parameters of the newest checkpoint, laid out for a mesh.

    Args:
      shapes: abstract parameters.
      mesh: from `sharding.make_mesh`.

    Returns:
      The parameters.
    """
    abstract = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes,
      sharding.tree_shardings(shapes, mesh),
    )
    return self._manager.restore(
      self.latest_step(),
      args=ocp.args.Composite(params=ocp.args.StandardRestore(abstract)),
    )['params']


def open_existing(workdir: str) -> Checkpoints:
  """Opens the checkpoints of a run that was at least started.

  Args:
    workdir: of the run.

  Returns:
    Its checkpoints, at least one.

  Raises:
    FileNotFoundError: no checkpoint there.
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
  return checkpoints
