"""Probabilities of the candidates, and how far they can be believed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zsar_jax.zeroshot import calibration as calibration_lib

_WAY_FORWARD = (
  'build it again with `python -m zsar_jax.bank build ... --dataset=DIR`, a '
  'prepared dataset whose videos calibrate it'
)
_BY_NAMES = (
  'not calibrated, but a softmax over these names alone at the scale that the '
  'weights were trained with'
)


class Confidence:
  """Turns scores of candidates into probabilities.

  Attributes:
    calibrated: whether anything was measured.
    described: where the probabilities come from, in words.
  """

  def __init__(self, calibration: Mapping[str, Any] | None, by_names: bool):
    """Takes what a bank knows.

    Args:
      calibration: of the bank; None if nothing was measured.
      by_names: there is no bank: names are compared with videos directly, and
        their logits have a scale.

    Raises:
      ValueError: a damaged calibration.
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
        'none, because the bank has no calibration: the scores say which name '
        f'fits best, and not how sure that is; {_WAY_FORWARD}'
      )

  def probabilities(
    self, scores: np.ndarray, logits: np.ndarray
  ) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Probabilities of the candidates and of none of them.

    Args:
      scores: [b c], what the candidates are ranked by.
      logits: match logits [b c]; [b 0] where there are none.

    Returns:
      [b c] and [b]. The second is None where nothing was calibrated, the
      first too where the logits have no known scale.
    """
    if self._fit is not None:
      return self._fit.probabilities(scores)
    if not self._by_names:
      return None, None
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True), None

  def check_threshold(self, threshold: float | None) -> None:
    """Refuses to reject where nothing says when an answer is wrong.

    Args:
      threshold: probability below which nothing is answered; None answers
        always.

    Raises:
      ValueError: outside [0, 1], or without a calibration.
    """
    if threshold is None:
      return
    if not 0 <= threshold <= 1:
      raise ValueError(f'reject_below={threshold} is not in [0, 1]')
    if self._fit is None:
      raise ValueError(f'no calibration, so nothing to reject by: {self._how}')

  def check_segments(self) -> None:
    """Raises ValueError where windows have no probabilities."""
    if self._fit is None and not self._by_names:
      raise ValueError(f'no calibration, which segments need: {self._how}')

  @property
  def _how(self) -> str:
    if not self._by_names:
      return f'the bank has none; {_WAY_FORWARD}'
    return (
      'there is no bank; build one with `python -m zsar_jax.bank build '
      '--video=WEIGHTS --text=WEIGHTS --dataset=DIR --output=FOLDER`, and give '
      'it as --workdir'
    )

  def describe_risk(self, threshold: float, num_candidates: int) -> str:
    """Describes the measured risk above a probability; no guarantee."""
    risk, coverage = self._fit.risk(threshold, num_candidates)
    if not coverage:
      return f'no video was answered at {threshold:g} when this was measured'
    return (
      f'answers at {threshold:g} or more were wrong in {risk:.0%}, and '
      f'{coverage:.0%} of videos were answered, half of which showed no '
      f'candidate (measured on {self._fit.measured_on})'
    )
