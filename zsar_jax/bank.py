"""Shows, builds, extends, merges and exports prototype banks.

zsar bank show runs/demo/bank.safetensors
zsar bank build --workdir=runs/demo --output=bank.safetensors
zsar bank build --workdir=runs/demo --dataset=DIR --output=more.safetensors
zsar bank build --video=WEIGHTS --text=WEIGHTS --output=FOLDER \
  [--dataset=DIR]
zsar bank add runs/demo/bank.safetensors \
  --classes="juggling,rowing" --output=mine.safetensors
zsar bank add mine.safetensors --classes=juggling \
  --videos="clips/juggling/*.mp4" --output=sharper.safetensors
zsar bank merge A.safetensors B.safetensors --output=C.safetensors
zsar bank export --workdir=runs/demo --output=FOLDER
zsar bank export --workdir=runs/demo --push=ORG/NAME --licence=apache-2.0
zsar bank export --workdir=runs/demo --format=stablehlo \
  --classes="juggling,rowing" --output=FOLDER

A prototype bank is the file that inference needs beside the encoders.

`build` makes prototypes from a run's training videos, or from all classes of
another prepared dataset. `add` adds classes by name, without any video. A few
example videos sharpen a class (--videos), and more can be added later: give
each video once, since a bank that has it counts it again.
`merge` joins banks of the same encoders. `export` writes encoders and bank as
a folder of plain files with a model card, to share. Every command accepts it as
--workdir. --push uploads it to the Hugging Face Hub. Public weights are not
copied: the folder holds their name and revision.

--format=stablehlo, onnx or onnx-int8 writes a folder that works without this
project: weights, prototypes of --classes, and a script for JAX or onnxruntime.
"""

from collections.abc import Sequence
import os

from absl import flags

from zsar_jax import bank_export, cli
from zsar_jax.data import class_names, isolated
from zsar_jax.evaluation import results
from zsar_jax.inference import (
  bank_building,
  bank_changes,
  candidates,
  confidence,
  evaluate_run,
  example_videos,
  exported_model,
  model_sources,
  prototype_bank,
  public_banks,
  public_folders,
  saved_encoders,
)
from zsar_jax.system import terminal, whole_folders

_COMMANDS = ('show', 'build', 'add', 'merge', 'export')
# Commands, and the flags that only they have.
_BELONGS = {
  'build': 'video text dtype dataset prototypes drop_seen',
  'add': 'videos',
  'export': 'format push',
  'build and add': 'descriptions',
  'build and export': 'licence',
  'add and export': 'classes',
}
# Commands and their form.
_FORMS = {
  'show': 'BANK',
  'build': '--video=WEIGHTS --text=WEIGHTS --output=FOLDER',
  'add': 'BANK --classes=NAMES --output=FILE',
  'merge': 'BANK BANK --output=FILE',
  'export': '--workdir=FOLDER --output=FOLDER',
}


def _define_flags() -> flags.FlagValues:
  values = cli.new_flags()
  text = lambda name, what: flags.DEFINE_string(
    name, '', what, flag_values=values
  )
  text('workdir', "Folder of the encoders; by default the bank's folder.")
  text(
    'dataset',
    "build: a prepared dataset; by default the run's own. With --video, its "
    'videos give prototypes and the calibration.',
  )
  flags.DEFINE_enum(
    'prototypes',
    '',
    ('', *public_banks.SOURCES),
    'build, with --video: source of the prototypes; by default all sources.',
    flag_values=values,
  )
  text(
    'classes',
    'Class names separated by commas, or a file with one name per line. add: '
    'the classes to add. export, with --format: the classes to choose from; by '
    "default the bank's added classes, or else its seen classes.",
  )
  flags.DEFINE_enum(
    'format',
    bank_export.OWN_FORMAT,
    (bank_export.OWN_FORMAT, *exported_model.FORMATS),
    'export: files for this project, for JAX alone, or for onnxruntime.',
    flag_values=values,
  )
  text(
    'videos',
    'add: example videos of the one class of --classes, files or patterns, '
    'with commas. It may be in the bank already.',
  )
  text('video', 'build: public weights of a video classifier or a CLIP.')
  text('text', 'build, with --video: public weights of a text encoder.')
  cli.define_dtype(values, 'video')
  cli.define_descriptions(
    values, 'build, with --video, and add: of classes', None
  )
  text('drop_seen', 'build: seen classes to leave out, separated by commas.')
  text('output', 'Bank file to write; with --video or export, a folder.')
  text('push', 'export: repository of the Hugging Face Hub, ORG/NAME.')
  text(
    'licence',
    'build: licence of the videos. export: licence in the model card, as the '
    'Hub spells it, such as apache-2.0.',
  )
  cli.define_step(values)
  flags.DEFINE_bool(
    'overwrite', False, 'Replace an existing output.', flag_values=values
  )
  return values


