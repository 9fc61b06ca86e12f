"""Reads and writes files of embeddings and of scores, for any framework.

They are safetensors files, with arrays as tensors and everything else as JSON
in the header. docs/score_files.md describes the layout. Nothing is unpickled.
"""

from collections.abc import Mapping
import dataclasses

import numpy as np

from zsar_jax.data import class_names as class_names_lib
from zsar_jax.evaluation import id_lists, tensor_files

EMBEDDINGS_FORMAT = 'zsar_jax embeddings 1'
SCORES_FORMAT = 'zsar_jax scores 1'
_SCORES = 'scores.'


@dataclasses.dataclass(frozen=True)
class Embeddings:
  """Videos and class names in a shared space.

  Attributes:
    video_ids: [n], unique.
    embeddings: float32 [n v d], unit vectors, v views of each video.
    class_names: [c], unique.
    class_embeddings: float32 [c e], unit vectors; nearest name needs e = d.
    seen_class_names: [s]; () without seen classes.
    seen_class_embeddings: float32 [s e].
    seen_prototypes: float32 [s d].
    match: logits [n c] of each video with each name; None without them.
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
  """Scores of videos, with labels and protocol if these are known.

  Attributes:
    video_ids: [n], unique.
    class_names: [c], unique.
    scores: method -> float32 [n c], higher is better; -inf marks a class that
      is no candidate.
    labels: class name of each video; () if unknown.
    groups: recording session of each video; () if unknown.
    sources: class -> its source.
    protocol: id of the protocol; '' without one.
    protocol_hash: hash of everything that defines the test.
    tested: bool [n s], the videos that each split tests; None for one split
      with all videos.
    candidates: bool [c s], the candidate classes of each split; None for one
      split with all classes.
    split_names: [s]; () without names.
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


def write_embeddings(embeddings: Embeddings, path: str) -> None:
  """Writes embeddings whole or not at all.

  Args:
    embeddings: the embeddings.
    path: path of the file; an existing file is replaced.

  Raises:
    OSError: the file cannot be written.
  """
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
  tensor_files.write(path, tensors, header, EMBEDDINGS_FORMAT)


def read_embeddings(path: str) -> Embeddings:
  """Reads embeddings that any framework wrote.

  Args:
    path: path of the file; docs/score_files.md describes the layout.

  Returns:
    The embeddings, normalised.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file breaks the layout; the message says where.
  """
  file = tensor_files.read(path, EMBEDDINGS_FORMAT)
  ids = id_lists.unique(path, file.texts('video_ids'), 'video ids')
  names = file.class_names('class_names')
  z = file.tensors.get('embeddings', np.zeros(0))
  if z.ndim == 2:  # one view, without its axis
    file = dataclasses.replace(
      file, tensors={**file.tensors, 'embeddings': z[:, None]}
    )
  z = file.unit_rows('embeddings', (len(ids), None, None), ids)
  text = file.unit_rows('class_embeddings', (len(names), None), names)
  match = file.tensor('match', (len(ids), len(names)), required=False)
  if match is not None and np.isnan(match).any():
    bad = np.flatnonzero(np.isnan(match).any(axis=1))
    raise ValueError(
      f'{path}: match of {id_lists.some([ids[i] for i in bad])} is not a number'
    )
  seen_names = file.class_names('seen_class_names', required=False)
  if not seen_names:
    return Embeddings(ids, z, names, text, match=match)
  s = len(seen_names)
  seen_text = file.unit_rows(
    'seen_class_embeddings', (s, text.shape[1]), seen_names
  )
  prototypes = file.unit_rows('seen_prototypes', (s, z.shape[2]), seen_names)
  both = sorted(set(seen_names) & set(names))
  if both:
    raise ValueError(
      f'{path}: classes both seen and unseen: {id_lists.some(both)}'
    )
  return Embeddings(
    ids, z, names, text, seen_names, seen_text, prototypes, match
  )


def write_scores(scores: Scores, path: str) -> None:
  """Writes scores whole or not at all.

  Args:
    scores: the scores.
    path: path of the file; an existing file is replaced.

  Raises:
    OSError: the file cannot be written.
  """
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
  tensor_files.write(path, tensors, header, SCORES_FORMAT)


