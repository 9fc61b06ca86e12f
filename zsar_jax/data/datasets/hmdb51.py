"""HMDB51 as its archives extract: 6,766 videos of 51 classes.

```
<source>/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi
<source>/testTrainMulti_7030_splits/brush_hair_test_split1.txt
```

The class folders may lie deeper (`videos/brush_hair/`, or
`brush_hair/brush_hair/` as some programs extract the inner archives), and
the videos may have other suffixes.

A file name is `<film>_<class>_<five properties>_<number>`. So it names the
film, and a video's group is its film, over all classes. One film under two
names is two groups.
"""

from collections.abc import Sequence
import functools
import re

from absl import logging

from zsar_jax.data import class_names
from zsar_jax.data.datasets import layouts, manifest
from zsar_jax.data.protocols import known_classes

_LAYOUT = (
  '<source>/<class>/<video>.avi and, beside it, testTrainMulti_7030_splits/ '
  'with <class>_test_split1.txt to 3'
)
_LIST = re.compile(r'(?P<name>.+)_test_split(?P<number>[123])\.txt$')
# Visible body parts, camera motion, number of people, viewpoint, quality.
_PROPERTIES = r'_[a-z]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|med|goo)_\d+$'
# Meaning of the number beside a name.
_KINDS = {'0': None, '1': 'train', '2': 'test'}


def read_manifest(source: str, lists: str | None = None) -> manifest.Manifest:
  """Lists the videos of an extracted HMDB51.

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
    ValueError: there is no video, a video occurs twice, a folder has an unknown
      class, or a list is not in the official format.
    PermissionError: a folder may not be read.
  """
  classes, tally = layouts.ClassList('hmdb51'), layouts.Tally()
  files = layouts.find_files(source, _LAYOUT)
  entries = []
  for file in layouts.videos_of(files):
    if not file.folders:
      tally.add('videos outside any class folder', file.parts[-1])
      continue
    label = classes.get(file.folders[-1], file.path)
    folder = _folder_of()[label]
    entries.append(
      manifest.ManifestEntry(
        path=file.path,
        id=f'{folder}/{file.stem}',
        label=label,
        group=_film(file.stem, folder),
      )
    )
  list_files = files if lists is None else layouts.find_files(lists, _LAYOUT)
  official, named = _read_lists(list_files, classes)
  if lists is not None and not named:
    raise FileNotFoundError(f'{lists}: no <class>_test_split1.txt')
  if not named:
    logging.warning(
      '%s: no official lists (testTrainMulti_7030_splits): missing videos '
      'are not reported, and protocols of official test lists cannot be '
      'measured',
      source,
    )
  entries, missing = layouts.compare(entries, named, classes, tally)
  tally.log(source)
  return layouts.make_manifest(
    'hmdb51',
    source,
    entries,
    classes,
    layout=_LAYOUT,
    missing=missing,
    lists={name: sorted(ids) for name, ids in sorted(official.items())},
  )


@functools.cache
def _folder_of() -> dict[str, str]:
  """Maps each canonical name to the name of the class's folder."""
  return {
    class_names.canonical_name(name): name
    for name in known_classes.read('hmdb51')
  }


def _film(stem: str, folder: str) -> str:
  """Returns a clip's film; the clip itself if its name has another form."""
  return re.sub(f'_{re.escape(folder)}{_PROPERTIES}', '', stem)


def _read_lists(
  files: Sequence[layouts.FoundFile], classes: layouts.ClassList
) -> tuple[dict[str, list[str]], dict[str, str]]:
  """Reads the official lists: name -> ids, and id -> label of all videos."""
  official: dict[str, list[str]] = {}
  named: dict[str, str] = {}
  for file in files:
    match = _LIST.match(file.parts[-1])
    if match is None:
      continue
    label = classes.get(match['name'], file.path)
    for number, line in layouts.read_lines(file.path):
      name, _, kind = line.rpartition(' ')
      if kind not in _KINDS or not name.strip():
        raise ValueError(
          f'{file.path} line {number}: {line!r} is not a file name and 0 '
          '(unused), 1 (train) or 2 (test)'
        )
      stem = name.strip().removesuffix('.avi')
      video_id = f'{_folder_of()[label]}/{stem}'
      named[video_id] = label
      if _KINDS[kind]:
        official.setdefault(_KINDS[kind] + match['number'], []).append(video_id)
  for name, ids in official.items():
    if len(set(ids)) != len(ids):
      raise ValueError(
        f'the official list {name!r} names a video twice: is the folder of '
        'the lists there twice?'
      )
  return official, named
