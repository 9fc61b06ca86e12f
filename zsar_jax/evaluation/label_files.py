"""Which class each video is of: a CSV file."""

from collections.abc import Mapping
import csv
import dataclasses

from zsar_jax.data import class_names as class_names_lib
from zsar_jax.evaluation import id_lists


@dataclasses.dataclass(frozen=True)
class Labels:
  """Which class each video is of.

  Attributes:
    video_ids: [n], unique.
    labels: canonical class names [n].
    groups: recording sessions [n]; a video's own id where not given.
    sources: class -> where it lives.
  """

  video_ids: tuple[str, ...]
  labels: tuple[str, ...]
  groups: tuple[str, ...]
  sources: Mapping[str, str]


def read_labels(path: str) -> Labels:
  """Reads which class each video is of.

  Args:
    path: a CSV file with the columns id (or path), label and, if known,
      group and source.

  Returns:
    The labels, with canonical class names.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a missing or unknown column, an empty cell, an id twice.
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
