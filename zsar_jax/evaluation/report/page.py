"""Writes an evaluation as one self-contained HTML page.

The page runs no script and loads nothing. `page.html.jinja` holds its text and
structure, `page.css` its style. This file gives them plain data: text, tables
and figures.
"""

import base64
from collections.abc import Mapping
import json
import os
from typing import Any

import jinja2
import numpy as np

from zsar_jax.evaluation import results_text
from zsar_jax.evaluation.report import captioned, headline, tables
from zsar_jax.evaluation.report.content import ReportContent, confident_mistakes
from zsar_jax.system import terminal

# Anchor of each section -> its heading, in the order of the page.
SECTIONS = {
  'results': 'Results',
  'error-ladder': 'Error ladder',
  'per-class': 'Classes',
  'confusion': 'Confusion',
  'transfer-weights': 'Transfer weights',
  'prototype-map': 'Prototype map',
  'hubness': 'Hubness',
  'risk-coverage': 'Risk and coverage',
  'gzsl': 'GZSL',
  'mistakes': 'Most confident mistakes',
  'about': 'About',
}
_LARGEST_WEIGHTS = 3


def _template() -> jinja2.Template:
  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    loader=jinja2.PackageLoader('zsar_jax.evaluation', 'report'),
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template('page.html.jinja')


def _made_of(content: ReportContent, label: int) -> str:
  """Lists the seen classes with the largest weights in a composite."""
  if content.transfer_weights is None:
    return ''
  weights = content.transfer_weights[label]
  largest = np.argsort(-weights, kind='stable')[:_LARGEST_WEIGHTS]
  return ', '.join(
    f'{content.seen[i]} {100 * weights[i]:.0f}%' for i in largest
  )


def _mistake(content: ReportContent, i: int) -> dict[str, str]:
  """Describes one wrong answer, with its thumbnail in base64."""
  answer, label = int(content.answers[i]), int(content.labels[i])
  how = f'score {content.scores[i, answer]:+.2f}'
  if content.probabilities is not None:
    how = f'{100 * content.probabilities[i, answer]:.0f}%'
  picture = content.thumbnails.get(content.video_ids[i], b'')
  return {
    'video': content.video_ids[i],
    'picture': base64.b64encode(picture).decode(),
    'answer': content.unseen[answer],
    'how': how,
    'answer_made_of': _made_of(content, answer),
    'truth': content.unseen[label],
    'truth_made_of': _made_of(content, label),
  }


def _about(results: Mapping[str, Any]) -> str:
  """Returns results.json without its tables."""
  shown = {
    key: value
    for key, value in results.items()
    if key not in ('rows', 'paired')
  }
  return json.dumps(shown, indent=2, default=str, ensure_ascii=False)


def _data(results: Mapping[str, Any], content: ReportContent) -> dict[str, Any]:
  """Returns the template's variables."""
  counts = captioned.confusion_counts(content)
  hubness = (results.get('facts') or {}).get('hubness', {})
  paired = results.get('paired') or []
  return {
    'content': content,
    'protocol': results_text.protocol_line(results),
    'leaks': [str(leak) for leak in results['leaks']],
    'notes': [*content.notes, *(results.get('notes') or ())],
    'has_wide_names': any(
      map(terminal.is_wide, ''.join(content.unseen + content.seen))
    ),
    'sections': SECTIONS,
    'headline': headline.make(results, content.method),
    'rows': tables.of_rows(results['rows']) if results['rows'] else None,
    'paired': tables.of_pairs(paired) if paired else None,
    'error_ladder': captioned.error_ladder(results['rows']),
    'per_class': captioned.per_class(content, counts),
    'confusion': captioned.confusion(content, counts),
    'confusions': tables.of_confusions(counts, content.unseen),
    'transfer_weights': captioned.transfer_weights(content),
    'prototype_map': captioned.prototype_map(content),
    'hubness': captioned.hubness(content),
    'hubness_figures': tables.of_hubness(hubness),
    'risk_coverage': captioned.risk_coverage(content),
    'gzsl': captioned.gzsl(content),
    'mistakes': [_mistake(content, i) for i in confident_mistakes(content)],
    'about': _about(results),
  }


def render(results: Mapping[str, Any], content: ReportContent) -> str:
  """Returns the page as HTML text.

  Args:
    results: content of results.json.
    content: the arrays and images of the page.

  Returns:
    HTML.
  """
  return _template().render(_data(results, content))


def write_report(
  results: Mapping[str, Any], content: ReportContent, path: str
) -> None:
  """Writes the page whole or not at all.

  Args:
    results: content of results.json.
    content: the arrays and images of the page.
    path: path of the HTML file; an existing file is replaced.

  Raises:
    OSError: the file cannot be written.
  """
  text = render(results, content)
  with open(f'{path}.tmp', 'w', encoding='utf-8') as f:
    f.write(text)
  os.replace(f'{path}.tmp', path)
