"""Runs commands in this process, and reads what they write."""

import json

from zsar_jax import cli


def run(entry, *argv):
  """Returns the exit code of a command.

  Args:
    entry: its module.
    *argv: its arguments, turned into text.
  """
  return cli.exit_code(entry.main, [entry.__name__, *map(str, argv)])


def read(path):
  with open(path) as f:
    return json.load(f)
