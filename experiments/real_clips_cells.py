"""The runs of the experiment on real clips; see `experiments.real_clips`."""

from collections.abc import Iterable, Mapping
import dataclasses
import json
import os
import re
from typing import Any

from experiments import grid
from zsar_jax.data.protocols import split_file
from zsar_jax.evaluation import choosing, methods

CONFIG = 'configs/video_folder.py'
WITH_TEXT = f'{CONFIG}:frozen_text'
DEVELOPMENT = 0  # the split that the recipe was developed on
NUM_SEEDS, NUM_DRAWS = 3, 3
FROZEN_TEXT, FROZEN_PROJECTION = '^text_encoder/', '^text_projection/'
# Name in the table -> changed config keys. One thing changes at a time.
ABLATIONS: dict[str, dict[str, Any]] = {
  'without the fusion': {'loss.match': 0.0},
  'with the transfer loss': {'loss.transfer': 1.0},
  'regression to names alone': {
    'loss.visual': 0.0,
    'loss.contrast': 0.0,
    'loss.match': 0.0,
    'loss.regression': 1.0,
  },
  'text encoder trained': {'optim.frozen': (FROZEN_PROJECTION,)},
  'text projection trained': {'optim.frozen': (FROZEN_TEXT,)},
  'grey frames alone': {'preprocessing.inputs': 'grey'},
  'grey and differences': {'preprocessing.inputs': 'grey+difference'},
  'dense sampling': {'preprocessing.sampling': 'dense'},
  '8 frames': {
    'preprocessing.num_frames': 8,
    'model.video.tubelet_size': (2, 12, 12),
  },
  'without augmentation': {
    'augmentation.crop_area': (1.0, 1.0),
    'augmentation.crop_aspect': (1.0, 1.0),
    'augmentation.mirror': False,
    'preprocessing.sampling': 'uniform',
  },
  'without the visual loss': {'loss.visual': 0.0},
  'without the contrast loss': {'loss.contrast': 0.0},
  'balanced batches': {'data.balance': 'source+class'},
  'divided attention': {'model.video.attention': 'divided'},
  'half the steps': {},
}


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The paths of the experiment.

  Attributes:
    dataset_dir: folder of the prepared dataset.
    class_split: class split file with several splits.
    text: folder of BERT weights.
    out: folder of the grid.
    num_splits: number of splits in the file.
  """

  dataset_dir: str
  class_split: str
  text: str
  out: str
  num_splits: int

  def _cell(
    self, name: str, split: int, changes: Mapping[str, Any], text: bool = True
  ) -> grid.Cell:
    common = {
      'data.dataset_dir': self.dataset_dir,
      'data.class_split': self.class_split,
      'data.class_split_index': split,
    }
    if text:
      common['init.text'] = self.text
    config = WITH_TEXT if text else CONFIG
    return grid.Cell(name, config, {**common, **changes})

  def main(self, split: int, seed: int, text: bool = True) -> grid.Cell:
    """Returns a cell of tier 1."""
    name = f'{"main" if text else "random_text"}_split{split}_seed{seed}'
    return self._cell(name, split, {'seed': seed}, text)

  def inner(self, split: int, draw: int) -> grid.Cell:
    """Returns a cell of tier 3."""
    name = f'inner_split{split}_draw{draw}'
    return self._cell(name, split, {'data.inner_draw': draw})

  def ablation(self, ablation: str, split: int) -> grid.Cell:
    """Returns a cell of tier 2."""
    name = f'{re.sub("[^a-z0-9]+", "_", ablation)}_split{split}'
    changes = dict(ABLATIONS[ablation])
    if ablation == 'half the steps':
      whole = self.main(split, 0).make_config()
      changes['train.num_steps'] = whole.train.num_steps // 2
    return self._cell(name, split, changes)

  def tiers(self) -> dict[int, list[grid.Cell]]:
    """Returns tier -> cells, most important first."""
    splits = range(self.num_splits)
    return {
      1: [
        *(self.main(s, 0) for s in splits),
        *(self.main(s, k) for k in range(1, NUM_SEEDS) for s in splits),
        *(
          self.main(s, k, text=False) for k in range(NUM_SEEDS) for s in splits
        ),
      ],
      3: [self.inner(s, d) for s in splits for d in range(NUM_DRAWS)],
      2: [self.ablation(name, s) for name in ABLATIONS for s in splits],
    }

  def are_finished(self, cells: Iterable[grid.Cell]) -> bool:
    """Returns whether all of some cells are finished."""
    return all(grid.is_finished(self.out, cell.name) for cell in cells)

  def read(self, cell: grid.Cell) -> grid.Trained | None:
    """Returns a finished cell; None if it is not finished."""
    if not grid.is_finished(self.out, cell.name):
      return None
    return grid.read_cell(self.out, cell.name)


def declared_settings(cell: grid.Cell) -> methods.TransferSettings:
  """Returns the transfer settings of a cell's config."""
  section = cell.make_config().zeroshot
  names = {f.name for f in dataclasses.fields(methods.TransferSettings)}
  return methods.TransferSettings(
    **{key: value for key, value in section.items() if key in names}
  )


def choose(experiment: Experiment, split: int) -> dict[str, Any] | None:
  """Returns the choice of a split's inner draws; None while unfinished."""
  draws = [
    experiment.read(experiment.inner(split, d)) for d in range(NUM_DRAWS)
  ]
  if None in draws:
    return None
  return choosing.choose(
    [draw.evaluation for draw in draws],
    declared_settings(experiment.main(0, 0)),
    [draw.facts['protocol'] for draw in draws],
  )


def settings_of(choice, default) -> methods.TransferSettings:
  """Returns the chosen settings, else the declared ones."""
  if choice is None:
    return default
  return methods.TransferSettings(**choice['settings'])


def num_splits(path: str) -> int:
  """Returns the number of splits of a file; reads and checks each."""
  with open(os.path.expanduser(path)) as f:
    content = json.load(f)
  count = len(content.get('splits', [None]))
  for index in range(count):
    split_file.read_class_split(path, index)
  return count


def class_names(path: str) -> list[str]:
  """Returns the names of all classes of a file of splits, each once."""
  splits = [
    split_file.read_class_split(path, index)
    for index in range(num_splits(path))
  ]
  return sorted({name for parts in splits for part in parts for name in part})
