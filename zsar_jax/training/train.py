"""A training run: from a config and a workdir to results.json."""

from collections.abc import Callable
import dataclasses
import os
from typing import Any

import jax
import ml_collections

from zsar_jax import config_utils
from zsar_jax.data import class_names, clip_reader, name_linter, prompts
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import class_split
from zsar_jax.evaluation import results, results_text, score_files
from zsar_jax.inference import encoders as encoders_lib
from zsar_jax.inference import (
  evaluate_run,
  model_builder,
  prototype_bank,
  saved_checkpoints,
)
from zsar_jax.models import pixel_ops
from zsar_jax.parallel import distributed, sharding
from zsar_jax.pretrained import initialisation
from zsar_jax.system import interruption, terminal
from zsar_jax.training import (
  checkpointing,
  optim,
  step_cost,
  train_loop,
  train_step,
)

RESULTS_FILE = 'results.json'
# How each parameter lies on the mesh.
PARAMETERS_FILE = 'parameters.txt'
EXAMPLES_FOLDER = 'examples'
# (recognizer, splits of its protocol, decoded videos) -> what it found.
Measure = Callable[
  [
    encoders_lib.Recognizer,
    list[class_split.Protocol],
    clip_reader.VideoCache | None,
  ],
  dict[str, Any],
]


def train(
  config: ml_collections.ConfigDict,
  workdir: str,
  cache: clip_reader.VideoCache | None = None,
  measure: Measure | None = None,
) -> dict[str, Any]:
  """Trains, or goes on, and evaluates.

  Args:
    config: from a config file; checked first.
    workdir: checkpoints, metrics and results go there. Started again on the
      same one, it goes on from the newest checkpoint; finished, it says so.
    cache: of decoded videos, for several runs on one dataset with one
      `preprocessing.short_side`; None makes the one that the config asks for.
    measure: what to do with the trained model in place of evaluating it; then
      nothing is written, and what it returns is returned.

  Returns:
    The content of results.json.

  Raises:
    ValueError: a config or dataset that cannot work, a workdir of another
      config, or one in use.
    FileNotFoundError: dataset, split file or vocabulary missing.
    Interrupted: SIGTERM came; the run can go on.
    PeerLost: another process of the run died.
  """
  config_utils.check_config(config)
  several = distributed.several()
  with interruption.on_termination(handle=not several) as stop:
    try:
      return _train(config, workdir, stop, cache, measure)
    except jax.errors.JaxRuntimeError as e:
      if several:
        raise distributed.explain(e) from e
      raise


def _train(
  config: ml_collections.ConfigDict,
  workdir: str,
  stop: interruption.StopFlag,
  cache: clip_reader.VideoCache | None,
  measure: Measure | None,
) -> dict[str, Any]:
  """What `train` does, with the flag that may stop it."""
  main = distributed.is_main()
  say = lambda text: terminal.say(text) if main else None
  plain = config_utils.to_dict(config)
  distributed.check_alike(
    {
      **plain,
      'code': distributed.code_version(),
      'versions': results.versions(),
    },
    config_utils.differences,
  )
  mesh = sharding.make_mesh(config.mesh)
  sharding.check_processes(mesh)
  _check_parts(config.train, sharding.num_batch_shards(mesh))
  weights = train_step.LossWeights(**config.loss)
  augmentation = make_augmentation(config.augmentation)
  checkpointing.check_workdir(workdir, plain, config_utils.differences)
  results_path = os.path.join(workdir, RESULTS_FILE)
  if os.path.exists(results_path):
    content = results.read_results(results_path)
    say(f'{workdir} is finished (step {content["step"]}); its results:')
    say(results_text.format_table(content))
    fault = saved_checkpoints.newest_fault(workdir)
    if fault:
      say(
        f'warning: {fault}; remove {results_path} and start again, and its '
        'steps are trained anew'
      )
    return content

  start = initialisation.start(config)
  config, pieces = start.config, start.pieces
  prep = model_builder.make_preprocessing(config, pieces)
  num_tokens = model_builder.vocabulary_size(pieces)
  # What is wrong with the model should not wait for the dataset.
  model_builder.parameter_shapes(
    model_builder.build_model(config, prep, num_tokens, 1), prep
  )
  # It may render a dataset: not several processes at once.
  protocol = distributed.main_first(
    lambda: evaluate_run.make_protocol(config), 'dataset'
  )
  _describe(protocol, config, pieces, say)
  seen = protocol.seen_classes
  _check_seen(protocol, train_step.least_classes(weights, augmentation))
  if config.zeroshot.top_k > len(seen):
    raise ValueError(
      f'zeroshot.top_k={config.zeroshot.top_k}, but there are {len(seen)} seen '
      'classes'
    )
  _read_descriptions(config, protocol, lambda text: None)
  if config.init.clip and protocol.unseen_classes:
    # What would fail in its row at the end should fail now.
    evaluate_run.frozen_clip_of(config).class_embeddings(
      protocol.unseen_classes
    )
  run = lambda: _run(
    config, workdir, stop, start, prep, protocol, mesh, cache, measure, say
  )
  if not main:
    return run()
  with checkpointing.lock_workdir(workdir):
    checkpointing.claim_workdir(workdir, plain)
    return run()


