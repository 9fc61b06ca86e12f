"""Evaluates the newest checkpoint of a run: the same table as after training.

python -m zsar_jax.evaluate --workdir=runs/demo

Another dataset than the run's own is given by the folder that
`zsar_jax.prepare` printed, and which of its classes are unseen by a file:

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
  if values.dataset:
    with config.unlocked():
      config.data.dataset_dir = values.dataset
      config.data.class_split = values.class_split
      config.data.class_split_index = values.class_split_index
  elif values.class_split:
    raise ValueError('--class_split needs --dataset')
  content, _ = run_protocol.evaluate(
    recognizer,
    run_protocol.make_protocol(config),
    run_protocol.video_cache(config),
    lambda text: print(text, flush=True),
  )
  print(results.format_table(content))
  if values.output:
    os.makedirs(os.path.dirname(values.output) or '.', exist_ok=True)
    results.write_results(content, values.output)
    print(f'written to {values.output}')


if __name__ == '__main__':
  cli.run(main)
