"""Turns a prediction into plain data for the page's chart."""

from collections.abc import Sequence
import dataclasses

from zsar_jax.inference import predictions


@dataclasses.dataclass(frozen=True)
class Bar:
  """One bar of the chart.

  Attributes:
    name: a candidate, or `predictions.NONE_OF_THESE`.
    value: text beside the bar: '97.0%', or 'score +0.87'.
    share: length of the bar, in [0, 1].
    note: the seen classes that the name was composited from; '' without any.
    is_answer: whether it is the answer at the threshold.
    is_none: whether it is the bar of "none of these".
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
  """Returns the answer, if names below a threshold are rejected.

  Args:
    prediction: the prediction for a video.
    threshold: lowest probability of an answer, in [0, 1].

  Returns:
    The best name and its probability (None without probabilities); or
    `NONE_OF_THESE` and None if the best name is below the threshold.
  """
  best = prediction.ranking[0]
  if prediction.none_of_these is not None and best.probability < threshold:
    return predictions.NONE_OF_THESE, None
  return best.name, best.probability


def bars(prediction: predictions.Prediction, threshold: float) -> list[Bar]:
  """Returns the bars of the chart, in the order of the ranking.

  Args:
    prediction: the prediction for a video.
    threshold: in [0, 1]; see `answer`.

  Returns:
    One bar per name. If "none of these" has a probability, its bar is in its
    place among them.
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
  """Describes the seen classes and example videos behind a name.

  Args:
    ranked: a name of a ranking.
  """
  parts = ranked.composited_from
  if not parts:
    return ''
  if parts[0] == (ranked.name, 1.0):
    return 'seen in training: its own prototype'
  words = 'made of' if ranked.examples else 'composited from'
  return f'{words} {ranked.parts}'


def clock(seconds: float) -> str:
  """Formats a time in a video.

  Args:
    seconds: from the start of the video.

  Returns:
    Text such as '0:07.5', '12:40.0' or '1:02:03.0'.
  """
  tenths = round(10 * max(0.0, seconds))
  minutes, tenths = divmod(tenths, 600)
  hours, minutes = divmod(minutes, 60)
  rest = f'{tenths // 10:02d}.{tenths % 10}'
  return f'{hours}:{minutes:02d}:{rest}' if hours else f'{minutes}:{rest}'


def compare(
  named: Sequence[tuple[str, predictions.Prediction]], threshold: float
) -> str:
  """Says in a sentence whether two models agree.

  Args:
    named: title and prediction of each model.
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
