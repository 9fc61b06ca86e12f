"""Anyone's videos as a dataset: a folder tree or a CSV file.

A folder holds `[<source>/...]<class name>/<clip>`. A clip's class is the name
of the folder it lies in, its source the path from the root to that folder
('' if none). Clips may be in any container and codec that FFmpeg reads.

```
my_videos/gym/shake_hands/001.mp4     class 'shake hands', source 'gym'
my_videos/gym/running/002.avi         class 'running',     source 'gym'
```

A CSV file has a header and the columns `path,label[,group][,source]`; paths
are relative to the CSV's folder. `group` names the recording session, so
that clips of one session are never split; without it each video is its own.

Every file is decoded once before anything is written. Those that cannot be
used are left out and listed, with the reason, in the metadata. Files are
packed as they are, in the order of their ids; the one split is 'videos'.

```python
builder = make_builder('/data', source='my_videos')
datasets.prepare(builder)
videos = records.open_split(builder.data_dir, 'videos')
```
"""

import collections
from collections.abc import Iterator, Sequence
import concurrent.futures
import csv
import dataclasses
import hashlib
import json
import os
import re
from typing import Any

from absl import logging
import tensorflow_datasets as tfds
import tqdm

from zsar_jax.data import class_names, decode
from zsar_jax.data.datasets import records

SPLIT = 'videos'
_LAYOUT = '<folder>/[<source>/]<class name>/<clip>'
_REQUIRED_COLUMNS = ('path', 'label')
_OPTIONAL_COLUMNS = ('group', 'source')
# What commonly lies beside videos. Anything else is tried: a list of video
# suffixes would be wrong sooner.
_NOT_VIDEO = frozenset(
  '.txt .csv .tsv .json .jsonl .md .rst .html .xml .yaml .yml .toml .log .pdf '
  '.jpg .jpeg .png .bmp .webp .tif .tiff .npy .npz .pkl .pt .mat .h5 '
  '.py .sh .ipynb .zip .tar .gz .tgz .rar .7z .srt .vtt .wav .mp3 .ini .db'
  ''.split()
)
_HEAD_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True)
class ManifestEntry:
  """One video file that is to be packed.

  Attributes:
    path: where the file lies.
    id: its name in the dataset: the path relative to the root, with '/'.
    label: canonical class name.
    group: recording session.
    source: where the class lives, '' if there is only one place.
  """

  path: str
  id: str
  label: str
  group: str
  source: str


def scan_folder(root: str) -> list[ManifestEntry]:
  """Lists the videos of a folder tree.

  Hidden files, files of plainly other kinds (text, pictures, archives) and
  files directly in `root`, which have no class, are left out; a log line
  counts them. Links to files are followed, links to folders are not.

  Args:
    root: a folder laid out as the module docstring says.

  Returns:
    One entry per file, sorted by id.

  Raises:
    FileNotFoundError: no such folder.
    ValueError: not a folder, no video in it, a class folder without a name,
      or two folders side by side that name the same class.
    PermissionError: a folder may not be read.
  """
  if not os.path.exists(root):
    raise FileNotFoundError(f'{root}: no such folder; expected {_LAYOUT}')
  if not os.path.isdir(root):
    raise ValueError(f'{root} is not a folder; expected {_LAYOUT}')
  entries = []
  ignored = collections.Counter()
  spellings = _Spellings()
  for folder, subfolders, files in os.walk(root, onerror=_raise):
    links = [f for f in subfolders if os.path.islink(os.path.join(folder, f))]
    hidden = [f for f in subfolders if f.startswith('.')]
    ignored['linked folders'] += len(links)
    ignored['hidden folders'] += len(hidden)
    subfolders[:] = sorted({*subfolders} - {*links} - {*hidden})
    class_folder = _as_id(os.path.relpath(folder, root))
    for file in sorted(files):
      if file.startswith('.'):
        ignored['hidden files'] += 1
      elif os.path.splitext(file)[1].lower() in _NOT_VIDEO:
        ignored['files of another kind'] += 1
      elif class_folder == '.':
        ignored['files outside any class folder'] += 1
      else:
        source, _, spelling = class_folder.rpartition('/')
        entry_id = f'{class_folder}/{_as_id(file)}'
        label = spellings.canonical(
          spelling, source, os.path.join(root, class_folder)
        )
        path = os.path.join(folder, file)
        entries.append(ManifestEntry(path, entry_id, label, entry_id, source))
  ignored = +ignored
  if ignored:
    logging.warning(
      '%s: ignored %s',
      root,
      ', '.join(f'{n} {what}' for what, n in sorted(ignored.items())),
    )
  if not entries:
    raise ValueError(f'{root}: no video found; expected {_LAYOUT}')
  return sorted(entries, key=lambda entry: entry.id)


