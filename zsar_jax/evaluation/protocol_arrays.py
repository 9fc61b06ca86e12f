"""Turns classes and videos of a protocol into arrays for the evaluators."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from zsar_jax.data.protocols import class_split, video_sets
from zsar_jax.evaluation import embedding, task
from zsar_jax.zeroshot import prototypes, scoring


@dataclasses.dataclass(frozen=True)
class Splits:
  """The splits of a protocol, with each test video once.

  Attributes:
    protocols: one per split; all have a test.
    videos: the test videos of all splits, n in total.
    members: per split, int [n of the split], the positions of its videos in
      `videos`.
    names: unseen classes of all splits [u], sorted.
  """

  protocols: tuple[class_split.Protocol, ...]
  videos: video_sets.VideoSet
  members: tuple[np.ndarray, ...]
  names: tuple[str, ...]


def join(protocols: Sequence[class_split.Protocol]) -> Splits:
  """Joins the tests of the splits of one protocol."""
  videos, members = _union([p.test for p in protocols])
  names = tuple(sorted({n for p in protocols for n in p.unseen_classes}))
  return Splits(tuple(protocols), videos, tuple(members), names)


def _union(
  sets: Sequence[video_sets.VideoSet],
) -> tuple[video_sets.VideoSet, list[np.ndarray]]:
  """Joins sets of one dataset; returns each set's positions in the union."""
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
  # Each video comes from the first set that has it. Its label index is only
  # valid for that set.
  parts, seen = [], 0
  for videos, at in zip(sets, members, strict=True):
    new = at >= seen
    parts.append(videos.subset(new))
    seen += int(new.sum())
  return video_sets.concatenate(parts), members


def classes(
  protocols: Sequence[class_split.Protocol],
  names: tuple[str, ...],
  encoders: embedding.Encoders,
) -> task.Classes:
  """Embeds classes of a protocol.

  Args:
    protocols: the splits; they give the sources and attributes.
    names: names of the classes.
    encoders: compute the class embeddings.

  Returns:
    The classes.
  """
  sources = {k: v for p in protocols for k, v in p.sources.items()}
  attributes = {k: v for p in protocols for k, v in p.attributes.items()}
  initial = encoders.initial_embeddings
  return task.Classes(
    names=names,
    text=encoders.class_embeddings(names),
    sources=tuple(sources.get(n, '') for n in names),
    attributes=tuple(attributes.get(n, {}) for n in names),
    initial_text=None if initial is None else initial(names),
  )


def embed_seen(
  embed: embedding.Embedder, protocol: class_split.Protocol
) -> tuple[task.Seen, np.ndarray | None]:
  """Embeds the training videos and makes the seen classes' prototypes.

  Args:
    embed: embeds videos.
    protocol: its training videos are used.

  Returns:
    The seen classes, and mean and deviation [2 m] of the training videos'
    metadata (None without metadata).

  Raises:
    ValueError: a seen class has no readable training video.
  """
  names, videos = protocol.seen_classes, protocol.train
  embed.say(f'embedding {len(videos)} videos of {len(names)} seen classes')
  train = embed(videos)
  readable = train.readable
  z = scoring.view_means(train.embeddings[readable])
  labels = videos.labels[readable]
  sums = prototypes.PrototypeSums(len(names), z.shape[1], with_gram=True)
  sums.add(z, labels)
  empty = sums.empty_classes(names)
  if empty:
    raise ValueError(f'{protocol.name}: no readable training video of {empty}')
  moments = metadata_means = None
  if train.metadata is not None:
    metadata = train.metadata[readable].astype(np.float64)
    moments = np.stack([metadata.mean(axis=0), metadata.std(axis=0) + 1e-6])
    metadata_means = prototypes.class_prototypes(
      standardise(metadata, moments), labels, len(names)
    )
  encoders = embed.encoders
  trained = encoders.trained_classes == names
  seen = task.Seen(
    classes([protocol], names, encoders),
    sums.prototypes(),
    encoders.class_centres if trained else None,
    encoders.scale,
    sums,
    metadata_means,
    encoders.joint,
  )
  return seen, moments


