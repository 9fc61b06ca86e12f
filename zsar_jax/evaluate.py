"""Evaluates a run, or the embeddings or scores of another system.

The newest checkpoint of a run gets the same table as after training:

zsar evaluate --workdir=runs/demo

Test on another prepared dataset (the folder that `zsar_jax.prepare` printed),
on every split of a registered protocol. The seen prototypes come from the run's
own training videos:

zsar evaluate --workdir=runs/k664 --dataset=UCF_DIR \
  --protocol=ucf101/half-class-seed0-9

Or give a file with the dataset's seen and unseen classes. The seen prototypes
then come from the dataset's own training videos:

zsar evaluate --workdir=runs/demo --dataset=DIR \
  --class_split=split.json

Evaluate public weights with a joint space of videos and names, by the nearest
name. They need no training and no seen classes:

zsar evaluate --pretrained=CLIP_DIR --dataset=UCF_DIR \
  --protocol=ucf101/half-class-seed0-9

Embeddings are cached: a second evaluation of the same weights only scores.

Evaluate embeddings or scores of another system (docs/score_files.md). A CSV
file id,label[,group][,source] gives the class of each video:

zsar evaluate --embeddings=FILE --labels=CSV
zsar evaluate --scores=FILE --labels=CSV \
  --protocol=ucf101/half-class-seed0-9

Compare two systems on the same videos, by the files of their evaluations:

zsar evaluate --compare=A/predictions.safetensors,\
B/predictions.safetensors

Choose the transfer settings on runs that held out some seen classes
(--config.data.inner_draw=0, 1, ...), never on the unseen classes:

zsar evaluate --workdir=runs/x --inner=runs/x0,runs/x1,runs/x2

A run that began with public weights, at points between these and its end
(WiSE-FT); --inner chooses the one to report, --export writes it as a model:

zsar evaluate --workdir=runs/x --interpolate=0,0.25,0.5,0.75,1 \
  --inner=runs/x0,runs/x1,runs/x2 --export=FOLDER
"""

import os

from absl import flags

from zsar_jax import cli
from zsar_jax.data.protocols import bank_protocols, split_choice, split_file
from zsar_jax.evaluation import (
  label_files,
  mteb_format,
  outside_scores,
  results,
  results_text,
  score_files,
)
from zsar_jax.inference import (
  choose_settings,
  evaluate_run,
  interpolation,
  model_sources,
  prototype_bank,
  public_folders,
  saved_encoders,
)
from zsar_jax.system import terminal

_SOURCES = ('workdir', 'pretrained', 'embeddings', 'scores', 'compare')
# Flags, and the sources that look at them.
_BELONGS = {
  'step inner interpolate export cache_tokens': 'workdir',
  'transductive': 'workdir embeddings',
  'labels': 'embeddings scores',
  'dataset class_split': 'workdir pretrained',
  'dtype': 'pretrained',
  'protocol output report mteb': 'workdir pretrained embeddings scores',
}


def _define_flags() -> flags.FlagValues:
  values = cli.new_flags()
  text, yes = _adders(values)
  text(
    'workdir',
    'Folder of the run, or a pushed model of the Hub, hf:org/name[@revision].',
    None,
  )
  cli.define_step(values)
  text('pretrained', 'Public weights of a CLIP, instead of --workdir.')
  cli.define_dtype(values, 'pretrained')
  text('embeddings', 'File of embeddings, instead of --workdir.')
  text('scores', 'File of scores, instead of --workdir.')
  text(
    'labels',
    'CSV file id,label[,group][,source], with --embeddings or --scores.',
  )
  text('compare', 'Two predictions.safetensors files, separated by a comma.')
  text(
    'inner',
    'Choose the settings on inner draws: their workdirs, separated by commas.',
  )
  text('interpolate', 'Coefficients separated by commas, from 0 to 1.')
  yes(
    'transductive',
    'Also score with corrections that use all test videos at once.',
  )
  flags.DEFINE_bool(
    'motion_controls',
    True,
    'Also embed each test video as its first frame and with shuffled frames; '
    'this triples the work.',
    flag_values=values,
  )
  _define_test(values)
  _define_outputs(values)
  return values


def _adders(values: flags.FlagValues):
  """Returns functions that define a text and a yes/no flag."""
  text = lambda name, what, default='': flags.DEFINE_string(
    name, default, what, flag_values=values
  )
  yes = lambda name, what: flags.DEFINE_bool(
    name, False, what, flag_values=values
  )
  return text, yes


