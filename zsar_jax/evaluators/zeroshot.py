"""Zero-shot evaluation: from cached embeddings to rows of results.

Everything here is arithmetic on arrays: no model, no video. A *diagnostic*
(names start with `oracle_`, `control_` or `floor_`) says why a result is what
it is, and is never itself a result: the oracles use the unseen labels.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from zsar_jax import results
from zsar_jax.zeroshot import metrics, prototypes, scoring, semantic_transfer

# What is measured; all other rows are diagnostics.
METHODS = ('transfer', 'nearest_name', 'fusion')
_NUM_DERANGEMENTS = 20
_NUM_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class TransferSettings:
  """How unseen prototypes are composited; see `semantic_transfer`.

  Attributes:
    temperature: tau of the softmax weights.
    top_k: seen classes a composite is made of; 0 means all.
    centre_text: take the mean seen class embedding off first.
  """

  temperature: float = 0.1
  top_k: int = 0
  centre_text: bool = True


@dataclasses.dataclass(frozen=True)
class Classes:
  """The seen or the unseen classes.

  Attributes:
    names: canonical names, in the order of every array's class axis.
    text: class embeddings [c d], unit vectors.
    sources: where each class lives ('' for a single source).
    attributes: of each class by name; empty dicts where unknown.
  """

  names: tuple[str, ...]
  text: np.ndarray
  sources: tuple[str, ...] = ()
  attributes: tuple[Mapping[str, str], ...] = ()

  @property
  def attribute_names(self) -> tuple[str, ...]:
    """Attributes that every class has, in order."""
    if not self.attributes:
      return ()
    return tuple(
      name
      for name in self.attributes[0]
      if all(name in of_class for of_class in self.attributes)
    )


@dataclasses.dataclass(frozen=True)
class TestVideos:
  """The unseen classes' videos.

  Attributes:
    embeddings: [n v d], v views of each video, unit vectors.
    match: fused match logits [n u], mean over views.
    labels: int [n], index among the unseen classes.
    groups: recording session of each video.
    first_frame_embeddings: as `embeddings`, of videos whose first frame was
      repeated to the end; None leaves that control out.
    unreadable_labels: labels of test videos that could not be read. They
      count as wrong.
  """

  embeddings: np.ndarray
  match: np.ndarray
  labels: np.ndarray
  groups: Sequence[str]
  first_frame_embeddings: np.ndarray | None = None
  unreadable_labels: tuple[int, ...] = ()

  # The field's word for held-out videos, not a pytest class.
  __test__ = False


def unseen_prototypes(
  seen: Classes,
  seen_prototypes: np.ndarray,
  unseen_text: np.ndarray,
  settings: TransferSettings,
) -> tuple[np.ndarray, np.ndarray]:
  """Composites prototypes for new names.

  Args:
    seen: the seen classes.
    seen_prototypes: [s d], unit vectors.
    unseen_text: class embeddings [u d].
    settings: of the transfer.

  Returns:
    Prototypes [u d] and transfer weights [u s].
  """
  related = semantic_transfer.relatedness(
    unseen_text, seen.text, settings.centre_text
  )
  weights = semantic_transfer.softmax_weights(
    related, settings.temperature, settings.top_k
  )
  composites = semantic_transfer.composite(weights, seen_prototypes)
  return np.asarray(composites), np.asarray(weights)


def _attribute_vectors(
  groups: Sequence[Classes],
) -> list[np.ndarray]:
  """One-hot attribute values of each group of classes, side by side."""
  values = sorted(
    {pair for g in groups for a in g.attributes for pair in a.items()}
  )
  return [
    np.array([[a.get(k) == v for k, v in values] for a in g.attributes], float)
    for g in groups
  ]


def out_of_fold_scores(
  embeddings: np.ndarray,
  labels: np.ndarray,
  groups: Sequence[str],
  num_classes: int,
) -> np.ndarray:
  """Scores against true class means that never saw the video's group.

  Args:
    embeddings: [n v d].
    labels: int [n].
    groups: recording session of each video.
    num_classes: u.

  Returns:
    Scores [n u]; -inf for a class that has no video outside the fold.
  """
  names, group = np.unique(np.asarray(groups), return_inverse=True)
  fold_of_group = np.random.default_rng(0).permutation(len(names)) % _NUM_FOLDS
  fold = fold_of_group[group]
  scores = np.full((len(labels), num_classes), -np.inf, np.float32)
  means = embeddings.mean(axis=1)
  for f in range(_NUM_FOLDS):
    inside, outside = fold == f, fold != f
    known = np.unique(labels[outside])
    if not inside.any() or not known.size:
      continue
    means_of_known = prototypes.class_prototypes(
      means[outside], np.searchsorted(known, labels[outside]), known.size
    )
    scores[np.ix_(inside, known)] = scoring.similarity_scores(
      embeddings[inside], means_of_known
    )
  return scores


class _Figures:
  """Makes rows out of scores, always on the same videos."""

  def __init__(self, unseen: Classes, videos: TestVideos):
    self.unseen = unseen
    self.lost = len(videos.unreadable_labels)
    self.labels = np.concatenate(
      [videos.labels, np.array(videos.unreadable_labels, int)]
    )
    # An unreadable video is its own recording session.
    self.groups = [
      *videos.groups,
      *(f'unreadable {i}' for i in range(self.lost)),
    ]
    self.videos = videos
    sources = np.array(unseen.sources or ('',) * len(unseen.names))
    self.same_source = sources[:, None] == sources[None]  # [u u]
    self.many_sources = len(set(sources)) > 1

  def row(
    self,
    method: str,
    metric: str,
    correct: np.ndarray,
    chance_of_class: np.ndarray,
    per_class: bool,
    n_classes: int | None = None,
  ) -> results.Row:
    """A row of the correctness [n] in [0, 1] of the readable videos."""
    correct = np.concatenate([correct, np.zeros(self.lost)])
    chance = np.asarray(chance_of_class, float)[self.labels]
    if per_class:
      average = lambda x: metrics.per_class_mean(x, self.labels)
    else:
      average = lambda x: float(x.mean())
    low, high = metrics.bootstrap_interval(
      correct, self.labels, self.groups, per_class=per_class
    )
    return results.Row(
      method,
      metric,
      average(correct),
      low,
      high,
      average(chance),
      len(self.labels),
      n_classes or len(self.unseen.names),
      self.lost,
    )

  def accuracy_rows(self, method: str, scores: np.ndarray) -> list:
    """top1, top5 and per_class, and per_class within the true source."""
    u = len(self.unseen.names)
    ranks = metrics.ranks_of_truth(scores, self.videos.labels)
    even = lambda k: np.full(u, min(k / u, 1.0))
    rows = [
      self.row(method, 'top1', ranks < 1, even(1), False),
      self.row(method, 'top5', ranks < 5, even(5), False),
      self.row(method, 'per_class', ranks < 1, even(1), True),
    ]
    if self.many_sources:
      rows.append(self.same_source_row(method, scores))
    return rows

  def same_source_row(self, method: str, scores: np.ndarray) -> results.Row:
    """per_class with the candidates of the video's own source alone."""
    allowed = self.same_source[self.videos.labels]
    ranks = metrics.ranks_of_truth(
      np.asarray(scoring.restrict_candidates(scores, allowed)),
      self.videos.labels,
    )
    return self.row(
      method,
      'same_source_per_class',
      ranks < 1,
      1 / self.same_source.sum(axis=1),
      True,
    )

  def agreement(self, attribute: str) -> np.ndarray:
    """Bool [u u]: do two classes have the attribute's value in common?"""
    values = np.array([a[attribute] for a in self.unseen.attributes])
    return values[:, None] == values[None]

  def attribute_rows(self, method: str, scores: np.ndarray) -> list:
    """How often the answer's verb, place, ... is right, per class."""
    answers = np.argmax(scores, axis=1)
    rows = []
    for attribute in self.unseen.attribute_names:
      agree = self.agreement(attribute)
      rows.append(
        self.row(
          method,
          f'{attribute}_accuracy',
          agree[self.videos.labels, answers],
          agree.mean(axis=1),
          True,
        )
      )
    return rows

  def floor_row(
    self, name: str, agree: np.ndarray, metric: str = 'per_class'
  ) -> results.Row:
    """What knowing one attribute and guessing the rest would score."""
    value = float((1 / agree.sum(axis=1)).mean())
    u = len(self.unseen.names)
    return results.Row(
      name, metric, value, value, value, 1 / u, len(self.labels), u, self.lost
    )


