"""ActivityNet v1.3: the labelled segments of untrimmed videos.

```
<source>/activity_net.v1-3.min.json
<source>/anything/v_---9CpRcKoU.mp4     also mkv, webm, ...; 'v_' may be absent
```

Each labelled segment becomes a video of its own, cut out when the dataset is
prepared. The subset training is the split 'train', and validation is
'validation'. The labels of testing were never published, so it is left out.
"""

from collections.abc import Mapping, Sequence
import json
import math
import os
from typing import Any

from zsar_jax.data.datasets import layouts, manifest

SPLITS = ('train', 'validation')
_SPLIT_OF = {'training': 'train', 'validation': 'validation'}
_UNLABELLED = 'testing'
_ANNOTATIONS = 'activity_net.v1-3.min.json'
_LAYOUT = (
  f'<source>/{_ANNOTATIONS} and, anywhere under it, videos v_<YouTube id>.mp4'
)
_VERSION = 'VERSION 1.3'
# Seconds. Rounding puts annotated ends beyond the end of the file.
_TOLERANCE = 1.0


def read_manifest(
  source: str, annotations: str | None = None
) -> manifest.Manifest:
  """Lists the labelled segments of a folder of ActivityNet videos.

  Args:
    source: the folder; see the module docstring.
    annotations: the official JSON file, if it is not under `source`.

  Returns:
    The manifest. Segment k of a video is 'v_<YouTube id>/<k>', its group the
    YouTube id. Segments that end before they begin, begin before 0 or end
    more than 1 s after the video are left out; a log line counts them.

  Raises:
    FileNotFoundError: the folder or the annotation file does not exist.
    ValueError: the annotation file has another format or version, a class or
      subset is unknown, there is no video, or a video has two files.
    PermissionError: a folder may not be read.
  """
  classes = layouts.ClassList('activitynet200')
  files = layouts.find_files(source, _LAYOUT)
  if annotations is None:
    annotations = _find_annotations(source, files)
  database = _read_database(annotations)
  tally = layouts.Tally()
  path_of = _video_paths(layouts.videos_of(files), database, tally)
  entries, missing = _sort_out(database, annotations, path_of, classes, tally)
  tally.log(source)
  labels = {video.label for video in (*entries, *missing)}
  missing += layouts.absent_classes(classes, labels, SPLITS[0])
  return layouts.make_manifest(
    'activitynet',
    source,
    entries,
    classes,
    layout=_LAYOUT,
    missing=missing,
    splits=SPLITS,
  )


def _sort_out(
  database: Mapping[str, Any],
  annotations: str,
  path_of: Mapping[str, str],
  classes: layouts.ClassList,
  tally: layouts.Tally,
) -> tuple[list[manifest.ManifestEntry], list[manifest.MissingVideo]]:
  """Sorts annotated segments into those with a video and those without."""
  entries, missing = [], []
  for youtube, video in database.items():
    where = f'{annotations}: {youtube}'
    subset = video.get('subset')
    if subset == _UNLABELLED:
      if youtube in path_of:
        tally.add('videos of the testing subset', youtube)
      continue
    if subset not in _SPLIT_OF:
      raise ValueError(
        f'{where}: unknown subset {subset!r}, expected '
        f'{", ".join(_SPLIT_OF)} or {_UNLABELLED}'
      )
    for k, label, stretch in _segments(video, where, classes):
      segment_id = f'v_{youtube}/{k}'
      if stretch is None:
        tally.add('segments outside their video', segment_id)
      elif youtube not in path_of:
        missing.append(
          manifest.MissingVideo(segment_id, label, _SPLIT_OF[subset])
        )
      else:
        entries.append(
          manifest.ManifestEntry(
            path=path_of[youtube],
            id=segment_id,
            label=label,
            group=youtube,
            split=_SPLIT_OF[subset],
            start=stretch[0],
            end=stretch[1],
          )
        )
  return entries, missing


def _find_annotations(source: str, files: Sequence[layouts.FoundFile]) -> str:
  """Finds the official JSON file under the source."""
  named = [file.path for file in files if file.parts[-1] == _ANNOTATIONS]
  if not named:
    others = [file.parts[-1] for file in files if file.suffix == '.json']
    raise FileNotFoundError(
      f'{source}: no {_ANNOTATIONS}'
      + (f' (there is {", ".join(others[:3])})' if others else '')
      + f'; expected {_LAYOUT}, or the option annotations'
    )
  return named[0]


def _read_database(path: str) -> dict[str, Mapping[str, Any]]:
  """Reads the videos that the annotation file describes, by YouTube id."""
  if not os.path.isfile(path):
    raise FileNotFoundError(f'{path}: no such annotation file')
  try:
    with open(path, encoding='utf-8') as f:
      content = json.load(f)
  except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
    raise ValueError(f'{path} is not a JSON file: {e}') from e
  if not isinstance(content, dict) or not isinstance(
    content.get('database'), dict
  ):
    raise ValueError(
      f'{path}: expected an object with "version" and the object "database"'
    )
  if content.get('version') != _VERSION:
    raise ValueError(
      f'{path}: version {content.get("version")!r}, expected {_VERSION!r}; '
      'other releases have other classes'
    )
  for youtube, video in content['database'].items():
    if not isinstance(video, dict) or not isinstance(
      video.get('annotations', []), list
    ):
      raise ValueError(
        f'{path}: {youtube}: expected an object with the list "annotations"'
      )
  return content['database']


def _video_paths(
  videos: Sequence[layouts.FoundFile],
  database: Mapping[str, Any],
  tally: layouts.Tally,
) -> dict[str, str]:
  """Maps each YouTube id to its file."""
  path_of: dict[str, str] = {}
  for file in videos:
    youtube = file.stem
    if youtube not in database:
      youtube = youtube.removeprefix('v_')
    if youtube not in database:
      tally.add('videos that the annotations do not name', file.parts[-1])
    elif youtube in path_of:
      raise ValueError(
        f'{path_of[youtube]} and {file.path} are both the video {youtube!r} '
        'of activitynet: keep one'
      )
    else:
      path_of[youtube] = file.path
  return path_of


def _segments(
  video: Mapping[str, Any], where: str, classes: layouts.ClassList
) -> list[tuple[int, str, tuple[float, float] | None]]:
  """Reads (number, label, stretch) of each segment; None if out of bounds."""
  segments = []
  for k, annotation in enumerate(video.get('annotations', [])):
    try:
      label = annotation['label']
      start, end = map(float, annotation['segment'])
      duration = float(video.get('duration', math.inf))
    except (KeyError, TypeError, ValueError) as e:
      raise ValueError(
        f'{where}: annotation {k} is not '
        '{"label": text, "segment": [start, end]}: ' + repr(annotation)
      ) from e
    inside = 0 <= start < min(end, duration) and end <= duration + _TOLERANCE
    inside = inside and math.isfinite(end)
    stretch = (start, min(end, duration)) if inside else None
    segments.append((k, classes.get(str(label), where), stretch))
  return segments
