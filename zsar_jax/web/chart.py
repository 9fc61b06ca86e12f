"""What the page shows of a prediction, as plain data."""

from collections.abc import Sequence
import dataclasses

from zsar_jax.inference import predictions


@dataclasses.dataclass(frozen=True)
class Bar:
  """One bar of the chart.

  Attributes:
    name: a candidate, or `predictions.NONE_OF_THESE`.
    value: what stands beside it: '97.0%', or 'score +0.87'.
    share: length of the bar, in [0, 1].
    note: what the name was composited from, in words; '' where nothing was.
    is_answer: whether it is the answer at the threshold.
    is_none: whether it is that of "none of these".
  """

  name: str
  value: str
  share: float
  note: str = ''
  is_answer: bool = False
  is_none: bool = False


def answer(
  prediction: predictions.Prediction, threshold: float
) -> tuple[str, float | None]:
  """The answer where no name below a probability is accepted.

  Args:
    prediction: of a video.
    threshold: in [0, 1].

  Returns:
    The best name or `NONE_OF_THESE`, and its probability: of the best name,
    or that no name reaches the threshold has none. None without probabilities.
  """
  best = prediction.ranking[0]
  if prediction.none_of_these is not None and best.probability < threshold:
    return predictions.NONE_OF_THESE, None
  return best.name, best.probability


def bars(prediction: predictions.Prediction, threshold: float) -> list[Bar]:
  """The bars of the chart, largest first.

  Args:
    prediction: of a video.
    threshold: in [0, 1]; see `answer`.

  Returns:
    A bar a name, with "none of these" in its place where it has a
    probability.
  """
  chosen, _ = answer(prediction, threshold)
  found = []
  for ranked in prediction.ranking:
    value, share = f'score {ranked.score:+.2f}', max(0.0, ranked.score)
    if ranked.probability is not None:
      value, share = f'{ranked.probability:.1%}', ranked.probability
    found.append(
      Bar(
        ranked.name,
        value,
        min(share, 1.0),
        describe_source(ranked),
        ranked.name == chosen,
      )
    )
  none = prediction.none_of_these
  if none is not None:
    place = sum(bar.share >= none for bar in found)
    name = predictions.NONE_OF_THESE
    bar = Bar(name, f'{none:.1%}', none, '', name == chosen, True)
    found.insert(place, bar)
  return found


def describe_source(ranked: predictions.Ranked) -> str:
  """Says which seen classes and example videos stand behind a name.

  Args:
    ranked: of a prediction.
  """
  parts = ranked.composited_from
  if not parts:
    return ''
  if parts[0] == (ranked.name, 1.0):
    return 'seen in training: its own prototype'
  words = 'made of' if ranked.examples else 'composited from'
  return f'{words} {ranked.parts}'


def clock(seconds: float) -> str:
  """A time in a video, as players write it.

  Args:
    seconds: from its start.

  Returns:
    Such as '0:07.5', '12:40.0' or '1:02:03.0'.
  """
  tenths = round(10 * max(0.0, seconds))
  minutes, tenths = divmod(tenths, 600)
  hours, minutes = divmod(minutes, 60)
  rest = f'{tenths // 10:02d}.{tenths % 10}'
  return f'{hours}:{minutes:02d}:{rest}' if hours else f'{minutes}:{rest}'


def compare(
  named: Sequence[tuple[str, predictions.Prediction]], threshold: float
) -> str:
  """Says whether two models agree.

  Args:
    named: title and prediction of each.
    threshold: in [0, 1]; see `answer`.
  """
  answers = [answer(p, threshold)[0] for _, p in named]
  if len(set(answers)) == 1:
    return f'Both say: {answers[0]}.'
  said = '; '.join(
    f'{title} says {name}'
    for (title, _), name in zip(named, answers, strict=True)
  )
  return f'They differ: {said}.'
