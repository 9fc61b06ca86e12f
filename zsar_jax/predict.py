"""Ranks class names for videos. The names need not be training classes.

zsar predict --workdir=runs/demo --video=clip.mp4 \
  --classes="juggling,rowing,arm wrestling"

--workdir=stick_figures is a small model that comes with the package. It knows
only drawings, and warns about other videos. --bank=FILE gives a prototype bank.
--video takes several videos or a pattern ("clips/*.mp4"). --classes takes a
file with one name per line. --segments divides a long video into segments and
names each; --render=out.mp4 or --subtitles=out.srt writes them into a video or
beside it. --reject_below=0.5 answers "none of these" if no name reaches this
probability.

--stream=camera:0 in place of --video names what happens while it happens.

Without a trained model, give public CLIP weights. They rank by the nearest
name:

zsar predict --pretrained=clip-vit-base-patch32 \
  --video=clip.mp4 --classes="juggling,rowing,arm wrestling"
"""

from collections.abc import Sequence
import csv
import dataclasses
import json
import os
import sys

from absl import flags

from zsar_jax import cli
from zsar_jax.data import (
  annotated_video,
  class_names,
  isolated,
  stream_source,
)
from zsar_jax.inference import (
  model_files,
  prediction_text,
  predictions,
  subtitles,
)
from zsar_jax.system import interruption, terminal


def _define_flags() -> flags.FlagValues:
  values = cli.new_flags()
  text = lambda name, what: flags.DEFINE_string(
    name, None, what, flag_values=values
  )
  yes = lambda name, what: flags.DEFINE_bool(
    name, False, what, flag_values=values
  )
  number = lambda name, default, what, low=None: flags.DEFINE_float(
    name, default, what, lower_bound=low, flag_values=values
  )
  text(
    'workdir',
    'Folder of a finished run; with --bank, of its encoders. Or a pushed model '
    'of the Hub, hf:org/name[@revision], or a model that comes with the '
    f'package: {", ".join(model_files.shipped())}.',
  )
  cli.define_step(values)
  text('bank', 'Prototype bank file; by default the one of the workdir.')
  text(
    'pretrained',
    'Public CLIP weights, instead of a run: a folder, or an id of the Hugging '
    'Face Hub, hf:org/name or hf:org/name@revision.',
  )
  cli.define_dtype(values, 'pretrained')
  text('video', 'Video files or patterns, separated by commas.')
  text(
    'stream',
    'Instead of --video: name what happens while it happens. camera:0, '
    '/dev/video0, - for a pipe, an address such as rtsp://HOST/PATH, or a file '
    'that grows. Ctrl-C ends it.',
  )
  text(
    'classes',
    'Candidate class names separated by commas, or a file with one name per '
    'line; by default the classes added to the bank.',
  )
  cli.define_descriptions(values, 'Of candidate classes')
  flags.DEFINE_integer(
    'top_k', 5, 'Number of names to show.', lower_bound=1, flag_values=values
  )
  yes('explain', 'Show the seen classes and examples behind each name.')
  number('reject_below', None, 'Answer "none of these" below this probability.')
  yes('segments', 'Divide a long video into segments, and name each.')
  text(
    'render',
    'With --segments: video to write, with the names below the pictures. '
    f'{", ".join(annotated_video.SUFFIXES)}.',
  )
  text('subtitles', 'With --segments: .srt or .vtt to write.')
  number('window', 0.0, 'Seconds per window; 0 chooses it by the weights.', 0)
  number('stride', 0.0, 'Seconds between windows; 0 means half a window.', 0)
  number('switch_cost', 1.0, 'Cost of each change of segment, in nats.', 0)
  yes('json', 'Print JSON; of a stream a line for each window and segment.')
  yes('csv', 'Print CSV.')
  return values


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
  if bool(values.video) == bool(values.stream):
    raise ValueError('give either --video or --stream')
  names = cli.read_names(values.classes)
  if values.descriptions and not names:
    raise ValueError('--descriptions needs --classes')
  described = cli.read_descriptions(
    values.descriptions, map(class_names.canonical_name, names)
  )
  cli.check_dtype(values, 'pretrained')
  if values.pretrained and values.step is not None:
    raise ValueError('--pretrained is not a run, so it has no --step')
  if values.pretrained and not names:
    raise ValueError('--pretrained needs --classes')
  if values.stream:
    _check_outputs((), values)
    _watch(names, described, values)
    return
  paths = cli.read_paths(values.video)
  _check_outputs(paths, values)
  isolated.start()
  model = _load(names, described, values)
  of_classes = model.warnings
  if values.segments:
    _print_segments(model, paths, values)
    return
  if len(paths) == 1:
    predictions = [model.predict(paths[0], values.reject_below)]
  else:
    predictions = model.predict_many(paths, values.reject_below)
  _print_predictions(predictions, paths, of_classes, values)