def main(argv: list[str]) -> None:
  """Parses the command line and runs one of the commands.

  Args:
    argv: the command line, the program's name first.
  """
  values = _define_flags()
  given = cli.parse(values, argv, usage=__doc__, allow_arguments=True)
  if not given or given[0] not in _COMMANDS:
    raise ValueError(f'give a command: one of {", ".join(_COMMANDS)}')
  command, paths = given[0], given[1:]
  cli.check_belongs(values, command, _BELONGS)
  if (command == 'export' or values.video) and os.path.exists(values.output):
    raise FileExistsError(f'{values.output} exists: name a new folder')
  _check_complete(values, command, paths)
  cli.check_dtype(values, 'video')
  if command == 'export':
    bank_export.check(values)
  elif command != 'show':
    results.check_output(values.output, values.overwrite)
  if command in ('build', 'export'):
    if paths:
      raise ValueError(f'arguments not understood: {" ".join(paths)}')
    if values.video or values.text:
      _build_public(values, command)
      return
    values.workdir = model_sources.pin(values.workdir)
    bank = {'build': _build, 'export': bank_export.export}[command](values)
  else:
    if command != 'merge' and len(paths) > 1:
      raise ValueError(f'{command} takes one bank file, got {paths}')
    paths = [*map(model_sources.bank_file, paths)]
    bank = {'show': _show, 'add': _add, 'merge': _merge}[command](paths, values)
  if bank is not None:
    prototype_bank.save_bank(bank, values.output)
    terminal.say(
      f'{len(bank.seen_classes)} seen and {len(bank.added_classes)} added '
      f'classes written to {values.output}'
    )


def _check_complete(values, command: str, paths: Sequence[str]) -> None:
  """Raises ValueError if a command lacks something; it says all of it."""
  encoders = values.workdir or values.video or values.text
  target = values.output or values.push
  lacks = {
    'a bank file': command in ('show', 'add') and not paths,
    'at least two banks': command == 'merge' and len(paths) < 2,
    '--video and --text, or --workdir': command == 'build' and not encoders,
    '--workdir': command == 'export' and not encoders,
    '--classes': command == 'add' and not values.classes,
    '--output, or --push': command == 'export' and not target,
    '--output': command in ('build', 'add', 'merge') and not values.output,
  }
  needed = '; '.join(what for what, lacking in lacks.items() if lacking)
  if needed:
    raise ValueError(
      f'{command} needs {needed}. Its form: zsar bank {command} '
      f'{_FORMS[command]}'
    )


def _show(paths: Sequence[str], _) -> None:
  terminal.say(prototype_bank.describe(prototype_bank.load_bank(paths[0])))


def _merge(paths: Sequence[str], _) -> prototype_bank.PrototypeBank:
  banks = [prototype_bank.load_bank(path) for path in paths]
  merged = bank_changes.merge(banks, paths)
  if any(bank.calibration for bank in banks):
    terminal.say(
      'the calibration is dropped: it was measured with other seen classes'
    )
  if any(bank.settings != banks[0].settings for bank in banks):
    terminal.say(f'the settings of {paths[0]} are kept')
  return merged


