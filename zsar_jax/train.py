"""The training loop: from a config and a workdir to results.json."""

import dataclasses
import os
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from zsar_jax import (
  checkpointing,
  config_utils,
  initialisation,
  metric_writers,
  model_builder,
  optim,
  prototype_bank,
  results,
  run_protocol,
  sharding,
  train_step,
)
from zsar_jax import recognizer as recognizer_lib
from zsar_jax.data import class_names, input_pipeline
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import class_split

RESULTS_FILE = 'results.json'


class _Progress:
  """Prints a line of metrics with steps per second and the time left."""

  def __init__(self, start: int, total: int):
    self._total = total
    self._from, self._since = start, time.monotonic()

  def line(self, step: int, metrics: dict[str, float]) -> str:
    """The line; its rate is that since the line before."""
    now = time.monotonic()
    rate = (step - self._from) / max(now - self._since, 1e-9)
    self._from, self._since = step, now
    left = (self._total - step) / max(rate, 1e-9)
    return (
      f'step {step}/{self._total}  loss {metrics["loss"]:.3f}  '
      f'train top1 {100 * metrics["train_top1"]:.0f}%  '
      f'{rate:.1f} steps/s  {int(left // 60)}:{int(left % 60):02d} left'
    )

  def skip(self, seconds: float) -> None:
    """Takes time that was not spent on steps out of the rate."""
    self._since += seconds


