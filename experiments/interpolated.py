"""Weights between two domains: what fine-tuning gains, and what it forgets.

python -m experiments.interpolated --workdir=runs/clips --start=runs/drawings \
  --inner=runs/clips-inner0,runs/clips-inner1,runs/clips-inner2

--start is a run that was exported, and --workdir one that began with that
export (--config.init.model). Every point between the two is tested on the
unseen classes of both. The runs of --inner began with the same export; their
unseen classes are seen ones of --workdir. They alone choose the point that
`evaluate --interpolate --inner` would report.

--docs=FILE puts the tables into a document.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import documents
from zsar_jax import cli
from zsar_jax.evaluation import accuracy, results_text
from zsar_jax.inference import evaluate_run, interpolation, saved_encoders
from zsar_jax.system import terminal

_COEFFICIENTS = '0,0.25,0.5,0.75,1'
BEFORE, AFTER = NAMES = ('before', 'after')
_METHODS = ('transfer', 'nearest_name')
_METRICS = {
  accuracy.SAME_SOURCE: 'same source %',
  accuracy.PER_CLASS: 'all %',
}


def table(
  rows: Mapping[str, Sequence[Mapping[str, Any]]],
  inner: Mapping[str, Sequence[float]] | None = None,
  chosen: float | None = None,
) -> list[str]:
  """A line for each coefficient.

  Args:
    rows: coefficient -> rows of results.json.
    inner: coefficient -> accuracies on inner draws; None leaves them out.
    chosen: the coefficient that inner draws chose; None marks none.
  """
  kept = {
    c: {(r['method'], r['metric']): r for r in of_one}
    for c, of_one in rows.items()
  }
  first = next(iter(kept.values()))
  shown = [
    (method, metric)
    for metric in _METRICS
    for method in _METHODS
    if (method, metric) in first
  ]
  lines = []
  for c, of_one in kept.items():
    line = [f'{c}*' if chosen is not None and float(c) == chosen else c]
    if inner is not None:
      line.append(' '.join(f'{100 * x:.1f}' for x in inner[c]))
    for key in shown:
      row = of_one[key]
      line += [
        f'{100 * row["value"]:.1f}',
        f'{100 * row["low"]:.1f} - {100 * row["high"]:.1f}',
      ]
    lines.append(line)
  header = ['coefficient', *(['inner draws'] if inner is not None else [])]
  for method, metric in shown:
    header += [f'{method}, {_METRICS[metric]}', '95% interval']
  chances = {
    f'{_METRICS[metric]} {100 * first[method, metric]["chance"]:.1f}'
    for method, metric in shown
  }
  return [
    *results_text.columns(header, lines),
    f'chance: {", ".join(sorted(chances))}',
  ]


def main(argv: list[str]) -> None:
  """Evaluates every point on both domains, and prints the tables."""
  values = documents.new_flags(
    {
      'workdir': 'Of the run that was fine-tuned.',
      'start': 'Of the run that it began with.',
      'inner': 'Of inner draws of --workdir, with commas.',
    }
  )
  cli.parse(values, argv, usage=__doc__)
  recognizer = saved_encoders.load(values.workdir)
  before = saved_encoders.load(values.start)
  sweep = interpolation.read_sweep(
    values.workdir, _COEFFICIENTS, values.inner, ''
  )
  settings = recognizer.transfer_settings
  chosen = interpolation.choose_on(sweep, recognizer, settings, terminal.say)
  start = interpolation.starting_params(recognizer, values.workdir)
  with recognizer.config.zeroshot.unlocked():
    recognizer.config.zeroshot.motion_controls = False
  # Videos are decoded once for all points.
  caches = {name: evaluate_run.video_cache(recognizer.config) for name in NAMES}
  domains = {
    name: evaluate_run.make_protocols(of_run.config, of_run.seen_classes)
    for name, of_run in zip(NAMES, (before, recognizer), strict=True)
  }
  found: dict[str, dict[str, list]] = {name: {} for name in domains}
  for c in sweep.coefficients:
    mixed = interpolation.between(recognizer, start, c)
    for name, protocols in domains.items():
      terminal.say(f'coefficient {c:g}, {protocols[0].name}')
      outcome = evaluate_run.evaluate(
        mixed, protocols, caches[name], terminal.say
      )
      found[name][f'{c:g}'] = outcome.content['rows']
  tables = {
    BEFORE: table(found[BEFORE]),
    AFTER: table(
      found[AFTER], chosen['inner_accuracies'], chosen['coefficient']
    ),
    'machine': [documents.machine()],
  }
  documents.publish(tables, values.docs)


if __name__ == '__main__':
  cli.run(main)
