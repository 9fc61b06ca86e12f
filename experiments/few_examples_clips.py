"""What do a few example videos of an unseen class bring on filmed clips?

python -m experiments.few_examples_clips --workdir=BANK --dataset_dir=DIR \
  --class_split=experiments/real_clips_splits.json

BANK is a folder of public weights, as `bank build --video=i3d --text=TEXT
--output=BANK` writes it. DIR is a prepared dataset of clips from several
sources. For each split, a bank is built of the classifier's columns and the
clips of the split's seen classes; columns of the unseen classes are left out.
That is what `bank build --dataset=DIR --drop_seen=UNSEEN` does.

Examples are drawn as in `experiments.few_examples`: from other recording
sessions than the tested clips. The strength of the name is chosen for each
split on three inner draws, in which some of its seen classes play unseen.
Split 0 is left out, since other settings were developed on it.

Embeddings are kept in BANK/embeddings. --docs=docs/results/examples.md puts
the tables into the document.
"""

from collections.abc import Sequence
import os

from experiments import (
  documents,
  few_examples,
  pretrained_clips,
  real_clips_cells,
)
from zsar_jax import cli
from zsar_jax.data.protocols import class_split, prepared_dataset
from zsar_jax.evaluation import methods
from zsar_jax.inference import (
  confidence,
  evaluate_run,
  prototype_bank,
  public_banks,
  public_encoders,
  saved_encoders,
)
from zsar_jax.system import terminal


class Banks:
  """Builds the banks of protocols.

  Attributes:
    recognizer: the encoders.
    embeddings: folder of the cached embeddings.
  """

  def __init__(
    self,
    recognizer: public_encoders.PublicEncoders,
    dataset_dir: str,
    embeddings: str,
  ):
    """Takes the encoders and the clips.

    Args:
      recognizer: the encoders.
      dataset_dir: prepared dataset.
      embeddings: parent of the embedding caches.
    """
    self.recognizer, self.embeddings = recognizer, embeddings
    self._dataset_dir = dataset_dir
    self._classes = prepared_dataset.PreparedDataset(dataset_dir).classes()

  def build(
    self, protocol: class_split.Protocol
  ) -> prototype_bank.PrototypeBank:
    """Builds a bank of the columns and the clips of the seen classes."""
    seen = protocol.seen_classes
    choice = public_banks.Choice(
      dataset_dir=self._dataset_dir,
      drop_seen=[name for name in self._classes if name not in seen],
    )
    return public_banks.make_bank(
      self.recognizer, choice, embeddings_dir=self.embeddings
    )

  def problem(
    self, protocol: class_split.Protocol, bank: prototype_bank.PrototypeBank
  ) -> few_examples.Problem:
    """Draws examples of a protocol's unseen classes."""
    evaluation = few_examples.embed(
      self.recognizer, [protocol], self.embeddings, bank
    )
    settings = methods.TransferSettings(**bank.settings)
    return few_examples.Problem(evaluation, settings, bank.centre)


def inner_table(
  of_splits: Sequence[Sequence[few_examples.Problem]],
) -> tuple[list[str], list[float]]:
  """Chooses the strength of the name for each split on its inner draws.

  Args:
    of_splits: problems of the inner draws of each split.

  Returns:
    Lines of a table over all of them, and the strength for each split.
  """
  default = methods.TransferSettings().example_prior
  together = [problem for draws in of_splits for problem in draws]
  lines, _ = few_examples.inner_table(together, default)
  chosen = [few_examples.inner_table(draws, default)[1] for draws in of_splits]
  told = ', '.join(f'{prior:g}' for prior in chosen)
  return [*lines[:-1], f'chosen for each split: {told}'], chosen


def main(argv: list[str]) -> None:
  """Builds, chooses, measures, and prints the tables."""
  values = documents.new_flags(
    {
      'workdir': 'Folder of the bank.',
      'dataset_dir': 'Prepared dataset.',
      'class_split': 'Class split file of several splits.',
    }
  )
  cli.parse(values, argv, usage=__doc__)
  banks = Banks(
    saved_encoders.load(values.workdir),
    values.dataset_dir,
    os.path.join(values.workdir, evaluate_run.EMBEDDINGS_FOLDER),
  )
  problems, inner, sure = [], [], []
  protocols = pretrained_clips.make_protocols(
    values.dataset_dir, values.class_split
  )
  for index, (split, draws) in enumerate(protocols):
    if index == real_clips_cells.DEVELOPMENT:
      continue
    terminal.say(
      f'{split.name}: examples of {len(split.unseen_classes)} classes'
    )
    bank = banks.build(split)
    problems.append(banks.problem(split, bank))
    sure.append(confidence.Confidence(bank.calibration, False))
    inner.append([banks.problem(draw, banks.build(draw)) for draw in draws])
  tables = {}
  tables['clips, inner draws'], priors = inner_table(inner)
  tables['clips, unseen classes'] = few_examples.test_table(problems, priors)
  tables['clips, together'] = few_examples.fairness_table(
    problems, priors, sure
  )
  tables['clips, machine'] = [documents.machine()]
  documents.publish(tables, values.docs)


if __name__ == '__main__':
  cli.run(main)
