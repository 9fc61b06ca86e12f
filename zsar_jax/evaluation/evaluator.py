"""Makes the zero-shot table: rows of results from embeddings or scores.

A *diagnostic* explains a result and is never a result itself: for example, the
oracles use the labels of the unseen videos. Its name starts with `oracle_`,
`control_` or `floor_`.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from zsar_jax.evaluation import accuracy, diagnostics, methods, results, task
from zsar_jax.zeroshot import prototypes, scoring


@dataclasses.dataclass(frozen=True)
class Table:
  """The outcome of an evaluation.

  Attributes:
    rows: accuracies of methods, then diagnostics.
    paired: differences between methods on the same videos.
    scores: method -> [n u], for the readable videos.
    facts: figures other than accuracies, by name; JSON-able.
    notes: rows that are missing, and why.
  """

  rows: list[results.Row]
  paired: list[results.Paired]
  scores: dict[str, np.ndarray]
  facts: dict
  notes: tuple[str, ...] = ()


def evaluate(
  seen: task.Seen,
  unseen: task.Classes,
  videos: task.TestVideos,
  settings: methods.TransferSettings,
  *,
  diagnose: bool = True,
  resamples: int = 0,
) -> Table:
  """Measures all methods on the test videos.

  Args:
    seen: the seen classes.
    unseen: the unseen classes: the candidates of all splits.
    videos: videos of the unseen classes.
    settings: of the methods.
    diagnose: also compute the diagnostics and facts.
    resamples: number of bootstrap resamples; 0 means the default.

  Returns:
    The table: rows of `methods.METHODS`, then of the diagnostics that the data
    allow.

  Raises:
    ValueError: an embedding or a score is NaN, or the settings need arrays
      that `seen` or `unseen` lack.
  """
  prototypes.check_embeddings(videos.embeddings, 'test videos')
  figures = accuracy.Accuracies(
    unseen, videos.as_tested(len(unseen.names)), resamples
  )
  z = scoring.view_means(videos.embeddings)
  one_split = figures.tested.tested.shape[1] == 1
  scores = methods.method_scores(seen, unseen, z, videos.match, settings)
  if settings.transductive and one_split:
    scores |= methods.transductive_scores(
      scores['transfer'], settings.temperature
    )
  for method, of_method in scores.items():
    figures.add_scores(method, videos.pad(of_method))
  floors = diagnostics.floor_rows(figures)
  measured = figures.num_figures
  facts = {}
  if diagnose:
    diagnostics.add_controls(
      figures, seen, unseen, videos, scores['transfer'], settings
    )
    diagnostics.add_oracles(figures, seen, unseen, videos, z, settings)
    facts = diagnostics.facts(
      seen, unseen, videos, z, scores, figures, settings
    )
  rows = figures.rows()
  rows = [*rows[:measured], *floors, *rows[measured:]]
  others = [m for m in figures.methods() if not m.startswith('oracle_')]
  firsts = methods.compared(settings)
  paired = _paired(figures, firsts, others, methods.PRIMARY)
  notes = _notes(
    figures, videos, settings.transductive and not one_split, seen.joint
  )
  return Table(rows, paired, scores, facts, notes)


def _paired(
  figures: accuracy.Accuracies,
  firsts: Sequence[str],
  others: Sequence[str],
  primary: str,
) -> list[results.Paired]:
  """Computes differences of both per-class metrics, the declared one first.

  The first of `firsts` is compared with all others, the rest of them with the
  methods that are no transfer.
  """
  rivals = [
    m for m in others if m in methods.METHODS and not m.startswith('transfer')
  ]
  return [
    pair
    for i, first in enumerate(firsts)
    for metric in (accuracy.SAME_SOURCE, accuracy.PER_CLASS)
    for pair in figures.paired(
      first, rivals if i else others, metric, '' if i else primary
    )
  ]


def _notes(
  figures: accuracy.Accuracies,
  videos: task.TestVideos,
  no_transductive: bool,
  joint: bool,
) -> tuple[str, ...]:
  """Lists the rows that the table lacks, and why."""
  notes = []
  if not joint:
    notes.append('nearest_name: videos and names have no joint space')
  if no_transductive:
    notes.append('transductive rows: they need a protocol with one split')
  if not videos.changed_embeddings:
    notes.append('control_first_frame, control_shuffled_frames: not asked for')
  if videos.match is None:
    notes.append('fusion and ensemble: there are no match scores')
  return (*notes, *_notes_of_empty_classes(figures))


def _notes_of_empty_classes(figures: accuracy.Accuracies) -> tuple[str, ...]:
  if not figures.empty_classes:
    return ()
  return (
    f'all means leave out classes without video: {figures.empty_classes}',
  )


def score_rows(
  scores: Mapping[str, np.ndarray],
  unseen: task.Classes,
  videos: task.TestVideos,
  firsts: Sequence[str] = (),
  primary: str | None = None,
) -> Table:
  """Makes the table of scores that are computed already.

  Args:
    scores: method -> [n u], higher is better.
    unseen: the candidates; their embeddings are not used.
    videos: the test videos; their embeddings are not used.
    firsts: methods to compare with the others; () for the first one.
    primary: the other method of the declared comparison; None for the second
      one.

  Returns:
    Accuracies of the methods and floors, and differences of `firsts` from the
    others.
  """
  figures = accuracy.Accuracies(unseen, videos.as_tested(len(unseen.names)))
  for method, of_method in scores.items():
    figures.add_scores(method, videos.pad(np.asarray(of_method)))
  first, *others = scores
  if primary is None:
    primary = others[0] if others else ''
  return Table(
    [*figures.rows(), *diagnostics.floor_rows(figures)],
    _paired(figures, firsts or (first,), others, primary),
    dict(scores),
    {},
    _notes_of_empty_classes(figures),
  )
