"""Draws of unseen classes among a classifier's, and who finds them by name.

A classifier's column says how its class looks. In a draw some classes play
unseen: each is composited from the other columns, by its name alone, and its
own column must be found among all unseen ones. No video is needed, and there
are hundreds of classes.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.data.protocols import registry
from zsar_jax.evaluation import methods, task
from zsar_jax.zeroshot import baselines, claims, semantic_transfer, statistics

# Development draws choose settings; the others are reported.
DEVELOPMENT, REPORTED = 1000, 0
_RESAMPLES = 10_000
# (draw, class embeddings [c e]) -> scores [u u]; the true classes are diagonal.
Scorer = Callable[['Draw', np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Draw:
  """Which classes are seen, and which play unseen.

  Attributes:
    seen: int [s], ascending.
    unseen: int [u], ascending.
    seen_prototypes: float32 [s d]: columns less the mean seen one, unit.
    unseen_prototypes: float32 [u d]: less the same mean, unit.
  """

  seen: np.ndarray
  unseen: np.ndarray
  seen_prototypes: np.ndarray
  unseen_prototypes: np.ndarray


def make_draw(columns: np.ndarray, unseen, seen=None) -> Draw:
  """Makes a draw; the mean of the seen columns alone is taken off."""
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
    columns: of the classifier [c d].
    unseen: classes that play unseen.
    number: of draws.
    first: seed of the first draw.
    seen: classes that are seen; 0 for all others.

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
  """The splits of registered protocols whose classes a classifier has.

  Args:
    labels: canonical names of its classes.
    columns: of the classifier [c d].

  Returns:
    Protocol -> a draw for each split; where a split names no seen classes,
    all others are seen.
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
  """Scores by semantic transfer with any of the product's settings."""

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
  """Scores by ConSE: the mean name of the most similar seen columns."""

  def score(draw, text):
    unseen, seen = semantic_transfer.centred_rows(
      text[draw.unseen], text[draw.seen], centre
    )
    return baselines.conse_scores(
      draw.unseen_prototypes, draw.seen_prototypes, scale, seen, unseen, top
    )

  return score


class Outcome:
  """Whether each unseen class of each draw was found.

  Attributes:
    ranks: of the true class in each draw, 0 is best, [draws u].
    answers: the class that each unseen column is taken for, [draws u].
    found: sum over draws of being first, for each class [c].
    drawn: number of draws in which each class is unseen [c].
  """

  def __init__(self, draws: Sequence[Draw], text: np.ndarray, scorer: Scorer):
    self.ranks, self.answers = [], []
    self.found, self.drawn = np.zeros(len(text)), np.zeros(len(text))
    for draw in draws:
      scores = scorer(draw, text)
      own = scores.diagonal()[:, None]
      # Equal scores count against the method.
      rank = (scores >= own).sum(axis=1) - 1
      self.ranks.append(rank)
      self.answers.append(draw.unseen[scores.argmax(axis=1)])
      self.found[draw.unseen] += rank == 0
      self.drawn[draw.unseen] += 1

  def top(self, k: int) -> np.ndarray:
    """Share of classes among the k best, in percent, of each draw."""
    return np.array([100 * np.mean(rank < k) for rank in self.ranks])


@functools.cache
def _resamples(classes: int) -> np.ndarray:
  """How often each class is drawn, [resamples c]."""
  rng = np.random.default_rng(0)
  return rng.multinomial(classes, np.full(classes, 1 / classes), _RESAMPLES)


def class_interval(gain: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
  """95% percentile interval over classes; a class brings all its draws.

  Args:
    gain: sum over draws for each class [c], such as `Outcome.found`.
    drawn: draws in which each class is unseen [c].

  Returns:
    Both ends, in percent.
  """
  times = _resamples(len(gain))
  ratios = 100 * (times @ gain) / np.maximum(times @ drawn, 1)
  low, high = statistics.interval(ratios[:, None])
  return float(low[0]), float(high[0])


def spearman(draws: Sequence[Draw], text: np.ndarray, centre: bool) -> float:
  """Mean over draws of Spearman's rho between names and columns.

  Over unseen x seen pairs: relatedness of the names against similarity of
  the columns.
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
  """The candidate with the best top-1, mean over sizes of development draws.

  Args:
    draws: of each size.
    text: class embeddings [c e].
    candidates: by a description of their settings.

  Returns:
    The description of the best.
  """
  value = {
    name: np.mean([Outcome(d, text, scorer).top(1).mean() for d in draws])
    for name, scorer in candidates.items()
  }
  return max(value, key=value.get)
