"""Reads CSV files with the class of each video."""

from collections.abc import Mapping
import csv
import dataclasses

from zsar_jax.data import class_names as class_names_lib
from zsar_jax.evaluation import id_lists


@dataclasses.dataclass(frozen=True)
class Labels:
  """The class of each video.

  Attributes:
    video_ids: [n], unique.
    labels: canonical class names [n].
    groups: recording sessions [n]; the video's own id if the file has none.
    sources: class -> its source; '' if the file has none.
  """

  video_ids: tuple[str, ...]
  labels: tuple[str, ...]
  groups: tuple[str, ...]
  sources: Mapping[str, str]


def read_labels(path: str) -> Labels:
  """Reads the class of each video.

  Args:
    path: path of a CSV file with the columns id (or path), label and,
      optionally, group and source.

  Returns:
    The labels, with canonical class names.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a column is missing or unknown, a cell is empty, an id is there
      twice, or a class has two sources.
  """
  with open(path, newline='', encoding='utf-8-sig') as f:
    reader = csv.DictReader(f)
    columns = reader.fieldnames or []
    key = 'path' if 'path' in columns and 'id' not in columns else 'id'
    unknown = set(columns) - {key, 'label', 'group', 'source'}
    if unknown or not {key, 'label'} <= set(columns):
      raise ValueError(
        f'{path}: columns are {columns}, expected id,label[,group][,source]'
      )
    rows = []
    for row in reader:
      if not row[key] or not row['label'] or None in row:
        raise ValueError(
          f'{path}, line {reader.line_num}: needs an id and a label, and no '
          'more cells than columns'
        )
      rows.append(row)
  ids = id_lists.unique(path, tuple(row[key] for row in rows), 'video ids')
  labels = tuple(class_names_lib.canonical_name(row['label']) for row in rows)
  sources: dict[str, str] = {}
  for row, label in zip(rows, labels, strict=True):
    source = row.get('source') or ''
    if sources.setdefault(label, source) != source:
      raise ValueError(
        f'{path}: class {label!r} is in the sources {sources[label]!r} and '
        f'{source!r}'
      )
  groups = tuple(row.get('group') or row[key] for row in rows)
  return Labels(ids, labels, groups, sources)
