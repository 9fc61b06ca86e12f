"""One self-contained HTML page of an evaluation: no script, no request."""

import base64
from collections.abc import Mapping, Sequence
import html
import json
import os
from typing import Any

import numpy as np

from zsar_jax.evaluation.report import figures
from zsar_jax.evaluation.report.content import ReportContent, confident_mistakes
from zsar_jax.system import terminal
from zsar_jax.zeroshot import calibration

_LADDER = (
  'oracle_prototypes',
  'oracle_mixture',
  'oracle_relatedness',
  'transfer',
  'control_permuted_names',
)
_DIAGNOSTIC = ('oracle_', 'control_', 'floor_')
# Columns of the weight map: what a reader can still tell apart.
_MOST_SEEN = 60
_WIDE_NOTE = (
  'Names in Chinese, Japanese or Korean are drawn with the fonts of the device '
  'that shows this page. Where they are boxes, install one, such as Noto Sans '
  'CJK.'
)
_CSS = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5d6470;
  --paper: #ffffff; --card: #f4f5f7; --line: #d9dce1; --mark: #2f6fb2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed;
  --soft: #a3abb8; --paper: #16181c; --card: #20242a; --line: #3a4049;
  --mark: #7db4ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
p, li, figcaption, .soft { color: var(--soft); }
nav a { margin-right: .9rem; white-space: nowrap; }
a { color: var(--mark); }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9rem; overflow-wrap: normal; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; }
tbody.diagnostic td { color: var(--soft); }
tr.first td { font-weight: 600; color: var(--mark); }
figure { margin: 1rem 0; }
figcaption { font-size: .9rem; }
.cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.card { background: var(--card); border-radius: .5rem; padding: .8rem;
  font-size: .9rem; }
