"""Computes accuracies with intervals, for all methods and splits at once.

Methods are added one by one. Rows and paired differences then use one set of
bootstrap resamples, so all methods are compared on the same draws.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from zsar_jax.evaluation import results, task
from zsar_jax.zeroshot import metrics, ranking, statistics

PER_CLASS = 'per_class'
SAME_SOURCE = 'same_source_per_class'
_NUM_DERANGEMENTS = 20
# Methods that also get an accuracy per attribute (verb, place, ...).
_SPELT_OUT = ('transfer', 'nearest_name', 'fusion')


@dataclasses.dataclass
class _Column:
  """One figure: what each video adds to it [n], and its value per split [s]."""

  method: str
  metric: str
  gain: np.ndarray  # [n]
  of_splits: np.ndarray  # [s]
  chance: float
  stratified: bool


class Accuracies:
  """Collects the accuracies of methods.

  Attributes:
    unseen: the candidate classes.
    tested: the test videos.
    many_sources: whether the candidates come from several sources.
    same_source: bool [c c], whether two classes come from the same source.
  """

  def __init__(
    self, unseen: task.Classes, tested: task.Tested, resamples: int = 0
  ):
    """Computes the weight of each video.

    Args:
      unseen: the candidates of all splits.
      tested: the test videos.
      resamples: number of bootstrap resamples; 0 means the default.

    Raises:
      ValueError: a split without any video.
    """
    self.unseen, self.tested = unseen, tested
    self._resamples = resamples or statistics.RESAMPLES
    sources = np.array(unseen.sources or ('',) * len(unseen.names))
    self.same_source = sources[:, None] == sources[None]
    self.many_sources = len(set(sources)) > 1
    labels, counted = tested.labels, tested.tested.astype(np.float64)
    splits = counted.shape[1]
    of_class = np.zeros((len(unseen.names), splits))
    np.add.at(of_class, labels, counted)
    if not of_class.sum(axis=0).all():
      raise ValueError('a split has no test video')
    self.num_of_class = of_class
    with_video = (of_class > 0).sum(axis=0)
    per_class = np.maximum(of_class[labels], 1) * with_video * splits
    self._weights = {
      True: counted / per_class,
      False: counted / (of_class.sum(axis=0) * splits),
    }
    # Unreadable videos gain nothing.
    self._readable_weights = {
      stratified: np.where(tested.readable[:, None], weights, 0)
      for stratified, weights in self._weights.items()
    }
    self._columns: list[_Column] = []
    self._resampled = None

  @property
  def num_figures(self) -> int:
    """The number of figures added so far."""
    return len(self._columns)

  @property
  def empty_classes(self) -> list[str]:
    """Candidates without a video in any split. All means leave them out."""
    empty = self.num_of_class.sum(axis=1) == 0
    return [self.unseen.names[i] for i in np.flatnonzero(empty)]

  def add(
    self,
    method: str,
    metric: str,
    correct: np.ndarray,
    chance: np.ndarray,
    stratified: bool,
  ) -> None:
    """Adds a figure.

    Args:
      method: name of the method.
      metric: name of the accuracy.
      correct: [n s] in [0, 1]; unreadable videos are set to 0.
      chance: accuracy of guessing, [n s] or an array that broadcasts to it.
      stratified: True gives every class the same weight, False every video.
    """
    weights = self._weights[stratified]
    gains = self._readable_weights[stratified] * correct
    self._columns.append(
      _Column(
        method,
        metric,
        gains.sum(axis=1),
        gains.sum(axis=0) * gains.shape[1],
        float((weights * chance).sum()),
        stratified,
      )
    )
    self._resampled = None

  def add_scores(
    self, method: str, scores: np.ndarray, brief: bool = False
  ) -> None:
    """Adds top-1, top-5 and per-class accuracies.

    Top-5 is left out if no split has more than five candidates. If the
    candidates come from several sources, it also adds the per-class accuracy
    among the candidates of the video's own source.

    Args:
      method: name of the method.
      scores: [n c]; rows of unreadable videos are not used.
      brief: add only the per-class accuracies, as for a diagnostic.
    """
    labels, candidates = self.tested.labels, self.tested.candidates
    ranks = ranking.ranks_in_splits(scores, labels, candidates)
    sizes = candidates.sum(axis=0)
    if not brief:
      self.add(method, 'top1', ranks < 1, 1 / sizes, False)
      # Among five candidates the true one is always among the best five.
      if sizes.max() > 5:
        top5 = np.minimum(5 / sizes, 1)
        self.add(method, 'top5', ranks < 5, top5, False)
    self.add(method, PER_CLASS, ranks < 1, 1 / sizes, True)
    if self.many_sources:
      ranks = ranking.ranks_in_splits(
        scores, labels, candidates, self.same_source
      )
      self.add(method, SAME_SOURCE, ranks < 1, self._same_source_chance(), True)
    if not brief and method in _SPELT_OUT:
      self._add_attributes(method, scores)

  def _same_source_chance(self) -> np.ndarray:
    """Returns 1 / number of candidates of the video's own source, [n s]."""
    sizes = self.same_source @ self.tested.candidates.astype(float)
    return 1 / np.maximum(sizes, 1)[self.tested.labels]

  def answers(self, scores: np.ndarray, same_source: bool = False):
    """Returns the best candidate of each video in each split, int [n s]."""
    allowed = self.same_source[self.tested.labels] if same_source else None
    return np.stack(
      [
        ranking.answers(scores, candidates, allowed)
        for candidates in self.tested.candidates.T
      ],
      axis=1,
    )

  def agreement(self, attribute: str) -> np.ndarray:
    """Returns bool [c c]: whether two classes share a value of an attribute."""
    values = np.array([a[attribute] for a in self.unseen.attributes])
    return values[:, None] == values[None]

  def _add_attributes(self, method: str, scores: np.ndarray) -> None:
    """Adds the per-class accuracy of each attribute (verb, place, ...)."""
    if not self.unseen.attribute_names:
      return
    answers = self.answers(scores)
    candidates = self.tested.candidates.astype(float)
    labels = self.tested.labels
    for attribute in self.unseen.attribute_names:
      agree = self.agreement(attribute)
      chance = (agree @ candidates / candidates.sum(axis=0))[labels]
      self.add(
        method,
        f'{attribute}_accuracy',
        agree[labels[:, None], answers],
        chance,
        True,
      )

  def add_permuted(self, method: str, scores: np.ndarray) -> None:
    """Adds a control: permutes the unseen names within their source.

    The accuracy is the mean over 20 derangements in every split. If no source
    has two candidates, nothing is added.

    Args:
      method: name of the control.
      scores: [n c].
    """
    sources = np.array(self.unseen.sources or ('',) * len(self.unseen.names))
    labels = self.tested.labels
    # For each split and derangement, the name given to each class's videos.
    named = np.full((*self.tested.candidates.T.shape, _NUM_DERANGEMENTS), -1)
    for s, candidates in enumerate(self.tested.candidates.T):
      at = np.flatnonzero(candidates)
      if max(np.unique(sources[at], return_counts=True)[1], default=0) < 2:
        return
      orders = metrics.derangements(sources[at], _NUM_DERANGEMENTS, seed=s)
      named[s, at] = at[orders].T
    sizes = self.tested.candidates.sum(axis=0)
    for metric, same_source, chance in (
      (PER_CLASS, False, 1 / sizes),
      (SAME_SOURCE, True, None),
    ):
      if same_source and not self.many_sources:
        continue
      answers = self.answers(scores, same_source)
      right = [
        (answers[:, s, None] == named[s][labels]).mean(axis=1)
        for s in range(len(named))
      ]
      if chance is None:
        chance = self._same_source_chance()
      self.add(method, metric, np.stack(right, axis=1), chance, True)

  def floor_row(self, name: str, agree: np.ndarray) -> results.Row:
    """Computes the accuracy of guessing among classes that share a property.

    Args:
      name: name of the row.
      agree: bool [c c], whether two classes share the property.

    Returns:
      The row. Its accuracy is exact, so its interval is empty.
    """
    candidates = self.tested.candidates.astype(float)
    alike = np.maximum(agree @ candidates, 1)[self.tested.labels]
    weights = self._weights[True]
    of_splits = (weights / alike).sum(axis=0) * weights.shape[1]
    value = float(of_splits.mean())
    chance = float((weights / candidates.sum(axis=0)).sum())
    return self._row(name, PER_CLASS, value, chance, of_splits, [value] * 4)

  def _row(self, method, metric, value, chance, of_splits, ends) -> results.Row:
    several = len(of_splits) > 1
    counted = self.tested.tested.any(axis=1)
    return results.Row(
      method,
      metric,
      # Rounding can take a sum of many weights above 1.
      min(float(value), 1.0),
      *(None if end is None else float(end) for end in ends[:2]),
      float(chance),
      int(counted.sum()),
      round(float(self.tested.candidates.sum(axis=0).mean())),
      int((counted & ~self.tested.readable).sum()),
      float(np.std(of_splits)) if several else None,
      len(of_splits),
      *(None if end is None else float(end) for end in ends[2:]),
    )

  def _resample(self) -> dict[bool, statistics.Resampled]:
    """Returns, per value of `stratified`, the draws of its columns."""
    if self._resampled is None:
      families, kinds = [], []
      for stratified in (True, False):
        columns = [c for c in self._columns if c.stratified == stratified]
        if columns:
          kinds.append(stratified)
          families.append(
            statistics.Gains(
              np.stack([c.gain for c in columns], axis=1),
              self._weights[stratified].sum(axis=1),
              stratified,
            )
          )
      drawn = statistics.resample(
        families,
        self.tested.labels,
        self.tested.groups,
        self.unseen.sources,
        resamples=self._resamples,
      )
      self._resampled = dict(zip(kinds, drawn, strict=True))
    return self._resampled

  def _places(self) -> dict[tuple[str, str], tuple[bool, int]]:
    """Returns (method, metric) -> (`stratified`, column among its kind)."""
    places, counts = {}, {True: 0, False: 0}
    for column in self._columns:
      places[column.method, column.metric] = (
        column.stratified,
        counts[column.stratified],
      )
      counts[column.stratified] += 1
    return places

  def rows(self) -> list[results.Row]:
    """Returns all rows, in the order in which the figures were added."""
    if not self._columns:
      return []
    drawn, places = self._resample(), self._places()
    ends = {}
    for stratified, resampled in drawn.items():
      low, high = statistics.interval(resampled.over_videos)
      nothing = [None] * len(low)
      class_low, class_high = (
        statistics.interval(resampled.over_classes)
        if resampled.over_classes is not None and len(self.unseen.names) > 1
        else (nothing, nothing)
      )
      ends[stratified] = list(
        zip(low, high, class_low, class_high, strict=True)
      )
    rows = []
    for column in self._columns:
      stratified, k = places[column.method, column.metric]
      rows.append(
        self._row(
          column.method,
          column.metric,
          column.gain.sum(),
          column.chance,
          column.of_splits,
          ends[stratified][k],
        )
      )
    return rows

  def paired(
    self, first: str, others: Sequence[str], metric: str, primary: str
  ) -> list[results.Paired]:
    """Computes paired differences of a per-class accuracy.

    Args:
      first: the method to compare.
      others: methods to compare it with; methods without the metric are left
        out.
      metric: name of a per-class accuracy.
      primary: the method of the declared comparison. Holm's method corrects
        the p-values of all other comparisons.

    Returns:
      One difference, `first` minus other, for each of `others`.
    """
    places = self._places()
    others = [o for o in others if (o, metric) in places and o != first]
    if (first, metric) not in places or not others:
      return []
    drawn = self._resample()[True]
    a = places[first, metric][1]
    b = [places[other, metric][1] for other in others]
    difference = lambda x: x[:, [a]] - x[:, b]
    low, high = statistics.interval(difference(drawn.over_videos))
    class_low, class_high = statistics.interval(difference(drawn.over_classes))
    p = statistics.sign_flip_test(
      difference(drawn.class_values), drawn.class_weights
    )
    secondary = [i for i, other in enumerate(others) if other != primary]
    adjusted = p.copy()
    adjusted[secondary] = statistics.holm(p[secondary])
    return [
      results.Paired(
        first,
        other,
        metric,
        float(drawn.values[a] - drawn.values[b[i]]),
        float(low[i]),
        float(high[i]),
        float(class_low[i]),
        float(class_high[i]),
        float(p[i]),
        float(adjusted[i]),
        other == primary,
      )
      for i, other in enumerate(others)
    ]

  def methods(self) -> list[str]:
    """Returns the methods added so far, each once."""
    return list(dict.fromkeys(column.method for column in self._columns))
