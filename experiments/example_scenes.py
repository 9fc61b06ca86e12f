"""Does it matter which videos a bank's centre is the mean of?

python -m experiments.example_scenes --workdir=BANK --dataset_dir=DIR \
  --class_split=experiments/real_clips_splits.json

Prototypes of public weights lack the mean of all videos, and examples have to
lack it too: see `example_videos.centre_of`. A bank of a classifier's columns
knows that mean only from the videos that it was calibrated on. Here these are
the clips of three seen classes of one source (one scene), four of each; or all
clips of the split's seen classes. Then a single unseen class gets five
examples, and the seven others keep their names alone.

Every class of every split gets the examples in turn, in twenty draws, each with
other calibration clips. --docs=docs/results/examples.md puts the table into
the document. Embeddings are those of `experiments.few_examples_clips`.
"""

from collections.abc import Sequence
import dataclasses
import os

import numpy as np

from experiments import (
  documents,
  few_examples,
  pretrained_clips,
  real_clips_cells,
)
from zsar_jax import cli
from zsar_jax.data.protocols import class_split, prepared_dataset
from zsar_jax.evaluation import example_draws, methods, results_text
from zsar_jax.inference import (
  classifier_bank,
  embedders,
  evaluate_run,
  saved_encoders,
)
from zsar_jax.zeroshot import examples, prototypes, scoring

_NUM_EXAMPLES = 5
_CLASSES, _CLIPS = 3, 4  # that a bank is calibrated on
OWN, OTHER, ALL = CENTRES = 'own scene', 'another scene', 'all scenes'


@dataclasses.dataclass(frozen=True)
class Seen:
  """The clips of the seen classes.

  Attributes:
    z: mean over views [n d].
    labels: int [n].
    sources: of each class.
  """

  z: np.ndarray
  labels: np.ndarray
  sources: tuple[str, ...]

  def centre(self, source: str, rng: np.random.Generator) -> np.ndarray:
    """The mean of a few clips of a source; of all clips if it is ''."""
    names = np.array(self.sources)
    chosen = np.arange(len(names))
    if source:
      chosen = rng.choice(
        np.flatnonzero(names == source), _CLASSES, replace=False
      )
    rows, of_class = [], []
    for place, c in enumerate(chosen):
      of_one = np.flatnonzero(self.labels == c)
      if source:
        of_one = rng.choice(of_one, _CLIPS, replace=False)
      rows.append(of_one)
      of_class += [place] * len(of_one)
    means = prototypes.class_prototypes(
      self.z[np.concatenate(rows)], np.array(of_class), len(chosen)
    )
    return means.mean(axis=0)


def measure(
  problem: few_examples.Problem, seen: Seen, prior: float
) -> dict[str, list[np.ndarray]]:
  """Gives each class examples, with each kind of centre.

  Args:
    problem: of the unseen classes; its draws have the examples.
    seen: clips that banks are calibrated on.
    prior: strength of the name.

  Returns:
    Kind of centre -> for each draw and class [2 4]: without and with examples
    the accuracy of the class, of the others of its source, of other sources,
    and the share of answers that name the class.
  """
  rng = np.random.default_rng(2)
  sources = np.array(problem.evaluation.unseen.sources)
  found: dict[str, list[np.ndarray]] = {kind: [] for kind in CENTRES}
  z = problem.evaluation.videos.embeddings
  for drawn in problem.draws:
    labels = problem.labels(drawn)
    centres = {s: seen.centre(s, rng) for s in (*sorted(set(sources)), '')}
    directions = {s: examples.directions(z, c) for s, c in centres.items()}
    for c, source in enumerate(sources):
      others = [s for s in sorted(set(sources)) if s != source]
      counts = np.where(np.arange(len(sources)) == c, _NUM_EXAMPLES, 0)
      for kind, places in ((OWN, [source]), (OTHER, others), (ALL, [''])):
        for place in places:
          both = []
          for given in (0, counts):
            scored = example_draws.scores(
              drawn, z, directions[place], problem.composites, given, prior
            )
            both.append(_figures(scored, labels, sources, c))
          found[kind].append(np.array(both))
  return found


def _figures(
  scored: np.ndarray, labels: np.ndarray, sources: np.ndarray, c: int
) -> list[float]:
  """The figures of `measure` for one class and one set of scores [t u]."""
  right = example_draws.per_class_accuracy(scored, labels)
  alike = sources == sources[c]
  rest = alike & (np.arange(len(sources)) != c)
  answered = np.mean(scored.argmax(axis=1) == c)
  return [right[c], right[rest].mean(), right[~alike].mean(), answered]


def table(found: Sequence[dict[str, list[np.ndarray]]]) -> list[str]:
  """Means over splits, draws and classes.

  Args:
    found: `measure` of each split.
  """
  lines = []
  for kind in CENTRES:
    values = np.concatenate([np.stack(of_split[kind]) for of_split in found])
    before, after = 100 * values.mean(axis=0)
    if kind == OWN:
      lines.append(['none given', *(f'{x:.1f}' for x in before)])
    lines.append([kind, *(f'{x:.1f}' for x in after)])
  header = (
    'centre',
    'class with examples',
    'others of its scene',
    'other scenes',
    'answers with it',
  )
  return results_text.columns(header, lines)


def make(
  recognizer, split: class_split.Protocol, embeddings: str
) -> tuple[few_examples.Problem, Seen]:
  """Makes the problem and the seen clips of a split.

  Args:
    recognizer: the encoders.
    split: with seen and unseen classes.
    embeddings: parent of the embedding caches.
  """
  dropped = [n for n in split.unseen_classes if n in recognizer.seen_classes]
  bank = classifier_bank.make_bank(recognizer, dropped)
  evaluation = few_examples.embed(recognizer, [split], embeddings, bank)
  settings = methods.TransferSettings(**bank.settings)
  dataset = prepared_dataset.PreparedDataset(split.dataset_dir)
  (part,) = dataset.indices
  clips = dataset.select(part, split.seen_classes)
  embed = embedders.make_embedder(recognizer, None, embeddings)
  first = [
    int(np.argmax(clips.labels == c)) for c in range(len(set(clips.labels)))
  ]
  seen = Seen(
    scoring.view_means(embed(clips).embeddings),
    np.asarray(clips.labels),
    tuple(clips.sources[i] for i in first),
  )
  return few_examples.Problem(evaluation, settings), seen


def main(argv: list[str]) -> None:
  """Measures, and prints the table."""
  values = documents.new_flags(
    {
      'workdir': 'Folder of the bank.',
      'dataset_dir': 'Prepared dataset.',
      'class_split': 'Class split file of several splits.',
    }
  )
  cli.parse(values, argv, usage=__doc__)
  recognizer = saved_encoders.load(values.workdir)
  embeddings = os.path.join(values.workdir, evaluate_run.EMBEDDINGS_FOLDER)
  prior = methods.TransferSettings().example_prior
  protocols = pretrained_clips.make_protocols(
    values.dataset_dir, values.class_split
  )
  found = [
    measure(*make(recognizer, split, embeddings), prior)
    for index, (split, _) in enumerate(protocols)
    if index != real_clips_cells.DEVELOPMENT
  ]
  documents.publish({'clips, scenes': table(found)}, values.docs)


if __name__ == '__main__':
  cli.run(main)
