"""Joins several processes to one run, and shares evaluation among them.

JAX's own multi-process SPMD does the work. Every process runs the same program
on its own devices and reads its own rows of every batch. Only process 0 writes.
With one process the functions here do nothing.
"""

from collections.abc import Callable, Mapping
import faulthandler
import hashlib
import json
import pathlib
from typing import Any
import warnings

import jax
from jax.experimental import multihost_utils
import numpy as np

from zsar_jax.parallel import sharding

# JAX's messages if it finds no cluster.
_NO_CLUSTER = 'coordinator_address should be defined'
_TOO_LATE = 'before any JAX'


class PeerLost(OSError):
  """Another process of the run died, or cannot be reached."""


def initialize(
  coordinator: str = '',
  num_processes: int = 0,
  process_id: int = -1,
  heartbeat_seconds: int = 100,
) -> None:
  """Joins the other processes of a run, if there are any.

  Without arguments JAX looks for them itself: on a Cloud TPU slice, under
  SLURM and Open MPI, and on Kubernetes. If it finds none, this process runs
  alone.

  Args:
    coordinator: host:port of process 0; '' lets JAX find it.
    num_processes: of the run; 0 lets JAX find it.
    process_id: of this process, from 0; -1 lets JAX find it.
    heartbeat_seconds: silence after which a process counts as dead.

  Raises:
    ValueError: only some of the three are given, and JAX finds no others.
    PeerLost: the other processes did not come.
  """
  given = bool(coordinator or num_processes or process_id >= 0)
  try:
    with warnings.catch_warnings():
      # JAX warns so in every pod, alone or not: without another package the
      # flags must name the processes.
      warnings.filterwarnings('ignore', 'Kubernetes environment detected')
      jax.distributed.initialize(
        coordinator or None,
        num_processes or None,
        None if process_id < 0 else process_id,
        heartbeat_timeout_seconds=heartbeat_seconds,
      )
  except ValueError as e:
    if given:
      raise ValueError(
        'give all of --coordinator, --num_processes and --process_id: no '
        f'cluster was found that sets the rest: {e}'
      ) from e
    if _NO_CLUSTER not in str(e):
      raise
  except jax.errors.JaxRuntimeError as e:
    raise PeerLost(
      f'the other processes were not found at {coordinator or "the cluster"}: '
      f'{_first_line(e)}'
    ) from e
  except RuntimeError as e:
    # A notebook that has computed something already runs alone.
    if given or _TOO_LATE not in str(e):
      raise
  if several():
    # If a process dies, JAX says so and aborts the others. A dump of every
    # Python thread would bury its message.
    faulthandler.disable()


def is_main() -> bool:
  """Returns whether this process writes."""
  return jax.process_index() == 0


def several() -> bool:
  """Returns whether there are other processes."""
  return jax.process_count() > 1


def wait(name: str) -> None:
  """Returns when every process has come here."""
  if several():
    multihost_utils.sync_global_devices(name)


def main_first(function: Callable[[], Any], name: str) -> Any:
  """Calls a function that may write files: process 0 first, then the others.

  Args:
    function: called once in every process.
    name: of the step that the others wait for.

  Returns:
    Its result in this process.
  """
  if is_main():
    result = function()
  wait(name)
  return result if is_main() else function()


def code_version() -> str:
  """Returns 12 hex digits over the package's source files."""
  root = pathlib.Path(__file__).parents[1]
  digest = hashlib.sha256()
  for path in sorted(root.rglob('*.py')):
    digest.update(str(path.relative_to(root)).encode())
    digest.update(path.read_bytes())
  return digest.hexdigest()[:12]


def _from_main(text: str) -> str:
  """Returns process 0's text in every process."""
  raw = np.frombuffer(text.encode(), np.uint8)
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(raw))))
  padded = np.zeros(length, np.uint8)
  padded[: len(raw)] = raw[:length]
  return bytes(multihost_utils.broadcast_one_to_all(padded)).decode()


def check_alike(
  facts: Mapping[str, Any],
  differences: Callable[[Any, Any], list[str]],
) -> None:
  """Refuses processes whose config or code differs from process 0's.

  Args:
    facts: values that must be equal, JSON-able.
    differences: function that lists how (process 0's facts, facts here) differ.

  Raises:
    ValueError: some process differs. It is raised in every process, and the
      process that differs says how.
  """
  if not several():
    return
  found = differences(json.loads(_from_main(json.dumps(facts))), facts)
  counts = multihost_utils.process_allgather(np.int32(len(found)))
  odd = np.flatnonzero(counts).tolist()
  if found:
    shown = '\n  '.join(found)
    raise ValueError(
      f'process {jax.process_index()} differs from process 0 in config or '
      f'code (there -> here):\n  {shown}'
    )
  if odd:
    raise ValueError(
      f'processes {odd} are started with another config or code than process '
      '0; their own messages list the differences'
    )


def to_local(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Copies whole arrays to every device of this process only.

  Args:
    tree: global arrays on the mesh.
    mesh: over the devices of all processes.

  Returns:
    The same tree; with one process, the tree itself.
  """
  if not several():
    return tree
  whole = sharding.replicated(mesh)
  gather = jax.jit(
    lambda t: t, out_shardings=jax.tree.map(lambda _: whole, tree)
  )
  local = sharding.replicated(local_mesh(mesh))
  return jax.tree.map(
    lambda x: jax.device_put(np.asarray(x.addressable_data(0)), local),
    gather(tree),
  )


def local_mesh(mesh: jax.sharding.Mesh) -> jax.sharding.Mesh:
  """Returns a mesh of this process's devices that splits the batch."""
  if not several():
    return mesh
  return sharding.make_mesh(
    {'data': -1, 'fsdp': 1, 'tensor': 1}, jax.local_devices()
  )


def share(count: int) -> np.ndarray:
  """Returns which of `count` items this process takes: bool [count]."""
  return np.arange(count) % jax.process_count() == jax.process_index()


def gather_shares(
  arrays: Mapping[str, np.ndarray], count: int
) -> dict[str, np.ndarray]:
  """Joins the results of all processes for their `share`.

  Args:
    arrays: [n ...] of this process's n items.
    count: number of all items.

  Returns:
    The arrays of all items [count ...], in order.
  """
  if not several():
    return dict(arrays)
  processes = jax.process_count()
  most = -(-count // processes)

  def gather(x):
    padded = np.pad(x, [(0, most - len(x))] + [(0, 0)] * (x.ndim - 1))
    everything = multihost_utils.process_allgather(padded)  # [p most ...]
    rows = np.swapaxes(everything, 0, 1)
    return rows.reshape(most * processes, *x.shape[1:])[:count]

  return {name: gather(arrays[name]) for name in sorted(arrays)}


def told_to_stop(step: int) -> bool:
  """Returns whether any process got a preemption notice.

  All processes get the same answer at a step.
  """
  return several() and multihost_utils.reached_preemption_sync_point(step)


def _first_line(error: Exception) -> str:
  return str(error).strip().partition('\n')[0]


def explain(error: Exception) -> PeerLost:
  """Explains a runtime error in the middle of a run of several processes."""
  return PeerLost(
    f'process {jax.process_index()}: a step over {jax.process_count()} '
    'processes failed, most likely because one of them died; look at the '
    'output of the others, then start them all again: they resume from '
    f'the newest checkpoint ({_first_line(error)})'
  )