def _check_outputs(paths: Sequence[str], values) -> None:
  """Refuses files that cannot be written, before anything is computed."""
  for flag, suffixes in (
    ('render', tuple(annotated_video.SUFFIXES)),
    ('subtitles', subtitles.SUFFIXES),
  ):
    path = values[flag].value
    if path is None:
      continue
    shown = f'--{flag}={terminal.visible_name(path)}'
    if len(paths) != 1 or not values.segments:
      raise ValueError(f'--{flag} needs --segments, and --video with one video')
    if os.path.splitext(path)[1].lower() not in suffixes:
      raise ValueError(f'{shown}: expected {" or ".join(suffixes)}')
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
      raise FileNotFoundError(f'the folder of {shown} does not exist')
    try:
      with open(path, 'x'):
        os.remove(path)
    except FileExistsError as e:
      raise FileExistsError(f'{shown} is there already') from e
    except OSError as e:
      raise OSError(f'{shown} cannot be written: {e.strerror}') from e


def _write_outputs(path: str, segments, values) -> None:
  """Writes what --subtitles and --render want."""
  if values.subtitles:
    suffix = os.path.splitext(values.subtitles)[1].lower()
    # 'x': what appeared in the meantime is nobody's to overwrite.
    with open(values.subtitles, 'x', encoding='utf-8') as f:
      f.write(subtitles.subtitles(segments, suffix))
  if values.render:
    terminal.say(f'writing {terminal.visible_name(values.render)}', error=True)
    named = [(s.start, s.end, s.name, s.score) for s in segments]
    lacking = annotated_video.write(
      path, values.render, named, predictions.NONE_OF_THESE
    )
    if lacking:
      boxes = f'no font here has {terminal.visible_name(lacking)}: the video '
      _warn([f'{boxes}shows boxes; --subtitles has all letters'], error=True)


def _load(names: Sequence[str], described, values):
  with cli.start_up():
    # Imports JAX, so it comes late. Mistakes in the command line are reported
    # at once, and the decoding process starts meanwhile.
    from zsar_jax.inference import action_model

    if values.pretrained:
      model = action_model.load_pretrained(values.pretrained, values.dtype)
    else:
      model = action_model.load(
        values.bank or values.workdir, values.workdir or '', values.step
      )
    if names:
      model.clear_classes().add_classes(names, descriptions=described)
  return model


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
      terminal.say(
        prediction_text.describe(prediction, values.top_k, values.explain)
      )
      notes = prediction_text.notes(prediction)
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


def _warn(texts: Sequence[str], error: bool = False) -> None:
  for text in texts:
    terminal.say(f'warning: {text}', error=error)


def _print_csv(header, rows) -> None:
  # A terminal must not obey control characters in names; files keep them.
  shown = terminal.printable
  if sys.stdout.isatty():
    shown = terminal.visible_name
  writer = csv.writer(sys.stdout)
  if header:
    writer.writerow(header)
  writer.writerows(
    [shown(cell) if isinstance(cell, str) else cell for cell in row]
    for row in rows
  )


def _print_segments(model, paths: Sequence[str], values) -> None:
  found = []
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
    found.append(
      predictions.Segments(
        path,
        tuple(segments),
        tuple(warnings),
        model.probabilities,
        model.recognizer.origin,
        model.recognizer.source,
      )
    )
    _warn([text for text in warnings if text not in of_classes], error=True)
    # Before anything is printed: the reader of the text may have left.
    _write_outputs(path, segments, values)
    if not values.json and not values.csv:
      if len(paths) > 1:
        terminal.say(name)
      for s in segments:
        terminal.say(prediction_text.describe_segment(s))
  if values.json:
    shown = [dataclasses.asdict(of_video) for of_video in found]
    print(json.dumps(shown[0] if len(paths) == 1 else shown, indent=2))
  if values.csv:
    _print_csv(
      ('video', 'start', 'end', 'class', 'probability'),
      (
        (of_video.video, s.start, s.end, s.name, s.score)
        for of_video in found
        for s in of_video.segments
      ),
    )


def _watch(names: Sequence[str], described, values) -> None:
  """Names what happens in a stream, until it ends or Ctrl-C."""
  for flag in ('explain', 'reject_below'):
    if values[flag].value not in (None, False):
      raise ValueError(f'--stream finds segments, it takes no --{flag}')
  found = stream_source.find(values.stream)
  with stream_source.Source(found) as source:
    source.open()
    model = _load(names, described, values)
    domain = model.bank.domain if model.bank else ''
    _warn(predictions.domain_warnings(domain, found.name, None), error=True)
    _warn(model.segment_warnings, error=True)
    events = model.stream(
      source.frames(model.recognizer.prep),
      window=values.window,
      stride=values.stride,
      switch_cost=values.switch_cost,
      are_views=True,
      skip_gaps=found.is_live,
      name=terminal.visible_name(found.name),
    )
    with interruption.on_request(source.stop):
      _print_events(events, values)


def _print_events(events, values) -> None:
  """Prints windows and segments as they come."""
  header = ('kind', 'start', 'end', 'class', 'probability')
  if values.csv:
    _print_csv(header, ())
  for event in events:
    row = prediction_text.of_event(event, values.top_k)
    if values.json:
      print(json.dumps(row), flush=True)
    elif values.csv:
      _print_csv(None, [list(row.values())[: len(header)]])
      sys.stdout.flush()
    elif row['kind'] == 'segment':
      terminal.say_over('')
      terminal.say(prediction_text.describe_segment(event))
    else:
      terminal.say_over(prediction_text.describe_window(event))


if __name__ == '__main__':
  cli.run(main)