def _define_test(values: flags.FlagValues) -> None:
  """Defines the flags that say what is tested."""
  text, yes = _adders(values)
  text('dataset', "Folder of a prepared dataset; by default the run's own.")
  text(
    'class_split', 'JSON file with the seen and unseen classes of --dataset.'
  )
  text(
    'class_split_index',
    'Index of the split in a --class_split file that has several. For public '
    "weights and their banks also 'all'.",
    '0',
  )
  text(
    'protocol',
    'Id of a registered protocol; `zsar protocols list` lists them.',
  )
  yes(
    'allow_leaks',
    'Test although the model was trained on test classes; the results say so.',
  )


def _define_outputs(values: flags.FlagValues) -> None:
  """Defines the flags that say what is written."""
  text, yes = _adders(values)
  text(
    'output',
    'Path of results.json to write; predictions.safetensors goes beside it. By '
    'default below the workdir.',
  )
  text('report', 'HTML report to write.')
  text('mteb', "JSON file to write: the row `transfer` in mteb's format.")
  text('export', 'Folder for the model that --interpolate reports.')
  yes('overwrite', 'Replace existing output files.')
  yes(
    'cache_tokens',
    'Also cache the video tokens of every test video (large). Later '
    'evaluations then match new names without encoding the videos again.',
  )


def main(argv: list[str]) -> None:
  """Parses the command line and evaluates.

  Args:
    argv: the command line, the program's name first.
  """
  values = _define_flags()
  cli.parse(values, argv, usage=__doc__)
  cli.check_sources(values, _SOURCES, _BELONGS)
  for path in filter(None, (values.output, values.report, values.mteb)):
    results.check_output(path, values.overwrite)
  if values['class_split_index'].present and not values.class_split:
    raise ValueError('--class_split_index needs --class_split')
  if values.compare:
    _compare(values.compare)
  elif values.workdir:
    _evaluate_run(values)
  elif values.pretrained:
    _evaluate_pretrained(values)
  else:
    _evaluate_files(values)


def _compare(pair: str) -> None:
  paths = pair.split(',')
  if len(paths) != 2:
    raise ValueError(
      f'--compare takes two files separated by a comma, got {pair!r}'
    )
  a, b = map(score_files.read_scores, paths)
  terminal.say(outside_scores.format_comparison(a, b, *paths))


def _evaluate_files(values) -> None:
  """Evaluates embeddings or scores of another system."""
  if not values.labels:
    raise ValueError(
      '--labels is missing: a CSV file id,label[,group][,source] with the '
      'class of each video'
    )
  labels = label_files.read_labels(values.labels)
  if values.embeddings:
    outcome = outside_scores.evaluate_embeddings(
      values.embeddings,
      labels,
      values.protocol,
      {'transductive': values.transductive},
    )
  else:
    outcome = outside_scores.evaluate_scores(
      values.scores, labels, values.protocol
    )
  _finish(values, outcome, values.output)


def _evaluate_run(values) -> None:
  say = terminal.say
  kept_in = model_sources.outputs_folder(values.workdir, values.output)
  values.workdir = model_sources.pin(values.workdir)
  sweep = interpolation.read_sweep(
    values.workdir, values.interpolate, values.inner, values.export
  )
  folder = model_sources.resolve(values.workdir)
  if values.inner and kept_in != folder:
    raise ValueError(
      f'--inner writes into the run, and {values.workdir} is no run: it is on '
      'the Hub, or comes with the package'
    )
  recognizer = saved_encoders.load(values.workdir, values.step)
  config = recognizer.config
  _change(config.data, values)
  with config.zeroshot.unlocked():
    config.zeroshot.transductive = values.transductive
    # For each coefficient they would take three times the work.
    if not values.motion_controls or values.interpolate:
      config.zeroshot.motion_controls = False
  bank = None
  if public_folders.is_public(folder):
    bank, protocols = _bank_protocols(values, folder)
  else:
    # A class split file replaces the run's own seen classes.
    protocols = evaluate_run.make_protocols(
      config, () if values.class_split else recognizer.seen_classes
    )
  choice = choose_settings.read_or_choose(
    folder, '' if values.interpolate else values.inner, say, values.step
  )
  measure = lambda encoders, choice: evaluate_run.evaluate(
    encoders,
    protocols,
    evaluate_run.video_cache(config),
    say,
    embeddings_dir=os.path.join(kept_in, evaluate_run.EMBEDDINGS_FOLDER),
    keep_tokens=values.cache_tokens,
    choice=choice,
    bank=bank,
  )
  if sweep:
    outcome = interpolation.evaluate(recognizer, sweep, measure, choice, say)
  else:
    outcome = measure(recognizer, choice)
  terminal.say(results_text.format_table(outcome.content))
  if sweep:
    terminal.say(interpolation.format_table(outcome.content['interpolation']))
  elif values.inner:
    path = os.path.join(values.workdir, prototype_bank.BANK_FILE)
    prototype_bank.save_bank(outcome.bank, path)
    terminal.say(
      f'wrote the settings and calibration of the inner draws to {path}'
    )
  path = values.output or results.default_path(values.workdir, outcome.content)
  _write(path, outcome.content, outcome.scores)
  _write_more(values, outcome)


