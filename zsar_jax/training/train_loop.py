"""Runs the steps of a training, and logs, validates and saves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import os
import resource
import time

import jax
from jax.experimental import multihost_utils
import ml_collections
import numpy as np

from zsar_jax.data import clip_reader, input_pipeline
from zsar_jax.data.protocols import class_split
from zsar_jax.inference import evaluate_run, trained_encoders
from zsar_jax.parallel import distributed, hardware, sharding
from zsar_jax.system import interruption
from zsar_jax.training import metric_writers, optim, step_loss, train_state
from zsar_jax.training import progress as progress_lib


def text_of_step(
  text: step_loss.Batch | Sequence[step_loss.Batch], step: int
) -> step_loss.Batch:
  """Returns the class texts of a step; several prompts take turns.

  Args:
    text: `ids` and `mask` [s l], or a list of these, one a prompt.
    step: number of the step.

  Returns:
    `ids` and `mask` [s l].
  """
  return text if isinstance(text, Mapping) else text[step % len(text)]


def training_text(
  recognizer: trained_encoders.TrainedEncoders, names: Sequence[str]
) -> list[dict[str, np.ndarray]]:
  """Collects the seen classes' names as a training step reads them.

  Args:
    recognizer: encodes them.
    names: canonical class names.

  Returns:
    The rows of `token_ids`. If the whole text encoder is frozen and has no
    dropout, also its `tokens` [c l e] and `pooled` [c e], which are the same in
    every step.
  """
  rows = recognizer.texts.token_ids(names)
  config = recognizer.config
  labels = optim.frozen_labels(recognizer.params, config.optim.frozen)
  parts = jax.tree.leaves(labels['text_encoder'])
  if 'trained' in parts or config.model.text.dropout_rate:
    return rows
  constant = ('tokens', 'pooled')
  return [
    {
      **row,
      **{
        name: np.asarray(value)
        for name, value in recognizer.encode_tokens(row).items()
        if name in constant
      },
    }
    for row in rows
  ]


def _over_hosts(count: int) -> int:
  """Sums the counts of all hosts; all hosts must call it."""
  if jax.process_count() == 1:
    return count
  counts = multihost_utils.process_allgather(np.asarray(count, np.int32))
  return int(counts.sum())


class _FiniteGuard:
  """Stops a run if it skips too many updates, and names the data."""

  def __init__(
    self,
    most: int,
    workdir: str,
    say: Callable[[str], None],
    newest: Callable[[], int | None],
  ):
    self._most, self._workdir, self._say = most, workdir, say
    self._newest = newest
    self._records: dict[int, list[int]] = {}
    self._counted: int | None = None

  def remember(self, step: int, record_ids: np.ndarray) -> None:
    """Keeps the records of the last few steps."""
    self._records[step] = np.asarray(record_ids).tolist()
    for old in [s for s in self._records if s < step - 2]:
      del self._records[old]

  def look(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    """Reads the counter of a finished step.

    Raises:
      ValueError: more updates were skipped than allowed.
    """
    if 'skipped' not in metrics:
      return
    count = int(metrics['skipped'])
    before, self._counted = self._counted, count
    if not count or count == before:
      return
    records = self._records.get(step, [])
    self._say(
      f'step {step}: loss or gradient is not finite; the update is skipped '
      f'({count} so far; records {records})'
    )
    if count > self._most:
      newest = self._newest()
      good = 'there is no checkpoint yet'
      if newest is not None:
        good = f'the newest checkpoint, of step {newest}, is finite'
      raise ValueError(
        f'{count} updates were not finite, more than train.max_skipped='
        f'{self._most}; the last one at step {step}, on the records {records}. '
        f'In {self._workdir} {good}; try a lower optim.learning_rate'
      )


def _memory() -> dict[str, float]:
  """Returns peak GiB: of this process, and of its first accelerator."""
  # Linux counts in KiB.
  host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' not in stats:
    return {'host_memory_gib': host}
  device = stats['peak_bytes_in_use'] / 2**30
  return {'host_memory_gib': host, 'device_memory_gib': device}


class _Profile:
  """Traces some steps for TensorBoard or Perfetto, under profile/."""

  # At this step everything is compiled and the input queue is full.
  _SKIPPED = 5

  def __init__(self, workdir: str, num_steps: int, start: int):
    self._folder = os.path.join(workdir, 'profile')
    self._first = start + self._SKIPPED if num_steps else -1
    self._last = self._first + num_steps

  def after(self, step: int, state: train_state.TrainState) -> None:
    """Starts or ends the trace, if it is time to."""
    if not distributed.is_main() or step not in (self._first, self._last):
      return
    jax.block_until_ready(state)
    if step == self._first:
      jax.profiler.start_trace(self._folder)
    elif self._first > 0:
      jax.profiler.stop_trace()


@dataclasses.dataclass(frozen=True)
class TrainLoop:
  """The steps of a run, with all that they need.

  Attributes:
    config: of the run.
    workdir: folder of the metrics.
    protocol: the classes and videos of training and validation.
    recognizer: with the vocabulary and preprocessing of the run.
    cache: decoded videos, or None.
    mesh: from `sharding.make_mesh`.
    step_fn: from `train_step.make_train_step`.
    save: starts writing a checkpoint.
    say: prints a line.
    wait: returns when all checkpoints of `save` are committed.
    newest: step of the newest committed checkpoint; None without one.
    stop: whether the run was told to stop.
    step_flops: counts the model operations of a step; called only if the
      device's peak is known.
  """

  config: ml_collections.ConfigDict
  workdir: str
  protocol: class_split.Protocol
  recognizer: trained_encoders.TrainedEncoders
  cache: clip_reader.VideoCache | None
  mesh: jax.sharding.Mesh
  step_fn: Callable[..., tuple[train_state.TrainState, dict[str, jax.Array]]]
  save: Callable[[train_state.TrainState], None]
  say: Callable[[str], None]
  wait: Callable[[], None] = lambda: None
  newest: Callable[[], int | None] = lambda: None
  stop: Callable[[], bool] = lambda: False
  step_flops: Callable[[], int] | None = None

  def run(self, state: train_state.TrainState) -> train_state.TrainState:
    """Runs the remaining steps.

    Args:
      state: new, or from a checkpoint; it is donated.

    Returns:
      The final state.

    Raises:
      ValueError: too many updates are not finite.
      Interrupted: the run was told to stop; a checkpoint is committed.
    """
    start, total = int(state.step), self.config.train.num_steps
    batches, text = self._batches(start), self._text()
    progress = progress_lib.Progress(
      start,
      total,
      clips_per_step=self.config.train.batch_size,
      utilisation_of=self._utilisation(),
    )
    profile = _Profile(self.workdir, self.config.train.profile_steps, start)
    metrics, failed = {}, 0
    guard = _FiniteGuard(
      self.config.train.max_skipped, self.workdir, self.say, self.newest
    )
    busy = lambda: any(not x.is_ready() for x in metrics.values())
    with metric_writers.MetricWriter(
      self.workdir,
      self.config.train.tensorboard,
      enabled=distributed.is_main(),
    ) as writer:
      for step in range(start + 1, total + 1):
        batch = progress.fetch(batches, busy)
        failed += int(batch['num_failed'].sum())
        # One step late, so that the host does not wait for the step under way.
        guard.look(step - 1, metrics)
        guard.remember(step, batch['record_id'])
        batch = {name: batch[name] for name in step_loss.BATCH_KEYS}
        batch = sharding.put_batch(batch, self.mesh)
        state, metrics = self.step_fn(state, batch, text_of_step(text, step))
        if step in (start + 1, total) or self._logs(step):
          values = {k: float(v) for k, v in jax.device_get(metrics).items()}
          values |= progress.measure(step) | _memory()
          values['failed_records'] = _over_hosts(failed)
          writer.write(step, values)
          self.say(progress.line(step, values))
        profile.after(step, state)
        if self._pauses(step):
          jax.block_until_ready(state)  # steps under way are no pause
          guard.look(step, metrics)
          began = time.monotonic()
          self._pause(step, state, writer)
          progress.skip(time.monotonic() - began)
        stops = self.stop() or distributed.told_to_stop(step)
        if stops and step < total:
          self._give_up(step, state)
      guard.look(total, metrics)
    return state

  def _give_up(self, step: int, state: train_state.TrainState) -> None:
    """Commits a checkpoint, and raises Interrupted."""
    if not self._saves(step):
      self.save(state)
    self.wait()
    raise interruption.Interrupted(
      f'told to stop at step {step} of {self.config.train.num_steps}; the '
      'checkpoint is committed: the same command resumes from there'
    )

  def _text(self) -> list[step_loss.Batch]:
    """Returns the seen classes' texts, on all devices."""
    text = training_text(self.recognizer, self.protocol.seen_classes)
    return jax.device_put(text, sharding.replicated(self.mesh))

  def _utilisation(self) -> Callable[[float], float] | None:
    """Returns step seconds -> share of the published peak; None if unknown."""
    devices = self.mesh.devices.flat
    device = hardware.find(devices[0].device_kind)
    if device is None or self.step_flops is None:
      return None
    flops, peak = self.step_flops(), device.peak_flops * self.mesh.size
    return lambda seconds: flops / seconds / peak

  def _batches(self, start: int) -> Iterator[dict[str, np.ndarray]]:
    data, augmentation = self.config.data, self.config.augmentation
    return input_pipeline.train_batches(
      clip_reader.ClipReader(
        self.protocol.train, self.recognizer.prep, self.cache
      ),
      self.protocol.seen_classes,
      input_pipeline.BatchPlan(
        batch_size=self.config.train.batch_size,
        seed=self.config.seed,
        start_step=start,
        num_hosts=jax.process_count(),
        host=jax.process_index(),
        balance=data.balance,
      ),
      view=clip_reader.TrainView(
        crop_area=tuple(augmentation.crop_area),
        crop_aspect=tuple(augmentation.crop_aspect),
        randaugment_layers=augmentation.randaugment_layers,
        randaugment_magnitude=augmentation.randaugment_magnitude,
      ),
      mirror=augmentation.mirror,
      max_failed_share=data.max_failed_share,
      num_threads=data.num_threads,
    )

  def _logs(self, step: int) -> bool:
    """Returns whether a step's metrics are written."""
    return step % self.config.train.log_every == 0

  def _saves(self, step: int) -> bool:
    """Returns whether a step is followed by a checkpoint."""
    c = self.config.train
    return step == c.num_steps or step % c.checkpoint_every == 0

  def _pauses(self, step: int) -> bool:
    """Returns whether a step is followed by validation or a checkpoint."""
    c = self.config.train
    return self._saves(step) or step % c.validate_every == 0

  def _pause(self, step, state, writer) -> None:
    """Validates and saves, if they are due."""
    c, last = self.config.train, step == self.config.train.num_steps
    if step % c.validate_every == 0 and not last:
      row = evaluate_run.validate(
        self.recognizer.with_params(
          distributed.to_local(state.best_params, self.mesh), step
        ),
        self.protocol,
        self.cache,
      )
      writer.write(step, {row.metric: row.value})
      self.say(
        f'step {step}: seen-class validation top1 {100 * row.value:.1f}% '
        f'(chance {100 * row.chance:.1f}%)'
      )
    if self._saves(step):
      self.save(state)
