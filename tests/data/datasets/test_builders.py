"""Every dataset from its real layout, in miniature, to prepared records."""

import pytest

from tests.data.datasets import (
  test_activitynet,
  test_hmdb51,
  test_kinetics,
  test_ucf101,
)
from zsar_jax.data import datasets
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import registry


def _kinetics(folder):
  test_kinetics._write_folders(folder)
  test_kinetics._write_all_csv(folder / 'annotations')
  return folder


# Dataset -> its miniature, the videos that can be used by split, and how many
# files are damaged.
CASES = {
  'kinetics400': (_kinetics, {'train': 3, 'validation': 1, 'test': 1}, 1),
  'kinetics600': (_kinetics, {'train': 3, 'validation': 1, 'test': 1}, 1),
  'ucf101': (test_ucf101.make_source, {'videos': 10}, 1),
  'hmdb51': (test_hmdb51.make_source, {'videos': 7}, 1),
  'activitynet': (
    test_activitynet.make_source,
    {'train': 2, 'validation': 1},
    1,
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_from_the_real_layout_to_records(name, tmp_path):
  make_source, usable, num_damaged = CASES[name]
  (tmp_path / 'source').mkdir()
  source = str(make_source(tmp_path / 'source'))
  for options in ({}, {'kind': 'frames', 'fps': 5.0}):
    builder = datasets.make_builder(
      name,
      str(tmp_path / 'data'),
      source,
      allow_missing=True,
      show_progress=False,
      **options,
    )
    assert datasets.check_missing(builder)
    assert datasets.prepare(builder)
    assert f'/{name}/' in str(builder.data_dir)
    metadata = records.read_metadata(builder.data_dir)
    found = {s: len(c['id']) for s, c in metadata['videos'].items()}
    assert found == usable
    assert len(metadata['unreadable']) == num_damaged
    for split in usable:
      videos = records.open_split(builder.data_dir, split)
      assert videos.open(0).decode([0]).shape[-1] == 3
    ids = [i for i in registry.ids() if i.startswith(f'{name}/')]
    for protocol in ids:
      # A miniature is not the whole dataset, and is told so.
      assert registry.check(registry.get(protocol), metadata)
