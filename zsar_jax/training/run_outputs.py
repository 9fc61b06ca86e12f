"""Writes the outputs of a finished run to its workdir."""

from collections.abc import Callable
import os
from typing import Any

from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import class_split
from zsar_jax.evaluation import results, results_text, score_files
from zsar_jax.inference import evaluate_run, prototype_bank

EXAMPLES_FOLDER = 'examples'


def write(
  outcome: evaluate_run.Outcome,
  protocol: class_split.Protocol,
  workdir: str,
  say: Callable[[str], Any],
) -> None:
  """Writes the bank, the scores, example videos and the results.

  Args:
    outcome: of the evaluation.
    protocol: of the run.
    workdir: of the run.
    say: prints the table, and how to try a prediction.
  """
  content, results_path = (
    outcome.content,
    os.path.join(workdir, results.RESULTS_FILE),
  )
  prototype_bank.save_bank(
    outcome.bank, os.path.join(workdir, prototype_bank.BANK_FILE)
  )
  if outcome.scores:
    score_files.write_scores(
      outcome.scores, os.path.join(workdir, evaluate_run.PREDICTIONS_FILE)
    )
  example = _write_examples(protocol, workdir)
  # Written last: its presence says that the run is finished.
  results.write_results(content, results_path)
  say(results_text.format_table(content))
  say(f'written to {results_path}')
  if example:
    say(
      'to try it on a video of an unseen class:\n'
      f'zsar predict --workdir={workdir} --video="{example}" '
      f'--classes="{",".join(protocol.unseen_classes)}"'
    )


def _write_examples(protocol: class_split.Protocol, workdir: str) -> str:
  """Writes a video of each unseen class beside a run on rendered videos.

  Users have their own videos already, so those are not copied.

  Args:
    protocol: of the run.
    workdir: of the run.

  Returns:
    Path of one example, or '' if none were written.
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
