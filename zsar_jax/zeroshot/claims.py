"""The paper's claims about information loss and the semantic gap, as numbers.

The measures are our choice.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

# Of a smaller lead over chance, a share is not meaningful.
_LEAST_SIGNAL = 0.05
# The most videos for a readout; more take minutes and change little.
_MOST_VIDEOS = 3000


@dataclasses.dataclass(frozen=True)
class InformationLoss:
  """Class information in an embedding, compared with an earlier stage.

  Attributes:
    loss: 1 - (A(x) - chance) / (A(h) - chance); None where A(h) is less than
      0.05 above chance.
    accuracy_before: A(h), balanced accuracy in [0, 1].
    accuracy_after: A(x), balanced accuracy in [0, 1].
    chance: 1 / classes.
  """

  loss: float | None
  accuracy_before: float
  accuracy_after: float
  chance: float


def _probe(
  features: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: int
) -> float:
  """Measures the balanced accuracy of L2 logistic regression, out of fold."""
  from sklearn import (
    linear_model,
    metrics,
    model_selection,
    pipeline,
    preprocessing,
  )

  model = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(max_iter=500),
  )
  splitter = model_selection.StratifiedGroupKFold(
    folds, shuffle=True, random_state=0
  )
  answers = model_selection.cross_val_predict(
    model, features, labels, groups=groups, cv=splitter
  )
  return float(metrics.balanced_accuracy_score(labels, answers))


def information_loss(
  before: np.ndarray,
  after: np.ndarray,
  labels: np.ndarray,
  groups: Sequence[str],
  folds: int = 5,
) -> InformationLoss:
  """Measures the share of the class information in `before` that `after` lacks.

  L2 logistic regression on standardised features predicts the class from
  each. The folds never split a recording session. Of more than 3,000 videos,
  3,000 random ones are used. The labels are used, so this is a diagnostic.

  Args:
    before: h, the pooled encoder output [n e].
    after: x, such as the embedding or its cosines to class names [n d].
    labels: int [n].
    groups: recording session of each video.
    folds: of the cross-validation.

  Returns:
    The loss.

  Raises:
    ValueError: fewer than two classes, or fewer sessions than folds.
  """
  if len(labels) > _MOST_VIDEOS:
    at = np.random.default_rng(0).permutation(len(labels))[:_MOST_VIDEOS]
    before, after, labels = before[at], after[at], np.asarray(labels)[at]
    groups = [groups[i] for i in at]
  groups = np.unique(np.asarray(groups), return_inverse=True)[1]
  classes = len(np.unique(labels))
  if classes < 2:
    raise ValueError('information loss needs at least two classes')
  if groups.max() + 1 < folds:
    raise ValueError(
      f'information loss needs at least {folds} recording sessions, got '
      f'{groups.max() + 1}'
    )
  chance = 1 / classes
  a_before = _probe(before, labels, groups, folds)
  a_after = _probe(after, labels, groups, folds)
  signal = a_before - chance
  loss = None
  if signal >= _LEAST_SIGNAL:
    loss = 1 - (a_after - chance) / signal
  return InformationLoss(loss, a_before, a_after, chance)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
  """Computes Spearman's rank correlation over all entries.

  Args:
    a: of any shape.
    b: of the same shape.

  Returns:
    In [-1, 1]; 0 if one array is constant.
  """
  from scipy import stats

  a, b = np.ravel(a), np.ravel(b)
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  return float(stats.spearmanr(a, b).statistic)


def semantic_gap(related: np.ndarray, visual: np.ndarray) -> float:
  """Computes 1 - Spearman of the names' relatedness and the videos' similarity.

  Args:
    related: relatedness of class pairs, any shape.
    visual: cosines of the true prototypes of the same pairs.

  Returns:
    In [0, 2]; 0 if names and videos order the pairs alike, 1 without any
    correlation.
  """
  return 1 - spearman(related, visual)


def semantic_gap_test(
  related: np.ndarray,
  visual: np.ndarray,
  sources: Sequence[str] = (),
  permutations: int = 999,
  seed: int = 0,
) -> float:
  """Tests by permuting the names whether chance gives as small a gap.

  Args:
    related: relatedness of unseen and seen classes [u s].
    visual: cosines of their true prototypes [u s].
    sources: of the unseen classes; names are permuted within a source.
    permutations: number of permutations.
    seed: of the permutations.

  Returns:
    One-sided p-value, in (0, 1].
  """
  from scipy import stats

  rng = np.random.default_rng(seed)
  # Permuting rows changes no rank, so ranking once is enough.
  ranked = [
    stats.rankdata(x).reshape(x.shape) - (x.size + 1) / 2
    for x in (related, visual)
  ]
  sources = np.array(sources or ('',) * len(related))
  observed = (ranked[0] * ranked[1]).sum()
  as_large = 1
  for _ in range(permutations):
    order = np.arange(len(related))
    for source in np.unique(sources):
      at = np.flatnonzero(sources == source)
      order[at] = rng.permutation(at)
    as_large += (ranked[0][order] * ranked[1]).sum() >= observed - 1e-9
  return float(as_large / (permutations + 1))
