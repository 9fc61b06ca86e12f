"""Runs a protocol: embeds its videos and hands the arrays to the evaluators.

Receives functions that encode, not a model, so that any encoder can be
evaluated.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax import results
from zsar_jax.data.protocols import class_split, overlap, video_sets
from zsar_jax.evaluators import zeroshot
from zsar_jax.zeroshot import prototypes

Batches = Iterator[dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Encoders:
  """What a protocol needs of a model.

  Attributes:
    class_embeddings: names -> unit vectors [c d].
    videos: (clips uint8 [b v t h w 3], names) -> embeddings [b v d] and
      match logits [b c] of each video with each name, mean over views; with
      no names [b 0].
  """

  class_embeddings: Callable[[Sequence[str]], np.ndarray]
  videos: Callable[[np.ndarray, Sequence[str]], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What running a protocol gives.

  Attributes:
    rows: the table.
    seen_prototypes: [s d].
    seen_text: class embeddings of the seen classes [s d].
    counts: int [s], training videos per class.
  """

  rows: list[results.Row]
  seen_prototypes: np.ndarray
  seen_text: np.ndarray
  counts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Embedded:
  """Videos through the encoders, in the order of their set.

  Attributes:
    embeddings: [n v d], v views of each video, unit vectors.
    match: match logits [n c], mean over views; [n 0] without names.
    readable: bool [n]; the arrays mean nothing where it is False.
  """

  embeddings: np.ndarray
  match: np.ndarray
  readable: np.ndarray


def embed_videos(
  encoders: Encoders, batches: Batches, names: Sequence[str] = ()
) -> Embedded:
  """Embeds every video once.

  Args:
    encoders: of the model.
    batches: from `input_pipeline.eval_batches`.
    names: class names to match every video with.

  Returns:
    The videos, without padding.
  """
  embeddings, match, readable = [], [], []
  for batch in batches:
    z, logits = encoders.videos(batch['video'], names)
    real = batch['example_mask']
    embeddings.append(z[real])
    match.append(logits[real])
    readable.append(batch['readable'][real])
  return Embedded(*map(np.concatenate, (embeddings, match, readable)))


def classes(
  protocol: class_split.Protocol, names: tuple[str, ...], text: np.ndarray
) -> zeroshot.Classes:
  """What the evaluators need to know of some classes of a protocol.

  Args:
    protocol: knows their sources and attributes.
    names: of the classes.
    text: their embeddings [c d].

  Returns:
    The classes.
  """
  return zeroshot.Classes(
    names=names,
    text=text,
    sources=tuple(protocol.sources.get(n, '') for n in names),
    attributes=tuple(protocol.attributes.get(n, {}) for n in names),
  )


def evaluate_protocols(
  protocols: Sequence[class_split.Protocol],
  encoders: Encoders,
  read: Callable[[video_sets.VideoSet, bool], Batches],
  settings: zeroshot.TransferSettings,
  say: Callable[[str], Any] = lambda text: None,
) -> Evaluation:
  """Measures a model by the splits of a protocol.

  Every video is embedded once, however many splits it is in.

  Args:
    protocols: the splits; they have the training videos in common. One
      without a test gives no rows.
    encoders: of the model.
    read: (video set, first_frame) -> batches of every video once, as
      `input_pipeline.eval_batches` makes them.
    settings: of the transfer.
    say: is told what is being done.

  Returns:
    Rows, means over splits where there are several, and what a prototype
    bank is made of.
  """
  first = protocols[0]
  seen = first.seen_classes
  say(f'embedding {len(first.train)} videos of {len(seen)} seen classes')
  train = embed_videos(encoders, read(first.train, False))
  sums = prototypes.PrototypeSums(len(seen), train.embeddings.shape[-1])
  sums.add(
    train.embeddings[train.readable].mean(axis=1),
    first.train.labels[train.readable],
  )
  seen_classes = classes(first, seen, encoders.class_embeddings(seen))
  evaluation = Evaluation([], sums.prototypes(), seen_classes.text, sums.counts)
  if first.test is None:
    return evaluation

  everything, members = _union([p.test for p in protocols])
  names = tuple(sorted({n for p in protocols for n in p.unseen_classes}))
  say(f'embedding {len(everything)} videos of {len(names)} unseen classes')
  test = embed_videos(encoders, read(everything, False), names)
  still = embed_videos(encoders, read(everything, True))
  say('scoring')
  tables = [
    _rows_of_split(
      protocol, encoders, evaluation, names, test, still, rows, settings
    )
    for protocol, rows in zip(protocols, members, strict=True)
  ]
  if len(tables) == 1:
    rows = tables[0]
  else:
    lost = {video['id'] for p in protocols for video in p.unreadable}
    lost = len(lost) + int((~test.readable).sum())
    rows = results.average_rows(tables, int(test.readable.sum()) + lost, lost)
  return dataclasses.replace(evaluation, rows=rows)


