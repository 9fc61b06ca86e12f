"""Runs a protocol: embeds its videos and hands the arrays to the evaluators.

Receives functions that encode, not a model, so that any encoder can be
evaluated.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.data import clip_reader
from zsar_jax.data.protocols import class_split, overlap, video_sets
from zsar_jax.evaluation import embedding, generalised, methods, results
from zsar_jax.zeroshot import claims, prototypes, scoring


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What running a protocol gives.

  Attributes:
    seen: of the seen classes, what a prototype bank is made of.
    table: rows, differences, scores and facts; None without a test.
    unseen: the candidates of all splits.
    videos: those that were tested on.
    video_ids: of the readable ones, then of the others.
    gzsl: None where no videos of seen classes were kept for it.
    seen_videos: those videos; None likewise.
    test_set: where the test videos are.
  """

  seen: methods.Seen
  table: methods.Table | None = None
  unseen: methods.Classes | None = None
  videos: methods.TestVideos | None = None
  video_ids: tuple[str, ...] = ()
  gzsl: generalised.Generalised | None = None
  seen_videos: methods.TestVideos | None = None
  test_set: video_sets.VideoSet | None = None

  @property
  def rows(self) -> list[results.Row]:
    """The whole table."""
    if self.table is None:
      return []
    return [*self.table.rows, *(self.gzsl.rows if self.gzsl else ())]


def classes(
  protocol: class_split.Protocol,
  names: tuple[str, ...],
  encoders: embedding.Encoders,
) -> methods.Classes:
  """What the evaluators need to know of some classes of a protocol.

  Args:
    protocol: knows their sources and attributes.
    names: of the classes.
    encoders: know their embeddings.

  Returns:
    The classes.
  """
  initial = encoders.initial_embeddings
  return methods.Classes(
    names=names,
    text=encoders.class_embeddings(names),
    sources=tuple(protocol.sources.get(n, '') for n in names),
    attributes=tuple(protocol.attributes.get(n, {}) for n in names),
    initial_text=None if initial is None else initial(names),
  )


def embed_seen(
  embed: embedding.Embedder, protocol: class_split.Protocol
) -> tuple[methods.Seen, np.ndarray | None]:
  """Prototypes of the seen classes and what else is known of them.

  Args:
    embed: embeds videos.
    protocol: whose training videos count.

  Returns:
    The seen classes, and mean and deviation [2 m] of the training videos'
    metadata (None where it is unknown).
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
  seen = methods.Seen(
    classes(protocol, names, encoders),
    sums.prototypes(),
    encoders.class_centres if trained else None,
    encoders.scale,
    sums,
    metadata_means,
  )
  return seen, moments


def standardise(metadata: np.ndarray, moments: np.ndarray) -> np.ndarray:
  """Metadata as unit vectors: (x - mean) / deviation, normalised [n m]."""
  away = (metadata - moments[0]) / moments[1]
  norm = np.linalg.norm(away, axis=1, keepdims=True)
  return (away / np.maximum(norm, 1e-12)).astype(np.float32)


def embed_protocols(
  protocols: Sequence[class_split.Protocol],
  embed: embedding.Embedder,
  match_names: Sequence[str] = (),
) -> Evaluation:
  """Embeds all that a protocol measures, and measures nothing yet.

  Every video is embedded once, however many splits it is in.

  Args:
    protocols: the splits; they have the training videos in common. One may
      be without a test.
    embed: embeds videos.
    match_names: more names to keep match logits for, where there is a cache.

  Returns:
    The arrays, without table and GZSL.
  """
  first = protocols[0]
  seen, moments = embed_seen(embed, first)
  kept, kept_videos = first.seen_test, None
  if kept is not None and len(kept):
    embed.say(f'embedding {len(kept)} further videos of seen classes')
    kept_videos = _seen_videos(kept, embed(kept))
  if first.test is None:
    return Evaluation(seen, seen_videos=kept_videos)

  everything, members = _union([p.test for p in protocols])
  names = tuple(sorted({n for p in protocols for n in p.unseen_classes}))
  embed.say(
    f'embedding {len(everything)} videos of {len(names)} unseen classes'
  )
  test = embed(everything, names=names, match_names=match_names)
  changed = {
    frames: embed(everything, frames)
    for frames in (clip_reader.FIRST, clip_reader.SHUFFLED)
  }
  unseen = classes(_all_known(protocols), names, embed.encoders)
  videos, ids = _test_videos(
    protocols, everything, members, names, test, changed, moments
  )
  return Evaluation(
    seen,
    unseen=unseen,
    videos=videos,
    video_ids=ids,
    seen_videos=kept_videos,
    test_set=everything,
  )


def evaluate_protocols(
  protocols: Sequence[class_split.Protocol],
  embed: embedding.Embedder,
  settings: methods.TransferSettings,
  match_names: Sequence[str] = (),
) -> Evaluation:
  """Measures a model by the splits of a protocol.

  Args:
    protocols: see `embed_protocols`; one without a test gives no rows.
    embed: embeds videos.
    settings: of the methods.
    match_names: see `embed_protocols`.

  Returns:
    Tables over all splits, and what a prototype bank is made of.
  """
  embedded = embed_protocols(protocols, embed, match_names)
  seen, unseen, videos = embedded.seen, embedded.unseen, embedded.videos
  if videos is None:
    return embedded
  probed = {'unseen': videos}
  if embedded.seen_videos is not None:
    probed['seen'] = embedded.seen_videos
  embed.say('scoring')
  table = methods.evaluate(seen, unseen, videos, settings)
  table = dataclasses.replace(
    table,
    rows=[*table.rows, *_rows_without_leaks(protocols, unseen, videos, table)],
    facts={
      **table.facts,
      **_information_losses(seen, probed),
    },
  )
  gzsl = None
  if 'seen' in probed:
    gzsl = generalised.evaluate(seen, unseen, probed['seen'], videos, settings)
  return dataclasses.replace(embedded, table=table, gzsl=gzsl)


def nearest_name_rows(
  protocols: Sequence[class_split.Protocol],
  embed: embedding.Embedder,
  method: str,
) -> list[results.Row]:
  """What a model that was not trained here scores on the same videos.

  Args:
    protocols: the splits of a protocol.
    embed: embeds videos; `match` are its scores.
    method: name of the rows.

  Returns:
    Its accuracies.
  """
  everything, members = _union([p.test for p in protocols])
  names = tuple(sorted({n for p in protocols for n in p.unseen_classes}))
  test = embed(everything, names=names)
  unseen = classes(_all_known(protocols), names, embed.encoders)
  videos, _ = _test_videos(
    protocols, everything, members, names, test, {}, None
  )
  table = methods.score_rows({method: videos.match}, unseen, videos)
  return [row for row in table.rows if row.method == method]


def _all_known(protocols) -> class_split.Protocol:
  """The first protocol, with the classes of all of them."""
  merge = lambda column: {
    k: v for p in protocols for k, v in getattr(p, column).items()
  }
  return dataclasses.replace(
    protocols[0], sources=merge('sources'), attributes=merge('attributes')
  )


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


def _test_videos(
  protocols, everything, members, names, test, changed, moments
) -> tuple[methods.TestVideos, tuple[str, ...]]:
  """All splits' videos as the evaluators want them, and their ids."""
  n, splits = len(everything), len(protocols)
  place = {name: i for i, name in enumerate(names)}
  labels = np.zeros(n, int)
  tested = np.zeros((n, splits), bool)
  candidates = np.zeros((len(names), splits), bool)
  lost: dict[str, int] = {}
  lost_in: dict[str, list[int]] = {}
  for s, (protocol, rows) in enumerate(zip(protocols, members, strict=True)):
    own = np.array([place[name] for name in protocol.unseen_classes])
    candidates[own, s] = True
    labels[rows] = own[protocol.test.labels]
    tested[rows, s] = True
    for video in protocol.unreadable:
      lost[video['id']] = place[video['label']]
      lost_in.setdefault(video['id'], []).append(s)
  readable = np.logical_and.reduce(
    [test.readable, *(embedded.readable for embedded in changed.values())]
  )
  at = np.concatenate([np.flatnonzero(readable), np.flatnonzero(~readable)])
  prepared = np.zeros((len(lost), splits), bool)
  for row, several in zip(prepared, lost_in.values(), strict=True):
    row[several] = True
  metadata = None
  if moments is not None and test.metadata is not None:
    metadata = standardise(test.metadata[readable], moments)
  videos = methods.TestVideos(
    embeddings=test.embeddings[readable],
    match=None if test.match is None else test.match[readable],
    labels=labels[readable],
    groups=everything.subset(readable).groups,
    changed_embeddings={
      frames: embedded.embeddings[readable]
      for frames, embedded in changed.items()
    },
    unreadable_labels=(*labels[~readable].tolist(), *lost.values()),
    candidates=candidates,
    tested=np.concatenate([tested[at], prepared]),
    metadata=metadata,
    pooled=None if test.pooled is None else test.pooled[readable],
  )
  return videos, (*(everything.ids[i] for i in at), *lost)


