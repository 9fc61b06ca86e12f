"""Predictions as lines of text for people, and as rows for programs."""

from typing import Any

from zsar_jax.inference import predictions
from zsar_jax.system import terminal


def describe(
  prediction: predictions.Prediction, top_k: int, explain: bool
) -> str:
  """Lists the best names of a video in columns.

  Args:
    prediction: of the video.
    top_k: names to show.
    explain: say which seen classes each was composited from.
  """
  lines = []
  shown = prediction.ranking[:top_k]
  width = max(terminal.width(ranked.name) for ranked in shown)
  for place, ranked in enumerate(shown, 1):
    detail = _format_ranked(ranked, explain)
    space = ' ' * (width - terminal.width(ranked.name))
    lines.append(f'{place:3d}. {ranked.name}{space}  {detail}')
  if prediction.none_of_these is not None:
    lines.append(f'none of these: {100 * prediction.none_of_these:.1f}%')
  if prediction.risk:
    lines.append(f'answer: {prediction.answer}')
  return '\n'.join(lines)


def _format_ranked(ranked: predictions.Ranked, explain: bool) -> str:
  parts = []
  if ranked.probability is not None:
    parts.append(f'{100 * ranked.probability:5.1f}%')
  # Without a bank, the score is the similarity to the name.
  if ranked.composited_from:
    parts.append(f'transfer {ranked.score:+.3f}')
  if ranked.nearest_name is not None:
    parts.append(f'name {ranked.nearest_name:+.3f}')
  if ranked.match_logit is not None:
    parts.append(f'match {ranked.match_logit:+.2f}')
  text = '  '.join(parts)
  if not (explain and ranked.composited_from):
    return text
  return f'{text}  <- {ranked.parts}'


def describe_segment(segment: predictions.NamedSegment) -> str:
  """Says when what happened, in one line."""
  return (
    f'{segment.start:8.1f} - {segment.end:8.1f} s  {100 * segment.score:5.1f}%'
    f'  {segment.name}'
  )


def describe_window(window: predictions.NamedWindow) -> str:
  """Says what happens at the end of a window, to be written over and over."""
  return f'{window.end:8.1f} s  {100 * window.score:5.1f}%  {window.name}'


def notes(prediction: predictions.Prediction) -> list[str]:
  """Returns notes for all videos: the risk, or how probabilities were made."""
  if prediction.none_of_these is None:
    return [f'probabilities: {prediction.probabilities}']
  return [prediction.risk] if prediction.risk else []


def of_event(
  event: predictions.NamedWindow | predictions.NamedSegment, top_k: int
) -> dict[str, Any]:
  """Makes a JSON-able dict of what a stream says.

  Args:
    event: a window or a segment.
    top_k: names of a window to list.

  Returns:
    `kind` ('window' or 'segment'), `start`, `end`, `name` and `score`; of a
    window also `ranking`, pairs of name and probability, and `none_of_these`.
  """
  found = {
    'kind': 'segment',
    'start': event.start,
    'end': event.end,
    'name': event.name,
    'score': event.score,
  }
  if isinstance(event, predictions.NamedWindow):
    found['kind'] = 'window'
    found['ranking'] = event.ranking[:top_k]
    found['none_of_these'] = event.none_of_these
  return found
