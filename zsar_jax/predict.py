"""Ranks class names for videos. The names need not be training classes.

python -m zsar_jax.predict --workdir=runs/demo --video=clip.mp4 \
  --classes="juggling,rowing,arm wrestling"

--workdir=stick_figures is a small model that comes with the package. It knows
only drawings, and warns about other videos. --bank=FILE gives a prototype bank.
--video takes several videos or a pattern ("clips/*.mp4"). --classes takes a
file with one name per line. --segments divides a long video into segments and
names each. --reject_below=0.5 answers "none of these" if no name reaches this
probability.

Without a trained model, give public CLIP weights. They rank by the nearest
name:

python -m zsar_jax.predict --pretrained=clip-vit-base-patch32 \
  --video=clip.mp4 --classes="juggling,rowing,arm wrestling"
"""

from collections.abc import Sequence
import csv
import dataclasses
import glob
import json
import os
import sys

from absl import flags

from zsar_jax import cli
from zsar_jax.data import class_names, isolated
from zsar_jax.inference import model_files, predictions
from zsar_jax.system import terminal

_SECONDS = '{:.1f}'


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
  made_of = ', '.join(
    f'{name} {100 * weight:.0f}%' for name, weight in ranked.composited_from
  )
  return f'{text}  <- {made_of}'


def _format(
  prediction: predictions.Prediction, top_k: int, explain: bool
) -> str:
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


def _define_flags() -> flags.FlagValues:
  values = cli.new_flags()
  text = lambda name, what, default=None, required=False: flags.DEFINE_string(
    name, default, what, flag_values=values, required=required
  )
  yes = lambda name, what: flags.DEFINE_bool(
    name, False, what, flag_values=values
  )
  number = lambda name, default, what, low=None: flags.DEFINE_float(
    name, default, what, lower_bound=low, flag_values=values
  )
  text(
    'workdir',
    'Folder of a finished run; with --bank, of its encoders. Or a model that '
    f'comes with the package: {", ".join(model_files.shipped())}.',
  )
  cli.define_step(values)
  text('bank', 'Prototype bank file; by default the one of the workdir.')
  text(
    'pretrained',
    'Public CLIP weights, instead of a run: a folder, or an id of the Hugging '
    'Face Hub, hf:org/name or hf:org/name@revision.',
  )
  text('video', 'Video files or patterns, separated by commas.', required=True)
  text(
    'classes',
    'Candidate class names separated by commas, or a file with one name per '
    'line; by default the classes added to the bank.',
  )
  cli.define_descriptions(values, 'Of candidate classes')
  flags.DEFINE_integer(
    'top_k', 5, 'Number of names to show.', lower_bound=1, flag_values=values
  )
  yes('explain', 'Show the seen classes that each name was composited from.')
  number('reject_below', None, 'Answer "none of these" below this probability.')
  yes('segments', 'Divide a long video into segments, and name each.')
  number(
    'window',
    0.0,
    'Seconds per window of --segments; 0 chooses it by the weights.',
    0,
  )
  number('stride', 0.0, 'Seconds between windows; 0 means half a window.', 0)
  number('switch_cost', 1.0, 'Cost of each change of segment, in nats.', 0)
  yes('json', 'Print JSON.')
  yes('csv', 'Print CSV.')
  return values


def read_names(text: str | None) -> list[str]:
  """Returns names from a text with commas or a file; [] for None."""
  if text is None:
    return []
  if not text.strip():
    raise ValueError('--classes is empty: give names separated by commas')
  if os.path.isfile(text):
    with open(text, encoding='utf-8-sig') as f:
      names = [line.strip() for line in f if line.strip()]
    if not names:
      raise ValueError(f'{text} holds no class name')
    return names
  if text.endswith('.txt'):
    raise FileNotFoundError(f'--classes={text} does not exist')
  return text.split(',')


def _paths(text: str) -> list[str]:
  """Returns the files of --video.

  Raises:
    FileNotFoundError: a file does not exist.
    ValueError: a pattern finds no file.
  """
  # A file name may look like a pattern, or hold a comma.
  if os.path.exists(text):
    return [text]
  paths = []
  for part in text.split(','):
    found = sorted(glob.glob(part, recursive=True))
    if not found and glob.has_magic(part):
      raise ValueError(f'no file matches --video={part}')
    if not found:
      raise FileNotFoundError(f'--video={part} does not exist')
    paths += found
  return paths


