"""Anyone's videos as a dataset: a folder tree or a CSV file.

A folder holds `[<source>/...]<class name>/<clip>`. A clip's class is the name
of its folder. Its source is the path from the root to that folder ('' if none).
Clips may be in any container and codec that FFmpeg reads.

```
my_videos/gym/shake_hands/001.mp4     class 'shake hands', source 'gym'
my_videos/gym/running/002.avi         class 'running',     source 'gym'
```

A CSV file has a header and the columns `path,label[,group][,source]`; paths
are relative to the CSV's folder. `group` names the recording session; clips of
one session are never split. Without it each video is a session of its own.
"""

import collections
from collections.abc import Sequence
import csv
import difflib
import os

from absl import logging

from zsar_jax.data import class_names
from zsar_jax.data.datasets.manifest import Manifest, ManifestEntry
from zsar_jax.data.protocols import known_classes

_LAYOUT = '<folder>/[<source>/]<class name>/<clip>'
_REQUIRED_COLUMNS = ('path', 'label')
_OPTIONAL_COLUMNS = ('group', 'source')
# Suffixes of files that commonly lie beside videos. Any other file is tried: a
# list of video suffixes would soon miss one.
_NOT_VIDEO = frozenset(
  '.txt .csv .tsv .json .jsonl .md .rst .html .xml .yaml .yml .toml .log .pdf '
  '.jpg .jpeg .png .bmp .webp .tif .tiff .npy .npz .pkl .pt .mat .h5 '
  '.py .sh .ipynb .zip .tar .gz .tgz .rar .7z .srt .vtt .wav .mp3 .ini .db'
  ''.split()
)


def scan_folder(root: str) -> list[ManifestEntry]:
  """Lists the videos of a folder tree.

  Three kinds of files are left out, and a log line counts them: hidden files,
  files of other kinds (text, pictures, archives), and files directly in `root`,
  which have no class. Links to files are followed, links to folders are not.

  Args:
    root: a folder laid out as the module docstring says.

  Returns:
    One entry per file, sorted by id.

  Raises:
    FileNotFoundError: the folder does not exist.
    ValueError: `root` is not a folder or has no video, a class folder has no
      name, or two folders side by side name the same class.
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

  Other columns are ignored; a log line names them.

  Args:
    path: a file as the module docstring says, in UTF-8.

  Returns:
    One entry per row, sorted by id.

  Raises:
    FileNotFoundError: the CSV file, or every file that it lists, is missing.
    ValueError: a column is missing, there is no row, a row has no path or label
      or occurs twice, or one source spells a class in two ways.
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


def read_manifest(source: str, classes: str = '') -> Manifest:
  """Lists the videos of a folder (`scan_folder`) or a CSV (`read_csv`).

  Args:
    source: a folder, or a file that ends in .csv.
    classes: the allowed classes: a text file with one a line, or the name of a
      class list such as 'kinetics400'; '' allows any.

  Returns:
    The manifest, named after the folder or file.

  Raises:
    FileNotFoundError: see `scan_folder` and `read_csv`.
    ValueError: see there; or a class is not among `classes`.
    PermissionError: see `scan_folder`.
  """
  if source.lower().endswith('.csv') and not os.path.isdir(source):
    entries = read_csv(source)
  else:
    entries = scan_folder(source)
  if classes:
    _check_labels(entries, known_classes.read_file_or_list(classes), classes)
  return Manifest(
    dataset='video_folder',
    title=os.path.splitext(os.path.basename(os.path.abspath(source)))[0],
    entries=tuple(entries),
    class_names=tuple(sorted({entry.label for entry in entries})),
  )


def _check_labels(
  entries: Sequence[ManifestEntry], known: Sequence[str], what: str
) -> None:
  """Refuses labels that are not among the known ones."""
  labels = {entry.label: entry.id for entry in reversed(entries)}
  for label in sorted(set(labels) - set(known)):
    near = difflib.get_close_matches(label, known, n=3)
    raise ValueError(
      f'{labels[label]}: class {label!r} is not in {what}; nearest are '
      f'{", ".join(near) or "none"}'
    )


class _Spellings:
  """Canonicalises class names and refuses two spellings within a source."""

  def __init__(self):
    self._first = {}

  def canonical(self, spelling: str, source: str, where: str) -> str:
    """Returns a class's canonical name, found at `where` (a folder or line)."""
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
  """Writes a path as text with '/', escaped where its bytes are not UTF-8."""
  text = os.fsencode(path).decode('utf-8', 'backslashreplace')
  return text.replace(os.sep, '/')


def _raise(error: OSError) -> None:
  raise error
