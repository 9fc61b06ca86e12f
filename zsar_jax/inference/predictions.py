"""What a prediction says: rankings and segments, as plain data."""

from collections.abc import Sequence
import dataclasses

from zsar_jax.data.protocols import word_overlap

NONE_OF_THESE = 'none of these'


@dataclasses.dataclass(frozen=True)
class Ranked:
  """One candidate's place in a ranking.

  Attributes:
    name: canonical class name.
    probability: in [0, 1]; `Prediction.probabilities` says what it is worth.
      None where there is none.
    score: what the ranking is by, in [-1, 1]: the transfer score, or
      `nearest_name` where there is no prototype bank.
    nearest_name: similarity of the video to the name itself, in [-1, 1];
      None where videos and names have no joint space.
    match_logit: of the fusion; above 0 means a match is the likelier. None
      where nothing compares videos with names.
    composited_from: (seen class, transfer weight), largest first; () where
      there is no prototype bank.
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
    ranking: best first; each has a `name` and a `score`.
    warnings: what the user should know before believing it.
    video: path of the video.
    none_of_these: probability that it shows none of the names; None where
      nothing was calibrated.
    answer: the best name, or `NONE_OF_THESE`.
    risk: how often answers from this threshold on were wrong; '' without one.
    probabilities: what the probabilities were measured on, or why there are
      none.
    weights: the public weights behind the encoders, with their revisions; see
      `Recognizer.origin`.
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
  """Says what a user should know about the names to choose from.

  Args:
    names: canonical names to choose from.
    seen_classes: canonical names of the classes of training.
    read_elsewhere: whether the text side learnt words from other texts too.
      Then words that no seen class has are no reason to doubt.

  Returns:
    A line about names that were trained on, and one about words that no seen
    class has; none where there is nothing to say.
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