def _run(
  config, workdir, stop, start, prep, protocol, mesh, cache, measure, say
) -> dict[str, Any]:
  """The run itself, once everything is known to fit."""
  pieces, seen = start.pieces, protocol.seen_classes
  num_tokens = model_builder.vocabulary_size(pieces)
  descriptions = _read_descriptions(config, protocol, say)
  model = model_builder.build_model(config, prep, num_tokens, len(seen))
  optimizer, step = make_step(config, model, prep, mesh)
  state = train_step.init_state(
    model,
    optimizer,
    model_builder.input_shapes(prep),
    jax.random.key(config.seed),
    mesh,
    with_ema=config.optim.ema_decay > 0,
  )
  state = dataclasses.replace(
    state,
    params=initialisation.put(state.params, start.loaded),
    ema=initialisation.put(state.ema, start.loaded) if state.ema else {},
  )
  meta = {
    'config': config_utils.to_dict(config),
    'vocabulary': pieces,
    'seen_classes': list(seen),
    'preprocessing': prep.to_json(),
    'descriptions': descriptions,
  }
  num_parameters = sum(x.size for x in jax.tree.leaves(state.params))
  say(
    f'{num_parameters / 1e6:.2f} M parameters on mesh {dict(mesh.shape)} of '
    f'{jax.devices()[0].device_kind}'
  )
  lines = sharding.describe(state.params, mesh)
  whole = [line.split()[0] for line in lines if line.endswith('divide)')]
  if whole:
    say(f'whole along an axis that does not divide them: {whole}')
  if distributed.is_main():
    with open(os.path.join(workdir, PARAMETERS_FILE), 'w') as f:
      f.write('\n'.join(lines) + '\n')
  cache = cache or evaluate_run.video_cache(config)
  if distributed.is_main():
    checkpointing.set_aside_damaged(workdir, bool(state.ema), say)
  distributed.wait('checkpoints')
  with checkpointing.Checkpoints(
    workdir, config.train.keep_checkpoints
  ) as checkpoints:
    if checkpoints.latest_step() is not None:
      state = checkpoints.restore(state)
      say(f'going on from step {int(state.step)}')
    recognizer = encoders_lib.Recognizer(
      config,
      model,
      distributed.to_local(state.params, mesh),
      pieces,
      seen,
      distributed.local_mesh(mesh),
      int(state.step),
      descriptions,
    )
    loop = train_loop.TrainLoop(
      config,
      workdir,
      protocol,
      recognizer,
      cache,
      mesh,
      step,
      lambda state: checkpoints.save(state, meta),
      say,
      checkpoints.wait,
      checkpoints.newest_committed,
      lambda: bool(stop),
      lambda: step_cost.step_flops(config, prep, num_tokens, len(seen)),
    )
    with stop.deferred():
      state = loop.run(state)
  recognizer = recognizer.with_params(
    distributed.to_local(state.best_params, mesh), int(state.step)
  )
  if measure is not None:
    return measure(recognizer, evaluate_run.make_protocols(config, seen), cache)
  # Every process embeds its share, and all know the outcome; one writes.
  embeddings = os.path.join(workdir, evaluate_run.EMBEDDINGS_FOLDER)
  outcome = evaluate_run.evaluate(
    recognizer,
    evaluate_run.make_protocols(config, seen),
    cache,
    say,
    embeddings_dir='' if distributed.several() else embeddings,
  )
  content = outcome.content
  if distributed.is_main():
    _write(outcome, protocol, workdir, say)
  distributed.wait('results')
  return content


