"""Kinetics-400, -600 and -700 as users have them, and parts of Kinetics-700.

A clip's file name is `<YouTube id>_<start>_<end>`, in seconds, usually of six
digits. There are two layouts:

```
<source>/train/abseiling/0347ZoDXyP0_000095_000105.mp4    class folders
<source>/anything/0347ZoDXyP0_000095_000105.mp4           and <source>/train.csv
```

In the first, train, val and test (or validate, validation, train_256, ...)
are folders and the class is the folder of the clip. In the second, official
CSV files anywhere under the source (or in `annotations`) name each clip's
class and split, in the columns `label,youtube_id,time_start,time_end,split`.
With both, the CSV files decide for the splits that they have, and say which
clips are missing.

`kinetics700_664` and `kinetics700_587` are Kinetics-700 without the classes
that match a class of UCF101 and HMDB51, and of ActivityNet too; see
`protocols/word_overlap.py`. They are read from a folder of Kinetics-700.
"""

from collections.abc import Iterable, Mapping, Sequence
import csv
import dataclasses
import os
import re

from absl import logging

from zsar_jax.data.datasets import layouts, manifest

# Dataset -> the list of its classes, and the list of classes in its folder.
_CLASS_LISTS = {
  'kinetics400': ('kinetics400', 'kinetics400'),
  'kinetics600': ('kinetics600', 'kinetics600'),
  'kinetics700': ('kinetics700', 'kinetics700'),
  'kinetics700_664': ('kinetics700_664', 'kinetics700'),
  'kinetics700_587': ('kinetics700_587', 'kinetics700'),
}
SPLITS = ('train', 'validation', 'test')
_SPLIT_OF = {
  'train': 'train',
  'training': 'train',
  'val': 'validation',
  'valid': 'validation',
  'validate': 'validation',
  'validation': 'validation',
  'test': 'test',
  'testing': 'test',
}
_CLIP = re.compile(r'(?P<youtube>.+)_(?P<start>\d+)_(?P<end>\d+)$')
_LAYOUT = (
  '<source>/<train|val|test>/<class>/<YouTube id>_<start>_<end>.mp4, or such '
  'files anywhere and the official CSV files (label,youtube_id,time_start,'
  'time_end,split)'
)
_CSV_COLUMNS = ('youtube_id', 'time_start', 'time_end')


@dataclasses.dataclass(frozen=True)
class _Listed:
  """A clip's row in a CSV file; label None if it is withheld."""

  label: str | None
  split: str


def read_manifest(
  source: str, dataset: str = 'kinetics400', annotations: str | None = None
) -> manifest.Manifest:
  """Lists the clips of a folder of Kinetics.

  Args:
    source: the folder; see the module docstring.
    dataset: 'kinetics400', 'kinetics600', 'kinetics700', 'kinetics700_664'
      or 'kinetics700_587'.
    annotations: a CSV file or a folder of such, if not under `source`.

  Returns:
    The manifest. A clip's id is its file name with start and end in six
    digits. Its group is the YouTube video. Test clips with a withheld label and
    clips of classes outside the dataset are left out; a log line counts them.

  Raises:
    FileNotFoundError: the folder or the annotations do not exist.
    ValueError: the dataset or a class is unknown, there is no clip, a clip is
      in no split, or a CSV file is not in the official format.
    PermissionError: a folder may not be read.
  """
  if dataset not in _CLASS_LISTS:
    raise ValueError(
      f'unknown Kinetics {dataset!r}; known are {", ".join(_CLASS_LISTS)}'
    )
  kept, whole = map(layouts.ClassList, _CLASS_LISTS[dataset])
  files = layouts.find_files(source, _LAYOUT)
  tally = layouts.Tally()
  listed = _read_lists(_csv_files(files, annotations), whole, tally)
  clips = _clips(layouts.videos_of(files), tally)
  entries = _entries(clips, listed, (dataset, kept, whole), tally)
  tally.log(source)
  return layouts.make_manifest(
    dataset,
    source,
    entries,
    kept,
    layout=_LAYOUT,
    missing=_missing(listed, clips, entries, kept),
    splits=SPLITS,
  )


def _entries(
  clips: Mapping[str, layouts.FoundFile],
  listed: Mapping[str, _Listed],
  names: tuple[str, layouts.ClassList, layouts.ClassList],
  tally: layouts.Tally,
) -> list[manifest.ManifestEntry]:
  """Finds class and split of each clip.

  Args:
    clips: id -> file.
    listed: id -> the clip's row in a CSV file.
    names: the dataset, its classes, and those of the whole Kinetics.
    tally: counts the clips that are left out.

  Returns:
    The clips of the dataset's classes.
  """
  dataset, kept, whole = names
  listed_splits = {known.split for known in listed.values()}
  entries = []
  for clip_id, file in clips.items():
    if clip_id in listed:
      known = listed[clip_id]
    elif listed and _folder_splits(file) - listed_splits == set():
      tally.add('clips that no CSV file names', clip_id)
      continue
    else:
      known = _by_folder(file, whole)
    if known.label is None:
      tally.add('clips whose label is withheld', clip_id)
    elif kept.find(known.label) is None:
      tally.add(f'clips of classes that {dataset} leaves out', clip_id)
    else:
      entries.append(
        manifest.ManifestEntry(
          path=file.path,
          id=clip_id,
          label=known.label,
          group=clip_id.rsplit('_', 2)[0],
          split=known.split,
        )
      )
  return entries


