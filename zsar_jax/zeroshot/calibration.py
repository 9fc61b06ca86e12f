"""Probabilities that mean what they say, and "none of these".

Scores become probabilities in two factors (our choice): how likely the video
shows any of the candidates, a logistic function of its best score; and which
one then, a softmax at a fitted temperature. Both depend on how many
candidates there are, so they are fitted for several numbers of candidates,
drawn at random, half of the time without the true class. Equal numbers of
videos that do and do not show a candidate are assumed.

What is fitted and measured holds for the classes it was measured on; it is no
guarantee for others.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

_SIZES = (1, 2, 3, 5, 8, 12, 20, 35, 60, 100, 200, 400)
_THRESHOLDS = np.linspace(0, 1, 101)
_LOG_TEMPERATURES = (-7.0, 5.0)
# Keeps the slope finite where scores tell known from unknown without fail.
_SHRINKAGE = 1e-3


# Not scipy's, whose import would take a prediction longer than its video.
def _softmax(logits: np.ndarray) -> np.ndarray:
  """Of each row."""
  shares = np.exp(logits - logits.max(axis=1, keepdims=True))
  return shares / shares.sum(axis=1, keepdims=True)


def _logistic(x: np.ndarray) -> np.ndarray:
  """1 / (1 + exp(-x)), without overflow at either end."""
  return np.exp(-np.logaddexp(0, -x))


def softmax_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
  """The temperature that makes the true classes most likely (Guo et al. 2017).

  Args:
    scores: [n k].
    labels: int [n].

  Returns:
    T in (1e-3, 150), at which the mean of -log softmax(scores / T) is least.
  """
  from scipy import optimize, special

  scores = np.asarray(scores, np.float64)
  truth = scores[np.arange(len(labels)), labels]

  def loss(log_t):
    t = np.exp(log_t)
    return np.mean(special.logsumexp(scores / t, axis=1) - truth / t)

  found = optimize.minimize_scalar(
    loss, bounds=_LOG_TEMPERATURES, method='bounded'
  )
  return float(np.exp(found.x))


def known_probability(
  positive: np.ndarray, negative: np.ndarray
) -> tuple[float, float]:
  """Logistic regression of "a candidate is shown" on the best score.

  Args:
    positive: best scores of videos that show a candidate.
    negative: of videos that do not.

  Returns:
    Slope (not negative) and intercept, both sides weighing half.
  """
  from scipy import optimize

  x = np.concatenate([positive, negative])
  centre, spread = x.mean(), max(x.std(), 1e-12)
  sides = [(s - centre) / spread for s in (positive, negative)]

  def loss(parameters):
    a, b = parameters
    gains = (sides[0] * a + b, -(sides[1] * a + b))
    nll = sum(np.logaddexp(0, -gain).mean() for gain in gains)
    return nll + _SHRINKAGE * a * a

  a, b = optimize.minimize(
    loss, (1.0, 0.0), bounds=((0, None), (None, None)), method='L-BFGS-B'
  ).x
  return float(a / spread), float(b - a * centre / spread)


def expected_calibration_error(
  confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> float:
  """Mean |accuracy - confidence| over equal bins (Naeini et al. 2015)."""
  at = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
  gap = np.bincount(at, np.asarray(correct) - confidence, minlength=bins)
  return float(np.abs(gap).sum() / len(at))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
  """Mean squared distance to the truth as one-hot rows, in [0, 2]."""
  away = np.array(probabilities, np.float64)
  away[np.arange(len(labels)), labels] -= 1
  return float((away**2).sum(axis=1).mean())


def risk_coverage(
  confidence: np.ndarray, correct: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Share of wrong answers among the most confident ones.

  Args:
    confidence: [n].
    correct: [n] in [0, 1].

  Returns:
    coverage [n], from 1 / n to 1, and risk [n].
  """
  order = np.argsort(-np.asarray(confidence), kind='stable')
  n = np.arange(1, len(order) + 1)
  return n / len(order), np.cumsum(1 - np.asarray(correct)[order]) / n