def _write(outcome: evaluate_run.Outcome, protocol, workdir: str, say) -> None:
  """Writes what a finished run leaves behind, and says so."""
  content, results_path = outcome.content, os.path.join(workdir, RESULTS_FILE)
  prototype_bank.save_bank(
    outcome.bank, os.path.join(workdir, encoders_lib.BANK_FILE)
  )
  if outcome.scores:
    score_files.write_scores(
      outcome.scores, os.path.join(workdir, evaluate_run.PREDICTIONS_FILE)
    )
  example = _write_examples(protocol, workdir)
  # Last, because its presence says that the run is finished.
  results.write_results(content, results_path)
  say(results_text.format_table(content))
  say(f'written to {results_path}')
  if example:
    say(
      'a video of a class that was never trained on, to try:\n'
      f'python -m zsar_jax.predict --workdir={workdir} --video="{example}" '
      f'--classes="{",".join(protocol.unseen_classes)}"'
    )


def _check_parts(c: ml_collections.ConfigDict, shards: int) -> None:
  """Refuses a batch that does not divide over devices and parts.

  Args:
    c: the config's section `train`.
    shards: parts that the mesh splits a batch into.
  """
  left, by = c.batch_size, 1
  for key, parts in (
    ('batch shards of the mesh', shards),
    ('train.accumulate', c.accumulate),
    ('train.fusion_chunks', c.fusion_chunks),
  ):
    if left % (by * parts):
      raise ValueError(
        f'train.batch_size={c.batch_size} does not divide over {shards} batch '
        f'shards of the mesh, train.accumulate={c.accumulate} parts and '
        f'train.fusion_chunks={c.fusion_chunks}: it fails at {key}'
      )
    by *= parts


def make_augmentation(
  section: ml_collections.ConfigDict,
) -> train_step.Augmentation:
  """What of the config's `augmentation` is done inside the step."""
  return train_step.Augmentation(
    pixel_ops.ColourJitter(**section.colour_jitter),
    pixel_ops.Mixing(section.mixup_alpha, section.cutmix_alpha),
  )


def make_step(config, model, prep, mesh):
  """A config's optimiser and its training step.

  Args:
    config: from a config file.
    model: from `model_builder.build_model`.
    prep: the preprocessing that goes with it.
    mesh: from `sharding.make_mesh`.

  Returns:
    The optimiser, and what `train_step.make_train_step` returns.
  """
  schedule = optim.make_schedule(
    learning_rate=config.optim.learning_rate,
    warmup_steps=config.optim.warmup_steps,
    num_steps=config.train.num_steps,
    name=config.optim.schedule,
  )
  optimizer = optim.make_optimizer(
    schedule,
    weight_decay=config.optim.weight_decay,
    clip_norm=config.optim.clip_norm,
    b2=config.optim.b2,
    frozen=tuple(config.optim.frozen),
    layer_decay=config.optim.layer_decay,
  )
  step = train_step.make_train_step(
    model,
    optimizer,
    schedule,
    train_step.LossWeights(**config.loss),
    prep,
    config.seed,
    mesh,
    make_augmentation(config.augmentation),
    accumulate=config.train.accumulate,
    fusion_chunks=config.train.fusion_chunks,
    ema_decay=config.optim.ema_decay,
    frozen=tuple(config.optim.frozen),
  )
  return optimizer, step


