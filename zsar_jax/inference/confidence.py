"""Turns scores into probabilities, and describes their reliability."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.zeroshot import calibration as calibration_lib

_WAY_FORWARD = (
  'build it again with `zsar bank build ... --dataset=DIR`, a '
  'prepared dataset whose videos calibrate it'
)
_BY_NAMES = (
  'not calibrated: a softmax over these names, at the temperature of the '
  "weights' own training"
)


class Confidence:
  """Turns scores of candidates into probabilities.

  Attributes:
    calibrated: whether there is a calibration.
    described: where the probabilities come from, in words.
  """

  def __init__(self, calibration: Mapping[str, Any] | None, by_names: bool):
    """Reads a calibration.

    Args:
      calibration: calibration of the bank; None without one.
      by_names: whether there is no bank. Videos are then compared with names
        directly, and their logits have the scale of the weights' training.

    Raises:
      ValueError: the calibration is damaged.
    """
    self._fit, self._by_names = None, by_names
    if calibration:
      self._fit = calibration_lib.Calibration.from_dict(calibration)
    self.calibrated = self._fit is not None
    if self.calibrated:
      self.described = f'calibrated on {self._fit.measured_on}'
    elif by_names:
      self.described = _BY_NAMES
    else:
      self.described = (
        'none, because the bank has no calibration: the scores rank the names, '
        f'but do not say how sure the best one is; {_WAY_FORWARD}'
      )

  def probabilities(
    self, scores: np.ndarray, logits: np.ndarray
  ) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Computes probabilities of the candidates and of "none of these".

    Args:
      scores: [b c], scores that rank the candidates.
      logits: match logits [b c]; [b 0] without them.

    Returns:
      Probabilities [b c] and [b]. Without a calibration the second is None;
      the first too, unless videos are compared with names directly.
    """
    if self._fit is not None:
      return self._fit.probabilities(scores)
    if not self._by_names:
      return None, None
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True), None

  def check_threshold(self, threshold: float | None) -> None:
    """Checks a threshold of rejection.

    Args:
      threshold: lowest probability of an answer; None never rejects.

    Raises:
      ValueError: it is outside [0, 1], or there is no calibration.
    """
    if threshold is None:
      return
    if not 0 <= threshold <= 1:
      raise ValueError(f'reject_below={threshold} is not in [0, 1]')
    if self._fit is None:
      raise ValueError(f'cannot reject without a calibration: {self._how}')

  def check_segments(self) -> None:
    """Raises ValueError if there are no probabilities for windows."""
    if self._fit is None and not self._by_names:
      raise ValueError(f'segments need a calibration: {self._how}')

  @property
  def _how(self) -> str:
    if not self._by_names:
      return f'the bank has none; {_WAY_FORWARD}'
    return (
      'there is no bank; build one with `zsar bank build '
      '--video=WEIGHTS --text=WEIGHTS --dataset=DIR --output=FOLDER`, and give '
      'it as --workdir'
    )

  def describe_risk(self, threshold: float, num_candidates: int) -> str:
    """Describes measured risk and coverage of answers above a threshold."""
    risk, coverage = self._fit.risk(threshold, num_candidates)
    if not coverage:
      return f'when measured, no video reached the probability {threshold:g}'
    return (
      f'of answers at {threshold:g} or more, {risk:.0%} were wrong; '
      f'{coverage:.0%} of videos got such an answer; half of the videos showed '
      f'no candidate (measured on {self._fit.measured_on})'
    )
