"""Evaluates the newest checkpoint of a run: the same table as after training.

python -m zsar_jax.evaluate --workdir=runs/demo

Classes of another prepared dataset (the folder that `zsar_jax.prepare`
printed) are recognised by what the run's own training videos look like, on
every split of a registered protocol:

python -m zsar_jax.evaluate --workdir=runs/k664 --dataset=UCF_DIR \
  --protocol=ucf101/half-class-seed0-9

or a file says which classes of the dataset are seen, so that its own videos
show what they look like, and which are unseen:

python -m zsar_jax.evaluate --workdir=runs/demo --dataset=DIR \
  --class_split=split.json
"""

import os

from absl import flags

from zsar_jax import cli, results, run_protocol
from zsar_jax import recognizer as recognizer_lib


def main(argv: list[str]) -> None:
  """Parses the command line and evaluates.

  Args:
    argv: the command line, the program's name first.
  """
  values = cli.new_flags()
  flags.DEFINE_string(
    'workdir', None, 'Of the run.', flag_values=values, required=True
  )
  flags.DEFINE_string(
    'dataset',
    '',
    "Folder of a prepared dataset; by default the run's own.",
    flag_values=values,
  )
  flags.DEFINE_string(
    'class_split',
    '',
    'JSON file with the seen and unseen classes of --dataset.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'protocol',
    '',
    'Id of a registered protocol: `python -m zsar_jax.protocols list`.',
    flag_values=values,
  )
  flags.DEFINE_bool(
    'allow_leaks',
    False,
    'Go on although classes of the test were trained on; the results say so.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'class_split_index',
    0,
    'Which split, where the file has several.',
    flag_values=values,
    lower_bound=0,
  )
  flags.DEFINE_string(
    'output',
    '',
    'Where to write the results as JSON; by default nowhere.',
    flag_values=values,
  )
  cli.parse(values, argv, usage=__doc__)
  recognizer = recognizer_lib.Recognizer.from_workdir(values.workdir)
  config = recognizer.config
  _change(config.data, values)
  content, _ = run_protocol.evaluate(
    recognizer,
    # Of the run's own dataset, those that the run has seen.
    run_protocol.make_protocols(
      config, () if values.class_split else recognizer.seen_classes
    ),
    run_protocol.video_cache(config),
    lambda text: print(text, flush=True),
  )
  print(results.format_table(content))
  if values.output:
    os.makedirs(os.path.dirname(values.output) or '.', exist_ok=True)
    results.write_results(content, values.output)
    print(f'written to {values.output}')


def _change(data, values) -> None:
  """Sets what is tested on another dataset or by another protocol."""
  with data.unlocked():
    data.allow_leaks = data.allow_leaks or values.allow_leaks
    # What else the model must not have seen was checked when it was trained.
    data.strict_for = ()
    if values.dataset or values.protocol:
      # It was trained on whatever leaks into this test.
      data.drop_leaking = False
    if values.class_split:
      if not values.dataset:
        raise ValueError('--class_split needs --dataset')
      if values.protocol:
        raise ValueError('give either --class_split or --protocol')
      data.dataset_dir, data.test_dataset_dir = values.dataset, ''
      data.class_split, data.protocol = values.class_split, ''
      data.class_split_index = values.class_split_index
      data.train_only = False
    elif values.protocol or values.dataset:
      data.test_dataset_dir = values.dataset or data.test_dataset_dir
      data.class_split, data.protocol = '', values.protocol
      data.train_only = False


if __name__ == '__main__':
  cli.run(main)
