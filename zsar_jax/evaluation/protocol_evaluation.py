"""Runs a protocol: embeds its videos and evaluates the arrays.

The caller passes functions that encode, not a model. So any encoder can be
evaluated.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.data.protocols import class_split, overlap, video_sets
from zsar_jax.evaluation import (
  embedding,
  evaluator,
  generalised,
  methods,
  protocol_arrays,
  results,
  task,
)
from zsar_jax.zeroshot import claims, scoring


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """The outcome of a protocol.

  Attributes:
    seen: the seen classes; a prototype bank is made from them.
    table: rows, differences, scores and facts; None without a test.
    unseen: the candidates of all splits.
    videos: the test videos.
    video_ids: ids of the readable test videos, then of the others.
    gzsl: outcome of GZSL; None without held-out videos of seen classes.
    seen_videos: held-out videos of seen classes; None without them.
    test_set: the test videos in the prepared dataset.
  """

  seen: task.Seen
  table: evaluator.Table | None = None
  unseen: task.Classes | None = None
  videos: task.TestVideos | None = None
  video_ids: tuple[str, ...] = ()
  gzsl: generalised.Generalised | None = None
  seen_videos: task.TestVideos | None = None
  test_set: video_sets.VideoSet | None = None

  @property
  def rows(self) -> list[results.Row]:
    """The rows of the table, then those of GZSL."""
    if self.table is None:
      return []
    return [*self.table.rows, *(self.gzsl.rows if self.gzsl else ())]


def embed_protocols(
  protocols: Sequence[class_split.Protocol],
  embed: embedding.Embedder,
  match_names: Sequence[str] = (),
  seen: task.Seen | None = None,
) -> Evaluation:
  """Embeds all videos of a protocol, without measuring anything.

  Each video is embedded once, even if several splits test it.

  Args:
    protocols: the splits; they share the training videos. A single split may
      have no test.
    embed: embeds videos.
    match_names: more names whose match logits go into the cache.
    seen: the seen classes of a bank; None computes their prototypes from the
      training videos.

  Returns:
    The arrays, without table and GZSL.
  """
  first, moments = protocols[0], None
  if seen is None:
    seen, moments = protocol_arrays.embed_seen(embed, first)
  kept, kept_videos = first.seen_test, None
  if kept is not None and len(kept):
    embed.say(f'embedding {len(kept)} further videos of seen classes')
    kept_videos = protocol_arrays.seen_videos(kept, embed(kept))
  if first.test is None:
    return Evaluation(seen, seen_videos=kept_videos)

  splits = protocol_arrays.join(protocols)
  everything, names = splits.videos, splits.names
  embed.say(
    f'embedding {len(everything)} videos of {len(names)} unseen classes'
  )
  test = embed(everything, names=names, match_names=match_names)
  changed = {frames: embed(everything, frames) for frames in embed.controls}
  videos, ids = protocol_arrays.test_videos(splits, test, changed, moments)
  return Evaluation(
    seen,
    unseen=protocol_arrays.classes(protocols, names, embed.encoders),
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
  seen: task.Seen | None = None,
) -> Evaluation:
  """Evaluates a model on the splits of a protocol.

  Args:
    protocols: see `embed_protocols`; without a test there is no table.
    embed: embeds videos.
    settings: of the methods.
    match_names: see `embed_protocols`.
    seen: see `embed_protocols`.

  Returns:
    The arrays, with the table and GZSL over all splits.
  """
  embedded = embed_protocols(protocols, embed, match_names, seen)
  seen, unseen, videos = embedded.seen, embedded.unseen, embedded.videos
  if videos is None:
    return embedded
  probed = {'unseen': videos}
  if embedded.seen_videos is not None:
    probed['seen'] = embedded.seen_videos
  embed.say('scoring')
  table = evaluator.evaluate(seen, unseen, videos, settings)
  strict_rows, strict_pairs = _without_leaks(
    protocols, unseen, videos, table, methods.compared(settings)
  )
  table = dataclasses.replace(
    table,
    rows=[*table.rows, *strict_rows],
    paired=[*table.paired, *strict_pairs],
    facts={**table.facts, **_information_losses(seen, probed)},
  )
  gzsl = None
  if 'seen' in probed:
    gzsl = generalised.evaluate(seen, unseen, probed['seen'], videos, settings)
  return dataclasses.replace(embedded, table=table, gzsl=gzsl)


def evaluate_nearest_name(
  protocols: Sequence[class_split.Protocol], embed: embedding.Embedder
) -> Evaluation:
  """Evaluates encoders with a joint space by the nearest name.

  There are no seen classes, so this is the only method.

  Args:
    protocols: the splits of a protocol.
    embed: embeds videos and names into one space.

  Returns:
    The table over all splits, and its arrays.
  """
  splits = protocol_arrays.join(protocols)
  embed.say(
    f'embedding {len(splits.videos)} videos of {len(splits.names)} classes'
  )
  test = embed(splits.videos, names=splits.names)
  unseen = protocol_arrays.classes(protocols, splits.names, embed.encoders)
  videos, ids = protocol_arrays.test_videos(splits, test)
  scores = methods.nearest_name_scores(videos.embeddings, unseen.text)
  table = evaluator.score_rows({'nearest_name': scores}, unseen, videos)
  nothing = np.zeros((0, unseen.text.shape[1]), np.float32)
  return Evaluation(
    task.Seen(task.Classes((), nothing), nothing),
    table,
    unseen,
    videos,
    ids,
    test_set=splits.videos,
  )


def nearest_name_rows(
  protocols: Sequence[class_split.Protocol],
  embed: embedding.Embedder,
  method: str,
) -> list[results.Row]:
  """Returns the rows of `evaluate_nearest_name`, as rows of `method`."""
  table = evaluate_nearest_name(protocols, embed).table
  return [
    dataclasses.replace(row, method=method)
    for row in table.rows
    if row.method == 'nearest_name'
  ]


def _without_leaks(
  protocols: Sequence[class_split.Protocol],
  unseen: task.Classes,
  videos: task.TestVideos,
  table: evaluator.Table,
  firsts: Sequence[str],
) -> tuple[list[results.Row], list[results.Paired]]:
  """Returns the methods' rows and differences over classes without leak.

  Both are empty if there is no leak.
  """
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
    return [], []
  without = evaluator.score_rows(
    table.scores,
    unseen,
    dataclasses.replace(
      videos, tested=tested[:, some], candidates=videos.candidates[:, some]
    ),
    firsts,
    methods.PRIMARY,
  )
  rename = lambda x: dataclasses.replace(x, metric=f'{x.metric}_without_leaks')
  rows = [row for row in without.rows if row.method in methods.METHODS]
  return [*map(rename, rows)], [*map(rename, without.paired)]


def _information_losses(
  seen: task.Seen, videos_of: Mapping[str, task.TestVideos]
) -> dict[str, Any]:
  """Measures the information that the encoder's output loses afterwards."""
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
        continue  # too few sessions or classes to fit a readout
      found[f'{name} {what}'] = dataclasses.asdict(loss)
  return {'information_loss': found} if found else {}
