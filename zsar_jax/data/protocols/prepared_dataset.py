"""A prepared dataset as protocols see it: its index, without any video."""

from collections.abc import Sequence
import os

from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import video_sets


class PreparedDataset:
  """A prepared dataset's folder, metadata and indices.

  Attributes:
    folder: of the dataset.
    metadata: see `records`.
    indices: of its splits.
    name: the last parts of the folder: dataset, videos and version.
  """

  def __init__(self, folder: str):
    self.folder = folder
    self.metadata = records.read_metadata(folder)
    self.indices = {
      split: records.VideoIndex.from_columns(columns)
      for split, columns in self.metadata['videos'].items()
    }
    self.name = '/'.join(os.path.normpath(folder).split(os.sep)[-3:])

  def classes(self) -> list[str]:
    """Returns the names of the classes that have a video, sorted."""
    return sorted({n for i in self.indices.values() for n in i.labels})

  def select(self, split: str, classes: Sequence[str]) -> video_sets.VideoSet:
    """Returns all videos of some classes in a split."""
    rows = {split: range(len(self.indices[split]))}
    return video_sets.select(self.folder, self.indices, rows, classes)

  def training_videos(
    self, seen: Sequence[str], fraction: float, seed: int
  ) -> tuple[video_sets.VideoSet, video_sets.VideoSet]:
    """Returns training and validation videos: the dataset's splits, or drawn.

    Args:
      seen: classes in label order.
      fraction: see `video_sets.hold_out`; for datasets without such splits.
      seed: see `video_sets.hold_out`.

    Returns:
      Training and validation videos.

    Raises:
      ValueError: see `video_sets.hold_out`.
    """
    if 'validation' in self.indices:
      return self.select('train', seen), self.select('validation', seen)
    split = 'train' if 'train' in self.indices else next(iter(self.indices))
    return video_sets.hold_out(self.select(split, seen), fraction, seed)

  def check_classes(self, names: Sequence[str], what: str) -> None:
    """Raises ValueError if a class has no video; `what` starts the message."""
    present = self.classes()
    missing = [name for name in names if name not in present]
    if missing:
      raise ValueError(
        f'{what}: no readable video of {missing} in {self.folder}; it has '
        f'{present}'
      )