def _union(
  sets: Sequence[video_sets.VideoSet],
) -> tuple[video_sets.VideoSet, list[np.ndarray]]:
  """All videos of several sets of one dataset, and where each set's are."""
  if len(sets) == 1:
    return sets[0], [np.arange(len(sets[0]))]
  place = {}
  for videos in sets:
    for key in zip(videos.splits, videos.rows.tolist(), strict=True):
      place.setdefault(key, len(place))
  members = [
    np.array(
      [
        place[key]
        for key in zip(videos.splits, videos.rows.tolist(), strict=True)
      ]
    )
    for videos in sets
  ]
  # Each video as the first set that has it knows it; its label there says
  # nothing about the other sets.
  parts, seen = [], 0
  for videos, at in zip(sets, members, strict=True):
    new = at >= seen
    parts.append(videos.subset(new))
    seen += int(new.sum())
  return video_sets.concatenate(parts), members


def _rows_of_split(
  protocol: class_split.Protocol,
  encoders: Encoders,
  evaluation: Evaluation,
  names: tuple[str, ...],
  test: Embedded,
  still: Embedded,
  rows: np.ndarray,
  settings: zeroshot.TransferSettings,
) -> list[results.Row]:
  """The table of one split.

  Args:
    protocol: the split.
    encoders: of the model.
    evaluation: with the seen prototypes.
    names: of the columns of `test.match`.
    test: embedded videos of all splits.
    still: likewise, first frames alone.
    rows: int [n], which of them are this split's, in its order.
    settings: of the transfer.

  Returns:
    Its rows; with allowed leaks also those without the leaking classes.
  """
  unseen = protocol.unseen_classes
  readable = test.readable[rows] & still.readable[rows]
  at, labels = rows[readable], protocol.test.labels
  lost = labels[~readable].tolist()
  columns = [names.index(name) for name in unseen]
  keep = np.flatnonzero(readable)
  videos = zeroshot.TestVideos(
    embeddings=test.embeddings[at],
    match=test.match[np.ix_(at, columns)],
    labels=labels[readable],
    groups=tuple(protocol.test.groups[i] for i in keep),
    first_frame_embeddings=still.embeddings[at],
    unreadable_labels=(*protocol.unreadable_test_labels, *lost),
  )
  evaluate = lambda videos: zeroshot.evaluate(
    classes(protocol, protocol.seen_classes, evaluation.seen_text),
    classes(protocol, unseen, encoders.class_embeddings(unseen)),
    evaluation.seen_prototypes,
    videos,
    settings,
  )
  table = evaluate(videos)
  leaking = [unseen.index(n) for n in overlap.leaking_classes(protocol.leaks)]
  clean = ~np.isin(videos.labels, leaking)
  if leaking and clean.any():
    at = np.flatnonzero(clean)
    without = dataclasses.replace(
      videos,
      embeddings=videos.embeddings[at],
      match=videos.match[at],
      labels=videos.labels[at],
      groups=tuple(videos.groups[i] for i in at),
      first_frame_embeddings=None,
      unreadable_labels=tuple(
        label for label in videos.unreadable_labels if label not in leaking
      ),
    )
    table += [
      dataclasses.replace(row, metric=f'{row.metric}_without_leaks')
      for row in evaluate(without)
      if row.method in zeroshot.METHODS
    ]
  return table
