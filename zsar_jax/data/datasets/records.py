"""The records and metadata of a prepared dataset, opened for random access.

Every builder of this package writes the same records and the same metadata. So
the input path knows no dataset by name. There are two storages:

| feature | type | meaning |
|---|---|---|
| video | bytes | storage 'video': an encoded video file |
| jpegs | bytes | storage 'frames': pictures, one after the other |
| spans | int64 [n 2] | storage 'frames': where each begins and ends |
| label | int64 | index into the sorted canonical class names |
| id | text | unique name of the video in this dataset |
| group | text | recording session; videos of one group are never split |
| source | text | place or camera of the class ('' if there is only one) |

In storage 'video' a video is one record. In 'frames' it is as many records as
its pictures need, one after the other. The builder's metadata (metadata.json in
the dataset's folder) is:

| key | value |
|---|---|
| format_version | FORMAT_VERSION |
| storage | {kind: 'video'} or {kind: 'frames', fps, frames_per_record}, and |
|         | the other settings of `transcode.Storage` |
| domain | kind of pictures: RENDERED_DOMAIN or FILMED_DOMAIN |
| dataset | name of the dataset, such as 'ucf101' |
| videos | split -> the columns of a `VideoIndex` |
| lists | official video lists, such as 'test1' -> ids; {} where none |
| unreadable | list of {id, label, split, reason}: files that gave no video |
| missing | list of {id, label, split}: in official lists, without a file |
| class_attributes | class -> {attribute: value}; {} where unknown |
| seen_classes, unseen_classes | names; [] where a split file decides |

`videos` repeats each video's small features, in record order. So a class split
needs to read no video.

Opening never imports TensorFlow.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
from typing import Any, SupportsIndex

import numpy as np

from zsar_jax.data import stored_videos
from zsar_jax.system import json_files

FORMAT_VERSION = 2
RENDERED_DOMAIN = 'rendered stick figures'
FILMED_DOMAIN = 'filmed video'
# Written into the mp4 container by the renderer, read by `predict`.
RENDERED_TAG = 'zsar_jax stick_figures'


@dataclasses.dataclass(frozen=True)
class VideoIndex:
  """The small features of a split's videos, in record order.

  Attributes:
    ids: unique video names.
    labels: canonical class names.
    groups: recording sessions.
    sources: place or camera of each class ('' if there is only one).
    num_frames: frames of the original video.
    seconds: its duration.
    digests: first 32 hex digits of the SHA-256 of the original file, and the
      stretch if only a part was taken. Equal digests mean the same video.
  """

  ids: tuple[str, ...]
  labels: tuple[str, ...]
  groups: tuple[str, ...]
  sources: tuple[str, ...]
  num_frames: tuple[int, ...]
  seconds: tuple[float, ...]
  digests: tuple[str, ...]

  def __post_init__(self):
    lengths = {len(column) for column in dataclasses.astuple(self)}
    if len(lengths) != 1:
      raise ValueError(f'columns of unequal length: {sorted(lengths)}')

  def __len__(self) -> int:
    return len(self.ids)

  def to_columns(self) -> dict[str, list[Any]]:
    """Converts the index to the JSON-able columns of the metadata."""
    return {
      column: list(getattr(self, field)) for field, column in _COLUMNS.items()
    }

  @classmethod
  def from_columns(cls, columns: dict[str, Sequence[Any]]) -> 'VideoIndex':
    """Makes an index of columns; the inverse of `to_columns`."""
    return cls(**{f: tuple(columns[c]) for f, c in _COLUMNS.items()})


_COLUMNS = {
  'ids': 'id',
  'labels': 'label',
  'groups': 'group',
  'sources': 'source',
  'num_frames': 'num_frames',
  'seconds': 'seconds',
  'digests': 'digest',
}


def features(class_names: Sequence[str], storage_kind: str = 'video'):
  """Returns the TFDS features of a record; see the module docstring.

  Args:
    class_names: canonical class names, in label order.
    storage_kind: 'video' or 'frames'.

  Returns:
    A `tfds.features.FeaturesDict`.
  """
  import numpy as np
  import tensorflow_datasets as tfds

  blob = tfds.features.Tensor(shape=(), dtype=np.object_)
  if storage_kind == 'video':
    content = {'video': blob}
  else:
    spans = tfds.features.Tensor(shape=(None, 2), dtype=np.int64)
    content = {'jpegs': blob, 'spans': spans}
  return tfds.features.FeaturesDict(
    {
      **content,
      'label': tfds.features.ClassLabel(names=list(class_names)),
      'id': tfds.features.Text(),
      'group': tfds.features.Text(),
      'source': tfds.features.Text(),
    }
  )


class VideoSource:
  """Random access to the videos of one split of a prepared dataset.

  `source.open(i)` is video i, ready to give frames. `index` has the labels, as
  names, because a label's number means nothing outside its dataset.
  """

  def __init__(
    self,
    data_source,
    index: VideoIndex,
    path: str,
    storage: Mapping[str, Any],
  ):
    self._data_source = data_source
    self._storage = storage
    self.index = index
    self.path = path
    # First record of each video, and the end of the last.
    self._first = np.cumsum([0, *map(self._num_records, index.seconds)])
    if len(data_source) != self._first[-1]:
      raise ValueError(
        f'{path}: {len(data_source)} records but metadata lists '
        f'{self._first[-1]}; the dataset is damaged: prepare it again'
      )

  def __len__(self) -> int:
    return len(self.index)

  def _num_records(self, seconds: float) -> int:
    if self._storage['kind'] == 'video':
      return 1
    return stored_videos.num_records(
      seconds, self._storage['fps'], self._storage['frames_per_record']
    )

  def _record(self, i: int, part: int) -> dict[str, Any]:
    """Reads record `part` of video `i`."""
    at = int(self._first[i]) + part
    try:
      record = self._data_source[at]
    except RuntimeError as e:  # raised by array_record
      raise OSError(f'{self.path}: record {at} cannot be read: {e}') from e
    if record['id'] is None:
      # A file that shrinks while it is read gives no data, and no error.
      raise OSError(
        f'{self.path}: record {at} cannot be read: it is empty; was the '
        'dataset moved or deleted meanwhile?'
      )
    video_id = record['id'].decode()
    if video_id != self.index.ids[i]:
      raise ValueError(
        f'{self.path}: record {self._first[i] + part} is {video_id!r}, '
        f'metadata says {self.index.ids[i]!r}; the dataset is damaged: '
        'prepare it again'
      )
    return record

  def open(
    self, i: SupportsIndex
  ) -> stored_videos.EncodedVideo | stored_videos.JpegFrames:
    """Opens video i.

    Args:
      i: position in the split.

    Returns:
      The video.

    Raises:
      VideoError: the video cannot be read.
      ValueError: records and metadata disagree.
    """
    i = int(i)
    if self._storage['kind'] == 'video':
      return stored_videos.EncodedVideo(self.read_file(i), self.index.ids[i])
    return stored_videos.JpegFrames(
      functools.partial(self._record, i),
      self.index.ids[i],
      duration=self.index.seconds[i],
      fps=self._storage['fps'],
      frames_per_record=self._storage['frames_per_record'],
    )

  def read_file(self, i: SupportsIndex) -> bytes:
    """Reads the encoded file of video i; only storage 'video' has one."""
    return self._record(int(i), 0)['video']


def read_metadata(dataset_dir: str) -> dict[str, Any]:
  """Reads a prepared dataset's metadata.

  Args:
    dataset_dir: the folder that holds `dataset_info.json`.

  Returns:
    The metadata described in the module docstring.

  Raises:
    FileNotFoundError: the folder is not a dataset prepared by this package.
    ValueError: the metadata is damaged, or another version with other records
      prepared it.
  """
  path = os.path.join(dataset_dir, 'metadata.json')
  if not os.path.exists(path):
    raise FileNotFoundError(
      f'{dataset_dir} holds no prepared dataset (no metadata.json); '
      'make one with `zsar prepare`'
    )
  metadata = json_files.read(path)
  if 'videos' not in metadata:
    raise FileNotFoundError(
      f'{path} lists no videos: not prepared by zsar_jax.prepare'
    )
  version = metadata.get('format_version', 1)
  if version != FORMAT_VERSION:
    raise ValueError(
      f'{dataset_dir}: its records have format version {version}, this '
      f'program reads {FORMAT_VERSION}: prepare the dataset again'
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
    FileNotFoundError: the folder has no prepared dataset.
    ValueError: there is no such split, or records and metadata disagree.
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
    metadata['storage'],
  )