def _evaluate_pretrained(values) -> None:
  """Evaluates public weights with a joint space, without seen classes."""
  folder = os.path.dirname(values.output) or '.' if values.output else ''
  protocols = _protocols_of(
    bank_protocols.Seen((), '', ''), values, values.pretrained
  )
  outcome = evaluate_run.evaluate_pretrained(
    public_folders.open_dual(values.pretrained, values.dtype),
    protocols,
    terminal.say,
    folder and os.path.join(folder, evaluate_run.EMBEDDINGS_FOLDER),
  )
  _finish(values, outcome, values.output)


def _finish(values, outcome, path: str) -> None:
  """Prints the table, and writes the requested files; `path` may be ''."""
  terminal.say(results_text.format_table(outcome.content))
  if path:
    _write(path, outcome.content, outcome.scores)
  _write_more(values, outcome)


def _bank_protocols(values, folder: str):
  """Returns the bank of public encoders, and the protocols to test it on."""
  bank = prototype_bank.load_bank(
    os.path.join(folder, prototype_bank.BANK_FILE)
  )
  seen = bank_protocols.Seen(bank.seen_classes, bank.domain, bank.protocol)
  return bank, _protocols_of(seen, values, values.workdir)


def _protocols_of(seen: bank_protocols.Seen, values, source: str):
  """Returns the splits that the flags name, for public encoders."""
  if not values.dataset:
    raise ValueError(
      f'{source} holds public weights, which have no dataset: give --dataset, '
      'a prepared dataset to test on'
    )
  choice = split_choice.SplitChoice(
    class_split=values.class_split,
    class_split_index=split_file.read_index(values.class_split_index),
    protocol=values.protocol,
    test_dataset_dir=values.dataset,
    allow_leaks=values.allow_leaks,
  )
  return bank_protocols.make_bank_protocols(seen, choice)


def _write(path: str, content, scores: score_files.Scores | None) -> None:
  folder = os.path.dirname(path) or '.'
  os.makedirs(folder, exist_ok=True)
  if scores is not None:
    score_files.write_scores(
      scores, os.path.join(folder, evaluate_run.PREDICTIONS_FILE)
    )
  # Written last: if it exists, the predictions do too.
  results.write_results(content, path)
  terminal.say(f'results written to {path}')


def _write_more(values, outcome) -> None:
  """Writes the results in mteb's format, and the report, if requested."""
  if values.mteb:
    results.write_results(
      mteb_format.to_task_result(outcome.content), values.mteb
    )
    terminal.say(f"results in mteb's format written to {values.mteb}")
  if values.report:
    from zsar_jax.evaluation.report import page
    from zsar_jax.inference import report_content

    page.write_report(
      outcome.content, report_content.make(outcome), values.report
    )
    terminal.say(f'report written to {values.report}')


def _change(data, values) -> None:
  """Sets the dataset, protocol and split to test on."""
  with data.unlocked():
    data.allow_leaks = data.allow_leaks or values.allow_leaks
    # Training has already checked leaks into these protocols.
    data.strict_for = ()
    if values.dataset or values.protocol:
      # These change the training classes, and the model is trained already.
      data.drop_leaking = False
      data.inner_draw = -1
    if values.class_split:
      if not values.dataset:
        raise ValueError('--class_split needs --dataset')
      if values.protocol:
        raise ValueError('give either --class_split or --protocol')
      data.dataset_dir, data.test_dataset_dir = values.dataset, ''
      data.class_split, data.protocol = values.class_split, ''
      data.class_split_index = split_file.read_index(values.class_split_index)
      data.train_only = False
    elif values.protocol or values.dataset:
      data.test_dataset_dir = values.dataset or data.test_dataset_dir
      data.class_split, data.protocol = '', values.protocol
      data.train_only = False


if __name__ == '__main__':
  cli.run(main)