def read_csv(path: str) -> list[ManifestEntry]:
  """Lists the videos of a CSV file.

  Columns that have no meaning here are ignored; a log line names them.

  Args:
    path: a file as the module docstring says, in UTF-8.

  Returns:
    One entry per row, sorted by id.

  Raises:
    FileNotFoundError: no such file, or none of the files that it lists.
    ValueError: columns missing, a row without path or label or listed
      twice, a class spelled in two ways within one source, or no row.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f'{path}: no such CSV file')
  root = os.path.dirname(path)
  entries = {}
  spellings = _Spellings()
  try:
    # utf-8-sig: spreadsheet programs put a mark before the header.
    with open(path, encoding='utf-8-sig', newline='') as f:
      reader = csv.DictReader(f, skipinitialspace=True)
      _check_columns(path, reader.fieldnames or [])
      for row in reader:
        where = f'{path} line {reader.line_num}'
        cell = {k: (row.get(k) or '').strip() for k in row if k}
        if not cell['path'] or not cell['label']:
          raise ValueError(f'{where}: the path or the label is empty')
        entry_id = _as_id(os.path.normpath(cell['path']))
        if entry_id in entries:
          raise ValueError(f'{where}: {entry_id!r} is listed a second time')
        source = cell.get('source', '')
        entries[entry_id] = ManifestEntry(
          path=os.path.join(root, cell['path']),
          id=entry_id,
          label=spellings.canonical(cell['label'], source, where),
          group=cell.get('group') or entry_id,
          source=source,
        )
  except (UnicodeDecodeError, csv.Error) as e:
    raise ValueError(f'{path} is not a CSV file in UTF-8: {e}') from e
  if not entries:
    raise ValueError(f'{path} lists no video')
  manifest = sorted(entries.values(), key=lambda entry: entry.id)
  if not any(os.path.exists(entry.path) for entry in manifest):
    raise FileNotFoundError(
      f'{path}: none of its {len(manifest)} files exists, such as '
      f'{manifest[0].path}; paths are relative to the folder of the CSV'
    )
  return manifest


def read_manifest(source: str) -> list[ManifestEntry]:
  """Lists the videos of a folder (`scan_folder`) or a CSV (`read_csv`)."""
  if source.lower().endswith('.csv') and not os.path.isdir(source):
    return read_csv(source)
  return scan_folder(source)


def fingerprint(manifest: Sequence[ManifestEntry]) -> str:
  """Names what a manifest lists, wherever it lies.

  Args:
    manifest: entries in order.

  Returns:
    12 hex digits over ids, labels, groups, sources, file sizes and the first
    64 KiB of each file. Times and paths do not count, so that a copy of a
    folder has the fingerprint of the original.
  """
  digest = hashlib.sha256()
  for entry in manifest:
    try:
      with open(entry.path, 'rb') as f:
        size = os.fstat(f.fileno()).st_size
        head = hashlib.sha256(f.read(_HEAD_BYTES)).hexdigest()
    except OSError:
      size, head = -1, ''  # Listed as unreadable later.
    fields = (entry.id, entry.label, entry.group, entry.source, size, head)
    digest.update(json.dumps(fields).encode())
  return digest.hexdigest()[:12]


def check_files(
  manifest: Sequence[ManifestEntry], show_progress: bool | None = None
) -> tuple[list[ManifestEntry], list[dict[str, str]]]:
  """Decodes every file to learn which can be used.

  Args:
    manifest: the files.
    show_progress: whether to draw a progress bar on stderr; None draws it on
      a terminal only.

  Returns:
    The entries that can be used, in order, and the others as
    {'id', 'label', 'reason'}.

  Raises:
    ValueError: a class has no file that can be used.
  """

  def reason(entry):
    try:
      decode.check_video(entry.path, entry.id)
    except decode.VideoError as e:
      return e.reason
    return None

  # Threads suffice: decoding releases the interpreter lock.
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    reasons = list(
      tqdm.tqdm(
        pool.map(reason, manifest),
        'checking videos',
        len(manifest),
        unit='video',
        disable=None if show_progress is None else not show_progress,
      )
    )
  checked = list(zip(manifest, reasons, strict=True))
  usable = [entry for entry, reason in checked if reason is None]
  unreadable = [
    {'id': entry.id, 'label': entry.label, 'reason': reason}
    for entry, reason in checked
    if reason is not None
  ]
  usable_classes = {entry.label for entry in usable}
  lost = [u for u in unreadable if u['label'] not in usable_classes]
  if lost:
    names = sorted({u['label'] for u in lost})
    raise ValueError(
      f'no video of {", ".join(map(repr, names))} can be used: '
      + '; '.join(f'{u["id"]} {u["reason"]}' for u in lost[:10])
      + (f'; and {len(lost) - 10} more' if len(lost) > 10 else '')
    )
  return usable, unreadable


@dataclasses.dataclass
class VideoFolderConfig(tfds.core.BuilderConfig):
  """Which videos to pack; `make_config` fills it.

  Attributes:
    source: the folder or CSV file.
    manifest: what it lists.
    show_progress: see `check_files`.
  """

  source: str = ''
  manifest: Sequence[ManifestEntry] = dataclasses.field(default=(), repr=False)
  show_progress: bool | None = None


def make_config(
  source: str, show_progress: bool | None = None
) -> VideoFolderConfig:
  """Lists the videos of `source` and names the dataset after them.

  The name ends in the fingerprint of the manifest, so that two folders of
  one name, or one folder before and after a change, never answer for each
  other.

  Args:
    source: a folder or a CSV file.
    show_progress: see `check_files`.

  Returns:
    The config of a `VideoFolder`.

  Raises:
    FileNotFoundError: see `scan_folder` and `read_csv`.
    ValueError: see there.
    PermissionError: see there.
  """
  manifest = read_manifest(source)
  stem = os.path.splitext(os.path.basename(os.path.abspath(source)))[0]
  stem = re.sub(r'[^a-z0-9]+', '_', class_names.canonical_name(stem))
  return VideoFolderConfig(
    name=f'{stem.strip("_") or "videos"}_{fingerprint(manifest)}',
    description=f'The videos of {os.path.basename(source) or source}.',
    source=source,
    manifest=manifest,
    show_progress=show_progress,
  )


class VideoFolder(tfds.core.GeneratorBasedBuilder):
  """Packs the files that a `VideoFolderConfig` lists; see `make_builder`."""

  VERSION = tfds.core.Version('1.0.0')
  # Where TFDS would look for checksums of downloads: there are none, and
  # looking needs `importlib_resources`, which nothing installs.
  code_path = None

  def _info(self) -> tfds.core.DatasetInfo:
    labels = {entry.label for entry in self.builder_config.manifest}
    return tfds.core.DatasetInfo(
      builder=self,
      description='Video files as they are, in the order of their ids.',
      features=records.features(sorted(labels)),
      metadata=tfds.core.MetadataDict(),
      # The index in the metadata is in record order.
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager
    config = self.builder_config
    usable, unreadable = check_files(config.manifest, config.show_progress)
    index = records.VideoIndex(
      ids=tuple(entry.id for entry in usable),
      labels=tuple(entry.label for entry in usable),
      groups=tuple(entry.group for entry in usable),
      sources=tuple(entry.source for entry in usable),
    )
    self.info.metadata.update(
      domain=records.FILMED_DOMAIN,
      videos={SPLIT: index.to_columns()},
      unreadable=unreadable,
      class_attributes={},
      seen_classes=[],
      unseen_classes=[],
    )
    return {SPLIT: self._generate_examples(usable)}

  def _generate_examples(
    self, entries: Sequence[ManifestEntry]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for key, entry in enumerate(entries):
      with open(entry.path, 'rb') as f:
        video = f.read()
      yield (
        key,
        {
          'video': video,
          'label': entry.label,
          'id': entry.id,
          'group': entry.group,
          'source': entry.source,
        },
      )


def make_builder(
  data_dir: str | None, source: str, show_progress: bool | None = None
) -> VideoFolder:
  """Makes the builder of a folder's or a CSV file's videos.

  Nothing is written yet: `datasets.prepare(builder)` does, once.

  Args:
    data_dir: where datasets live; None for TFDS's default.
    source: a folder or a CSV file; see the module docstring.
    show_progress: see `check_files`.

  Returns:
    The builder; its `data_dir` is the prepared dataset's own folder.

  Raises:
    FileNotFoundError: see `scan_folder` and `read_csv`.
    ValueError: see there.
    PermissionError: see there.
  """
  return VideoFolder(
    data_dir=data_dir,
    config=make_config(source, show_progress),
    file_format='array_record',
  )


class _Spellings:
  """Canonicalises class names and refuses two spellings within a source."""

  def __init__(self):
    self._first = {}

  def canonical(self, spelling: str, source: str, where: str) -> str:
    """The canonical name of a class met at `where` (a folder or a line)."""
    (label,) = class_names.canonical_names([spelling], what=where)
    first = self._first.setdefault((source, label), (spelling, where))
    if first[0] != spelling:
      raise ValueError(
        f'{first[1]} ({first[0]!r}) and {where} ({spelling!r}) both name the '
        f'class {label!r}; give it one spelling'
      )
    return label


def _check_columns(path: str, columns: Sequence[str]) -> None:
  missing = [c for c in _REQUIRED_COLUMNS if c not in columns]
  if missing:
    raise ValueError(
      f'{path}: no column {" and ".join(missing)}; expected a header '
      f'path,label[,group][,source], found {",".join(columns) or "nothing"}'
    )
  extra = [c for c in columns if c not in _REQUIRED_COLUMNS + _OPTIONAL_COLUMNS]
  if extra:
    logging.warning('%s: ignored the columns %s', path, ', '.join(extra))


def _as_id(path: str) -> str:
  """A path as text with '/', escaped where its bytes are not UTF-8."""
  text = os.fsencode(path).decode('utf-8', 'backslashreplace')
  return text.replace(os.sep, '/')


def _raise(error: OSError) -> None:
  raise error
