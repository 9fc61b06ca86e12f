"""Evaluates embeddings and scores of another system."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.data.protocols import registry
from zsar_jax.evaluation import (
  accuracy,
  evaluator,
  id_lists,
  label_files,
  methods,
  results,
  results_text,
  score_files,
  task,
)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The evaluation of a file.

  Attributes:
    content: content of results.json.
    scores: scores and labels of every video.
    seen: the seen classes; None if the file has none.
    unseen: the candidates.
    videos: the videos, with embeddings if the file has them.
    table: rows and scores.
  """

  content: dict[str, Any]
  scores: score_files.Scores
  seen: task.Seen | None
  unseen: task.Classes
  videos: task.TestVideos
  table: evaluator.Table


def _splits(protocol: str, names, labels: label_files.Labels, path: str):
  """Returns candidates [c s], tested [n s], and the protocol's id and hash.

  Without a protocol, all classes are candidates for all videos. A registered
  protocol tests all videos of its classes. Protocols with official video lists
  are refused: their lists need the prepared dataset.
  """
  if not protocol:
    ones = np.ones((len(names), 1), bool)
    return ones, np.ones((len(labels.labels), 1), bool), ('files', '')
  spec = registry.get(protocol)
  lists = [s.name for s in spec.splits if s.videos not in ('', 'all')]
  if lists:
    raise ValueError(
      f'protocol {protocol} tests official lists of videos: give only the '
      'scores of these videos, without --protocol'
    )
  candidates = np.stack(
    [np.isin(names, split.unseen) for split in spec.splits], axis=1
  )
  for split in spec.splits:
    missing = sorted(set(split.unseen) - set(names))
    if missing:
      raise ValueError(
        f'{path} lacks {len(missing)} classes of {protocol}: {missing[:10]}'
      )
    of_split = set(split.unseen)
    n = sum(label in of_split for label in labels.labels)
    if split.num_videos not in (None, n):
      raise ValueError(
        f'{path}: {n} videos of the classes of {protocol}[{split.name}], which '
        f'has {split.num_videos}'
      )
  tested = candidates[[names.index(label) for label in labels.labels]]
  return candidates, tested, (spec.id, spec.hash)


def _make_videos(labels, names, protocol, path, embeddings, match):
  unknown = sorted(set(labels.labels) - set(names))
  if unknown:
    raise ValueError(f'{path} has no class {unknown[:10]} of the labels')
  candidates, tested, called = _splits(protocol, names, labels, path)
  videos = task.TestVideos(
    embeddings=embeddings,
    match=match,
    labels=np.array([names.index(label) for label in labels.labels]),
    groups=labels.groups,
    candidates=candidates,
    tested=tested,
  )
  return videos, called


def _outcome(table, labels, unseen, videos, called, path, seen=None) -> Outcome:
  protocol, digest = called
  several = videos.candidates.shape[1] > 1
  scores = score_files.Scores(
    video_ids=labels.video_ids,
    class_names=unseen.names,
    scores={m: np.asarray(s, np.float32) for m, s in table.scores.items()},
    labels=labels.labels,
    groups=tuple(labels.groups),
    sources=dict(zip(unseen.names, unseen.sources, strict=True)),
    protocol=protocol,
    protocol_hash=digest,
    tested=videos.tested if several else None,
    candidates=videos.candidates if several else None,
  )
  content = results.make_results(
    protocol,
    table.rows,
    {'file': path},
    {'facts': table.facts, 'notes': list(table.notes), 'unreadable': []},
    protocol_hash=digest,
    paired=table.paired,
  )
  return Outcome(content, scores, seen, unseen, videos, table)


def _sources(names, labels) -> tuple[str, ...]:
  return tuple(labels.sources.get(name, '') for name in names)


