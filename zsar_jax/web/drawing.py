"""Renders the parts of the page as HTML. All user text is escaped.

The HTML loads nothing: images are embedded as data.
"""

import base64
from collections.abc import Sequence
import html

from zsar_jax.inference import predictions
from zsar_jax.web import chart

# Names to show at once; the others can be unfolded.
_AT_ONCE = 10
_NUM_COLOURS = 6


def text(value: str) -> str:
  """Escapes a text for the inside of elements and quoted attributes.

  It also escapes `$`, braces and backquotes, which gradio's templates use.
  """
  value = html.escape(value)
  for letter in '${}`':
    value = value.replace(letter, f'&#{ord(letter)};')
  return value


def message(words: str, *, is_error: bool = False) -> str:
  """Renders a message that screen readers announce.

  Args:
    words: plain text.
    is_error: whether it interrupts the screen reader.
  """
  role, kind = ('alert', 'zsar-error') if is_error else ('status', 'zsar-note')
  return f'<p role="{role}" class="{kind}">{text(words)}</p>'


def headline(prediction: predictions.Prediction, threshold: float) -> str:
  """Renders the answer, in large letters.

  Args:
    prediction: the prediction for a video.
    threshold: lowest probability of an answer, in [0, 1].
  """
  name, probability = chart.answer(prediction, threshold)
  if probability is not None:
    beside = f'{probability:.1%}'
  elif prediction.none_of_these is not None:
    beside = f'no name reaches {threshold:.0%}'
  else:
    beside = 'best of these names; this model gives no probability'
  return (
    f'<p role="status" class="zsar-answer"><strong>{text(name)}</strong> '
    f'<span>{text(beside)}</span></p>'
  )


def chart_html(
  prediction: predictions.Prediction, threshold: float, label: str
) -> str:
  """Renders the ranked bars, with the seen classes behind each name.

  Args:
    prediction: the prediction for a video.
    threshold: in [0, 1], drawn as a line across the bars.
    label: label of the list, for screen readers.
  """
  items = [_bar(bar) for bar in chart.bars(prediction, threshold)]
  line = prediction.none_of_these is not None
  style = f' style="--threshold:{threshold:.2f}"' if line else ''
  kind = 'zsar-bars zsar-line' if line and threshold else 'zsar-bars'
  shown, others = items[:_AT_ONCE], items[_AT_ONCE:]
  drawn = f'<ol class="{kind}" aria-label="{text(label)}"{style}>'
  drawn += ''.join(shown) + '</ol>'
  if others:
    drawn += (
      f'<details><summary>{len(others)} more</summary>'
      f'<ol class="{kind}" start="{len(shown) + 1}"{style}>'
      f'{"".join(others)}</ol></details>'
    )
  return drawn


def _bar(bar: chart.Bar) -> str:
  kinds = ['zsar-bar']
  kinds += ['zsar-chosen'] if bar.is_answer else []
  kinds += ['zsar-none'] if bar.is_none else []
  note = f'<small>{text(bar.note)}</small>' if bar.note else ''
  return (
    f'<li class="{" ".join(kinds)}"><span class="zsar-name">{text(bar.name)}'
    f'</span> <span class="zsar-value">{text(bar.value)}</span>'
    f'<span class="zsar-track" aria-hidden="true"><span '
    f'style="width:{100 * bar.share:.1f}%"></span></span>{note}</li>'
  )


def frames_html(frames: Sequence[tuple[float, bytes]]) -> str:
  """Renders the frames that the model used, as buttons that jump there.

  Args:
    frames: (seconds, JPEG) of each frame.
  """
  items = ''.join(
    f'<li><button type="button" data-seek="{seconds:.3f}" '
    f'aria-label="frame at {chart.clock(seconds)}, jump there"><img alt="" '
    f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
    f'<span>{chart.clock(seconds)}</span></button></li>'
    for seconds, jpeg in frames
  )
  return (
    '<h3>Frames that the model used</h3>'
    f'<ul class="zsar-frames" aria-label="frames that the model used">{items}'
    '</ul>'
  )


