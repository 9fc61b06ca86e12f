"""Chooses transfer settings for a run on its inner draws."""

from collections.abc import Callable, Sequence
import os
from typing import Any

from zsar_jax.evaluation import choosing, protocol_evaluation
from zsar_jax.inference import embedders, evaluate_run, saved_encoders


def choose_on(
  inner_workdirs: Sequence[str],
  workdir: str,
  say: Callable[[str], Any],
  step: int | None = None,
) -> dict[str, Any]:
  """Chooses settings for a run on its inner draws.

  An inner draw is a run whose unseen classes are seen classes of the first.

  Args:
    inner_workdirs: workdirs of the finished inner draws.
    workdir: workdir of the run to choose settings for.
    say: called with a line before each slow part, and with the choice.
    step: step of that run's checkpoint; None means the newest.

  Returns:
    See `choosing.choose`.

  Raises:
    ValueError: a workdir is no inner draw, or tests on a class that the run
      was not trained on.
    FileNotFoundError: a workdir has no checkpoint.
  """
  run = saved_encoders.load(workdir, step)
  draws, names = [], []
  for folder in inner_workdirs:
    recognizer = saved_encoders.load(folder)
    if recognizer.config.data.inner_draw < 0:
      raise ValueError(
        f'{folder} is no inner draw: train it with --config.data.inner_draw=0'
      )
    protocol = evaluate_run.make_protocol(recognizer.config)
    other = sorted(set(protocol.unseen_classes) - set(run.seen_classes))
    if other:
      raise ValueError(
        f'{folder} tests on {other}, which {workdir} was not trained on: '
        'settings may not be chosen on unseen classes'
      )
    embed = embedders.make_embedder(
      recognizer,
      evaluate_run.video_cache(recognizer.config),
      os.path.join(folder, evaluate_run.EMBEDDINGS_FOLDER),
      say=say,
    )
    draws.append(
      protocol_evaluation.evaluate_protocols(
        [protocol], embed, recognizer.transfer_settings
      )
    )
    names.append(protocol.name)
  choice = choosing.choose(draws, run.transfer_settings, names)
  for compared in choice['compared']:
    accuracies = ', '.join(f'{100 * a:.1f}' for a in compared['accuracies'])
    say(f'{accuracies}  {compared["settings"]}')
  say(f'chosen: {choice["settings"]}')
  return choice