def main(argv: list[str]) -> None:
  """Parses the command line and prints the rankings.

  Args:
    argv: the command line, the program's name first.
  """
  values = _define_flags()
  cli.parse(values, argv, usage=__doc__)
  if bool(values.workdir or values.bank) == bool(values.pretrained):
    raise ValueError('give either --workdir (or --bank) or --pretrained')
  if values.json and values.csv:
    raise ValueError('give either --json or --csv')
  names, paths = read_names(values.classes), _paths(values.video)
  if values.descriptions and not names:
    raise ValueError('--descriptions needs --classes')
  described = cli.read_descriptions(
    values.descriptions, map(class_names.canonical_name, names)
  )
  isolated.start()
  if values.pretrained and values.step is not None:
    raise ValueError('--pretrained is not a run, so it has no --step')
  if values.pretrained and not names:
    raise ValueError('--pretrained needs --classes')
  with cli.start_up():
    # Imports JAX, so it comes late. Mistakes in the command line are reported
    # at once, and the decoding process starts meanwhile.
    from zsar_jax.inference import action_model

    if values.pretrained:
      model = action_model.load_pretrained(values.pretrained)
    else:
      model = action_model.load(
        values.bank or values.workdir, values.workdir or '', values.step
      )
    if names:
      model.clear_classes().add_classes(names, described)
  of_classes = model.warnings
  if values.segments:
    _print_segments(model, paths, values)
    return
  if len(paths) == 1:
    predictions = [model.predict(paths[0], values.reject_below)]
  else:
    predictions = model.predict_many(paths, values.reject_below)
  _print_predictions(predictions, paths, of_classes, values)


def _print_predictions(
  predictions, paths: Sequence[str], of_classes: Sequence[str], values
) -> None:
  """Prints each prediction as it comes, or all at the end as JSON or CSV.

  Args:
    predictions: prediction of each video, or its error.
    paths: paths of the videos.
    of_classes: warnings that every prediction repeats; printed once.
    values: the flags.

  Raises:
    ValueError: some videos cannot be used. The others are printed.
  """
  done, failed, notes = [], [], []
  plain = not (values.json or values.csv)
  if plain:
    _warn(of_classes)
  for path, prediction in zip(paths, predictions, strict=True):
    if isinstance(prediction, Exception):
      failed.append(path)
      terminal.say(f'error: {prediction}', error=True)
    else:
      done.append(dataclasses.replace(prediction, video=path))
    name = terminal.visible_name(path)
    if len(paths) > 1:
      terminal.say(f'{len(done) + len(failed)}/{len(paths)} {name}', error=True)
    if plain and path not in failed:
      if len(paths) > 1:
        terminal.say(name)
      _warn([text for text in prediction.warnings if text not in of_classes])
      terminal.say(_format(prediction, values.top_k, values.explain))
      notes = _notes(prediction)
  for note in notes:
    terminal.say(note)
  if values.json:
    shown = [dataclasses.asdict(prediction) for prediction in done]
    print(json.dumps(shown[0] if len(paths) == 1 else shown, indent=2))
  if values.csv:
    _print_csv(
      ('video', 'rank', 'class', 'probability', 'score', 'none_of_these'),
      (
        (p.video, place, r.name, r.probability, r.score, p.none_of_these)
        for p in done
        for place, r in enumerate(p.ranking[: values.top_k], 1)
      ),
    )
  if failed:
    raise ValueError(f'{len(failed)} of {len(paths)} videos cannot be used')


def _notes(prediction: predictions.Prediction) -> list[str]:
  """Returns notes for all videos: the risk, or how probabilities were made."""
  if prediction.none_of_these is None:
    return [f'probabilities: {prediction.probabilities}']
  return [prediction.risk] if prediction.risk else []


def _warn(texts: Sequence[str], error: bool = False) -> None:
  for text in texts:
    terminal.say(f'warning: {text}', error=error)


def _print_csv(header, rows) -> None:
  # A terminal must not obey control characters in names; files keep them.
  shown = terminal.printable
  if sys.stdout.isatty():
    shown = terminal.visible_name
  writer = csv.writer(sys.stdout)
  writer.writerow(header)
  writer.writerows(
    [shown(cell) if isinstance(cell, str) else cell for cell in row]
    for row in rows
  )


def _print_segments(model, paths: Sequence[str], values) -> None:
  found = {}
  of_classes = model.warnings
  _warn(of_classes, error=True)
  for path in paths:
    name = terminal.visible_name(path)

    def progress(done, total, name=name):
      print(f'\r{name}: window {done}/{total}', end='', file=sys.stderr)

    segments, warnings = model.segment(
      path,
      window=values.window,
      stride=values.stride,
      switch_cost=values.switch_cost,
      progress=progress,
    )
    print(file=sys.stderr)
    found[path] = segments
    _warn([text for text in warnings if text not in of_classes], error=True)
    if not values.json and not values.csv:
      if len(paths) > 1:
        terminal.say(name)
      for s in segments:
        times = f'{_SECONDS.format(s.start):>8} - {_SECONDS.format(s.end):>8} s'
        terminal.say(f'{times}  {100 * s.score:5.1f}%  {s.name}')
  if values.json:
    as_dicts = {
      path: [dataclasses.asdict(s) for s in segments]
      for path, segments in found.items()
    }
    print(json.dumps(as_dicts, indent=2))
  if values.csv:
    _print_csv(
      ('video', 'start', 'end', 'class', 'probability'),
      (
        (path, s.start, s.end, s.name, s.score)
        for path, segments in found.items()
        for s in segments
      ),
    )


if __name__ == '__main__':
  cli.run(main)
