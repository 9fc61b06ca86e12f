"""Types of the benchmarks' command line arguments."""

import argparse


def positive(text: str) -> int:
  """Parses a number above 0, for argparse."""
  if not text.isascii() or not text.isdigit() or not int(text):
    raise argparse.ArgumentTypeError(f'{text!r} is no whole number above 0')
  return int(text)
