"""Evaluates a public classifier's bank on real clips, without training.

python -m zsar_jax.bank build --video=i3d --text=MINILM_DIR --descriptions= \
  --output=BANK
python -m experiments.i3d_bank --workdir=BANK --dataset_dir=DIR \
  --class_split=experiments/real_clips_splits.json

DIR is a prepared dataset. The seen classes are the classifier's. First, all
classes of the dataset are candidates; then those of splits 1 to 4, evaluated
together. No setting is chosen on these videos. Classes that the classifier was
trained on are listed as leaks; the rows `..._without_leaks` are strictly
zero-shot. Embeddings are cached in BANK/embeddings.
--docs=docs/results/i3d_bank.md also puts the tables into the document.
"""

import dataclasses
import hashlib
import os

from experiments import documents
from zsar_jax import cli
from zsar_jax.data.protocols import bank_protocols, split_choice
from zsar_jax.evaluation import results_text
from zsar_jax.inference import evaluate_run, prototype_bank, saved_encoders
from zsar_jax.system import terminal

_SPLITS = (1, 2, 3, 4)


def main(argv: list[str]) -> None:
  """Evaluates and prints the tables."""
  values = documents.new_flags(
    {
      'workdir': 'Folder of the bank.',
      'dataset_dir': 'Prepared dataset.',
      'class_split': 'Class split file of five splits.',
    }
  )
  cli.parse(values, argv, usage=__doc__)
  recognizer = saved_encoders.load(values.workdir)
  bank = prototype_bank.load_bank(
    os.path.join(values.workdir, prototype_bank.BANK_FILE)
  )
  tables = {}
  for name, protocols in (
    ('all classes', _protocols(bank, values.dataset_dir)),
    ('splits 1 to 4', _of_splits(bank, values.dataset_dir, values.class_split)),
  ):
    outcome = evaluate_run.evaluate(
      recognizer,
      protocols,
      None,
      terminal.say,
      embeddings_dir=os.path.join(
        values.workdir, evaluate_run.EMBEDDINGS_FOLDER
      ),
      bank=bank,
    )
    tables[name] = results_text.format_table(outcome.content).splitlines()
  tables['machine'] = [documents.machine()]
  documents.publish(tables, values.docs)


def _protocols(bank, dataset: str, split_file: str = '', index: int = 0):
  choice = split_choice.SplitChoice(
    class_split=split_file,
    class_split_index=index,
    test_dataset_dir=dataset,
    allow_leaks=True,
  )
  seen = bank_protocols.Seen(bank.seen_classes, bank.domain, bank.protocol)
  return bank_protocols.make_bank_protocols(seen, choice)


def _of_splits(bank, dataset: str, split_file: str):
  """Evaluates splits 1 to 4, which no development has used, as one protocol."""
  protocols = [
    protocol
    for index in _SPLITS
    for protocol in _protocols(bank, dataset, split_file, index)
  ]
  hashes = ' '.join(protocol.hash for protocol in protocols)
  whole = {
    'spec_id': f'{protocols[0].spec_id.rsplit("/", 1)[0]}/1-4',
    'spec_hash': hashlib.sha256(hashes.encode()).hexdigest()[:12],
  }
  return [dataclasses.replace(protocol, **whole) for protocol in protocols]


if __name__ == '__main__':
  cli.run(main)
