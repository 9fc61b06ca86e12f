"""Rankings and segments as plain data."""

from collections.abc import Iterable, Sequence
import dataclasses

from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import word_overlap
from zsar_jax.system import terminal

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
    examples: number of example videos of the class.
    examples_share: their weight in the prototype, in [0, 1); `composited_from`
      divides the rest.
  """

  name: str
  probability: float | None
  score: float
  nearest_name: float | None
  match_logit: float | None
  composited_from: tuple[tuple[str, float], ...]
  examples: int = 0
  examples_share: float = 0.0

  @property
  def parts(self) -> str:
    """What the prototype is made of, in words."""
    return describe_parts(
      self.composited_from, self.examples, self.examples_share
    )


def describe_parts(
  composited_from: Sequence[tuple[str, float]], examples: int, share: float
) -> str:
  """Says what a prototype is made of, in words and percent.

  Args:
    composited_from: see `Ranked`.
    examples: number of example videos.
    share: their weight beside the name's.
  """
  made_of = ', '.join(
    f'{name} {weight:.0%}' for name, weight in composited_from
  )
  if not examples:
    return made_of
  videos = 'video' if examples == 1 else 'videos'
  return (
    f'{examples} example {videos} {share:.0%}, the name {1 - share:.0%} '
    f'({made_of})'
  )


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
    model: repository of the Hub and commit of bank and encoders; '' for a local
      folder.
  """

  ranking: tuple[Ranked, ...]
  warnings: tuple[str, ...]
  video: str = ''
  none_of_these: float | None = None
  answer: str = ''
  risk: str = ''
  probabilities: str = ''
  weights: str = ''
  model: str = ''


def answer(ranking: Sequence[Ranked], reject_below: float | None) -> str:
  """Returns the best name, or `NONE_OF_THESE` below a probability."""
  if reject_below is not None and ranking[0].probability < reject_below:
    return NONE_OF_THESE
  return ranking[0].name


@dataclasses.dataclass(frozen=True)
class NamedWindow:
  """What one window of a video shows.

  Attributes:
    start: seconds after the first frame.
    end: seconds after the first frame.
    name: the most probable class, or `NONE_OF_THESE`.
    score: its probability.
    probabilities: of each class, in the order of the model's classes.
    none_of_these: probability that it shows none of the classes; None where
      nothing was calibrated.
  """

  start: float
  end: float
  name: str
  score: float
  probabilities: dict[str, float]
  none_of_these: float | None

  @property
  def ranking(self) -> list[tuple[str, float]]:
    """Returns classes and probabilities, most probable first."""
    return sorted(self.probabilities.items(), key=lambda of: -of[1])


@dataclasses.dataclass(frozen=True)
class NamedSegment:
  """A stretch of a video: seconds, class name, mean probability."""

  start: float
  end: float
  name: str
  score: float


@dataclasses.dataclass(frozen=True)
class Segments:
  """What happens when in a video.

  Attributes:
    video: path of the video.
    segments: that cover it.
    warnings, probabilities, weights, model: see `Prediction`.
  """

  video: str
  segments: tuple[NamedSegment, ...]
  warnings: tuple[str, ...]
  probabilities: str
  weights: str
  model: str


def left_out_warnings(
  names: Iterable[str], seen_classes: Sequence[str], trained_on: Sequence[str]
) -> list[str]:
  """Returns a warning of names that were trained on and are no seen classes.

  Args:
    names: canonical names to choose from.
    seen_classes: canonical names of the classes that the bank has.
    trained_on: canonical names of the classes that the encoder knows.

  Returns:
    One warning, or [].
  """
  left_out = [
    name for name in names if name in trained_on and name not in seen_classes
  ]
  if not left_out:
    return []
  return [
    'left out of the bank, but the encoder was trained on this, so not '
    f'zero-shot: {", ".join(left_out)}'
  ]


def class_warnings(
  names: Sequence[str],
  seen_classes: Sequence[str],
  read_elsewhere: bool,
  trained_on: Sequence[str] = (),
) -> list[str]:
  """Returns warnings about the names to choose from.

  Args:
    names: canonical names to choose from.
    seen_classes: canonical names of the training classes.
    read_elsewhere: whether the text encoder has learnt words from other texts
      too. Then words that no seen class has are no reason for doubt.
    trained_on: canonical names of the classes that the video encoder was
      trained on, whether the bank has them or not.

  Returns:
    Up to three warnings: one lists names that are seen classes, one lists
    names that the encoder was trained on without being seen classes, one lists
    words that no seen class has.
  """
  found = []
  trained = [name for name in names if name in seen_classes]
  if trained:
    found.append(f'seen in training, so not zero-shot: {", ".join(trained)}')
  found += left_out_warnings(names, seen_classes, trained_on)
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


def example_warnings(names: Sequence[str], counts: Sequence[int]) -> list[str]:
  """Names the classes that have example videos, with their numbers [c]."""
  shown = [f'{name} ({n})' for name, n in zip(names, counts, strict=True) if n]
  if not shown:
    return []
  return [f'example videos were given, so not zero-shot: {", ".join(shown)}']


def domain_warnings(domain: str, path: str, comment: str | None) -> list[str]:
  """Says if a video is another kind of pictures than those of training.

  Args:
    domain: of the training videos; '' where nobody knows it.
    path: of the video.
    comment: in the video's container; None of a stream, which has none.
  """
  if domain != records.RENDERED_DOMAIN or comment == records.RENDERED_TAG:
    return []
  name, trained = terminal.visible_name(path), f'trained on {domain} alone'
  if comment is None:
    return [
      f'these weights were {trained}: if {name} shows anything else, the '
      'ranking means little'
    ]
  return [
    f'these weights were {trained} and {name} is something else: the ranking '
    'means little'
  ]