.card img { width: 100%; border-radius: .3rem; image-rendering: auto; }
.card p { margin: .3rem 0; }
.warn { border-left: 4px solid #d9822b; padding-left: .8rem; }
@media (max-width: 480px) { th, td { padding-right: .5rem; font-size: .8rem; }
  td:first-child, td:nth-child(2) { white-space: normal; min-width: 6.2rem;
  overflow-wrap: anywhere; } }
pre { overflow-x: auto; font-size: .8rem; }
"""
_text = html.escape


def _section(name: str, title: str, *parts: str) -> str:
  body = '\n'.join(parts)
  return f'<section id="{name}"><h2>{_text(title)}</h2>\n{body}\n</section>'


def _figure(svg: str, caption: str) -> str:
  return (
    f'<figure><div class="wide">{svg}</div>'
    f'<figcaption>{_text(caption)}</figcaption></figure>'
  )


def _missing(why: str) -> str:
  return f'<p>Not measured: {_text(why)}</p>'


def _percent(value: float | None) -> str:
  return '' if value is None else f'{100 * value:.1f}'


def _range(low: float | None, high: float | None) -> str:
  if low is None or high is None:
    return ''
  return f'{100 * low:.1f} – {100 * high:.1f}'


def _table(header: Sequence[str], bodies: Sequence[tuple[str, list]]) -> str:
  """Rows are (class, cells); the first two columns are words."""
  side = lambda i: ' class="n"' if i > 1 else ''
  head = ''.join(
    f'<th scope="col"{side(i)}>{_text(cell)}</th>'
    for i, cell in enumerate(header)
  )
  parts = [f'<table><thead><tr>{head}</tr></thead>']
  for kind, rows in bodies:
    parts.append(f'<tbody class="{kind}">')
    for row_class, cells in rows:
      cells = ''.join(
        f'<td{side(i)}>{_text(cell)}</td>' for i, cell in enumerate(cells)
      )
      parts.append(f'<tr class="{row_class}">{cells}</tr>')
    parts.append('</tbody>')
  return f'<div class="wide">{"".join(parts)}</table></div>'


def _results(results: Mapping[str, Any]) -> str:
  rows = results['rows']
  if not rows:
    return _section('results', 'Results', _missing('there was no test'))
  header = (
    'method',
    'metric',
    '%',
    '95% over videos',
    '95% over classes',
    'sd of splits',
    'chance',
    'videos',
    'unreadable',
  )
  bodies: dict[str, list] = {'measured': [], 'diagnostic': []}
  for row in rows:
    kind = row['method'].startswith(_DIAGNOSTIC)
    cells = [
      row['method'],
      row['metric'],
      _percent(row['value']),
      _range(row['low'], row['high']),
      _range(row.get('class_low'), row.get('class_high')),
      _percent(row.get('std')),
      _percent(row['chance']),
      str(row['n_videos']),
      str(row['n_unreadable'] or ''),
    ]
    first = 'first' if row['method'] == 'transfer' else ''
    bodies['diagnostic' if kind else 'measured'].append((first, cells))
  parts = [_table(header, list(bodies.items()))]
  parts.append(
    '<p>Rows in grey are diagnostics and never results: oracles use labels '
    'that no method may use, controls take something away, floors are what a '
    'blind method would score.</p>'
  )
  paired = results.get('paired') or []
  if paired:
    lines = [
      (
        'first' if p['primary'] else '',
        [
          f'{p["method"]} − {p["other"]}',
          p['metric'],
          f'{100 * p["difference"]:+.1f}',
          _range(p['low'], p['high']),
          _range(p['class_low'], p['class_high']),
          f'{p["p_value"]:.3f}',
          f'{p["p_holm"]:.3f}',
        ],
      )
      for p in paired
    ]
    parts += [
      '<h3>Differences on the same videos</h3>',
      _table(
        (
          'difference',
          'metric',
          'points',
          '95% over videos',
          '95% over classes',
          'p',
          'p (Holm)',
        ),
        [('paired', lines)],
      ),
      '<p>The emphasised comparison was declared before any result.</p>',
    ]
  return _section('results', 'Results', *parts)


def _ladder(results: Mapping[str, Any]) -> str:
  of_method = {
    row['method']: row
    for row in results['rows']
    if row['metric'] == 'per_class'
  }
  rows = [of_method[name] for name in _LADDER if name in of_method]
  if len(rows) < 2:
    part = _missing('no oracle or control could be computed')
  else:
    part = _figure(
      figures.error_ladder(rows),
      'Where accuracy is lost from one step to the next, that part failed: '
      'above the first bar the encoder, then the span of the seen classes, '
      'then the names.',
    )
  return _section('error-ladder', 'Error ladder', part)


def _confusion_parts(content: ReportContent) -> tuple[str, str]:
  u = len(content.unseen)
  matrix = np.zeros((u, u))
  np.add.at(matrix, (content.labels, content.answers), 1)
  counts = matrix.sum(axis=1)
  shares = matrix / np.maximum(counts, 1)[:, None]
  per_class = _figure(
    figures.per_class(content.unseen, shares.diagonal(), counts),
    'Accuracy of each unseen class, the best first.',
  )
  wrong = matrix.copy()
  np.fill_diagonal(wrong, 0)
  order = np.argsort(-wrong, axis=None, kind='stable')[:10]
  common = [
    (
      '',
      [content.unseen[i], content.unseen[j], f'{int(wrong[i, j])}'],
    )
    for i, j in (divmod(int(k), u) for k in order)
    if wrong[i, j] > 0
  ]
  confusion = _figure(
    figures.heat_map(
      shares,
      content.unseen,
      content.unseen,
      'true class',
      'answer',
      'share of the class',
    ),
    'Each row is a true class; a perfect method is bright on the diagonal '
    'alone.',
  )
  if common:
    confusion += _table(
      ('true class', 'answer', 'videos'), [('common', common)]
    )
  return per_class, confusion


def _weights(content: ReportContent) -> str:
  if content.transfer_weights is None:
    return _missing('scores came without seen classes')
  w = content.transfer_weights
  keep = np.arange(w.shape[1])
  caption = 'What each unseen class is composited from.'
  if len(keep) > _MOST_SEEN:
    keep = np.sort(np.argsort(-np.abs(w).max(axis=0))[:_MOST_SEEN])
    caption += f' The {_MOST_SEEN} seen classes with the largest weights.'
  return _figure(
    figures.heat_map(
      w[:, keep],
      content.unseen,
      [content.seen[i] for i in keep],
      'unseen class',
      'seen class',
      'weight',
    ),
    caption,
  )


def _map(content: ReportContent) -> str:
  if content.unseen_prototypes is None or content.seen_prototypes is None:
    return _missing('scores came without embeddings')
  if len(content.seen_prototypes) + len(content.unseen_prototypes) < 3:
    return _missing('fewer than three prototypes')
  return _figure(
    figures.prototype_map(
      content.unseen,
      content.seen_prototypes,
      content.unseen_prototypes,
      content.true_means,
      content.embeddings,
    ),
    'The shared space in its two main directions. A short line from a '
    'composite to the true mean of its class is a good guess from the name.',
  )


def _hubness(results: Mapping[str, Any], content: ReportContent) -> str:
  if not content.hubness_counts:
    return _missing('no scores')
  measured = (results.get('facts') or {}).get('hubness', {})
  lines = [
    (
      '',
      [
        method,
        key,
        f'{of_k["skewness"]:.2f}',
        f'{of_k["robin_hood"]:.2f}',
        f'{100 * of_k["largest_share"]:.0f}%',
        '' if of_k['reliable'] else 'under 20 classes',
      ],
    )
    for method, of_method in measured.items()
    for key, of_k in of_method.items()
  ]
  part = _figure(
    figures.hubness(content.hubness_counts),
    'How often each class is the answer; every true class weighs the same. A '
    'high start is a hub that swallows videos of other classes.',
  )
  header = (
    'method',
    'nearest',
    'skewness',
    'Robin Hood',
    'largest share',
    'unreliable',
  )
  return part + (_table(header, [('hubness', lines)]) if lines else '')


def _risk(content: ReportContent) -> str:
  correct = content.answers == content.labels
  coverage, risk = calibration.risk_coverage(content.confidence, correct)
  kind = 'calibrated probability'
  note = content.calibration_note
  if content.probabilities is None:
    kind, note = 'lead of the best score over the next', ''
  caption = f'Answers in order of confidence ({kind}).'
  if note:
    caption += f' Calibrated on {note}.'
  return _figure(figures.risk_coverage(coverage, risk), caption)


def _gzsl(content: ReportContent) -> str:
  if content.gzsl_curve is None:
    return _missing('no videos of seen classes were kept for it')
  return _figure(
    figures.gzsl(*content.gzsl_curve),
    'Seen and unseen classes are candidates together. From right to left the '
    'scores of seen classes are lowered more and more.',
  )


def _made_of(content: ReportContent, label: int) -> str:
  if content.transfer_weights is None:
    return ''
  weights = content.transfer_weights[label]
  largest = np.argsort(-weights, kind='stable')[:3]
  return ', '.join(
    f'{content.seen[i]} {100 * weights[i]:.0f}%' for i in largest
  )


def _mistakes(content: ReportContent) -> str:
  wrong = confident_mistakes(content)
  if not len(wrong):
    return '<p>No mistakes.</p>'
  cards = []
  for i in wrong:
    video, answer = content.video_ids[i], int(content.answers[i])
    label = int(content.labels[i])
    picture = content.thumbnails.get(video)
    image = '<p>(no picture)</p>'
    if picture:
      data = base64.b64encode(picture).decode()
      image = (
        f'<img alt="a frame of {_text(video)}" '
        f'src="data:image/jpeg;base64,{data}">'
      )
    how = f'score {content.scores[i, answer]:+.2f}'
    if content.probabilities is not None:
      how = f'{100 * content.probabilities[i, answer]:.0f}%'
    lines = [f'<p><b>{_text(content.unseen[answer])}</b> ({how})</p>']
    for text in (
      f'made of {_made_of(content, answer)}' if content.seen else '',
      f'true: {content.unseen[label]}',
      f'made of {_made_of(content, label)}' if content.seen else '',
      video,
    ):
      if text:
        lines.append(f'<p class="soft">{_text(text)}</p>')
    cards.append(f'<div class="card">{image}{"".join(lines)}</div>')
  return f'<div class="cards">{"".join(cards)}</div>'


def _about(results: Mapping[str, Any]) -> str:
  shown = {
    key: value
    for key, value in results.items()
    if key not in ('rows', 'paired')
  }
  text = json.dumps(shown, indent=2, default=str, ensure_ascii=False)
  return (
    '<details><summary>Config, settings, versions, commit</summary>'
    f'<pre>{_text(text)}</pre></details>'
  )


_SECTIONS = (
  ('results', 'Results'),
  ('error-ladder', 'Error ladder'),
  ('per-class', 'Classes'),
  ('confusion', 'Confusion'),
  ('transfer-weights', 'Transfer weights'),
  ('prototype-map', 'Prototype map'),
  ('hubness', 'Hubness'),
  ('risk-coverage', 'Risk and coverage'),
  ('gzsl', 'GZSL'),
  ('mistakes', 'Most confident mistakes'),
  ('about', 'About'),
)


def render(results: Mapping[str, Any], content: ReportContent) -> str:
  """The page as text.

  Args:
    results: content of results.json.
    content: what else is shown.

  Returns:
    HTML.
  """
  per_class, confusion = _confusion_parts(content)
  title_of = dict(_SECTIONS)
  sections = [_results(results), _ladder(results)]
  sections += [
    _section(name, title_of[name], body)
    for name, body in (
      ('per-class', per_class),
      ('confusion', confusion),
      ('transfer-weights', _weights(content)),
      ('prototype-map', _map(content)),
      ('hubness', _hubness(results, content)),
      ('risk-coverage', _risk(content)),
      ('gzsl', _gzsl(content)),
      ('mistakes', _mistakes(content)),
      ('about', _about(results)),
    )
  ]
  warn = ''
  if results['leaks']:
    warn = (
      f'<p class="warn">Not strict: {len(results["leaks"])} leaks of the test '
      f'into training, such as {_text(str(results["leaks"][0]))}.</p>'
    )
  links = ' '.join(f'<a href="#{n}">{_text(t)}</a>' for n, t in _SECTIONS)
  notes = ''.join(f'<p>{_text(note)}</p>' for note in content.notes)
  notes += ''.join(
    f'<p>{_text(note)}</p>' for note in results.get('notes') or ()
  )
  if any(map(terminal.is_wide, ''.join(content.unseen + content.seen))):
    notes += f'<p>{_WIDE_NOTE}</p>'
  protocol = f'{results["protocol"]} {results["protocol_hash"]}'.strip()
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{_text(content.title)}</title><style>{_CSS}</style></head><body>'
    f'<header><h1>{_text(content.title)}</h1>'
    f'<p>Protocol {_text(protocol)}; {len(content.unseen)} unseen and '
    f'{len(content.seen)} seen classes, {len(content.video_ids)} videos; '
    f'answers shown are of the method {_text(content.method)}.</p>'
    f'{warn}{notes}</header><nav>{links}</nav><main>{"".join(sections)}</main>'
    '</body></html>\n'
  )


def write_report(
  results: Mapping[str, Any], content: ReportContent, path: str
) -> None:
  """Writes the page whole or not at all; arguments as `render`."""
  text = render(results, content)
  with open(f'{path}.tmp', 'w', encoding='utf-8') as f:
    f.write(text)
  os.replace(f'{path}.tmp', path)
