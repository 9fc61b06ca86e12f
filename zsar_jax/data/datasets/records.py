"""What a prepared dataset holds, and how it is opened for random access.

Every builder of this package writes the same record and the same metadata,
so that the input path knows no dataset by name. A record is:

| feature | type | meaning |
|---|---|---|
| video | bytes | the encoded video file as it is |
| label | int64 | index into the sorted canonical class names |
| id | text | unique name of the video in this dataset |
| group | text | recording session; videos of one group never get split |
| source | text | where the class lives ('' for a single-source dataset) |

The builder's metadata (metadata.json in the dataset's folder) is:

| key | value |
|---|---|
| domain | what the pictures are: RENDERED_DOMAIN or FILMED_DOMAIN |
| videos | split -> {id, label (a name), group, source} as columns |
| unreadable | list of {id, label, reason}: files that gave no video |
| class_attributes | class -> {attribute: value}; {} where unknown |
| seen_classes, unseen_classes | names; [] where a split file decides |

`videos` repeats each record's small features, in record order, so that a
class split can be made without reading any video.

Opening never imports TensorFlow.
"""

from collections.abc import Sequence
import dataclasses
import json
import os
from typing import Any, SupportsIndex

RENDERED_DOMAIN = 'rendered stick figures'
FILMED_DOMAIN = 'filmed video'
# Written into the mp4 container by the renderer, read by `predict`.
RENDERED_TAG = 'zsar_jax stick_figures'


@dataclasses.dataclass(frozen=True)
class VideoIndex:
  """The small features of a split, in record order.

  Attributes:
    ids: unique video names.
    labels: canonical class names.
    groups: recording sessions.
    sources: where each class lives ('' for a single source).
  """

  ids: tuple[str, ...]
  labels: tuple[str, ...]
  groups: tuple[str, ...]
  sources: tuple[str, ...]

  def __post_init__(self):
    lengths = {len(column) for column in dataclasses.astuple(self)}
    if len(lengths) != 1:
      raise ValueError(f'columns of unequal length: {sorted(lengths)}')

  def __len__(self) -> int:
    return len(self.ids)

  def to_columns(self) -> dict[str, list[str]]:
    """The index as the JSON-able columns stored in the metadata."""
    return {
      'id': list(self.ids),
      'label': list(self.labels),
      'group': list(self.groups),
      'source': list(self.sources),
    }

  @classmethod
  def from_columns(cls, columns: dict[str, Sequence[str]]) -> 'VideoIndex':
    """The inverse of `to_columns`."""
    return cls(*(tuple(columns[k]) for k in ('id', 'label', 'group', 'source')))


def features(class_names: Sequence[str]):
  """The TFDS features of a record; see the module docstring.

  Args:
    class_names: canonical class names; they are the label's names.

  Returns:
    A `tfds.features.FeaturesDict`.
  """
  import numpy as np
  import tensorflow_datasets as tfds

  return tfds.features.FeaturesDict(
    {
      'video': tfds.features.Tensor(shape=(), dtype=np.object_),
      'label': tfds.features.ClassLabel(names=list(class_names)),
      'id': tfds.features.Text(),
      'group': tfds.features.Text(),
      'source': tfds.features.Text(),
    }
  )


class VideoSource:
  """Random access to one split of a prepared dataset.

  `source[i]` is `{'video': bytes, 'id': str}` of record i; labels come from
  `index`, by name, because a label's number means nothing outside its
  dataset.
  """

  def __init__(self, data_source, index: VideoIndex, path: str):
    if len(data_source) != len(index):
      raise ValueError(
        f'{path}: {len(data_source)} records but metadata lists {len(index)};'
        ' the dataset is damaged: prepare it again'
      )
    self._data_source = data_source
    self.index = index
    self.path = path

  def __len__(self) -> int:
    return len(self.index)

  def __getitem__(self, i: SupportsIndex) -> dict[str, Any]:
    record = self._data_source[int(i)]
    video_id = record['id'].decode()
    if video_id != self.index.ids[int(i)]:
      raise ValueError(
        f'{self.path}: record {i} is {video_id!r}, metadata says '
        f'{self.index.ids[int(i)]!r}; the dataset is damaged: prepare it again'
      )
    return {'video': record['video'], 'id': video_id}


def read_metadata(dataset_dir: str) -> dict[str, Any]:
  """Reads a prepared dataset's metadata.

  Args:
    dataset_dir: the folder that holds `dataset_info.json`.

  Returns:
    The metadata described in the module docstring.

  Raises:
    FileNotFoundError: the folder is not a dataset prepared by this package.
  """
  path = os.path.join(dataset_dir, 'metadata.json')
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'{dataset_dir} holds no prepared dataset (no metadata.json); '
      'make one with `python -m zsar_jax.prepare`'
    )
  with open(path) as f:
    metadata = json.load(f)
  if 'videos' not in metadata:
    raise FileNotFoundError(
      f'{path} lists no videos: not prepared by zsar_jax.prepare'
    )
  return metadata


def open_split(dataset_dir: str, split: str) -> VideoSource:
  """Opens one split of a prepared dataset for random access.

  Args:
    dataset_dir: the folder that holds `dataset_info.json`.
    split: a split name, such as 'train' or 'videos'.

  Returns:
    The split's records and index.

  Raises:
    FileNotFoundError: nothing is prepared there.
    ValueError: no such split, or records and metadata disagree.
  """
  import tensorflow_datasets as tfds

  metadata = read_metadata(dataset_dir)
  if split not in metadata['videos']:
    raise ValueError(
      f'{dataset_dir} has no split {split!r}, only {sorted(metadata["videos"])}'
    )
  builder = tfds.builder_from_directory(dataset_dir)
  return VideoSource(
    builder.as_data_source(split=split),
    VideoIndex.from_columns(metadata['videos'][split]),
    dataset_dir,
  )