def area_under_risk_coverage(
  confidence: np.ndarray, correct: np.ndarray
) -> float:
  """Mean risk over all coverages, in [0, 1]."""
  return float(risk_coverage(confidence, correct)[1].mean())


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
  """How often a positive scores above a negative; ties count half."""
  from scipy import stats

  u = stats.mannwhitneyu(positive, negative).statistic
  return float(u / (len(positive) * len(negative)))


def fpr_at_tpr(
  positive: np.ndarray, negative: np.ndarray, tpr: float = 0.95
) -> float:
  """Negatives accepted at the threshold that accepts `tpr` of positives."""
  ordered = np.sort(positive)
  accepted = int(np.ceil(tpr * len(ordered)))
  threshold = ordered[len(ordered) - accepted]
  return float((np.asarray(negative) >= threshold).mean())


@dataclasses.dataclass(frozen=True)
class Calibration:
  """From transfer scores to probabilities.

  Attributes:
    candidates: [k] ascending numbers of candidates that were fitted.
    temperatures: [k].
    slopes: [k], of the logistic function of the best score.
    intercepts: [k].
    risks: [k 101], share of wrong answers among videos whose best
      probability reaches 0, 0.01, ..., 1; half of the videos show none of
      the candidates, and any answer to those is wrong.
    coverages: [k 101], share of videos that reach it.
    measured_on: what videos and classes.
    num_videos: how many.
    figures: calibration errors and the like on the same videos.
  """

  candidates: tuple[int, ...]
  temperatures: tuple[float, ...]
  slopes: tuple[float, ...]
  intercepts: tuple[float, ...]
  risks: np.ndarray
  coverages: np.ndarray
  measured_on: str
  num_videos: int
  figures: Mapping[str, float]

  def _parameters(self, k: int) -> tuple[float, float, float]:
    """Temperature, slope, intercept: linear in log k, constant outside."""
    at = lambda values: float(
      np.interp(np.log(k), np.log(self.candidates), values)
    )
    return at(self.temperatures), at(self.slopes), at(self.intercepts)

  def probabilities(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the candidates and of none of them.

    Args:
      scores: transfer scores [b k].

    Returns:
      float64 [b k] and [b]; together they sum to one. A single candidate is
      judged by its score, too.
    """
    scores = np.asarray(scores, np.float64)
    t, slope, intercept = self._parameters(scores.shape[1])
    known = _logistic(slope * scores.max(axis=1) + intercept)
    return known[:, None] * _softmax(scores / t), 1 - known

  def risk(self, threshold: float, num_candidates: int) -> tuple[float, float]:
    """What answering only from a probability on costs and leaves.

    Args:
      threshold: in [0, 1].
      num_candidates: k.

    Returns:
      Measured share of wrong answers among those given, and share of videos
      that are answered.
    """
    logs = np.log(self.candidates)
    found = []
    for table in (self.risks, self.coverages):
      of_sizes = [np.interp(threshold, _THRESHOLDS, row) for row in table]
      found.append(float(np.interp(np.log(num_candidates), logs, of_sizes)))
    return found[0], found[1]

  def to_dict(self) -> dict[str, Any]:
    """JSON-able; `from_dict` is its inverse."""
    values = dataclasses.asdict(self)
    for key in ('risks', 'coverages'):
      values[key] = np.round(values[key], 6).tolist()
    return values

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> 'Calibration':
    """The inverse of `to_dict`.

    Raises:
      ValueError: keys are missing or not known, or shapes disagree.
    """
    try:
      made = cls(**values)
    except TypeError as e:
      raise ValueError(f'damaged calibration: {e}') from e
    k = len(made.candidates)
    arrays = {
      key: np.asarray(values[key], np.float64) for key in ('risks', 'coverages')
    }
    lists = (made.temperatures, made.slopes, made.intercepts)
    if not k or any(len(values) != k for values in lists):
      raise ValueError('damaged calibration: lists of different lengths')
    if any(x.shape != (k, len(_THRESHOLDS)) for x in arrays.values()):
      raise ValueError('damaged calibration: tables of the wrong shape')
    for key in ('candidates', 'temperatures', 'slopes', 'intercepts'):
      arrays[key] = tuple(values[key])
    return dataclasses.replace(made, **arrays)


@dataclasses.dataclass(frozen=True)
class _Draws:
  """Scores of random candidate sets of one size.

  Attributes:
    present: with the true class as the first candidate [m k].
    absent: with another class in its place [m k].
  """

  present: np.ndarray
  absent: np.ndarray


def _draw(rng, scores: np.ndarray, truth: np.ndarray, k: int) -> _Draws:
  """Draws k candidates for each row of scores [m c], without replacement."""
  rows = np.arange(len(scores))
  keys = rng.random(scores.shape)
  keys[rows, truth] = 2  # the true class comes last
  wrong = np.argsort(keys, axis=1)[:, :k]
  absent = scores[rows[:, None], wrong]
  present = absent.copy()
  present[:, 0] = scores[rows, truth]
  return _Draws(present, absent)


@dataclasses.dataclass(frozen=True)
class _OfSize:
  """What is fitted and measured with one number of candidates.

  Attributes: as those of `Calibration`, for this number alone.
  """

  temperature: float
  slope: float
  intercept: float
  risk: np.ndarray
  coverage: np.ndarray
  figures: dict[str, float]


def _fit_size(drawn: _Draws) -> _OfSize:
  """Fits temperature and logistic function, and measures both."""
  m, k = drawn.present.shape
  first = np.zeros(m, int)
  t = softmax_temperature(drawn.present, first) if k > 1 else 1.0
  best = drawn.present.max(axis=1), drawn.absent.max(axis=1)
  slope, intercept = known_probability(*best)
  share = [_softmax(x / t) for x in (drawn.present, drawn.absent)]
  known = [_logistic(slope * x + intercept) for x in best]
  top = [p * s.max(axis=1) for p, s in zip(known, share, strict=True)]
  right = share[0].argmax(axis=1) == 0
  reached = [x[:, None] >= _THRESHOLDS for x in top]
  answered = sum(r.sum(axis=0) for r in reached)
  correct = (reached[0] & right[:, None]).sum(axis=0)
  confidence = np.concatenate(top)
  hits = np.concatenate([right, np.zeros(m, bool)])
  return _OfSize(
    t,
    slope,
    intercept,
    1 - correct / np.maximum(answered, 1),
    answered / (2 * m),
    {
      'candidates': float(k),
      'expected_calibration_error': expected_calibration_error(
        confidence, hits
      ),
      'brier': brier(share[0], first),
      'area_under_risk_coverage': area_under_risk_coverage(confidence, hits),
      'auroc_none_of_these': auroc(*best),
      'fpr_at_95_tpr': fpr_at_tpr(*best),
    },
  )


def fit(
  scores: np.ndarray,
  labels: np.ndarray,
  *,
  measured_on: str,
  sizes: Sequence[int] = _SIZES,
  draws: int = 20,
  seed: int = 0,
) -> Calibration:
  """Fits and measures a calibration on videos of classes that play unseen.

  Args:
    scores: transfer scores [n c]; the composites were made without the true
      class's own videos.
    labels: int [n].
    measured_on: name of these videos, shown with every stated risk.
    sizes: numbers of candidates; sizes of c or more are left out.
    draws: random candidate sets for each video and size.
    seed: of the draws.

  Returns:
    The calibration; its figures are those of the largest size.

  Raises:
    ValueError: fewer than two classes.
  """
  n, c = scores.shape
  if c < 2:
    raise ValueError('calibration needs at least two classes')
  rng = np.random.default_rng(seed)
  sizes = [k for k in sizes if k < c]
  rows = np.repeat(np.arange(n), draws)
  repeated, truth = scores[rows], np.asarray(labels)[rows]
  fitted = [_fit_size(_draw(rng, repeated, truth, k)) for k in sizes]
  return Calibration(
    tuple(sizes),
    tuple(f.temperature for f in fitted),
    tuple(f.slope for f in fitted),
    tuple(f.intercept for f in fitted),
    np.stack([f.risk for f in fitted]),
    np.stack([f.coverage for f in fitted]),
    measured_on,
    n,
    fitted[-1].figures,
  )
