"""Rankings and segments as plain data."""

from collections.abc import Sequence
import dataclasses

from zsar_jax.data.protocols import word_overlap

NONE_OF_THESE = 'none of these'


@dataclasses.dataclass(frozen=True)
class Ranked:
  """One candidate's place in a ranking.

  Attributes:
    name: canonical class name.
    probability: in [0, 1]; `Prediction.probabilities` says where it comes from.
      None without probabilities.
    score: the score that ranks, in [-1, 1]: the transfer score, or
      `nearest_name` without a prototype bank.
    nearest_name: similarity of the video to the name, in [-1, 1]; None without
      a joint space.
    match_logit: match logit; above 0 means that a match is more likely than
      not. None if the encoders cannot match.
    composited_from: (seen class, transfer weight), largest first; () without a
      prototype bank.
  """

  name: str
  probability: float | None
  score: float
  nearest_name: float | None
  match_logit: float | None
  composited_from: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A ranking of class names for a video.

  Attributes:
    ranking: the candidates, best first.
    warnings: reasons to doubt the ranking.
    video: path of the video.
    none_of_these: probability that the video shows none of the names; None
      without a calibration.
    answer: the best name, or `NONE_OF_THESE`.
    risk: describes the measured share of wrong answers at the threshold; ''
      without threshold.
    probabilities: describes where the probabilities come from, or why there are
      none.
    weights: the public weights behind the encoders; see `Recognizer.origin`.
  """

  ranking: tuple[Ranked, ...]
  warnings: tuple[str, ...]
  video: str = ''
  none_of_these: float | None = None
  answer: str = ''
  risk: str = ''
  probabilities: str = ''
  weights: str = ''


def answer(ranking: Sequence[Ranked], reject_below: float | None) -> str:
  """Returns the best name, or `NONE_OF_THESE` below a probability."""
  if reject_below is not None and ranking[0].probability < reject_below:
    return NONE_OF_THESE
  return ranking[0].name


@dataclasses.dataclass(frozen=True)
class NamedSegment:
  """A stretch of a video: seconds, class name, mean probability."""

  start: float
  end: float
  name: str
  score: float


def class_warnings(
  names: Sequence[str], seen_classes: Sequence[str], read_elsewhere: bool
) -> list[str]:
  """Returns warnings about the names to choose from.

  Args:
    names: canonical names to choose from.
    seen_classes: canonical names of the training classes.
    read_elsewhere: whether the text encoder has learnt words from other texts
      too. Then words that no seen class has are no reason for doubt.

  Returns:
    Up to two warnings: one lists names that are seen classes, one lists words
    that no seen class has.
  """
  found = []
  trained = [name for name in names if name in seen_classes]
  if trained:
    found.append(f'seen in training, so not zero-shot: {", ".join(trained)}')
  if read_elsewhere:
    return found
  known = {
    word
    for name in seen_classes
    for word in word_overlap.normalised_words(name)
  }
  new = {
    word: None
    for name in names
    for word in name.split()
    if not known.issuperset(word_overlap.normalised_words(word))
  }
  if new:
    found.append(f'words that no training class had: {", ".join(new)}')
  return found