def read_scores(path: str) -> Scores:
  """Reads scores that any framework wrote, or predictions.safetensors.

  Args:
    path: path of the file; docs/score_files.md describes the layout.

  Returns:
    The scores.

  Raises:
    FileNotFoundError: no such file.
    ValueError: the file breaks the layout; the message says where.
  """
  file = tensor_files.read(path, SCORES_FORMAT)
  ids = id_lists.unique(path, file.texts('video_ids'), 'video ids')
  names = file.class_names('class_names')
  scores = _read_methods(file, ids, names)
  labels, groups = _read_labels_and_groups(file, ids, names)
  tested, candidates = _read_splits(file, len(ids), len(names))
  sources = file.header.get('sources', {})
  if not isinstance(sources, dict):
    raise ValueError(f"{path}: header key 'sources' must be an object")
  return Scores(
    ids,
    names,
    scores,
    labels,
    groups,
    {str(k): str(v) for k, v in sources.items()},
    str(file.header.get('protocol', '')),
    str(file.header.get('protocol_hash', '')),
    tested,
    candidates,
    file.texts('split_names', required=False),
  )


def _read_methods(
  file: tensor_files.TensorFile, ids, names
) -> dict[str, np.ndarray]:
  """Returns method -> scores [n c], in the order that the header lists."""
  methods = [k[len(_SCORES) :] for k in file.tensors if k.startswith(_SCORES)]
  listed = file.texts('methods', required=False)
  methods.sort(key=lambda m: listed.index(m) if m in listed else len(listed))
  if not methods:
    raise ValueError(f'{file.path}: no tensor {_SCORES}<method>')
  scores = {}
  for method in methods:
    x = file.tensor(_SCORES + method, (len(ids), len(names)))
    bad = np.flatnonzero(np.isnan(x).any(axis=1))
    if bad.size:
      raise ValueError(
        f'{file.path}: {method} scores of '
        f'{id_lists.some([ids[i] for i in bad])} are not numbers'
      )
    scores[method] = x
  return scores


def _read_labels_and_groups(
  file: tensor_files.TensorFile, ids, names
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Returns canonical label and recording session per video; () if missing."""
  labels = file.texts('labels', required=False)
  groups = file.texts('groups', required=False)
  for what, texts in (('labels', labels), ('groups', groups)):
    if texts and len(texts) != len(ids):
      raise ValueError(
        f'{file.path}: {len(texts)} {what} for {len(ids)} videos'
      )
  labels = tuple(map(class_names_lib.canonical_name, labels))
  unknown = sorted(set(labels) - set(names))
  if unknown:
    raise ValueError(
      f'{file.path}: labels that are not among the classes: '
      f'{id_lists.some(unknown)}'
    )
  return labels, groups


def _read_splits(
  file: tensor_files.TensorFile, n: int, c: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
  """Returns tested [n s] and candidates [c s], bool; None with one split."""
  tested = file.tensor('tested', (n, None), required=False)
  candidates = file.tensor('candidates', (c, None), required=False)
  if tested is None and candidates is None:
    return None, None
  if (
    tested is None
    or candidates is None
    or tested.shape[1] != candidates.shape[1]
  ):
    raise ValueError(
      f'{file.path}: tested and candidates must have the same splits'
    )
  return tested.astype(bool), candidates.astype(bool)


def check_same_test(a: Scores, b: Scores) -> np.ndarray:
  """Checks that two files hold scores of the same test.

  Args:
    a: scores with labels.
    b: other scores with labels.

  Returns:
    int [n], the position in b of each video of a.

  Raises:
    ValueError: the tests differ; the message says how.
  """
  if a.protocol_hash != b.protocol_hash:
    raise ValueError(
      f'protocols differ: {a.protocol} {a.protocol_hash} and {b.protocol} '
      f'{b.protocol_hash}'
    )
  if not a.labels or not b.labels:
    raise ValueError('scores without labels cannot be compared')
  id_lists.align(b.class_names, a.class_names, 'the second file', 'classes')
  order = id_lists.align(b.video_ids, a.video_ids, 'the second file')
  if a.labels != tuple(b.labels[i] for i in order):
    raise ValueError('the labels of some videos differ')
  return order