def evaluate(
  seen: Classes,
  unseen: Classes,
  seen_prototypes: np.ndarray,
  videos: TestVideos,
  settings: TransferSettings,
) -> list[results.Row]:
  """All rows of the zero-shot table.

  Args:
    seen: the seen classes.
    unseen: the unseen classes: the candidates.
    seen_prototypes: [s d], unit vectors.
    videos: the unseen classes' videos.
    settings: of the transfer.

  Returns:
    Rows for `transfer`, `nearest_name` and `fusion`, then the diagnostics
    that the data allow.
  """
  figures = _Figures(unseen, videos)
  u = len(unseen.names)
  similarity = lambda z, p: np.asarray(scoring.similarity_scores(z, p))
  composites, _ = unseen_prototypes(
    seen, seen_prototypes, unseen.text, settings
  )
  transfer = similarity(videos.embeddings, composites)

  rows = []
  for method, scores in zip(
    METHODS,
    (transfer, similarity(videos.embeddings, unseen.text), videos.match),
    strict=True,
  ):
    rows += figures.accuracy_rows(method, scores)
    rows += figures.attribute_rows(method, scores)

  # Floors: what a blind or one-eyed method would score.
  rows.append(figures.floor_row('floor_chance', np.ones((u, u), bool)))
  for attribute in unseen.attribute_names:
    rows.append(
      figures.floor_row(f'floor_{attribute}_only', figures.agreement(attribute))
    )
  if figures.many_sources:
    rows.append(figures.floor_row('floor_source_only', figures.same_source))

  # Controls: the names, or the motion, taken away.
  rows += _permuted_rows(figures, transfer)
  if videos.first_frame_embeddings is not None:
    still = similarity(videos.first_frame_embeddings, composites)
    rows.append(_per_class_row(figures, 'control_first_frame', still))
    if figures.many_sources:
      rows.append(figures.same_source_row('control_first_frame', still))

  # Oracles: perfect relatedness, perfect prototypes.
  if seen.attribute_names and unseen.attribute_names:
    seen_vectors, unseen_vectors = _attribute_vectors([seen, unseen])
    oracle, _ = unseen_prototypes(
      dataclasses.replace(seen, text=seen_vectors),
      seen_prototypes,
      unseen_vectors,
      settings,
    )
    rows.append(
      _per_class_row(
        figures, 'oracle_relatedness', similarity(videos.embeddings, oracle)
      )
    )
  if len(set(videos.groups)) > 1:
    true_means = out_of_fold_scores(
      videos.embeddings, videos.labels, videos.groups, u
    )
    rows.append(_per_class_row(figures, 'oracle_prototypes', true_means))
    if figures.many_sources:
      rows.append(figures.same_source_row('oracle_prototypes', true_means))
  return rows


