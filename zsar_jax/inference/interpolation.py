"""Weights between a run's start and its fine-tuned end (WiSE-FT).

  theta(a) = (1 - a) theta_start + a theta_end

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models". All parameters
move, those too that the start did not have (projections and fusion of public
weights, class centres of a model): the run drew them by its seed, so they are
the same again. Which coefficient a is reported is chosen on inner draws alone;
the default is 1, the end.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import os
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
  saved_encoders,
  starts,
  trained_encoders,
)
from zsar_jax.pretrained import initialisation
from zsar_jax.system import whole_folders

END = 1.0
_SHOWN_METHODS = ('transfer', 'nearest_name', 'seen')


@dataclasses.dataclass(frozen=True)
class Sweep:
  """What is asked for.

  Attributes:
    workdir: of the run.
    coefficients: to measure, ascending; 1 is among them.
    inner: workdirs of the inner draws' runs; () chooses nothing.
    export: new folder for the model that is reported; '' for none.
  """

  workdir: str
  coefficients: tuple[float, ...]
  inner: tuple[str, ...] = ()
  export: str = ''


def read_sweep(
  workdir: str, coefficients: str, inner: str, export: str
) -> Sweep | None:
  """Reads the flags of a sweep.

  Args:
    workdir: of the run.
    coefficients: with commas, such as '0,0.25,0.5'; '' asks for no sweep.
    inner: workdirs with commas.
    export: folder.

  Returns:
    The sweep; None where none is asked for.

  Raises:
    ValueError: a coefficient that is no number in [0, 1], or an export without
      a sweep.
    FileExistsError: the folder is there already.
  """
  if not coefficients:
    if export:
      raise ValueError('--export needs --interpolate; see also `bank export`')
    return None
  found = {END}
  for part in coefficients.split(','):
    try:
      value = float(part)
    except ValueError:
      value = -1.0
    if not 0 <= value <= 1:
      raise ValueError(
        f'--interpolate={coefficients}: {part!r} is no number in [0, 1], from '
        'the start (0) to the end (1) of the training'
      )
    found.add(value)
  if export and os.path.exists(export):
    raise FileExistsError(
      f'{export} is there already: --export writes a new folder'
    )
  folders = tuple(inner.split(',')) if inner else ()
  return Sweep(workdir, tuple(sorted(found)), folders, export)


def starting_params(recognizer: encoders.Recognizer, workdir: str) -> Any:
  """Rebuilds the parameters that a run started from.

  Args:
    recognizer: the run's encoders.
    workdir: of the run, for messages.

  Returns:
    The parameters at step 0, as its encoders have them.

  Raises:
    FileNotFoundError: the weights of the start are not there any more.
    ValueError: the run started from random values, or those weights have
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
      'began with public weights or a model (init.text, init.video, init.dual '
      'or init.model)'
    )
  sources = [config.init.get(key, '') for key in initialisation.SOURCES]
  if not any(sources):
    raise ValueError(
      f'{workdir} began with {began}, but does not say where that is: give the '
      'workdir of the run itself'
    )
  with config.ignore_type():
    config.init.loaded = ''
    start = starts.start(config)
  now = start.config.init.loaded
  if now != began:
    raise ValueError(
      f'the weights in {", ".join(filter(None, sources))} have changed: '
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
  sweep: Sweep,
  recognizer: encoders.Recognizer,
  settings: methods.TransferSettings,
  say: Callable[[str], Any],
) -> dict[str, Any]:
  """Chooses the coefficient on runs whose unseen classes are seen ones.

  Args:
    sweep: has coefficients and inner draws.
    recognizer: of the run that the coefficient is for.
    settings: of the transfer.
    say: gets a line before each slow part.

  Returns:
    JSON-able: `coefficient`, `chosen_on` (names of the draws) and
    `inner_accuracies` of every coefficient in every draw.

  Raises:
    ValueError: see `choose_settings.open_draw` and `starting_params`; or a draw
      that began with other public weights.
  """
  accuracies, names = {c: [] for c in sweep.coefficients}, []
  for folder in sweep.inner:
    inner, protocol = choose_settings.open_draw(
      folder, recognizer, sweep.workdir
    )
    if inner.origin != recognizer.origin:
      raise ValueError(
        f'{folder} began with {inner.origin}, and {sweep.workdir} with '
        f'{recognizer.origin}: a coefficient holds for one start'
      )
    start = starting_params(inner, folder)
    with inner.config.zeroshot.unlocked():  # older runs lack the key
      inner.config.zeroshot.motion_controls = False
    for c in sweep.coefficients:
      say(f'{protocol.name}: coefficient {c:g}')
      embed = choose_settings.embed_with(between(inner, start, c), folder, say)
      draw = protocol_evaluation.embed_protocols([protocol], embed)
      accuracies[c].append(choosing.transfer_accuracy(draw, settings))
    names.append(protocol.name)
  default_first = sorted(accuracies.items(), key=lambda pair: pair[0] != END)
  return {
    'coefficient': choosing.best(default_first) if names else END,
    'chosen_on': names,
    'inner_accuracies': {f'{c:g}': values for c, values in accuracies.items()},
  }


def evaluate(
  recognizer: encoders.Recognizer,
  sweep: Sweep,
  measure: Callable[[encoders.Recognizer, Any], evaluate_run.Outcome],
  settings_choice: Mapping[str, Any] | None,
  say: Callable[[str], Any],
) -> evaluate_run.Outcome:
  """Measures a run at every coefficient.

  Args:
    recognizer: of the run.
    sweep: what is asked for.
    measure: evaluates encoders with a choice of settings.
    settings_choice: of `choosing.choose`; None takes the config's settings.
    say: gets a line before each slow part.

  Returns:
    The outcome at the coefficient that inner draws chose, or without them at
    the end. Its content has a key `interpolation` with the rows of all.

  Raises:
    ValueError: see `starting_params` and `choose_on`.
  """
  # The calibration of inner draws is that of their ends.
  settings_choice = {
    k: v for k, v in (settings_choice or {}).items() if k != 'calibration'
  }
  settings = recognizer.transfer_settings
  if settings_choice:
    settings = methods.TransferSettings(**settings_choice['settings'])
  start = starting_params(recognizer, sweep.workdir)
  chosen = choose_on(sweep, recognizer, settings, say)
  rows, kept = {}, None
  for c in sweep.coefficients:
    say(f'coefficient {c:g}')
    mixed = between(recognizer, start, c)
    outcome = measure(mixed, settings_choice)
    rows[f'{c:g}'] = outcome.content['rows']
    if c == chosen['coefficient']:
      kept = outcome, mixed
  outcome, mixed = kept
  outcome.content['interpolation'] = {**chosen, 'rows': rows}
  if sweep.export:
    with whole_folders.making(sweep.export) as folder:
      saved_encoders.export(mixed, outcome.bank, folder)
    say(f'encoders and bank written to {sweep.export}')
  return outcome


def format_table(interpolation: dict[str, Any]) -> str:
  """A line for each coefficient, and which is reported.

  Args:
    interpolation: of `evaluate`.
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
    of_draws = ' '.join(f'{100 * a:.1f}' for a in inner[c])
    mark = '*' if float(c) == interpolation['coefficient'] else ''
    lines.append([c + mark, of_draws, *map(_percent, shown)])
  told = (
    f'* chosen on {", ".join(interpolation["chosen_on"])}'
    if interpolation['chosen_on']
    else '* the end of the training: nothing was chosen, --inner would'
  )
  header = ('coefficient', 'inner draws', *names)
  if not interpolation['chosen_on']:
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
