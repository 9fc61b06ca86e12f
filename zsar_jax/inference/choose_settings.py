"""Chooses transfer settings for a run on its inner draws."""

from collections.abc import Callable, Sequence
import os
from typing import Any

from zsar_jax.data.protocols import class_split
from zsar_jax.evaluation import choosing, embedding, protocol_evaluation
from zsar_jax.inference import (
  embedders,
  encoders,
  evaluate_run,
  saved_encoders,
)
from zsar_jax.system import json_files


def read_or_choose(
  workdir: str, inner: str, say: Callable[[str], Any], step: int | None = None
) -> dict[str, Any] | None:
  """Chooses settings on inner draws and keeps the choice in the workdir.

  Args:
    workdir: workdir of the run.
    inner: workdirs of the inner draws, with commas; '' reads what an earlier
      call kept.
    say: see `choose_on`.
    step: see `choose_on`.

  Returns:
    See `choosing.choose`; None if nothing was chosen yet.
  """
  path = os.path.join(workdir, evaluate_run.CHOICE_FILE)
  if not inner:
    return json_files.read(path) if os.path.exists(path) else None
  choice = choose_on(inner.split(','), workdir, say, step)
  json_files.write(choice, path)
  return choice


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
    recognizer, protocol = open_draw(folder, run, workdir)
    embed = embed_with(recognizer, folder, say)
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


def open_draw(
  folder: str, run: encoders.Recognizer, workdir: str
) -> tuple[encoders.Recognizer, class_split.Protocol]:
  """Opens an inner draw's run.

  Args:
    folder: of the draw's finished run.
    run: what is chosen for.
    workdir: of that run, for messages.

  Returns:
    The draw's encoders, and the protocol that they are tested by.

  Raises:
    ValueError: it is no inner draw, or tests on a class that `run` has not
      seen.
    FileNotFoundError: no checkpoint there.
  """
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
  return recognizer, protocol


def embed_with(
  recognizer: encoders.Recognizer, folder: str, say: Callable[[str], Any]
) -> embedding.Embedder:
  """Makes what embeds a run's videos, and keeps them in its workdir."""
  return embedders.make_embedder(
    recognizer,
    evaluate_run.video_cache(recognizer.config),
    os.path.join(folder, evaluate_run.EMBEDDINGS_FOLDER),
    say=say,
  )