def _clips(
  videos: Iterable[layouts.FoundFile], tally: layouts.Tally
) -> dict[str, layouts.FoundFile]:
  """Maps each clip's id to its file; of several files, to the one to use."""
  clips: dict[str, layouts.FoundFile] = {}
  # Archives bring corrected copies of damaged clips in a folder of that name.
  for file in sorted(
    videos, key=lambda f: 'replacement' not in '/'.join(f.folders)
  ):
    match = _CLIP.match(file.stem)
    if match is None:
      tally.add('videos not named <YouTube id>_<start>_<end>', file.parts[-1])
      continue
    clip_id = _clip_id(match['youtube'], match['start'], match['end'])
    if clip_id in clips:
      tally.add('second files of a clip', '/'.join(file.parts))
    else:
      clips[clip_id] = file
  return clips


def _clip_id(youtube: str, start: str, end: str) -> str:
  return f'{youtube}_{int(float(start)):06d}_{int(float(end)):06d}'


def _by_folder(file: layouts.FoundFile, classes: layouts.ClassList) -> _Listed:
  """Reads a clip's class and split from the names of its folders."""
  if not file.folders:
    raise ValueError(
      f'{file.path}: no class folder and no CSV file; expected {_LAYOUT}'
    )
  label = classes.get(file.folders[-1], file.path)
  splits = _folder_splits(file)
  if len(splits) != 1:
    raise ValueError(
      f'{file.path}: expected one split among its folders, found '
      f'{sorted(splits) or "none"}; expected {_LAYOUT}'
    )
  return _Listed(label, splits.pop())


def _folder_splits(file: layouts.FoundFile) -> set[str]:
  """Returns the splits named by the folders above a clip's class folder."""
  found = map(_split_in, file.folders[:-1])
  return {split for split in found if split is not None}


def _split_in(name: str) -> str | None:
  """Returns the split in a folder's or file's name: 'k400_val' -> validation.

  None if there is no split or more than one ('train_val').
  """
  words = re.split(r'[^a-z]+', name.lower())
  found = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
  return found.pop() if len(found) == 1 else None


def _csv_files(
  files: Sequence[layouts.FoundFile], annotations: str | None
) -> list[str]:
  """Finds the CSV files with the official columns, splits in order."""
  if annotations is None:
    paths = [file.path for file in files if file.suffix == '.csv']
  elif os.path.isdir(annotations):
    found = layouts.find_files(annotations, 'a folder of CSV files')
    paths = [file.path for file in found if file.suffix == '.csv']
  elif os.path.exists(annotations):
    paths = [annotations]
  else:
    raise FileNotFoundError(f'{annotations}: no such CSV file or folder')
  official = []
  for path in paths:
    with open(path, encoding='utf-8-sig', errors='replace', newline='') as f:
      columns = next(csv.reader(f, skipinitialspace=True), [])
    if set(_CSV_COLUMNS) <= {column.strip() for column in columns}:
      official.append(path)
    elif annotations is not None:
      raise ValueError(
        f'{path}: expected the columns label,{",".join(_CSV_COLUMNS)},split, '
        f'found {",".join(columns) or "nothing"}'
      )
    else:
      logging.warning('%s: not an official CSV file, ignored', path)
  return official


def _read_lists(
  paths: Sequence[str], classes: layouts.ClassList, tally: layouts.Tally
) -> dict[str, _Listed]:
  """Reads the class and split of each clip from the CSV files."""
  listed: dict[str, _Listed] = {}
  for path in paths:
    try:
      with open(path, encoding='utf-8-sig', newline='') as f:
        for row in csv.DictReader(f, skipinitialspace=True):
          cell = {(k or '').strip(): v for k, v in row.items()}
          clip_id, known = _read_row(cell, path, classes)
          first = listed.setdefault(clip_id, known)
          if first != known and None not in (first.label, known.label):
            tally.add('further lines of a listed clip', clip_id)
          elif first.label is None:
            listed[clip_id] = known
    except (UnicodeDecodeError, csv.Error) as e:
      raise ValueError(f'{path} is not a CSV file in UTF-8: {e}') from e
  return listed


def _read_row(
  cell: Mapping[str, str | None], path: str, classes: layouts.ClassList
) -> tuple[str, _Listed]:
  """Reads a clip's id, class and split from a row."""
  youtube = (cell['youtube_id'] or '').strip()
  where = f'{path}, {youtube or "a row without youtube_id"}'
  try:
    clip_id = _clip_id(youtube, cell['time_start'], cell['time_end'])
  except (TypeError, ValueError) as e:
    raise ValueError(f'{where}: time_start or time_end is not a number') from e
  label = (cell.get('label') or '').strip()
  split = (cell.get('split') or '').strip() or os.path.basename(path)
  split = _split_in(os.path.splitext(split)[0])
  if not youtube or split is None:
    raise ValueError(
      f'{where}: expected a youtube_id and a split ({", ".join(_SPLIT_OF)}) '
      f'in the row or the file name, found the split {cell.get("split")!r}'
    )
  return clip_id, _Listed(classes.get(label, where) if label else None, split)


def _missing(
  listed: Mapping[str, _Listed],
  clips: Mapping[str, layouts.FoundFile],
  entries: Sequence[manifest.ManifestEntry],
  classes: layouts.ClassList,
) -> list[manifest.MissingVideo]:
  """Lists clips that the CSV files name and that are missing; empty classes."""
  missing = [
    manifest.MissingVideo(clip_id, known.label, known.split)
    for clip_id, known in listed.items()
    if clip_id not in clips
    and known.label is not None
    and classes.find(known.label) is not None
  ]
  labels = {video.label for video in (*entries, *missing)}
  return missing + layouts.absent_classes(classes, labels, SPLITS[0])
