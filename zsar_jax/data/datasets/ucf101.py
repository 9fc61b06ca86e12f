"""UCF101 as its archives extract: 13,320 videos of 101 classes.

```
<source>/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
<source>/ucfTrainTestlist/classInd.txt
<source>/ucfTrainTestlist/trainlist01.txt ... testlist03.txt
```

Folders may have other names and the videos other suffixes: videos and lists are
found by their file names. A video's group is the original footage that it was
cut from (`g01`, 25 in each class).
"""

from collections.abc import Iterable, Sequence
import functools
import re

from absl import logging

from zsar_jax.data import class_names
from zsar_jax.data.datasets import layouts, manifest
from zsar_jax.data.protocols import known_classes

_LAYOUT = (
  '<source>/UCF-101/<Class>/v_<Class>_gXX_cYY.avi and, beside it, '
  'ucfTrainTestlist/ with trainlist01.txt to testlist03.txt'
)
_VIDEO = re.compile(
  r'v_(?P<name>[A-Za-z]+)_(?P<group>g\d+)_(?P<clip>c\d+)$', re.IGNORECASE
)
_LIST = re.compile(r'(?P<kind>train|test)list0(?P<number>[123])\.txt$')
_NUM_GROUPS = 25


def read_manifest(source: str, lists: str | None = None) -> manifest.Manifest:
  """Lists the videos of an extracted UCF101.

  If there are official lists, a video that they name and that does not exist
  is `missing`. A video that they do not name is left out.

  Args:
    source: the folder; see the module docstring.
    lists: folder of the official lists, if it is not under `source`.

  Returns:
    The manifest. Its lists are 'train1', 'test1', ... with the ids of all
    videos that they name, missing ones too.

  Raises:
    FileNotFoundError: the folder does not exist, or `lists` has no official
      list.
    ValueError: there is no video, a video occurs twice, a file name has an
      unknown class, or a list is not in the official format.
    PermissionError: a folder may not be read.
  """
  classes = layouts.ClassList('ucf101')
  files = layouts.find_files(source, _LAYOUT)
  tally = layouts.Tally()
  entries = _entries(layouts.videos_of(files), classes, tally)
  list_files = files if lists is None else layouts.find_files(lists, _LAYOUT)
  official = _read_lists(list_files, classes)
  if lists is not None and not official:
    raise FileNotFoundError(f'{lists}: no trainlist01.txt to testlist03.txt')
  if not official:
    logging.warning(
      '%s: no official lists (ucfTrainTestlist): missing videos are not '
      'reported, and protocols of official test lists cannot be measured',
      source,
    )
  named = {i: label for members in official.values() for i, label in members}
  # A training and a test list of one number name every video.
  is_complete = any({f'train{n}', f'test{n}'} <= set(official) for n in '123')
  entries, missing = layouts.compare(
    entries, named, classes, tally, is_complete
  )
  tally.log(source)
  _check_groups(source, entries)
  return layouts.make_manifest(
    'ucf101',
    source,
    entries,
    classes,
    layout=_LAYOUT,
    missing=missing,
    lists={
      name: [video_id for video_id, _ in members]
      for name, members in sorted(official.items())
    },
  )


def _entries(
  videos: Iterable[layouts.FoundFile],
  classes: layouts.ClassList,
  tally: layouts.Tally,
) -> list[manifest.ManifestEntry]:
  """Reads class and group out of the videos' names."""
  entries = []
  for file in videos:
    match = _VIDEO.match(file.stem)
    if match is None:
      tally.add('videos not named v_<Class>_gXX_cYY', '/'.join(file.parts))
      continue
    video_id, label = _identify(match, classes, file.path)
    folder = video_id.partition('/')[0]
    entries.append(
      manifest.ManifestEntry(
        path=file.path,
        id=video_id,
        label=label,
        group=f'{folder} {match["group"].lower()}',
      )
    )
  return entries


@functools.cache
def _folder_of() -> dict[str, str]:
  """Maps each canonical name to the name of the class's folder."""
  return {
    class_names.canonical_name(name): name
    for name in known_classes.read('ucf101')
  }


def _identify(
  match: re.Match[str], classes: layouts.ClassList, where: str
) -> tuple[str, str]:
  """Reads the id and the label of a video from its file name.

  The id has the folder's spelling of the class. The files of HandstandPushups
  are spelt HandStandPushups, and so are lines of some lists.
  """
  label = classes.get(match['name'], where)
  folder = _folder_of()[label]
  rest = f'{match["group"]}_{match["clip"]}'.lower()
  return f'{folder}/v_{folder}_{rest}', label


def _read_lists(
  files: Sequence[layouts.FoundFile], classes: layouts.ClassList
) -> dict[str, list[tuple[str, str]]]:
  """Reads the official lists: name -> (id, label)s."""
  official = {}
  for file in files:
    if file.parts[-1] == 'classInd.txt':
      _check_class_index(file.path, classes)
    match = _LIST.match(file.parts[-1])
    if match is None:
      continue
    members = {}
    for line, text in layouts.read_lines(file.path):
      where = f'{file.path} line {line}'
      stem = text.split()[0].rpartition('/')[2].removesuffix('.avi')
      video = _VIDEO.match(stem)
      if video is None:
        raise ValueError(
          f'{where}: {text!r} is not <Class>/v_<Class>_gXX_cYY.avi'
        )
      video_id, label = _identify(video, classes, where)
      members[video_id] = label
    name = match['kind'] + match['number']
    if name in official:
      raise ValueError(f'{file.path}: a second list {name!r}: keep one')
    official[name] = sorted(members.items())
  return official


def _check_class_index(path: str, classes: layouts.ClassList) -> None:
  labels = []
  for line, text in layouts.read_lines(path):
    labels.append(classes.get(text.split()[-1], f'{path} line {line}'))
  if sorted(labels) != list(classes.names):
    raise ValueError(
      f'{path}: {len(set(labels))} classes, expected the 101 of UCF101'
    )


def _check_groups(
  source: str, entries: Sequence[manifest.ManifestEntry]
) -> None:
  """Warns of classes that lack whole groups: each should have 25."""
  groups: dict[str, set[str]] = {}
  for entry in entries:
    groups.setdefault(entry.label, set()).add(entry.group)
  short = {c: len(g) for c, g in groups.items() if len(g) != _NUM_GROUPS}
  if short:
    logging.warning(
      '%s: %d classes do not have %d groups: %s',
      source,
      len(short),
      _NUM_GROUPS,
      ', '.join(f'{name} ({n})' for name, n in sorted(short.items())[:5]),
    )