def standardise(metadata: np.ndarray, moments: np.ndarray) -> np.ndarray:
  """Standardises metadata: (x - mean) / deviation, at unit length.

  Args:
    metadata: [n m].
    moments: mean and deviation [2 m].

  Returns:
    float32 [n m], unit vectors.
  """
  away = (metadata - moments[0]) / moments[1]
  norm = np.linalg.norm(away, axis=1, keepdims=True)
  return (away / np.maximum(norm, 1e-12)).astype(np.float32)


def seen_videos(
  videos: video_sets.VideoSet, embedded: embedding.Embedded
) -> task.TestVideos:
  """Returns the arrays of held-out videos of seen classes, for GZSL.

  Args:
    videos: the videos.
    embedded: their embeddings.

  Returns:
    The arrays; labels index the seen classes.
  """
  readable = embedded.readable
  return task.TestVideos(
    embedded.embeddings[readable],
    None,
    videos.labels[readable],
    videos.subset(readable).groups,
    unreadable_labels=tuple(videos.labels[~readable].tolist()),
    pooled=None if embedded.pooled is None else embedded.pooled[readable],
  )


def test_videos(
  splits: Splits,
  test: embedding.Embedded,
  changed: Mapping[str, embedding.Embedded] | None = None,
  moments: np.ndarray | None = None,
) -> tuple[task.TestVideos, tuple[str, ...]]:
  """Returns the arrays of the test videos of all splits.

  A video counts as unreadable if it, or a changed version of it, could not
  be read.

  Args:
    splits: the splits of the protocol.
    test: the embeddings of `splits.videos`.
    changed: change of the frames -> embeddings of the videos with that change.
    moments: mean and deviation [2 m] of the training videos' metadata; None
      leaves out the metadata.

  Returns:
    The arrays, and the ids: first of the readable videos, then of the others.
  """
  changed = changed or {}
  labels, candidates, tested = _membership(splits)
  lost_labels, lost_tested, lost_ids = _lost_videos(splits)
  readable = np.logical_and.reduce(
    [test.readable, *(embedded.readable for embedded in changed.values())]
  )
  at = np.concatenate([np.flatnonzero(readable), np.flatnonzero(~readable)])
  metadata = None
  if moments is not None and test.metadata is not None:
    metadata = standardise(test.metadata[readable], moments)
  videos = task.TestVideos(
    embeddings=test.embeddings[readable],
    match=None if test.match is None else test.match[readable],
    labels=labels[readable],
    groups=splits.videos.subset(readable).groups,
    changed_embeddings={
      frames: embedded.embeddings[readable]
      for frames, embedded in changed.items()
    },
    unreadable_labels=(*labels[~readable].tolist(), *lost_labels),
    candidates=candidates,
    tested=np.concatenate([tested[at], lost_tested]),
    metadata=metadata,
    pooled=None if test.pooled is None else test.pooled[readable],
  )
  return videos, (*(splits.videos.ids[i] for i in at), *lost_ids)


def _membership(
  splits: Splits,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns labels [n], candidates [u s], tested [n s] of prepared videos."""
  place = {name: i for i, name in enumerate(splits.names)}
  n, count = len(splits.videos), len(splits.protocols)
  labels = np.zeros(n, int)
  tested = np.zeros((n, count), bool)
  candidates = np.zeros((len(place), count), bool)
  for s, (protocol, rows) in enumerate(
    zip(splits.protocols, splits.members, strict=True)
  ):
    own = np.array([place[name] for name in protocol.unseen_classes])
    candidates[own, s] = True
    labels[rows] = own[protocol.test.labels]
    tested[rows, s] = True
  return labels, candidates, tested


def _lost_videos(
  splits: Splits,
) -> tuple[list[int], np.ndarray, list[str]]:
  """Returns labels, tested [n s], ids of videos unreadable in preparation."""
  place = {name: i for i, name in enumerate(splits.names)}
  labels: dict[str, int] = {}
  splits_of: dict[str, list[int]] = {}
  for s, protocol in enumerate(splits.protocols):
    for video in protocol.unreadable:
      labels[video['id']] = place[video['label']]
      splits_of.setdefault(video['id'], []).append(s)
  tested = np.zeros((len(labels), len(splits.protocols)), bool)
  for row, several in zip(tested, splits_of.values(), strict=True):
    row[several] = True
  return list(labels.values()), tested, list(labels)