def evaluate_embeddings(
  path: str,
  labels: label_files.Labels,
  protocol: str = '',
  settings: Mapping[str, Any] | None = None,
) -> Outcome:
  """Scores another system's embeddings by all methods that they allow.

  Args:
    path: path of a file of embeddings, see docs/score_files.md.
    labels: the class of each video.
    protocol: id of a registered protocol, or '' for one split of all classes.
    settings: name -> value, replacing defaults of `methods.TransferSettings`.

  Returns:
    The outcome. Without seen classes, only `nearest_name`, and `fusion` if the
    file has match scores.

  Raises:
    FileNotFoundError: no such file.
    ValueError: ids or classes are missing, unexpected or duplicate, or the
      arrays allow no method.
  """
  given = score_files.read_embeddings(path)
  order = id_lists.align(given.video_ids, labels.video_ids, path)
  names = given.class_names
  match = None if given.match is None else given.match[order]
  videos, called = _make_videos(
    labels, names, protocol, path, given.embeddings[order], match
  )
  unseen = task.Classes(names, given.class_embeddings, _sources(names, labels))
  if given.seen_class_names:
    seen = task.Seen(
      task.Classes(given.seen_class_names, given.seen_class_embeddings),
      given.seen_prototypes,
    )
    table = evaluator.evaluate(
      seen, unseen, videos, methods.TransferSettings(**(settings or {}))
    )
    return _outcome(table, labels, unseen, videos, called, path, seen)
  scores = {}
  if given.class_embeddings.shape[1] == given.embeddings.shape[2]:
    scores['nearest_name'] = methods.nearest_name_scores(
      videos.embeddings, given.class_embeddings
    )
  if match is not None:
    scores['fusion'] = match
  if not scores:
    raise ValueError(
      f'{path}: class embeddings have {given.class_embeddings.shape[1]} '
      f'dimensions and videos {given.embeddings.shape[2]}, and there are '
      'neither seen classes nor match scores: nothing to score by'
    )
  table = evaluator.score_rows(scores, unseen, videos)
  return _outcome(table, labels, unseen, videos, called, path)


def evaluate_scores(
  path: str, labels: label_files.Labels, protocol: str = ''
) -> Outcome:
  """Evaluates another system's scores.

  Args:
    path: path of a file of scores, see docs/score_files.md.
    labels: the class of each video.
    protocol: id of a registered protocol, or '' for one split of all classes.

  Returns:
    The outcome.

  Raises:
    FileNotFoundError: no such file.
    ValueError: ids or classes are missing, unexpected or duplicate.
  """
  given = score_files.read_scores(path)
  order = id_lists.align(given.video_ids, labels.video_ids, path)
  names = given.class_names
  videos, called = _make_videos(labels, names, protocol, path, None, None)
  unseen = task.Classes(
    names, np.zeros((len(names), 1)), _sources(names, labels)
  )
  scores = {method: s[order] for method, s in given.scores.items()}
  table = evaluator.score_rows(scores, unseen, videos)
  return _outcome(table, labels, unseen, videos, called, path)


def format_comparison(
  a: score_files.Scores, b: score_files.Scores, name_a: str, name_b: str
) -> str:
  """Compares two systems on the same videos by a paired test.

  Args:
    a: scores of one system.
    b: scores of another system, by the same protocol.
    name_a: name of the first system in the table.
    name_b: name of the second system in the table.

  Returns:
    A table of b minus a, for every method that both have.

  Raises:
    ValueError: the tests differ, or no method is in both.
  """
  order = score_files.check_same_test(a, b)
  columns = id_lists.align(b.class_names, a.class_names, name_b, 'classes')
  shared = [method for method in a.scores if method in b.scores]
  if not shared:
    raise ValueError(
      f'no method in common: {list(a.scores)} and {list(b.scores)}'
    )
  names = a.class_names
  splits = {}
  if a.tested is not None:
    splits = {'tested': a.tested, 'candidates': a.candidates}
  videos = task.TestVideos(
    embeddings=None,
    match=None,
    labels=np.array([names.index(label) for label in a.labels]),
    groups=a.groups or a.video_ids,
    **splits,
  )
  unseen = task.Classes(
    names,
    np.zeros((len(names), 1)),
    tuple(a.sources.get(name, '') for name in names),
  )
  figures = accuracy.Accuracies(unseen, videos.as_tested(len(names)))
  paired = []
  for method in shared:
    of_b = b.scores[method][order][:, columns]
    figures.add_scores(f'B {method}', of_b, brief=True)
    figures.add_scores(f'A {method}', a.scores[method], brief=True)
  for method in shared:
    for metric in (accuracy.SAME_SOURCE, accuracy.PER_CLASS):
      other = f'A {method}'
      paired += figures.paired(f'B {method}', [other], metric, other)
  lines = results_text.format_paired([dataclasses.asdict(p) for p in paired])
  top = [f'protocol: {a.protocol} {a.protocol_hash}', f'A: {name_a}']
  return '\n'.join([*top, f'B: {name_b}', *lines[1:]])
