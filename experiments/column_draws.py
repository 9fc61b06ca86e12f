"""Tests semantic transfer on the columns of a classifier, without videos.

A classifier's column (the weight vector of a class) shows what its class looks
like. A draw treats some classes as unseen. Each of them is composited from the
seen columns, by its name alone, and compared with the true columns of all
unseen classes: its own column should be the nearest. There are hundreds of
classes, and no video is needed.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.data.protocols import registry
from zsar_jax.evaluation import methods, task
from zsar_jax.zeroshot import baselines, claims, semantic_transfer, statistics

# First seeds of the development draws, which choose settings, and of the
# reported ones.
DEVELOPMENT, REPORTED = 1000, 0
_RESAMPLES = 10_000
# (draw, class embeddings [c e]) -> scores [u u]; true pairs are the diagonal.
Scorer = Callable[['Draw', np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Draw:
  """A draw of seen and unseen classes.

  Attributes:
    seen: int [s], ascending indices of classes.
    unseen: int [u], ascending indices of classes.
    seen_prototypes: float32 [s d], columns minus the mean seen column, unit
      vectors.
    unseen_prototypes: float32 [u d], minus the same mean, unit vectors.
  """

  seen: np.ndarray
  unseen: np.ndarray
  seen_prototypes: np.ndarray
  unseen_prototypes: np.ndarray


def make_draw(columns: np.ndarray, unseen, seen=None) -> Draw:
  """Makes a draw; only the mean of the seen columns is subtracted."""
  unseen = np.sort(np.asarray(unseen))
  if seen is None:
    seen = np.setdiff1d(np.arange(len(columns)), unseen)
  seen = np.sort(np.asarray(seen))
  away = np.asarray(columns, np.float64) - columns[seen].mean(axis=0)
  away /= np.linalg.norm(away, axis=1, keepdims=True)
  rows = away.astype(np.float32)
  return Draw(seen, unseen, rows[seen], rows[unseen])


def random_draws(
  columns: np.ndarray, unseen: int, number: int, first: int, seen: int = 0
) -> list[Draw]:
  """Draws classes at random.

  Args:
    columns: columns of the classifier [c d].
    unseen: number of unseen classes.
    number: number of draws.
    first: seed of the first draw.
    seen: number of seen classes; 0 for all others.

  Returns:
    The draws.

  Raises:
    ValueError: the classifier has too few classes.
  """
  if unseen < 2 or unseen + max(seen, 2) > len(columns):
    raise ValueError(
      f'{unseen} unseen and {seen or "some"} seen classes cannot be drawn of '
      f'{len(columns)}'
    )
  draws = []
  for seed in range(first, first + number):
    order = np.random.default_rng(seed).permutation(len(columns))
    rest = order[unseen : unseen + seen] if seen else None
    draws.append(make_draw(columns, order[:unseen], rest))
  return draws


def registered_draws(
  labels: Sequence[str], columns: np.ndarray
) -> dict[str, list[Draw]]:
  """Returns the splits of registered protocols whose classes a classifier has.

  Args:
    labels: canonical names of its classes.
    columns: columns of the classifier [c d].

  Returns:
    Protocol -> a draw for each split. If a split names no seen classes, all
    other classes are seen.
  """
  at = {name: i for i, name in enumerate(labels)}
  found = {}
  for protocol in registry.ids():
    draws = []
    for split in registry.get(protocol).splits:
      names = class_names.canonical_names(split.unseen)
      seen = [n for n in split.seen or () if n in at]
      rest = [at[n] for n in seen] or None
      left = len(seen) if rest else len(labels) - len(names)
      if left < 2 or not all(name in at for name in names):
        break
      draws.append(make_draw(columns, [at[n] for n in names], rest))
    else:
      found[protocol] = draws
  return found


def transfer(settings: methods.TransferSettings) -> Scorer:
  """Returns a scorer by semantic transfer with these settings."""

  def score(draw, text):
    composites, _ = methods.unseen_prototypes(
      task.Classes(('',) * len(draw.seen), text[draw.seen]),
      draw.seen_prototypes,
      task.Classes(('',) * len(draw.unseen), text[draw.unseen]),
      settings,
    )
    return draw.unseen_prototypes @ composites.T

  return score


def conse(scale: float, top: int, centre: bool) -> Scorer:
  """Returns a scorer by ConSE: the mean name of the nearest seen columns."""

  def score(draw, text):
    unseen, seen = semantic_transfer.centred_rows(
      text[draw.unseen], text[draw.seen], centre
    )
    return baselines.conse_scores(
      draw.unseen_prototypes, draw.seen_prototypes, scale, seen, unseen, top
    )

  return score


class Outcome:
  """The outcome of a method over all draws.

  Attributes:
    ranks: rank of the true class [draws u]; 0 is best.
    answers: the answer for each unseen column [draws u].
    found: number of draws in which each class ranks first [c].
    drawn: number of draws in which each class is unseen [c].
  """

  def __init__(self, draws: Sequence[Draw], text: np.ndarray, scorer: Scorer):
    self.ranks, self.answers = [], []
    self.found, self.drawn = np.zeros(len(text)), np.zeros(len(text))
    for draw in draws:
      scores = scorer(draw, text)
      own = scores.diagonal()[:, None]
      # Ties count against the method.
      rank = (scores >= own).sum(axis=1) - 1
      self.ranks.append(rank)
      self.answers.append(draw.unseen[scores.argmax(axis=1)])
      self.found[draw.unseen] += rank == 0
      self.drawn[draw.unseen] += 1

  def top(self, k: int) -> np.ndarray:
    """Returns top-k accuracy of each draw in percent."""
    return np.array([100 * np.mean(rank < k) for rank in self.ranks])


@functools.cache
def _resamples(classes: int) -> np.ndarray:
  """Returns how often each class is drawn in each resample, [resamples c]."""
  rng = np.random.default_rng(0)
  return rng.multinomial(classes, np.full(classes, 1 / classes), _RESAMPLES)


def class_interval(gain: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
  """Computes a 95% percentile interval over classes, each with all its draws.

  Args:
    gain: sum over draws for each class [c], such as `Outcome.found`.
    drawn: number of draws in which each class is unseen [c].

  Returns:
    Lower and upper end, in percent.
  """
  times = _resamples(len(gain))
  ratios = 100 * (times @ gain) / np.maximum(times @ drawn, 1)
  low, high = statistics.interval(ratios[:, None])
  return float(low[0]), float(high[0])


def spearman(draws: Sequence[Draw], text: np.ndarray, centre: bool) -> float:
  """Computes Spearman's rho between names and columns, as a mean over draws.

  It correlates the relatedness of names with the similarity of columns, over
  all pairs of an unseen and a seen class.
  """
  rhos = []
  for draw in draws:
    related = semantic_transfer.relatedness(
      text[draw.unseen], text[draw.seen], centre
    )
    alike = draw.unseen_prototypes @ draw.seen_prototypes.T
    rhos.append(claims.spearman(related.ravel(), alike.ravel()))
  return float(np.mean(rhos))


def choose(
  draws: Sequence[Sequence[Draw]],
  text: np.ndarray,
  candidates: Mapping[str, Scorer],
) -> str:
  """Returns the candidate with the best mean top-1 accuracy over sizes.

  Args:
    draws: development draws of each size.
    text: class embeddings [c e].
    candidates: description of the settings -> scorer.

  Returns:
    The description of the best candidate.
  """
  value = {
    name: np.mean([Outcome(d, text, scorer).top(1).mean() for d in draws])
    for name, scorer in candidates.items()
  }
  return max(value, key=value.get)
