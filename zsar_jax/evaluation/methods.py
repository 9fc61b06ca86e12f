"""Zero-shot evaluation: from cached embeddings to rows of results.

Everything here is arithmetic on arrays: no model, no video. A *diagnostic*
(names start with `oracle_`, `control_` or `floor_`) says why a result is what
it is, and is never itself a result: the oracles use the unseen labels.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from zsar_jax.evaluation import diagnostics, results
from zsar_jax.evaluation.accuracy import (
  PER_CLASS,
  SAME_SOURCE,
  Accuracies,
  Classes,
  Tested,
)
from zsar_jax.zeroshot import (
  baselines,
  hubness,
  prototypes,
  scoring,
  semantic_transfer,
)

# What is measured; all other rows are diagnostics.
METHODS = (
  'transfer',
  'transfer_ridge',
  'transfer_simplex',
  'nearest_name',
  'conse',
  'ridge_to_text',
  'fusion',
  'ensemble',
)
# They look at all test videos at once, and are only ever made when asked for.
TRANSDUCTIVE = ('transductive_inverted_softmax', 'transductive_sinkhorn')
# Declared before any result was looked at: does transfer beat this?
PRIMARY = 'nearest_name'
RELATEDNESS_SOURCES = ('trained', 'initial')
PROTOTYPE_SOURCES = ('videos', 'classifier')


@dataclasses.dataclass(frozen=True)
class TransferSettings:
  """How scores are made of embeddings; see `zsar_jax.zeroshot`.

  Attributes:
    temperature: tau of the softmax weights.
    top_k: seen classes a composite is made of; 0 means all.
    centre_text: take the mean seen class embedding off first.
    weighting: of what `predict` and composited prototypes use; the table has
      all of `semantic_transfer.WEIGHTINGS`.
    ridge: lambda of the ridge weights.
    relatedness_source: class embeddings of the trained text encoder, or of
      the one it started from.
    prototype_source: means of training videos, or the classifier's centres.
    conse_top: T of ConSE.
    text_ridge: lambda of `ridge_to_text`.
    ensemble_beta: weight of the match in the ensemble.
    ensemble_transfer_temperature: T1 of the ensemble.
    ensemble_match_temperature: T2 of the ensemble.
    seen_penalty: what GZSL takes off the scores of seen classes, as chosen
      on inner draws; None where nothing was chosen.
    transductive: also score with corrections that see all test videos.
  """

  temperature: float = 0.1
  top_k: int = 0
  centre_text: bool = True
  weighting: str = 'softmax'
  ridge: float = 0.1
  relatedness_source: str = 'trained'
  prototype_source: str = 'videos'
  conse_top: int = 10
  text_ridge: float = 0.01
  ensemble_beta: float = 0.5
  ensemble_transfer_temperature: float = 0.05
  ensemble_match_temperature: float = 1.0
  seen_penalty: float | None = None
  transductive: bool = False

  def __post_init__(self):
    for name, known in (
      ('weighting', semantic_transfer.WEIGHTINGS),
      ('relatedness_source', RELATEDNESS_SOURCES),
      ('prototype_source', PROTOTYPE_SOURCES),
    ):
      if getattr(self, name) not in known:
        raise ValueError(
          f'zeroshot.{name}={getattr(self, name)!r} is not one of {known}'
        )


@dataclasses.dataclass(frozen=True)
class Seen:
  """What is known of the seen classes.

  Attributes:
    classes: their names and embeddings.
    prototypes: means of their videos [s d], unit vectors.
    centres: learnt centres [s d], unit vectors; None where there is no
      classifier: prototypes take their place.
    scale: alpha_v, what the classifier's cosines are multiplied by.
    sums: over the training videos, for `ridge_to_text`; None leaves it out.
    metadata_prototypes: as `prototypes`, of `TestVideos.metadata`.
  """

  classes: Classes
  prototypes: np.ndarray
  centres: np.ndarray | None = None
  scale: float = 20.0
  sums: prototypes.PrototypeSums | None = None
  metadata_prototypes: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class TestVideos:
  """The unseen classes' videos.

  Attributes:
    embeddings: [n v d], v views of each video, unit vectors.
    match: fused match logits [n u], mean over views; None where unknown.
    labels: int [n], index among the unseen classes.
    groups: recording session of each video.
    changed_embeddings: what was made of the frames -> as `embeddings`, of
      the same videos so changed; one that is not there leaves its control
      out.
    unreadable_labels: labels of test videos that could not be read. They
      count as wrong.
    candidates: bool [u s], of each of s splits; None for one split of all.
    tested: bool [n + unreadable, s], whose videos count in which split, the
      unreadable ones last; None for all in one split.
    metadata: unit vectors [n m], made of numbers that say nothing of what is
      done in a video, such as its duration; None leaves that control out.
    pooled: what the encoder knew before the shared projection [n e]; None
      leaves information loss out.
  """

  embeddings: np.ndarray
  match: np.ndarray | None
  labels: np.ndarray
  groups: Sequence[str]
  changed_embeddings: Mapping[str, np.ndarray] = dataclasses.field(
    default_factory=dict
  )
  unreadable_labels: tuple[int, ...] = ()
  candidates: np.ndarray | None = None
  tested: np.ndarray | None = None
  metadata: np.ndarray | None = None
  pooled: np.ndarray | None = None

  # The field's word for held-out videos, not a pytest class.
  __test__ = False

  def as_tested(self, num_classes: int) -> Tested:
    """Readable and unreadable videos, the latter at the end."""
    lost = len(self.unreadable_labels)
    n = len(self.labels) + lost
    candidates, tested = self.candidates, self.tested
    if candidates is None:
      candidates = np.ones((num_classes, 1), bool)
    if tested is None:
      tested = np.ones((n, candidates.shape[1]), bool)
    return Tested(
      np.concatenate([self.labels, np.array(self.unreadable_labels, int)]),
      # An unreadable video is its own recording session.
      (*self.groups, *(f'unreadable {i}' for i in range(lost))),
      np.arange(n) < n - lost,
      candidates,
      tested,
    )

  def pad(self, scores: np.ndarray) -> np.ndarray:
    """Scores [n u] with rows for the unreadable videos."""
    lost = len(self.unreadable_labels)
    if not lost:
      return scores
    return np.concatenate([scores, np.zeros((lost, scores.shape[1]))])


@dataclasses.dataclass(frozen=True)
class Table:
  """What an evaluation gives.

  Attributes:
    rows: accuracies of methods, then diagnostics.
    paired: differences between methods on the same videos.
    scores: of each method [n u], readable videos.
    facts: figures that are no accuracies, by name; JSON-able.
    notes: what was left out, and why.
  """

  rows: list[results.Row]
  paired: list[results.Paired]
  scores: dict[str, np.ndarray]
  facts: dict
  notes: tuple[str, ...] = ()


def class_rows(
  seen: Classes, unseen: Classes, settings: TransferSettings
) -> tuple[np.ndarray, np.ndarray]:
  """The class embeddings that relatedness is taken from.

  Args:
    seen: the seen classes.
    unseen: others.
    settings: say whether those of before the training are wanted.

  Returns:
    Of the unseen [u e] and the seen classes [s e].

  Raises:
    ValueError: the wanted ones are not known.
  """
  if settings.relatedness_source == 'trained':
    return unseen.text, seen.text
  if seen.initial_text is None or unseen.initial_text is None:
    raise ValueError(
      "zeroshot.relatedness_source='initial', but class embeddings of before "
      'the training are not known here'
    )
  return unseen.initial_text, seen.initial_text


def unseen_prototypes(
  seen: Classes,
  seen_prototypes: np.ndarray,
  unseen: Classes | np.ndarray,
  settings: TransferSettings,
) -> tuple[np.ndarray, np.ndarray]:
  """Composites prototypes for new names.

  Args:
    seen: the seen classes.
    seen_prototypes: [s d], unit vectors.
    unseen: the new classes, or their embeddings [u e].
    settings: of the transfer.

  Returns:
    Prototypes [u d] and transfer weights [u s].
  """
  if not isinstance(unseen, Classes):
    unseen = Classes(('',) * len(unseen), unseen)
  unseen_text, seen_text = class_rows(seen, unseen, settings)
  weights = semantic_transfer.transfer_weights(
    unseen_text,
    seen_text,
    weighting=settings.weighting,
    temperature=settings.temperature,
    top_k=settings.top_k,
    ridge=settings.ridge,
    centre=settings.centre_text,
  )
  composites = semantic_transfer.composite(weights, seen_prototypes)
  return np.asarray(composites), weights


def all_composites(
  seen: Seen, unseen: Classes, settings: TransferSettings
) -> dict[str, np.ndarray]:
  """Composites by every weighting: method -> [u d]."""
  sources = seen.prototypes
  if settings.prototype_source == 'classifier':
    if seen.centres is None:
      raise ValueError(
        "zeroshot.prototype_source='classifier', but there is no classifier "
        'of these seen classes'
      )
    sources = seen.centres
  composites = {}
  for weighting in semantic_transfer.WEIGHTINGS:
    name = 'transfer' if weighting == 'softmax' else f'transfer_{weighting}'
    composites[name], _ = unseen_prototypes(
      seen.classes,
      sources,
      unseen,
      dataclasses.replace(settings, weighting=weighting),
    )
  return composites


def method_scores(
  seen: Seen,
  unseen: Classes,
  embeddings: np.ndarray,
  match: np.ndarray | None,
  settings: TransferSettings,
) -> dict[str, np.ndarray]:
  """Scores by all methods that the arrays allow.

  Args:
    seen: the seen classes.
    unseen: the candidates of any split; columns of the scores.
    embeddings: means over views [n d].
    match: match logits [n u] or None.
    settings: of the methods.

  Returns:
    Method -> float32 [n u], in the order of `METHODS`.
  """
  # Everything that is a product with the video is one product.
  rows = all_composites(seen, unseen, settings)
  comparable = unseen.text.shape[1] == embeddings.shape[1]
  if comparable:
    rows['nearest_name'] = unseen.text
  if seen.sums is not None:
    regression = baselines.ridge_to_text(
      seen.sums.gram,
      seen.sums.sums,
      seen.sums.counts,
      seen.classes.text,
      settings.text_ridge,
    )
    rows['ridge_to_text'] = baselines.regression_rows(regression, unseen.text)
  stacked = scoring.score_videos(embeddings, np.concatenate([*rows.values()]))
  u = len(unseen.names)
  scores = {
    name: np.ascontiguousarray(stacked[:, i * u : (i + 1) * u])
    for i, name in enumerate(rows)
  }
  centres = seen.prototypes if seen.centres is None else seen.centres
  scores['conse'] = baselines.conse_scores(
    embeddings,
    centres,
    seen.scale,
    seen.classes.text,
    unseen.text,
    settings.conse_top,
  )
  if match is not None:
    scores['fusion'] = match
    scores['ensemble'] = baselines.ensemble_scores(
      scores['transfer'],
      match,
      beta=settings.ensemble_beta,
      transfer_temperature=settings.ensemble_transfer_temperature,
      match_temperature=settings.ensemble_match_temperature,
    )
  return {name: scores[name] for name in METHODS if name in scores}


def _transductive(scores, tested, temperature) -> dict[str, np.ndarray]:
  """Hubness taken out by looking at all of a split's test videos at once."""
  corrections = dict(
    zip(TRANSDUCTIVE, (hubness.inverted_softmax, hubness.sinkhorn), strict=True)
  )
  return {
    name: correct(scores, temperature) for name, correct in corrections.items()
  }


