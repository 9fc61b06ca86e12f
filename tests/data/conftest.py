"""Fixtures of several files on batches."""

import pytest

from tests.data.batches import take
from zsar_jax.data.datasets import stick_figures
from zsar_jax.data.protocols import class_split


@pytest.fixture(scope='module')
def protocol(tmp_path_factory):
  builder = stick_figures.make_builder(
    tmp_path_factory.mktemp('data'),
    num_seen=4,
    clips_per_class=3,
    test_clips_per_class=1,
    size=32,
  )
  builder.download_and_prepare()
  return class_split.make_protocol(str(builder.data_dir))


@pytest.fixture(scope='module')
def stream(protocol):
  """Five batches of the uninterrupted stream: one epoch is three."""
  return take(5, protocol)
