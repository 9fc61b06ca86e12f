"""Reads checkpoints.

A checkpoint holds the items `params`, `ema` (if the run has a moving average),
`training` (step and optimiser state) and `meta` (JSON: config, preprocessing,
seen classes, vocabulary). Inference restores only `meta` and the parameters.
Training writes checkpoints: see `checkpointing`.
"""

import os
from typing import Any

from absl import logging
import jax
import orbax.checkpoint as ocp

from zsar_jax.inference import checkpoint_files, model_builder
from zsar_jax.parallel import sharding

FOLDER = 'checkpoints'
# Number of differences to list in an error.
_SHOWN = 12


def _quieten_orbax() -> None:
  """Hides orbax's INFO lines; it logs 68 of them per save."""

  def is_wanted(record) -> bool:
    return record.levelno > 20 or '/orbax/' not in record.pathname

  logging.get_absl_handler().addFilter(is_wanted)


_quieten_orbax()


class SavedCheckpoints:
  """The checkpoints of a workdir.

  Attributes:
    manager: orbax's checkpoint manager of the folder.
  """

  def __init__(self, workdir: str, keep: int = 2):
    self.manager = ocp.CheckpointManager(
      os.path.abspath(os.path.join(workdir, FOLDER)),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep),
      item_names=('params', 'ema', 'training', 'meta'),
    )

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.close()

  def latest_step(self) -> int | None:
    """Returns the step of the newest finished checkpoint, or None."""
    return self.manager.latest_step()

  def close(self) -> None:
    """Waits for unfinished saves, and closes the folder."""
    self.manager.wait_until_finished()
    self.manager.close()

  def restore_meta(self, step: int | None = None) -> dict[str, Any]:
    """Reads the item `meta` of a checkpoint.

    Args:
      step: step of the checkpoint; None means the newest.

    Raises:
      ValueError: it is damaged. The message names another checkpoint that is
        not.
    """
    step = self.latest_step() if step is None else step
    self._check_whole(step, 'meta')
    return self.manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    )['meta']

  def restore_params(
    self,
    shapes: Any,
    mesh: jax.sharding.Mesh,
    ema: bool = False,
    step: int | None = None,
  ) -> Any:
    """Restores the parameters of a checkpoint onto a mesh.

    Args:
      shapes: abstract parameters.
      mesh: from `sharding.make_mesh`.
      ema: restore their moving average instead.
      step: step of the checkpoint; None means the newest.

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
    self.check_shapes(abstract, step, item)
    return self.manager.restore(
      step,
      args=ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract)}),
    )[item]

  def check_shapes(self, wanted: Any, step: int | None, item='params') -> None:
    """Checks the shapes of a checkpoint's parameters.

    Args:
      wanted: tree of arrays, or of anything with a shape.
      step: step of the checkpoint; None means the newest.
      item: 'params' or 'ema'.

    Raises:
      ValueError: shapes differ. The message lists the parameters.
    """
    step = self.latest_step() if step is None else step
    metadata = ocp.StandardCheckpointHandler().metadata(
      self.manager.directory / str(step) / item
    )
    found = model_builder.shape_differences(metadata.tree, wanted)
    if found:
      more = len(found) - _SHOWN
      listed = '\n  '.join(
        found[:_SHOWN] + ([f'and {more} more'] if more > 0 else [])
      )
      raise ValueError(
        f'the checkpoint of step {step} in {self.manager.directory} is of '
        f'another architecture:\n  {listed}'
      )

  def _check_whole(self, step: int, item: str) -> None:
    """Raises ValueError if an item is damaged; suggests another checkpoint."""
    folder = str(self.manager.directory)
    fault = checkpoint_files.find_fault(folder, step, (item,))
    if not fault:
      return
    others = (
      s
      for s in reversed(checkpoint_files.list_steps(folder))
      if s != step and not checkpoint_files.find_fault(folder, s)
    )
    other = next(others, None)
    advice = 'all others are damaged too: train again'
    if other is not None:
      advice = (
        f'the one of step {other} is whole: give evaluate --step={other}. For '
        f'predict, first make its bank with `zsar bank build '
        f'--step={other} --output=FILE` and your other flags, then give '
        f'predict --step={other} --bank=FILE'
      )
    raise ValueError(
      f'the checkpoint of step {step} in {folder} is damaged ({fault}); '
      f'{advice}'
    )


def newest_fault(workdir: str) -> str:
  """Describes the damage of a run's newest checkpoint.

  Args:
    workdir: workdir of the run.

  Returns:
    Step, file and reason; '' if it is whole or there is no checkpoint.
  """
  folder = os.path.abspath(os.path.join(workdir, FOLDER))
  steps = checkpoint_files.list_steps(folder)
  fault = checkpoint_files.find_fault(folder, steps[-1]) if steps else ''
  if not fault:
    return ''
  return f'the checkpoint of step {steps[-1]} is damaged ({fault})'


def open_existing(workdir: str, step: int | None = None) -> SavedCheckpoints:
  """Opens the checkpoints of a run.

  Args:
    workdir: workdir of the run.
    step: step that must exist; None accepts any.

  Returns:
    The checkpoints, at least one.

  Raises:
    FileNotFoundError: there is no checkpoint, or none of that step.
  """
  if not os.path.isdir(os.path.join(workdir, FOLDER)):
    raise FileNotFoundError(
      f'{workdir} holds no checkpoint; train one with '
      f'`zsar train --workdir={workdir} --config=...`'
    )
  checkpoints = SavedCheckpoints(workdir)
  if checkpoints.latest_step() is None:
    checkpoints.close()
    raise FileNotFoundError(f'{workdir} holds no finished checkpoint')
  steps = checkpoint_files.list_steps(os.path.join(workdir, FOLDER))
  if step is not None and step not in steps:
    checkpoints.close()
    raise FileNotFoundError(
      f'{workdir} has no checkpoint of step {step}, only of {steps}'
    )
  return checkpoints