def evaluate(
  seen: Seen,
  unseen: Classes,
  videos: TestVideos,
  settings: TransferSettings,
  *,
  diagnose: bool = True,
  resamples: int = 0,
) -> Table:
  """The zero-shot table.

  Args:
    seen: the seen classes.
    unseen: the unseen classes: the candidates of all splits.
    videos: the unseen classes' videos.
    settings: of the methods.
    diagnose: also make the diagnostics and facts.
    resamples: of the bootstraps; 0 means the default.

  Returns:
    Rows of `METHODS`, then the diagnostics that the data allow, and what
    else was measured.

  Raises:
    ValueError: an embedding or a score is not a number, or the settings ask
      for what is not known.
  """
  prototypes.check_embeddings(videos.embeddings, 'test videos')
  u = len(unseen.names)
  figures = Accuracies(unseen, videos.as_tested(u), resamples)
  z = scoring.view_means(videos.embeddings)
  scores = method_scores(seen, unseen, z, videos.match, settings)
  notes = []
  if settings.transductive and figures.tested.tested.shape[1] == 1:
    scores |= _transductive(
      scores['transfer'], figures.tested, settings.temperature
    )
  elif settings.transductive:
    notes.append('transductive rows are made for one split at a time')
  if videos.match is None:
    notes.append('fusion and ensemble: no match scores are known')
  if figures.empty_classes:
    notes.append(f'no video of {figures.empty_classes}: left out of all means')
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
  paired = []
  for metric in (SAME_SOURCE, PER_CLASS):
    others = [m for m in figures.methods() if not m.startswith('oracle_')]
    paired += figures.paired('transfer', others, metric, PRIMARY)
  return Table(
    [*rows[:measured], *floors, *rows[measured:]],
    paired,
    scores,
    facts,
    tuple(notes),
  )


def nearest_name_scores(embeddings: np.ndarray, text: np.ndarray):
  """Mean over views of z . t: embeddings [n v d], text [u d] -> [n u]."""
  return scoring.score_videos(scoring.view_means(embeddings), text)


def score_rows(
  scores: dict[str, np.ndarray], unseen: Classes, videos: TestVideos
) -> Table:
  """The table of any other methods that scored the same videos.

  Args:
    scores: method -> [n u], higher is better.
    unseen: the candidates; their embeddings are not used.
    videos: whose labels, groups and unreadable ones count; as above.

  Returns:
    Their accuracies, and the first one's differences from the others.
  """
  figures = Accuracies(unseen, videos.as_tested(len(unseen.names)))
  for method, of_method in scores.items():
    figures.add_scores(method, videos.pad(np.asarray(of_method)))
  first, *others = scores
  paired = []
  for metric in (SAME_SOURCE, PER_CLASS):
    paired += figures.paired(first, others, metric, others[0] if others else '')
  notes = ()
  if figures.empty_classes:
    notes = (f'no video of {figures.empty_classes}: left out of all means',)
  return Table(
    [*figures.rows(), *diagnostics.floor_rows(figures)],
    paired,
    dict(scores),
    {},
    notes,
  )
