"""The TFDS builder of every dataset made of video files.

A `Manifest` lists a dataset's videos. They are checked and transcoded
(`staging`), then packed into array_record, in the order of their splits and
ids. An interrupted build packs again, but stages no video twice.

```python
builder = packed_videos.make_builder('/data', manifest, transcode.Storage())
datasets.prepare(builder)
videos = records.open_split(builder.data_dir, 'videos')
```
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import glob
import os
import re
import shutil
import types
from typing import Any

from absl import logging
import tensorflow_datasets as tfds

from zsar_jax.data import class_names, transcode
from zsar_jax.data.datasets import manifest as manifest_lib
from zsar_jax.data.datasets import records, staging

# Datasets whose archives never change: a missing video is a mistake. Other
# datasets always lack some videos.
_COMPLETE = ('ucf101', 'hmdb51')
_SHOWN = 10


@dataclasses.dataclass
class PackedVideosConfig(tfds.core.BuilderConfig):
  """The videos to pack, and how; `make_builder` fills it.

  Attributes:
    manifest: the videos.
    storage: how they are stored.
    workers: see `staging.stage`.
    deadline: see `staging.stage`.
    allow_missing: continue although videos, or whole classes, are missing or
      cannot be read.
    keep_staging: keep the cache of the first stage at the end.
    show_progress: see `staging.stage`.
    beam_flags: flags of Beam; if there are any, Beam does the first stage.
  """

  manifest: manifest_lib.Manifest | None = dataclasses.field(
    default=None, repr=False
  )
  storage: transcode.Storage = transcode.Storage()
  workers: int = 0
  deadline: float = staging.DEFAULT_DEADLINE
  allow_missing: bool = False
  keep_staging: bool = False
  show_progress: bool | None = None
  beam_flags: Sequence[str] = ()


class PackedVideos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Packs the videos of a manifest; see `make_builder`."""

  VERSION = tfds.core.Version(f'{records.FORMAT_VERSION}.0.0')
  builder_config: PackedVideosConfig
  # Where TFDS would look for checksums of downloads. There are none, and
  # looking needs `importlib_resources`, which nothing installs.
  code_path = None

  def _info(self) -> tfds.core.DatasetInfo:
    config = self.builder_config
    return tfds.core.DatasetInfo(
      builder=self,
      description=config.description,
      features=records.features(
        config.manifest.class_names, config.storage.kind
      ),
      metadata=tfds.core.MetadataDict(),
      # The index in the metadata is in record order.
      disable_shuffling=True,
    )

  def stage(self) -> list[staging.Staged]:
    """Runs the first stage alone; see `staging.stage`."""
    config = self.builder_config
    if config.beam_flags:
      from zsar_jax.data.datasets import beam_staging

      beam_staging.stage_with_beam(
        config.manifest.entries,
        self._data_dir_root,
        config.storage,
        config.deadline,
        config.beam_flags,
      )
    return staging.stage(
      config.manifest.entries,
      self._data_dir_root,
      config.storage,
      workers=config.workers,
      deadline=config.deadline,
      show_progress=config.show_progress,
    )

  def remove_leftovers(self) -> None:
    """Removes the files of interrupted builds of this dataset."""
    folder, version = os.path.split(str(self.data_dir))
    for path in glob.glob(f'{glob.escape(folder)}/incomplete.*_{version}'):
      shutil.rmtree(path, ignore_errors=True)

  def remove_staging(self) -> None:
    """Removes the files that this build staged, unless they are to be kept."""
    if not self.builder_config.keep_staging:
      staging.remove(
        self._staged, self._data_dir_root, self.builder_config.storage
      )

  @property
  def missing_path(self) -> str:
    """Path of the list of missing videos."""
    return f'{os.path.dirname(self.data_dir)}.missing.txt'

  def check_missing(self) -> list[str]:
    """Lists the videos that the dataset's lists name and that are missing.

    Returns:
      Lines to print; none if nothing is missing. The file `missing_path` then
      has all of them.

    Raises:
      ValueError: more is missing than `allow_missing` allows.
    """
    config, missing = self.builder_config, self.builder_config.manifest.missing
    if not missing:
      return []
    os.makedirs(os.path.dirname(self.missing_path), exist_ok=True)
    with open(self.missing_path, 'w', encoding='utf-8') as f:
      f.writelines(f'{m.split}\t{m.label}\t{m.id}\n' for m in missing)
    total = len(missing) + len(config.manifest.entries)
    lines = [
      f'{len(missing)} of {total} videos that the lists of '
      f'{config.manifest.dataset} name are missing:',
      *(f'  {m.id}' for m in missing[:_SHOWN]),
    ]
    if len(missing) > _SHOWN:
      lines.append(f'  and {len(missing) - _SHOWN} more')
    lines.append(f'all of them are listed in {self.missing_path}')
    there = {entry.label for entry in config.manifest.entries}
    lost = sorted({m.label for m in missing} - there)
    if config.allow_missing:
      return lines
    if lost:
      lines.append(f'no video at all of the classes {", ".join(lost)}')
    if lost or config.manifest.dataset in _COMPLETE:
      raise ValueError(
        '\n'.join([*lines, 'to continue without them: --allow_missing'])
      )
    return lines

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager
    config, manifest = self.builder_config, self.builder_config.manifest
    self._staged = staged = self.stage()
    reused = sum(s.is_reused for s in staged)
    if reused:
      logging.info('%d of %d videos were staged before', reused, len(staged))
    unreadable = [s for s in staged if s.reason]
    usable = [s for s in staged if not s.reason]
    if not config.allow_missing:
      _check_classes(unreadable, usable)
    by_split = {
      split: [s for s in usable if s.entry.split == split]
      for split in manifest.splits
    }
    empty = [split for split, videos in by_split.items() if not videos]
    if empty:
      raise ValueError(f'{manifest.dataset}: no usable video in {empty}')
    self.info.metadata.update(
      format_version=records.FORMAT_VERSION,
      storage=config.storage.to_dict(),
      domain=records.FILMED_DOMAIN,
      dataset=manifest.dataset,
      videos={s: _index(videos).to_columns() for s, videos in by_split.items()},
      lists={name: list(ids) for name, ids in manifest.lists.items()},
      unreadable=[
        {
          'id': s.entry.id,
          'label': s.entry.label,
          'split': s.entry.split,
          'reason': s.reason,
        }
        for s in unreadable
      ],
      missing=[dataclasses.asdict(m) for m in manifest.missing],
      class_attributes={},
      seen_classes=[],
      unseen_classes=[],
    )
    return {s: self._generate_examples(v) for s, v in by_split.items()}

  def _generate_examples(
    self, videos: Sequence[staging.Staged]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    key = 0
    for video in videos:
      for content in cut(video.read(), self.builder_config.storage):
        entry = video.entry
        yield (
          key,
          {
            **content,
            'label': entry.label,
            'id': entry.id,
            'group': entry.group,
            'source': entry.source,
          },
        )
        key += 1


def cut(
  content: dict[str, Any], storage: transcode.Storage
) -> Iterator[dict[str, Any]]:
  """Cuts the content of a video into records.

  Args:
    content: from `Staged.read`.
    storage: of it.

  Yields:
    The content of each record. For storage 'video' it is unchanged. For
    'frames' it is `jpegs` and `spans` of at most `frames_per_record` pictures.
  """
  if storage.kind == 'video':
    yield content
    return
  spans = content['spans']
  for start in range(0, len(spans), storage.frames_per_record):
    part = spans[start : start + storage.frames_per_record]
    low, high = part.min(), part.max()
    yield {'jpegs': content['jpegs'][low:high], 'spans': part - low}


def make_builder(
  data_dir: str,
  manifest: manifest_lib.Manifest,
  storage: transcode.Storage,
  **options: Any,
) -> PackedVideos:
  """Makes the builder of a manifest's videos; nothing is written yet.

  The dataset's name ends in hashes of the manifest and the storage. So two
  folders of one name, a folder before and after a change, and two storages
  give different datasets.

  Args:
    data_dir: folder of all datasets.
    manifest: the videos.
    storage: how they are stored.
    **options: further fields of `PackedVideosConfig`.

  Returns:
    The builder; its `data_dir` is the prepared dataset's own folder.
  """
  title = re.sub(
    r'[^a-z0-9]+', '_', class_names.canonical_name(manifest.title)
  ).strip('_')
  mark = manifest_lib.fingerprint(manifest)
  config = PackedVideosConfig(
    name=f'{title or "videos"}_{mark}_{storage.kind}_{storage.hash}',
    description=f'{manifest.dataset}: the videos of {manifest.title}.',
    manifest=manifest,
    storage=storage,
    **options,
  )
  return _builder_class(manifest.dataset)(
    data_dir=data_dir, config=config, file_format='array_record'
  )


@functools.cache
def _builder_class(dataset: str) -> type[PackedVideos]:
  """Returns a builder class for a dataset: TFDS names folders after classes."""
  return types.new_class(
    ''.join(part.title() for part in dataset.split('_')),
    (PackedVideos,),
    {'skip_registration': True},
    lambda namespace: namespace.update(name=dataset, __module__=__name__),
  )


def _index(videos: Sequence[staging.Staged]) -> records.VideoIndex:
  entries = [video.entry for video in videos]
  return records.VideoIndex(
    ids=tuple(e.id for e in entries),
    labels=tuple(e.label for e in entries),
    groups=tuple(e.group for e in entries),
    sources=tuple(e.source for e in entries),
    num_frames=tuple(v.num_frames for v in videos),
    seconds=tuple(v.seconds for v in videos),
    digests=tuple(v.digest for v in videos),
  )


def _check_classes(
  unreadable: Sequence[staging.Staged], usable: Sequence[staging.Staged]
) -> None:
  """Refuses a class that has files, if none of them can be used."""
  usable_classes = {s.entry.label for s in usable}
  lost = [s for s in unreadable if s.entry.label not in usable_classes]
  if lost:
    names = sorted({s.entry.label for s in lost})
    raise ValueError(
      f'no video of {", ".join(map(repr, names))} can be used: '
      + '; '.join(f'{s.entry.id} {s.reason}' for s in lost[:_SHOWN])
      + (f'; and {len(lost) - _SHOWN} more' if len(lost) > _SHOWN else '')
    )