def _add(paths: Sequence[str], values) -> prototype_bank.PrototypeBank:
  names = class_names.canonical_names(cli.read_names(values.classes), 'classes')
  videos = {}
  if values['videos'].present:
    if len(names) > 1:
      raise ValueError(
        f'--videos are of one class, and --classes names {len(names)}: add '
        'them one after the other'
      )
    videos = {names[0]: cli.read_paths(values.videos, 'videos')}
  path = paths[0]
  bank = prototype_bank.load_bank(path)
  if videos:
    isolated.start()  # the child that decodes gets ready in the meantime
  videos = example_videos.check(bank, names, videos)
  new = [n for n in names if not (videos and n in bank.added_classes)]
  if new:
    bank_changes.new_names(bank, new)
  elif values.descriptions:
    raise ValueError(f'{names} are in the bank: --descriptions are of new ones')
  described = cli.read_descriptions(values.descriptions or '', new)
  folder = values.workdir or os.path.dirname(os.path.abspath(path))
  recognizer = saved_encoders.load(folder, values.step)
  prototype_bank.check_belongs(
    bank, recognizer.weights_hash, recognizer.prep.to_json(), path
  )
  directions = {}
  if videos:
    directions = example_videos.directions(recognizer, bank, videos)
  if new:
    recognizer = candidates.describe(recognizer, new, described)
    text = recognizer.encode_class_names(new)['embedding']
    bank = bank_changes.add_names(bank, new, text)
  for name, of_class in directions.items():
    bank = bank_changes.add_examples(bank, name, of_class)
  for line in candidates.Candidates(recognizer, bank).describe_parts(names):
    terminal.say(line)
  return bank


def _build_public(values, command: str) -> None:
  """Builds the bank of public encoders, and writes its folder."""
  sides = values.video and values.text
  if command != 'build' or values.workdir or not sides:
    raise ValueError('build takes --video and --text together, or --workdir')
  cli.read_descriptions(values.descriptions or '', ())  # mistakes come early
  encoders = public_folders.open_sides(
    values.video, values.text, dtype=values.dtype
  )
  encoders = public_banks.describe(
    encoders, values.descriptions, values.dataset, terminal.say
  )
  # A build that was interrupted has kept its embeddings for the next one.
  with whole_folders.making(values.output, resumes=True) as folder:
    bank = _public_bank(encoders, values, folder)
    saved_encoders.export(encoders, bank, folder)
  terminal.say(
    f'{len(bank.seen_classes)} seen classes written to {values.output}: try\n'
    f'zsar predict --workdir={values.output} --video=FILE '
    '--classes=NAMES'
  )


def _public_bank(encoders, values, folder: str) -> prototype_bank.PrototypeBank:
  """Builds the bank of public encoders; caches embeddings in the folder."""
  bank = public_banks.make_bank(
    encoders,
    public_banks.Choice(
      values.prototypes,
      values.dataset,
      values.drop_seen.split(',') if values.drop_seen else [],
      values.licence,
    ),
    embeddings_dir=os.path.join(folder, evaluate_run.EMBEDDINGS_FOLDER),
    say=terminal.say,
  )
  _say_calibration(bank)
  return bank


def _say_calibration(bank: prototype_bank.PrototypeBank) -> None:
  """Says where the probabilities come from, and warns where it is little."""
  found = confidence.Confidence(bank.calibration, False)
  terminal.say(f'probabilities: {found.described}')
  for warning in found.warnings:
    terminal.say(f'warning: {warning}')


def _build(values) -> prototype_bank.PrototypeBank:
  if values.descriptions:
    raise ValueError(
      '--descriptions belongs to build --video --text: the encoders of '
      f'{values.workdir} keep those that they were made with'
    )
  kept_in = model_sources.outputs_folder(values.workdir, values.output)
  recognizer = saved_encoders.load(values.workdir, values.step)
  if public_folders.is_public(model_sources.resolve(values.workdir)):
    return _public_bank(recognizer, values, kept_in)
  if values.prototypes or values.drop_seen:
    raise ValueError(
      '--prototypes and --drop_seen need public weights, and '
      f'{values.workdir} is a trained run'
    )
  config = recognizer.config
  data = config.data
  with data.unlocked():
    if values.dataset:
      data.dataset_dir, data.test_dataset_dir = values.dataset, ''
      data.class_split, data.protocol = '', ''
      data.strict_for, data.inner_draw, data.train_only = (), -1, True
  bank = bank_building.build_bank(
    recognizer,
    evaluate_run.make_protocol(config),
    evaluate_run.video_cache(config),
    embeddings_dir=os.path.join(kept_in, evaluate_run.EMBEDDINGS_FOLDER),
    licence=values.licence,
    say=terminal.say,
  )
  _say_calibration(bank)
  return bank


if __name__ == '__main__':
  cli.run(main)
