"""Embeddings and scores as files, from any framework and to any.

safetensors files: numbers as tensors, all else as JSON in the header. Their
layout is in docs/score_files.md. Nothing in them is unpickled.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import json
import os
from typing import Any

import numpy as np
import safetensors
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from zsar_jax.data import class_names as class_names_lib

EMBEDDINGS_FORMAT = 'zsar_jax embeddings 1'
SCORES_FORMAT = 'zsar_jax scores 1'
_SCORES = 'scores.'
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Embeddings:
  """Videos and class names in a shared space.

  Attributes:
    video_ids: [n], unique.
    embeddings: float32 [n v d], unit vectors, v views of each video.
    class_names: [c], unique.
    class_embeddings: float32 [c e], unit vectors; nearest name needs e = d.
    seen_class_names: [s]; () where nothing is known of seen classes.
    seen_class_embeddings: float32 [s e].
    seen_prototypes: float32 [s d].
    match: logits [n c] of each video with each name; None where there are
      none.
  """

  video_ids: tuple[str, ...]
  embeddings: np.ndarray
  class_names: tuple[str, ...]
  class_embeddings: np.ndarray
  seen_class_names: tuple[str, ...] = ()
  seen_class_embeddings: np.ndarray | None = None
  seen_prototypes: np.ndarray | None = None
  match: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
  """Scores of videos and, where known, what they were measured on.

  Attributes:
    video_ids: [n], unique.
    class_names: [c], unique.
    scores: method -> float32 [n c], higher is better; -inf is no candidate.
    labels: class name of each video; () where unknown.
    groups: recording session of each video; () where unknown.
    sources: class -> where it lives.
    protocol: id of the measurement.
    protocol_hash: of all that defines it.
    tested: bool [n s], whose videos count in which split; None for all in
      one split.
    candidates: bool [c s], of each split; None likewise.
    split_names: [s], may be empty.
  """

  video_ids: tuple[str, ...]
  class_names: tuple[str, ...]
  scores: Mapping[str, np.ndarray]
  labels: tuple[str, ...] = ()
  groups: tuple[str, ...] = ()
  sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
  protocol: str = ''
  protocol_hash: str = ''
  tested: np.ndarray | None = None
  candidates: np.ndarray | None = None
  split_names: tuple[str, ...] = ()


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


def _write(path, tensors, header, kind) -> None:
  """Writes a file whole or not at all."""
  safetensors_numpy.save_file(
    {name: np.ascontiguousarray(x) for name, x in tensors.items()},
    f'{path}.tmp',
    metadata={'format': kind, 'header': json.dumps(header)},
  )
  with open(f'{path}.tmp', 'rb') as f:
    os.fsync(f.fileno())
  os.replace(f'{path}.tmp', path)


def _read(path: str, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path} does not exist')
  try:
    with safetensors.safe_open(path, framework='numpy') as f:
      metadata = f.metadata() or {}
      if metadata.get('format') != kind:
        raise ValueError(
          f'{path}: its header has format {metadata.get("format")!r}, '
          f'expected {kind!r}'
        )
      header = json.loads(metadata.get('header', ''))
      tensors = {name: f.get_tensor(name) for name in f.keys()}
  except SafetensorError as e:
    raise ValueError(f'{path} is not a safetensors file: {e}') from e
  except json.JSONDecodeError as e:
    raise ValueError(f'{path}: its header is not JSON: {e}') from e
  if not isinstance(header, dict):
    raise ValueError(f'{path}: its header is not a JSON object')
  return tensors, header


def _texts(path, header, key, required=True) -> tuple[str, ...]:
  """A list of texts of the header."""
  if key not in header and not required:
    return ()
  value = header.get(key)
  if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
    raise ValueError(f'{path}: header key {key!r} must be a list of texts')
  return tuple(value)


def _unique(path, names, what) -> tuple[str, ...]:
  if not names:
    raise ValueError(f'{path}: no {what}')
  if len(set(names)) < len(names):
    twice = sorted({n for n in names if names.count(n) > 1})
    raise ValueError(f'{path}: {what} more than once: {_some(twice)}')
  return names


def _some(names: Sequence[str]) -> str:
  more = len(names) - _SHOWN
  shown = ', '.join(names[:_SHOWN])
  return f'{shown} and {more} more' if more > 0 else shown


def _canonical(path, names) -> tuple[str, ...]:
  return tuple(class_names_lib.canonical_names(names, f'{path}: classes'))


def _tensor(path, tensors, name, shape, required=True) -> np.ndarray | None:
  """A float tensor whose known dimensions are checked; None means any."""
  if name not in tensors:
    if required:
      raise ValueError(f'{path}: tensor {name!r} is missing')
    return None
  x = tensors[name]
  right = x.ndim == len(shape) and all(
    want is None or want == have
    for want, have in zip(shape, x.shape, strict=True)
  )
  if not right:
    wanted = ' x '.join('any' if n is None else str(n) for n in shape)
    raise ValueError(
      f'{path}: tensor {name!r} is {" x ".join(map(str, x.shape))}, expected '
      f'{wanted}'
    )
  return np.asarray(x, np.float32)


def _unit_rows(path, name, x, ids) -> np.ndarray:
  """Rows normalised; refuses those that have no direction, by id."""
  norm = np.linalg.norm(x, axis=-1, keepdims=True)
  bad = ~(np.isfinite(norm) & (norm > 0))
  bad = bad.reshape(len(x), -1).any(axis=1)
  if bad.any():
    raise ValueError(
      f'{path}: {name} of {int(bad.sum())} rows are zero or no numbers: '
      f'{_some([ids[i] for i in np.flatnonzero(bad)])}'
    )
  return x / norm


def write_embeddings(embeddings: Embeddings, path: str) -> None:
  """Writes embeddings whole or not at all."""
  fields = (
    'embeddings',
    'class_embeddings',
    'seen_class_embeddings',
    'seen_prototypes',
    'match',
  )
  tensors = {name: getattr(embeddings, name) for name in fields}
  header = {
    name: list(getattr(embeddings, name))
    for name in ('video_ids', 'class_names', 'seen_class_names')
  }
  tensors = {k: v for k, v in tensors.items() if v is not None}
  _write(path, tensors, header, EMBEDDINGS_FORMAT)


def read_embeddings(path: str) -> Embeddings:
  """Reads embeddings of any framework.

  Args:
    path: laid out as docs/score_files.md says.

  Returns:
    The embeddings, normalised.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not such a file; says what is wrong with it.
  """
  tensors, header = _read(path, EMBEDDINGS_FORMAT)
  ids = _unique(path, _texts(path, header, 'video_ids'), 'video ids')
  names = _canonical(path, _texts(path, header, 'class_names'))
  n, c = len(ids), len(names)
  if tensors.get('embeddings', np.zeros(0)).ndim == 2:
    tensors['embeddings'] = tensors['embeddings'][:, None]
  z = _tensor(path, tensors, 'embeddings', (n, None, None))
  z = _unit_rows(path, 'embeddings', z, ids)
  text = _tensor(path, tensors, 'class_embeddings', (c, None))
  text = _unit_rows(path, 'class_embeddings', text, names)
  match = _tensor(path, tensors, 'match', (n, c), False)
  if match is not None and np.isnan(match).any():
    bad = np.flatnonzero(np.isnan(match).any(axis=1))
    raise ValueError(
      f'{path}: match of {_some([ids[i] for i in bad])} is no number'
    )
  seen_names = _texts(path, header, 'seen_class_names', False)
  seen_text = seen_prototypes = None
  if seen_names:
    seen_names = _canonical(path, seen_names)
    s = len(seen_names)
    seen_text = _tensor(
      path, tensors, 'seen_class_embeddings', (s, text.shape[1])
    )
    seen_text = _unit_rows(path, 'seen_class_embeddings', seen_text, seen_names)
    seen_prototypes = _tensor(path, tensors, 'seen_prototypes', (s, z.shape[2]))
    seen_prototypes = _unit_rows(
      path, 'seen_prototypes', seen_prototypes, seen_names
    )
    both = sorted(set(seen_names) & set(names))
    if both:
      raise ValueError(f'{path}: classes both seen and unseen: {_some(both)}')
  return Embeddings(
    ids, z, names, text, seen_names, seen_text, seen_prototypes, match
  )


def write_scores(scores: Scores, path: str) -> None:
  """Writes scores whole or not at all."""
  tensors = {_SCORES + name: x for name, x in scores.scores.items()}
  for name in ('tested', 'candidates'):
    if getattr(scores, name) is not None:
      tensors[name] = getattr(scores, name)
  header = {
    name: list(getattr(scores, name))
    for name in ('video_ids', 'class_names', 'labels', 'groups', 'split_names')
  }
  header |= {
    'methods': list(scores.scores),
    'sources': dict(scores.sources),
    'protocol': scores.protocol,
    'protocol_hash': scores.protocol_hash,
  }
  _write(path, tensors, header, SCORES_FORMAT)


def read_scores(path: str) -> Scores:
  """Reads scores of any framework, or predictions.safetensors.

  Args:
    path: laid out as docs/score_files.md says.

  Returns:
    The scores.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not such a file; says what is wrong with it.
  """
  tensors, header = _read(path, SCORES_FORMAT)
  ids = _unique(path, _texts(path, header, 'video_ids'), 'video ids')
  names = _canonical(path, _texts(path, header, 'class_names'))
  n, c = len(ids), len(names)
  methods = [k[len(_SCORES) :] for k in tensors if k.startswith(_SCORES)]
  listed = _texts(path, header, 'methods', False)
  methods.sort(key=lambda m: listed.index(m) if m in listed else len(listed))
  if not methods:
    raise ValueError(f'{path}: no tensor {_SCORES}<method>')
  scores = {}
  for method in methods:
    scores[method] = _tensor(path, tensors, _SCORES + method, (n, c))
    bad = np.flatnonzero(np.isnan(scores[method]).any(axis=1))
    if bad.size:
      raise ValueError(
        f'{path}: {method} scores of {_some([ids[i] for i in bad])} are no '
        'numbers'
      )
  labels = _texts(path, header, 'labels', False)
  groups = _texts(path, header, 'groups', False)
  for what, texts in (('labels', labels), ('groups', groups)):
    if texts and len(texts) != n:
      raise ValueError(f'{path}: {len(texts)} {what} for {n} videos')
  labels = tuple(map(class_names_lib.canonical_name, labels))
  unknown = sorted(set(labels) - set(names))
  if unknown:
    raise ValueError(f'{path}: labels that are no class: {_some(unknown)}')
  splits = {}
  for name, rows in (('tested', n), ('candidates', c)):
    x = _tensor(path, tensors, name, (rows, None), False)
    splits[name] = None if x is None else x.astype(bool)
  tested, candidates = splits['tested'], splits['candidates']
  if (tested is None) != (candidates is None) or (
    tested is not None and tested.shape[1] != candidates.shape[1]
  ):
    raise ValueError(f'{path}: tested and candidates must have the same splits')
  sources = header.get('sources', {})
  if not isinstance(sources, dict):
    raise ValueError(f"{path}: header key 'sources' must be an object")
  return Scores(
    ids,
    names,
    scores,
    labels,
    groups,
    {str(k): str(v) for k, v in sources.items()},
    str(header.get('protocol', '')),
    str(header.get('protocol_hash', '')),
    tested,
    candidates,
    _texts(path, header, 'split_names', False),
  )


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
  ids = _unique(path, tuple(row[key] for row in rows), 'video ids')
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


def align(
  given: Sequence[str], wanted: Sequence[str], what: str, kind: str = 'videos'
) -> np.ndarray:
  """Where each wanted id stands among the given ones.

  Args:
    given: ids, unique.
    wanted: likewise.
    what: the given ones are, for the message, such as a file's name.
    kind: of things they are.

  Returns:
    int [wanted].

  Raises:
    ValueError: some are missing, or there are more than are wanted.
  """
  have, want = set(given), set(wanted)
  missing = [i for i in wanted if i not in have]
  if missing:
    raise ValueError(
      f'{what} lacks {len(missing)} of {len(wanted)} {kind}: {_some(missing)}'
    )
  extra = [i for i in given if i not in want]
  if extra:
    raise ValueError(
      f'{what} has {len(extra)} {kind} that are not asked for: {_some(extra)}'
    )
  place = {name: i for i, name in enumerate(given)}
  return np.array([place[name] for name in wanted], int)


def check_same_test(a: Scores, b: Scores) -> np.ndarray:
  """Refuses to pair scores of different tests.

  Args:
    a: with labels.
    b: likewise.

  Returns:
    int [n], where each video of a stands in b.

  Raises:
    ValueError: says what differs.
  """
  if a.protocol_hash != b.protocol_hash:
    raise ValueError(
      f'protocols differ: {a.protocol} {a.protocol_hash} and {b.protocol} '
      f'{b.protocol_hash}'
    )
  if not a.labels or not b.labels:
    raise ValueError('scores without labels cannot be compared')
  align(b.class_names, a.class_names, 'the second file', 'classes')
  order = align(b.video_ids, a.video_ids, 'the second file')
  if a.labels != tuple(b.labels[i] for i in order):
    raise ValueError('the labels of some videos differ')
  return order