def _rows_without_leaks(protocols, unseen, videos, table) -> list[results.Row]:
  """The methods' rows over the classes that do not leak, where some do."""
  tested = videos.tested.copy()
  labels = videos.as_tested(len(unseen.names)).labels
  leaking = False
  for s, protocol in enumerate(protocols):
    names = overlap.leaking_classes(protocol.leaks)
    leaks = np.isin([*unseen.names], names)[labels]
    leaking |= bool(names)
    tested[:, s] &= ~leaks
  some = tested.any(axis=0)
  if not leaking or not some.any():
    return []
  without = methods.score_rows(
    table.scores,
    unseen,
    dataclasses.replace(
      videos, tested=tested[:, some], candidates=videos.candidates[:, some]
    ),
  )
  return [
    dataclasses.replace(row, metric=f'{row.metric}_without_leaks')
    for row in without.rows
    if row.method in methods.METHODS
  ]


def _seen_videos(
  videos: video_sets.VideoSet, embedded: embedding.Embedded
) -> methods.TestVideos:
  readable = embedded.readable
  return methods.TestVideos(
    embedded.embeddings[readable],
    None,
    videos.labels[readable],
    videos.subset(readable).groups,
    unreadable_labels=tuple(videos.labels[~readable].tolist()),
    pooled=None if embedded.pooled is None else embedded.pooled[readable],
  )


def _information_losses(
  seen: methods.Seen,
  videos_of: dict[str, methods.TestVideos],
) -> dict[str, Any]:
  """What embedding and names lose of what the encoder knew."""
  found = {}
  for name, videos in videos_of.items():
    if videos.pooled is None:
      continue
    z = scoring.view_means(videos.embeddings)
    to_names = scoring.score_videos(z, seen.classes.text)
    for what, after in (('embedding', z), ('cosines_to_names', to_names)):
      try:
        loss = claims.information_loss(
          videos.pooled, after, videos.labels, videos.groups
        )
      except ValueError:
        continue  # too few sessions or classes to read anything out
      found[f'{name} {what}'] = dataclasses.asdict(loss)
  return {'information_loss': found} if found else {}