def score_rows(
  method: str, unseen: Classes, videos: TestVideos, scores: np.ndarray
) -> list[results.Row]:
  """The rows of any other method that scored the same videos.

  Args:
    method: its name in the table.
    unseen: the candidates; their embeddings are not used.
    videos: whose labels, groups and unreadable ones count; as above.
    scores: [n u], higher is better.

  Returns:
    Its accuracies.
  """
  figures = _Figures(unseen, videos)
  return [
    *figures.accuracy_rows(method, scores),
    *figures.attribute_rows(method, scores),
  ]


def _per_class_row(figures: _Figures, method: str, scores: np.ndarray):
  u = scores.shape[1]
  ranks = metrics.ranks_of_truth(scores, figures.videos.labels)
  return figures.row(method, 'per_class', ranks < 1, np.full(u, 1 / u), True)


def _permuted_rows(figures: _Figures, scores: np.ndarray) -> list:
  """The same scores with the unseen names swapped, mean of derangements."""
  sources = figures.unseen.sources or ('',) * scores.shape[1]
  u = scores.shape[1]
  if max(sources.count(s) for s in sources) < 2:
    return []  # no name can be swapped within its source
  everywhere, within = [], []
  allowed = figures.same_source[figures.videos.labels]
  for order in metrics.derangements(sources, _NUM_DERANGEMENTS):
    permuted = scores[:, order]
    labels = figures.videos.labels
    everywhere.append(metrics.ranks_of_truth(permuted, labels) < 1)
    permuted = np.where(allowed, permuted, -np.inf)
    within.append(metrics.ranks_of_truth(permuted, labels) < 1)
  rows = [
    figures.row(
      'control_permuted_names',
      'per_class',
      np.mean(everywhere, axis=0),
      np.full(u, 1 / u),
      True,
    )
  ]
  if figures.many_sources:
    rows.append(
      figures.row(
        'control_permuted_names',
        'same_source_per_class',
        np.mean(within, axis=0),
        1 / figures.same_source.sum(axis=1),
        True,
      )
    )
  return rows
