"""Trains a model and evaluates it. The same command resumes a run.

zsar train --config=configs/demo.py --workdir=runs/demo

Any key of the config can be set: --config.train.num_steps=1000. A config
file may take an argument after a colon: --config=configs/demo.py:smoke.

On several hosts, start the same command on each. Cloud TPU slices, GKE, SLURM
and Open MPI are recognised. Elsewhere, give --coordinator, --num_processes and
--process_id.
"""

import re

from absl import flags
from ml_collections import config_flags

from zsar_jax import cli
from zsar_jax.parallel import distributed
from zsar_jax.system import compilation_cache
from zsar_jax.training import train


def main(argv: list[str]) -> None:
  """Parses the command line and trains.

  Args:
    argv: the command line, the program's name first.
  """
  values = cli.new_flags()
  flags.DEFINE_string(
    'workdir',
    None,
    'Folder for checkpoints, metrics and results.',
    flag_values=values,
    required=True,
  )
  config_flags.DEFINE_config_file(
    'config', None, 'The config file.', flag_values=values, sys_argv=argv
  )
  flags.mark_flag_as_required('config', flag_values=values)
  _define_processes(values)
  config = _parse(values, argv)
  distributed.initialize(
    values.coordinator,
    values.num_processes,
    values.process_id,
    values.heartbeat_seconds,
  )
  if distributed.several():
    compilation_cache.stop_default(values.compilation_cache)
  train.train(config, values.workdir)


def _define_processes(values: flags.FlagValues) -> None:
  """Defines flags of several processes, where no cluster provides them."""
  flags.DEFINE_string(
    'coordinator',
    '',
    'host:port of process 0. Cloud TPU, GKE, SLURM and Open MPI need none.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_processes', 0, 'Number of processes.', flag_values=values
  )
  flags.DEFINE_integer(
    'process_id', -1, 'Index of this process, from 0.', flag_values=values
  )
  flags.DEFINE_integer(
    'heartbeat_seconds',
    100,
    'Seconds of silence after which another process counts as dead.',
    flag_values=values,
    lower_bound=10,
  )


def _parse(values: flags.FlagValues, argv: list[str]):
  """Parses the config; turns any mistake in it into a one-line error."""
  try:
    cli.parse(values, argv, usage=__doc__)
    return values.config.copy_and_resolve_references()
  except (AttributeError, KeyError) as e:
    # A locked config refuses keys that it does not have.
    words = re.findall(r'[\w.]+', str(e.args[0]).replace(r'\n', ' '))
    raise ValueError(f'the config has no such key: {" ".join(words)}') from e
  except BrokenPipeError:
    raise  # from printing the help, not from the config file
  except OSError as e:
    # The file cannot be read. ml_collections says so at first use.
    raise FileNotFoundError(f'config: {e.__cause__ or e}') from e
  except flags.IllegalFlagValueError as e:
    # An error inside a config file comes wrapped in its own traceback.
    raise ValueError(str(e).strip().splitlines()[-1]) from e


if __name__ == '__main__':
  cli.run(main)