def _write_examples(protocol: class_split.Protocol, workdir: str) -> str:
  """Writes a video of each unseen class beside a run on rendered videos.

  People's own videos are at hand already, and are not copied about.

  Args:
    protocol: of the run.
    workdir: of the run.

  Returns:
    Path of one example, or '' where none were written.
  """
  test = protocol.test
  if protocol.domain != records.RENDERED_DOMAIN or (
    test is None or test.dataset_dir != protocol.dataset_dir
  ):
    return ''
  folder = os.path.join(workdir, EXAMPLES_FOLDER)
  os.makedirs(folder, exist_ok=True)
  for label, name in enumerate(protocol.unseen_classes):
    first = list(test.labels).index(label)
    source = records.open_split(test.dataset_dir, test.splits[first])
    path = os.path.join(folder, f'{name.replace(" ", "_")}.mp4')
    with open(path, 'wb') as f:
      f.write(source.read_file(test.rows[first]))
  return path


def _check_seen(protocol: class_split.Protocol, least: int) -> None:
  """Refuses a protocol of fewer seen classes than training needs."""
  seen = protocol.seen_classes
  if len(seen) < least:
    wanted = 'two' if least == 2 else 'three, since clips are mixed'
    raise ValueError(
      f'{protocol.name}: {list(seen)} is all that is seen; telling classes '
      f'apart needs at least {wanted}'
    )


def _read_descriptions(config, protocol, say) -> dict[str, list[str]]:
  """What the config's file says of the protocol's classes."""
  prompts.check_templates(tuple(config.names.prompts))
  path = config.names.descriptions
  if not path:
    return {}
  names = (*protocol.seen_classes, *protocol.unseen_classes)
  described = prompts.read_descriptions(os.path.expanduser(path), names)
  without = [name for name in names if name not in described]
  if without:
    say(f'{path} describes {len(described)} classes, and not {without}')
  return {name: list(sentences) for name, sentences in described.items()}


def _warn_of_coarse_storage(protocol: class_split.Protocol, prep, say) -> None:
  """Says so where clips ask for more frames than are stored."""
  storage = records.read_metadata(protocol.dataset_dir)['storage']
  step = prep.frame_stride / prep.sample_fps
  if (
    storage['kind'] == 'frames'
    and prep.sampling == 'dense'
    and step * storage['fps'] < 1
  ):
    say(
      f'{protocol.dataset_dir} stores a frame every {1 / storage["fps"]:.3g} s '
      f'and clips take one every {step:.3g} s: frames are repeated'
    )


def _describe(protocol: class_split.Protocol, config, pieces, say) -> None:
  """Says what will be trained on, and what was left out."""
  if protocol.test is None:
    unseen = 'no unseen classes, so nothing zero-shot is measured'
  else:
    unseen = (
      f'{len(protocol.unseen_classes)} unseen classes, {len(protocol.test)} '
      'test videos'
    )
  say(
    f'{protocol.name}: {len(protocol.seen_classes)} seen classes, '
    f'{len(protocol.train)} training and {len(protocol.validation)} '
    f'validation videos; {unseen}'
  )
  if protocol.unreadable:
    say(f'{len(protocol.unreadable)} test videos are unreadable')
  if protocol.num_missing:
    say(f'{protocol.num_missing} test videos are missing from the dataset')
  if protocol.dropped_classes:
    say(f'left out, because they leak: {list(protocol.dropped_classes)}')
  if protocol.leaks:
    say(f'{len(protocol.leaks)} leaks into the test are allowed')
  _warn_of_coarse_storage(protocol, config.preprocessing, say)
  doubtful = name_linter.lint(
    (*protocol.seen_classes, *protocol.unseen_classes),
    # A byte-pair vocabulary is one definition, and spells anything.
    pieces if len(pieces) > 1 else None,
  )
  if doubtful:
    say(
      f'{len(doubtful)} warnings about class names: '
      f'python -m zsar_jax.protocols lint {protocol.dataset_dir}'
    )
  sided = class_names.sided_classes(protocol.seen_classes)
  if config.augmentation.mirror and sided:
    say(f'never mirrored, because their names have a side: {sided}')