def train(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Trains, or goes on, and evaluates.

  Args:
    config: from a config file; checked first.
    workdir: checkpoints, metrics and results go there. Started again on the
      same one, it goes on from the newest checkpoint; finished, it says so.

  Returns:
    The content of results.json.

  Raises:
    ValueError: a config or dataset that cannot work, or a workdir of
      another config.
    FileNotFoundError: dataset, split file or vocabulary missing.
  """
  say = lambda text: print(text, flush=True)
  config_utils.check_config(config)
  mesh = sharding.make_mesh(config.mesh)
  shards = sharding.num_batch_shards(mesh)
  if config.train.batch_size % shards:
    raise ValueError(
      f'train.batch_size={config.train.batch_size} does not divide over '
      f'{shards} batch shards of the mesh'
    )
  weights = train_step.LossWeights(**config.loss)
  plain = config_utils.to_dict(config)
  checkpointing.check_workdir(workdir, plain, config_utils.differences)
  results_path = os.path.join(workdir, RESULTS_FILE)
  if os.path.exists(results_path):
    content = results.read_results(results_path)
    say(f'{workdir} is finished (step {content["step"]}); its results:')
    say(results.format_table(content))
    return content

  start = initialisation.start(config)
  config, pieces = start.config, start.pieces
  prep = model_builder.make_preprocessing(config, pieces)
  num_tokens = model_builder.vocabulary_size(pieces)
  # What is wrong with the model should not wait for the dataset.
  model_builder.parameter_shapes(
    model_builder.build_model(config, prep, num_tokens, 1), prep
  )
  protocol = run_protocol.make_protocol(config)
  _describe(protocol, config, say)
  seen = protocol.seen_classes
  if len(seen) < 2:
    raise ValueError(
      f'{protocol.name}: {list(seen)} is all that is seen; telling classes '
      'apart needs at least two'
    )
  if config.init.clip:
    # What would fail in its row at the end should fail now.
    run_protocol.frozen_clip_of(config).class_embeddings(
      protocol.unseen_classes
    )
  checkpointing.claim_workdir(workdir, plain)
  model = model_builder.build_model(config, prep, num_tokens, len(seen))
  schedule = optim.make_schedule(
    learning_rate=config.optim.learning_rate,
    warmup_steps=config.optim.warmup_steps,
    num_steps=config.train.num_steps,
  )
  optimizer = optim.make_optimizer(
    schedule,
    weight_decay=config.optim.weight_decay,
    clip_norm=config.optim.clip_norm,
    b2=config.optim.b2,
    frozen=tuple(config.optim.frozen),
  )
  state = train_step.init_state(
    model,
    optimizer,
    model_builder.input_shapes(prep),
    jax.random.key(config.seed),
    mesh,
  )
  state = dataclasses.replace(
    state, params=initialisation.put(state.params, start.loaded)
  )
  meta = {
    'config': config_utils.to_dict(config),
    'vocabulary': pieces,
    'seen_classes': list(seen),
    'preprocessing': prep.to_json(),
  }
  num_parameters = sum(x.size for x in jax.tree.leaves(state.params))
  say(
    f'{num_parameters / 1e6:.2f} M parameters on mesh {dict(mesh.shape)} of '
    f'{jax.devices()[0].device_kind}'
  )
  cache = run_protocol.video_cache(config)
  with checkpointing.Checkpoints(
    workdir, config.train.keep_checkpoints
  ) as checkpoints:
    if checkpoints.latest_step() is not None:
      state = checkpoints.restore(state)
      say(f'going on from step {int(state.step)}')
    recognizer = recognizer_lib.Recognizer(
      config, model, state.params, pieces, seen, mesh, int(state.step)
    )
    state = _train_steps(
      config,
      workdir,
      state,
      train_step.make_train_step(
        model, optimizer, schedule, weights, prep, config.seed, mesh
      ),
      protocol,
      recognizer,
      cache,
      lambda state: checkpoints.save(state, meta),
      mesh,
      say,
    )
  recognizer = recognizer.with_params(state.params, int(state.step))
  content, bank = run_protocol.evaluate(recognizer, protocol, cache, say)
  prototype_bank.save_bank(
    bank, os.path.join(workdir, recognizer_lib.BANK_FILE)
  )
  example = _write_examples(protocol, workdir)
  # Last, because its presence says that the run is finished.
  results.write_results(content, results_path)
  say(results.format_table(content))
  say(f'written to {results_path}')
  if example:
    say(
      'a video of a class that was never trained on, to try:\n'
      f'python -m zsar_jax.predict --workdir={workdir} --video="{example}" '
      f'--classes="{",".join(protocol.unseen_classes)}"'
    )
  return content


def _train_steps(
  config, workdir, state, step_fn, protocol, recognizer, cache, save, mesh, say
):
  """Runs the steps that are left; returns the final state."""
  start, total = int(state.step), config.train.num_steps
  text = jax.device_put(
    recognizer.token_ids(protocol.seen_classes), sharding.replicated(mesh)
  )
  batches = input_pipeline.train_batches(
    recognizer.clip_reader(protocol.train, protocol.dataset_dir, cache),
    protocol.seen_classes,
    batch_size=config.train.batch_size,
    seed=config.seed,
    start_step=start,
    num_hosts=jax.process_count(),
    host=jax.process_index(),
    crop_area=tuple(config.data.crop_area),
    mirror=config.data.mirror,
    num_threads=config.data.num_threads,
  )
  progress = None
  with metric_writers.MetricWriter(
    workdir, config.train.tensorboard and jax.process_index() == 0
  ) as writer:
    for step in range(start + 1, total + 1):
      batch = sharding.put_batch(next(batches), mesh)
      state, metrics = step_fn(state, batch, text)
      last = step == total
      if step % config.train.log_every == 0 or last or step == start + 1:
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        if not np.isfinite(values['loss']):
          raise ValueError(
            f'the loss is not finite at step {step}; the newest checkpoint in '
            f'{workdir} is from before. Try a lower optim.learning_rate'
          )
        writer.write(step, values)
        # The first step is compilation: the rate is counted from its end.
        if progress is None:
          progress = _Progress(step, total)
          say(f'step {step}/{total}  loss {values["loss"]:.3f}  (compiled)')
        else:
          say(progress.line(step, values))
      pause = last or not (
        step % config.train.validate_every
        and step % config.train.checkpoint_every
      )
      if not pause:
        continue
      jax.block_until_ready(state)  # steps still under way are not a pause
      began = time.monotonic()
      if step % config.train.validate_every == 0 and not last:
        row = run_protocol.validate(
          recognizer.with_params(state.params, step), protocol, cache
        )
        writer.write(step, {row.metric: row.value})
        say(
          f'step {step}: seen-class validation top1 {100 * row.value:.1f}% '
          f'(chance {100 * row.chance:.1f}%)'
        )
      if step % config.train.checkpoint_every == 0 or last:
        save(state)
      progress.skip(time.monotonic() - began)
  return state


def _write_examples(protocol: class_split.Protocol, workdir: str) -> str:
  """Writes a video of each unseen class beside a run on rendered videos.

  People's own videos are at hand already, and are not copied about.

  Args:
    protocol: of the run.
    workdir: of the run.

  Returns:
    Path of one example, or '' where none were written.
  """
  if protocol.domain != records.RENDERED_DOMAIN:
    return ''
  folder = os.path.join(workdir, 'examples')
  os.makedirs(folder, exist_ok=True)
  source = records.open_split(protocol.dataset_dir, protocol.test.split)
  for label, name in enumerate(protocol.unseen_classes):
    first = protocol.test.rows[protocol.test.labels == label][0]
    path = os.path.join(folder, f'{name.replace(" ", "_")}.mp4')
    with open(path, 'wb') as f:
      f.write(source.read_file(first))
  return path


def _describe(protocol: class_split.Protocol, config, say) -> None:
  """Says what will be trained on, and what was left out."""
  say(
    f'{protocol.name}: {len(protocol.seen_classes)} seen classes, '
    f'{len(protocol.train)} training and {len(protocol.validation)} '
    f'validation videos; {len(protocol.unseen_classes)} unseen classes, '
    f'{len(protocol.test)} test videos'
  )
  if protocol.unreadable:
    say(f'{len(protocol.unreadable)} files of this dataset were unreadable')
  sided = class_names.sided_classes(protocol.seen_classes)
  if config.data.mirror and sided:
    say(f'never mirrored, because their names have a side: {sided}')
