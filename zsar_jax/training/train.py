"""Runs a training: from a config and a workdir to results.json."""

from collections.abc import Callable
import dataclasses
import os
from typing import Any

import jax
import ml_collections

from zsar_jax import config_utils
from zsar_jax.data import clip_reader, preprocessing
from zsar_jax.data.protocols import class_split
from zsar_jax.evaluation import results, results_text
from zsar_jax.inference import (
  class_texts,
  evaluate_run,
  model_builder,
  saved_checkpoints,
  starts,
  trained_encoders,
)
from zsar_jax.parallel import distributed, sharding
from zsar_jax.pretrained import initialisation
from zsar_jax.system import interruption, terminal
from zsar_jax.training import (
  checkpointing,
  make_step,
  run_checks,
  run_outputs,
  step_cost,
  step_loss,
  train_loop,
  train_state,
)

# File that says how each parameter lies on the mesh.
PARAMETERS_FILE = 'parameters.txt'
# (recognizer, splits of its protocol, decoded videos) -> its findings.
Measure = Callable[
  [
    trained_encoders.TrainedEncoders,
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
  """Trains, or resumes training, and evaluates.

  Args:
    config: from a config file; checked first.
    workdir: folder of checkpoints, metrics and results. If it holds a run, the
      run continues from its newest checkpoint. If the run has finished, its
      results are shown.
    cache: decoded videos, to share between runs on one dataset with one
      `preprocessing.short_side`; None makes the cache of the config.
    measure: function to call on the trained model instead of the evaluation.
      Its result is returned, and no results are written.

  Returns:
    The content of results.json.

  Raises:
    ValueError: the config or the dataset cannot work, or the workdir is in use
      or has another config.
    FileNotFoundError: the dataset, split file or vocabulary is missing.
    Interrupted: SIGTERM came; the run can be resumed.
    PeerLost: another process of the run died.
  """
  config_utils.check_config(config)
  several = distributed.several()
  with interruption.on_termination(handle=not several) as stop:
    try:
      return _train(config, workdir, stop, (cache, measure))
    except jax.errors.JaxRuntimeError as e:
      if several:
        raise distributed.explain(e) from e
      raise


@dataclasses.dataclass(frozen=True)
class _Run:
  """A run that was checked and may start.

  Attributes:
    given: the config as it was given, as plain values.
    config: of the run, with the settings of its public weights.
    workdir: of the run.
    start: the weights to start from, and the vocabulary.
    prep: the preprocessing that goes with the model.
    texts: turns class names into texts and tokens.
    protocol: the classes and videos to train on.
    mesh: of all devices.
    stop: may stop the run.
    say: prints a line, in the main process.
  """

  given: dict[str, Any]
  config: ml_collections.ConfigDict
  workdir: str
  start: initialisation.Start
  prep: preprocessing.Preprocessing
  texts: class_texts.ClassTexts
  protocol: class_split.Protocol
  mesh: jax.sharding.Mesh
  stop: interruption.StopFlag
  say: Callable[[str], Any]

  @property
  def seen(self) -> tuple[str, ...]:
    """Returns the seen classes."""
    return self.protocol.seen_classes

  @property
  def num_tokens(self) -> int:
    """Returns the size of the vocabulary."""
    return model_builder.vocabulary_size(self.start.pieces)


def _train(
  config: ml_collections.ConfigDict,
  workdir: str,
  stop: interruption.StopFlag,
  extras: tuple[clip_reader.VideoCache | None, Measure | None],
) -> dict[str, Any]:
  """Does the work of `train`; `stop` may end it, `extras` are its last two."""
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
  run_checks.check_parts(config.train, sharding.num_batch_shards(mesh))
  make_step.make_objective(config, None, None)  # refuses invalid weights
  checkpointing.check_workdir(workdir, plain, config_utils.differences)
  finished = _read_finished(workdir, say)
  if finished:
    return finished
  run = _check(config, workdir, mesh, stop, say)
  if not main:
    return _run(run, *extras)
  with checkpointing.lock_workdir(workdir):
    return _run(run, *extras)


def _read_finished(workdir: str, say) -> dict[str, Any] | None:
  """Shows and returns the results of a finished run; None if unfinished."""
  path = os.path.join(workdir, results.RESULTS_FILE)
  if not os.path.exists(path):
    return None
  content = results.read_results(path)
  say(f'{workdir} is finished (step {content["step"]}); its results:')
  say(results_text.format_table(content))
  fault = saved_checkpoints.newest_fault(workdir)
  if fault:
    say(
      f'warning: {fault}; to train its steps again, remove {path} and start '
      'again'
    )
  return content


def _check(config, workdir, mesh, stop, say) -> _Run:
  """Reads weights and protocol, and refuses settings that would fail later."""
  given, start = config_utils.to_dict(config), starts.start(config)
  config, pieces = start.config, start.pieces
  prep = model_builder.make_preprocessing(config, pieces)
  # Report mistakes in model and optimiser before loading the dataset.
  num_tokens = model_builder.vocabulary_size(pieces)
  model = model_builder.build_model(config, prep, num_tokens, 1)
  shapes = model_builder.parameter_shapes(model, prep)
  optimizer, _ = make_step.make_optimizer(config)
  jax.eval_shape(optimizer.init, shapes)
  # It may render a dataset, which only one process at a time may do.
  protocol = distributed.main_first(
    lambda: evaluate_run.make_protocol(config), 'dataset'
  )
  starts.check_unseen(config, protocol)
  run_checks.describe(protocol, config, pieces, say)
  objective = make_step.make_objective(config, model, prep)
  run_checks.check_seen(
    protocol,
    step_loss.least_classes(objective.weights, objective.augmentation),
  )
  seen = protocol.seen_classes
  if config.zeroshot.top_k > len(seen):
    raise ValueError(
      f'zeroshot.top_k={config.zeroshot.top_k}, but there are {len(seen)} seen '
      'classes'
    )
  texts = class_texts.ClassTexts(
    pieces,
    prep.token_length,
    config.names.prompts,
    run_checks.read_descriptions(config, protocol, say),
  )
  texts.token_ids((*seen, *protocol.unseen_classes))  # refuses long ones
  if initialisation.dual_source(config) and protocol.unseen_classes:
    # Settings that would fail in a row of the table should fail now.
    evaluate_run.frozen_clip_of(config).encode_class_names(
      protocol.unseen_classes
    )
  return _Run(
    given, config, workdir, start, prep, texts, protocol, mesh, stop, say
  )


def _run(
  run: _Run,
  cache: clip_reader.VideoCache | None,
  measure: Measure | None,
) -> dict[str, Any]:
  """Trains and evaluates a run that was checked."""
  with_ema = run.config.optim.ema_decay > 0
  if distributed.is_main():
    checkpointing.set_aside_damaged(run.workdir, with_ema, run.say)
  distributed.wait('checkpoints')
  run = _as_begun(run)
  model = model_builder.build_model(
    run.config, run.prep, run.num_tokens, len(run.seen)
  )
  optimizer, step = make_step.make_step(run.config, model, run.prep, run.mesh)
  state = _first_state(run, model, optimizer)
  _describe_parameters(run, state)
  cache = cache or evaluate_run.video_cache(run.config)
  with checkpointing.Checkpoints(
    run.workdir, run.config.train.keep_checkpoints
  ) as checkpoints:
    if checkpoints.latest_step() is not None:
      state = checkpoints.restore(state)
      run.say(f'resuming from step {int(state.step)}')
    recognizer = trained_encoders.TrainedEncoders(
      run.config,
      model,
      distributed.to_local(state.params, run.mesh),
      run.texts,
      run.seen,
      distributed.local_mesh(run.mesh),
      int(state.step),
    )
    loop = _make_loop(run, recognizer, cache, step, checkpoints)
    # Not earlier: what is refused before the first step occupies no workdir.
    if distributed.is_main():
      checkpointing.claim_workdir(run.workdir, run.given)
    with run.stop.deferred():
      state = loop.run(state)
  recognizer = recognizer.with_params(
    distributed.to_local(state.best_params, run.mesh), int(state.step)
  )
  return _finish(run, recognizer, cache, measure)


def _as_begun(run: _Run) -> _Run:
  """The run with the preprocessing that its checkpoints were trained with."""
  begun = checkpointing.read_preprocessing(run.workdir)
  if begun is None or begun == run.prep:
    return run
  config = run_checks.keep_preprocessing(run.config, run.prep, begun, run.say)
  texts = class_texts.ClassTexts(
    run.texts.pieces,
    begun.token_length,
    config.names.prompts,
    run.texts.descriptions,
  )
  return dataclasses.replace(run, config=config, prep=begun, texts=texts)


def _first_state(run: _Run, model, optimizer) -> train_state.TrainState:
  """Returns the state at step 0, with the weights that the run starts from."""
  state = train_state.init_state(
    model,
    optimizer,
    model_builder.input_shapes(run.prep),
    jax.random.key(run.config.seed),
    run.mesh,
    with_ema=run.config.optim.ema_decay > 0,
  )
  loaded = run.start.loaded
  return dataclasses.replace(
    state,
    params=initialisation.put(state.params, loaded),
    ema=initialisation.put(state.ema, loaded) if state.ema else {},
  )


def _describe_parameters(run: _Run, state: train_state.TrainState) -> None:
  """Says how many parameters there are, and writes where each lies."""
  num_parameters = sum(x.size for x in jax.tree.leaves(state.params))
  run.say(
    f'{num_parameters / 1e6:.2f} M parameters on mesh {dict(run.mesh.shape)} '
    f'of {jax.devices()[0].device_kind}'
  )
  lines = sharding.describe(state.params, run.mesh)
  whole = [line.split()[0] for line in lines if line.endswith('divide)')]
  if whole:
    run.say(f'whole along an axis that does not divide them: {whole}')
  if distributed.is_main():
    with open(os.path.join(run.workdir, PARAMETERS_FILE), 'w') as f:
      f.write('\n'.join(lines) + '\n')


def _make_loop(run, recognizer, cache, step, checkpoints):
  """Returns the loop over the remaining steps."""
  meta = {
    'config': config_utils.to_dict(run.config),
    'vocabulary': run.start.pieces,
    'seen_classes': list(run.seen),
    'preprocessing': run.prep.to_json(),
    'descriptions': recognizer.texts.descriptions,
  }
  return train_loop.TrainLoop(
    run.config,
    run.workdir,
    run.protocol,
    recognizer,
    cache,
    run.mesh,
    step,
    lambda state: checkpoints.save(state, meta),
    run.say,
    checkpoints.wait,
    checkpoints.newest_committed,
    lambda: bool(run.stop),
    lambda: step_cost.step_flops(
      run.config, run.prep, run.num_tokens, len(run.seen)
    ),
  )


def _finish(run, recognizer, cache, measure) -> dict[str, Any]:
  """Evaluates the trained model and writes the results, or measures it."""
  protocols = evaluate_run.make_protocols(run.config, run.seen)
  if measure is not None:
    return measure(recognizer, protocols, cache)
  # Every process embeds its share and gets the outcome. One of them writes.
  embeddings = os.path.join(run.workdir, evaluate_run.EMBEDDINGS_FOLDER)
  outcome = evaluate_run.evaluate(
    recognizer,
    protocols,
    cache,
    run.say,
    embeddings_dir='' if distributed.several() else embeddings,
  )
  if distributed.is_main():
    run_outputs.write(outcome, run.protocol, run.workdir, run.say)
  distributed.wait('results')
  return outcome.content
