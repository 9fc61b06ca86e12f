"""Calibrated probabilities of the candidates and of "none of these".

A probability is the product of two factors (our choice). The first is the
probability that the video shows any candidate: a logistic function of its best
score. The second chooses among the candidates: a softmax at a fitted
temperature. Both depend on the number of candidates. So they are fitted for
several numbers of random candidates, half of the time without the true class.
This assumes that half of the videos show a candidate.

A calibration holds for the classes that it was measured on; it guarantees
nothing for other classes.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.zeroshot import confidence_measures

_SIZES = (1, 2, 3, 5, 8, 12, 20, 35, 60, 100, 200, 400)
_THRESHOLDS = np.linspace(0, 1, 101)
_LOG_TEMPERATURES = (-7.0, 5.0)
# Keeps the slope finite where scores separate known from unknown perfectly.
_SHRINKAGE = 1e-3


# Not scipy's: its import would take longer than predicting one video.
def _softmax(logits: np.ndarray) -> np.ndarray:
  """Computes the softmax of each row."""
  shares = np.exp(logits - logits.max(axis=1, keepdims=True))
  return shares / shares.sum(axis=1, keepdims=True)


def _logistic(x: np.ndarray) -> np.ndarray:
  """Computes 1 / (1 + exp(-x)), without overflow at either end."""
  return np.exp(-np.logaddexp(0, -x))


def softmax_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
  """Fits the temperature that makes true classes likeliest (Guo et al. 2017).

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
  """Fits a logistic regression of "a candidate is shown" on the best score.

  Args:
    positive: best scores of videos that show a candidate.
    negative: best scores of videos that show none.

  Returns:
    Slope (not negative) and intercept; each side has half of the weight.
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


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Maps transfer scores to probabilities.

  Attributes:
    candidates: [k], ascending numbers of candidates with a fit.
    temperatures: [k].
    slopes: [k], of the logistic function of the best score.
    intercepts: [k], of the same function.
    risks: [k 101], share of wrong answers among videos whose best
      probability reaches 0, 0.01, ..., 1; half of the videos show none of
      the candidates, so any answer to these is wrong.
    coverages: [k 101], share of videos whose best probability reaches the
      same thresholds.
    measured_on: the videos and classes of the fit, in words.
    num_videos: number of these videos.
    figures: calibration errors and other figures on the same videos.
    num_classes: number of their classes; 0 if unknown, as in calibrations of
      earlier versions.
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
  num_classes: int = 0

  def _parameters(self, k: int) -> tuple[float, float, float]:
    """Interpolates temperature, slope, intercept in log k; constant outside."""
    at = lambda values: float(
      np.interp(np.log(k), np.log(self.candidates), values)
    )
    return at(self.temperatures), at(self.slopes), at(self.intercepts)

  def probabilities(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes probabilities of the candidates and of none of them.

    Args:
      scores: transfer scores [b k].

    Returns:
      float64 [b k] and [b]; together they sum to one. With a single candidate
      too, the probability depends on its score.
    """
    scores = np.asarray(scores, np.float64)
    t, slope, intercept = self._parameters(scores.shape[1])
    known = _logistic(slope * scores.max(axis=1) + intercept)
    return known[:, None] * _softmax(scores / t), 1 - known

  def risk(self, threshold: float, num_candidates: int) -> tuple[float, float]:
    """Looks up risk and coverage of answering only above a probability.

    Args:
      threshold: in [0, 1].
      num_candidates: k.

    Returns:
      Measured share of wrong answers among all answers, and share of videos
      with an answer.
    """
    logs = np.log(self.candidates)
    found = []
    for table in (self.risks, self.coverages):
      of_sizes = [np.interp(threshold, _THRESHOLDS, row) for row in table]
      found.append(float(np.interp(np.log(num_candidates), logs, of_sizes)))
    return found[0], found[1]

  def to_dict(self) -> dict[str, Any]:
    """Returns JSON-able values; `from_dict` is its inverse."""
    values = dataclasses.asdict(self)
    for key in ('risks', 'coverages'):
      values[key] = np.round(values[key], 6).tolist()
    return values

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> 'Calibration':
    """Makes a calibration of JSON-able values; the inverse of `to_dict`.

    Args:
      values: as `to_dict` returns them.

    Returns:
      The calibration.

    Raises:
      ValueError: missing or unknown keys, or shapes that disagree.
    """
    try:
      made = cls(**values)
    except TypeError as e:
      raise ValueError(f'damaged calibration: {e}') from e
    numbers = made.num_videos, made.num_classes
    if not all(isinstance(number, int) for number in numbers):
      raise ValueError('damaged calibration: a number is none')
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
  """The fit and the measurements for one number of candidates.

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
      'expected_calibration_error': (
        confidence_measures.expected_calibration_error(confidence, hits)
      ),
      'brier': confidence_measures.brier(share[0], first),
      'area_under_risk_coverage': confidence_measures.area_under_risk_coverage(
        confidence, hits
      ),
      'auroc_none_of_these': confidence_measures.auroc(*best),
      'fpr_at_95_tpr': confidence_measures.fpr_at_tpr(*best),
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
    c,
  )
