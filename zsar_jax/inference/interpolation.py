"""Weights between a run's public start and its fine-tuned end (WiSE-FT).

  theta(a) = (1 - a) theta_start + a theta_end

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models". All parameters
move, those too that no public weights had (projections, fusion): the run drew
them by its seed, so they are the same again. Which coefficient a is reported is
chosen on inner draws alone; the default is 1, the end.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax

from zsar_jax.evaluation import (
  choosing,
  methods,
  protocol_evaluation,
  results_text,
)
from zsar_jax.inference import (
  choose_settings,
  encoders,
  evaluate_run,
  model_builder,
  trained_encoders,
)
from zsar_jax.pretrained import initialisation

END = 1.0
_SHOWN_METHODS = ('transfer', 'nearest_name', 'seen')


def read_coefficients(text: str) -> list[float]:
  """Reads coefficients with commas.

  Args:
    text: such as '0,0.25,0.5'.

  Returns:
    They and 1, the end, each once, ascending.

  Raises:
    ValueError: one that is no number in [0, 1].
  """
  found = {END}
  for part in text.split(','):
    try:
      value = float(part)
    except ValueError:
      value = -1.0
    if not 0 <= value <= 1:
      raise ValueError(
        f'--interpolate={text}: {part!r} is no number in [0, 1], from the '
        'start (0) to the end (1) of the training'
      )
    found.add(value)
  return sorted(found)


def starting_params(recognizer: encoders.Recognizer, workdir: str) -> Any:
  """Rebuilds the parameters that a run started from.

  Args:
    recognizer: the run's encoders.
    workdir: of the run, for messages.

  Returns:
    The parameters at step 0, as its encoders have them.

  Raises:
    FileNotFoundError: the public weights are not there any more.
    ValueError: the run started from random values, or the public weights have
      changed since, or nothing says where they are.
  """
  if not isinstance(recognizer, trained_encoders.TrainedEncoders):
    raise ValueError(
      f'{workdir} was not trained here: there is nothing between its start and '
      'its end'
    )
  config = recognizer.config.copy_and_resolve_references()
  began = config.init.loaded
  if not began:
    raise ValueError(
      f'{workdir} started from random values: --interpolate is for runs that '
      'began with public weights (init.text, init.video or init.clip)'
    )
  sources = [config.init[key] for key in initialisation.SOURCES]
  if not any(sources):
    raise ValueError(
      f'{workdir} began with {began}, but does not say where that is: give the '
      'workdir of the run itself'
    )
  with config.ignore_type():
    config.init.loaded = ''
    start = initialisation.start(config)
  now = start.config.init.loaded
  if now != began:
    raise ValueError(
      f'the public weights in {", ".join(filter(None, sources))} have changed: '
      f'{workdir} began with {began}, and there is {now}'
    )
  draw = functools.partial(
    model_builder.random_parameters, recognizer.model, recognizer.prep
  )
  shardings = jax.tree.map(lambda x: x.sharding, recognizer.params)
  params = jax.jit(draw, out_shardings=shardings)(jax.random.key(config.seed))
  return initialisation.put(params, start.loaded)


def between(
  recognizer: trained_encoders.TrainedEncoders, start: Any, coefficient: float
) -> trained_encoders.TrainedEncoders:
  """Returns encoders with weights on the line from the start to the end.

  Args:
    recognizer: with the weights of the end: the moving average, where there is
      one.
    start: parameters of `starting_params`.
    coefficient: in [0, 1]; 0 is the start, 1 the end.
  """
  params = jax.tree.map(
    lambda a, b: ((1 - coefficient) * a + coefficient * b).astype(b.dtype),
    start,
    recognizer.params,
  )
  return recognizer.with_params(params, recognizer.step)


def choose_on(
  inner_workdirs: Sequence[str],
  recognizer: encoders.Recognizer,
  workdir: str,
  coefficients: Sequence[float],
  settings: methods.TransferSettings,
  say: Callable[[str], Any],
) -> dict[str, Any]:
  """Chooses the coefficient on runs whose unseen classes are seen ones.

  Args:
    inner_workdirs: of the draws' finished runs.
    recognizer: of the run that the coefficient is for.
    workdir: of that run.
    coefficients: to compare; 1 is the default.
    settings: of the transfer.
    say: gets a line before each slow part.

  Returns:
    JSON-able: `coefficient`, `chosen_on` (names of the draws) and `accuracies`
    of every coefficient in every draw.

  Raises:
    ValueError: see `choose_settings.open_draw` and `starting_params`; or a draw
      that began with other public weights.
  """
  accuracies, names = {c: [] for c in coefficients}, []
  for folder in inner_workdirs:
    inner, protocol = choose_settings.open_draw(folder, recognizer, workdir)
    if inner.origin != recognizer.origin:
      raise ValueError(
        f'{folder} began with {inner.origin}, and {workdir} with '
        f'{recognizer.origin}: a coefficient holds for one start'
      )
    start = starting_params(inner, folder)
    with inner.config.zeroshot.unlocked():  # older runs lack the key
      inner.config.zeroshot.motion_controls = False
    for c in coefficients:
      say(f'{protocol.name}: coefficient {c:g}')
      embed = choose_settings.embed_with(between(inner, start, c), folder, say)
      draw = protocol_evaluation.embed_protocols([protocol], embed)
      accuracies[c].append(choosing.transfer_accuracy(draw, settings))
    names.append(protocol.name)
  default_first = sorted(accuracies.items(), key=lambda pair: pair[0] != END)
  return {
    'coefficient': choosing.best(default_first),
    'chosen_on': names,
    'accuracies': {f'{c:g}': values for c, values in accuracies.items()},
  }


def evaluate_all(
  recognizer: trained_encoders.TrainedEncoders,
  start: Any,
  coefficients: Sequence[float],
  measure: Callable[[encoders.Recognizer], evaluate_run.Outcome],
  choice: dict[str, Any] | None,
) -> tuple[evaluate_run.Outcome, encoders.Recognizer]:
  """Measures a run at every coefficient.

  Args:
    recognizer: of the run.
    start: of `starting_params`.
    coefficients: in [0, 1].
    measure: evaluates encoders.
    choice: of `choose_on`; None reports the end.

  Returns:
    The outcome at the coefficient that is reported, with a key `interpolation`
    in its content that holds the rows of all; and its encoders.
  """
  reported = choice['coefficient'] if choice else END
  found, kept = {}, None
  for c in coefficients:
    mixed = between(recognizer, start, c)
    outcome = measure(mixed)
    found[f'{c:g}'] = outcome.content['rows']
    if c == reported:
      kept = outcome, mixed
  outcome, mixed = kept
  outcome.content['interpolation'] = {
    'coefficient': reported,
    'chosen_on': choice['chosen_on'] if choice else [],
    'inner_accuracies': choice['accuracies'] if choice else {},
    'rows': found,
  }
  return outcome, mixed


def format_table(interpolation: dict[str, Any]) -> str:
  """A line for each coefficient, and which is reported.

  Args:
    interpolation: of `evaluate_all`.
  """
  inner = interpolation['inner_accuracies']
  lines, names = [], []
  for c, rows in interpolation['rows'].items():
    shown = [
      row
      for row in rows
      if row['method'] in _SHOWN_METHODS
      and row['metric'].endswith(('per_class', 'top1'))
      and 'gzsl' not in row['metric']
    ]
    names = [f'{row["method"]} {row["metric"]}' for row in shown]
    of_draws = ' '.join(f'{100 * a:.1f}' for a in inner.get(c, ()))
    mark = '*' if float(c) == interpolation['coefficient'] else ''
    lines.append([c + mark, of_draws, *map(_percent, shown)])
  told = (
    f'* chosen on {", ".join(interpolation["chosen_on"])}'
    if interpolation['chosen_on']
    else '* the end of the training: nothing was chosen, --inner would'
  )
  header = ('coefficient', 'inner draws', *names)
  if not inner:
    header, lines = _without(header), [_without(line) for line in lines]
  return '\n'.join([*results_text.columns(header, lines), told])


def _without(cells: Sequence[str]) -> list[str]:
  """A line without its column of inner draws."""
  return [cells[0], *cells[2:]]


def _percent(row: dict[str, Any]) -> str:
  if row['low'] is None:
    return f'{100 * row["value"]:.1f}'
  return (
    f'{100 * row["value"]:.1f} ({100 * row["low"]:.1f} - '
    f'{100 * row["high"]:.1f})'
  )