def warnings_html(warnings: Sequence[str]) -> str:
  """Renders the warnings; '' without warnings.

  Args:
    warnings: sentences without full stop.
  """
  if not warnings:
    return ''
  items = ''.join(f'<li>{text(w[:1].upper() + w[1:])}.</li>' for w in warnings)
  return (
    '<h3>Warnings</h3>'
    f'<ul class="zsar-warnings" aria-label="warnings">{items}</ul>'
  )


def timeline_html(
  segments: Sequence[predictions.NamedSegment], duration: float
) -> str:
  """Renders the timeline: a coloured strip, and a list of its segments.

  Args:
    segments: segments that cover the video.
    duration: length of the video in seconds.
  """
  names = dict.fromkeys(s.name for s in segments)
  names.pop(predictions.NONE_OF_THESE, None)
  colours = {name: i % _NUM_COLOURS for i, name in enumerate(names)}
  strip, rows = [], []
  for s in segments:
    colour = colours.get(s.name, 'none')
    kind = f'zsar-colour-{colour}'
    times = f'{chart.clock(s.start)} – {chart.clock(s.end)}'
    jump = f'type="button" data-seek="{s.start:.3f}" data-end="{s.end:.3f}"'
    width = 100 * (s.end - s.start) / max(duration, 1e-9)
    # Keyboards and screen readers use the list below instead.
    strip.append(
      f'<button {jump} class="{kind}" tabindex="-1" style="width:{width:.3f}%" '
      f'title="{text(f"{times} {s.name}")}"></button>'
    )
    rows.append(
      f'<li><button {jump}><span class="zsar-dot {kind}"></span>'
      f'<span class="zsar-times">{times}</span> '
      f'<span class="zsar-name">{text(s.name)}</span> '
      f'<span class="zsar-value">{s.score:.0%}</span></button></li>'
    )
  return (
    '<h3>Timeline</h3>'
    f'<div class="zsar-strip" aria-hidden="true">{"".join(strip)}</div>'
    '<ol class="zsar-segments" aria-label="segments; press one to jump there">'
    f'{"".join(rows)}</ol>'
  )


def watching_html(
  window: predictions.NamedWindow | None,
  segments: Sequence[predictions.NamedSegment],
) -> str:
  """What a camera shows now, and what it showed before.

  Args:
    window: the newest; None until there is one.
    segments: those that have ended, newest first.
  """
  if window is None:
    return message('Looking … the first answer takes some seconds.')
  rows = ''.join(
    f'<li><span class="zsar-times">{chart.clock(s.start)} – '
    f'{chart.clock(s.end)}</span> <span class="zsar-name">{text(s.name)}</span>'
    f' <span class="zsar-value">{s.score:.0%}</span></li>'
    for s in segments
  )
  before = (
    f'<h3>What happened before</h3><ol class="zsar-before">{rows}</ol>'
    if rows
    else ''
  )
  return (
    f'<p role="status" class="zsar-answer"><strong>{text(window.name)}</strong>'
    f' <span>{window.score:.0%}</span></p>{before}'
  )


def side_by_side(
  named: Sequence[tuple[str, predictions.Prediction]], threshold: float
) -> str:
  """Renders two models' charts side by side, and whether they agree.

  Args:
    named: title and prediction of each model.
    threshold: lowest probability of an answer, in [0, 1].
  """
  columns = ''.join(
    f'<section aria-label="{text(title)}"><h3>{text(title)}</h3>'
    f'{headline(p, threshold)}{chart_html(p, threshold, f"ranking of {title}")}'
    '</section>'
    for title, p in named
  )
  return (
    f'{message(chart.compare(named, threshold))}'
    f'<div class="zsar-columns">{columns}</div>'
  )
