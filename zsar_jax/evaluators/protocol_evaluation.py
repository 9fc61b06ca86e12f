"""Runs a protocol: embeds its videos and hands the arrays to the evaluators.

Receives functions that encode, not a model, so that any encoder can be
evaluated.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax import results
from zsar_jax.data.protocols import class_split
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


def embed_videos(
  encoders: Encoders, batches: Batches, names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
  """Embeds every video once.

  Args:
    encoders: of the model.
    batches: from `input_pipeline.eval_batches`.
    names: class names to match every video with.

  Returns:
    Embeddings [n v d] and match logits [n c], in the order of the videos.
  """
  embeddings, match = [], []
  for batch in batches:
    z, logits = encoders.videos(batch['video'], names)
    embeddings.append(z[batch['example_mask']])
    match.append(logits[batch['example_mask']])
  return np.concatenate(embeddings), np.concatenate(match)


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


def evaluate_protocol(
  protocol: class_split.Protocol,
  encoders: Encoders,
  read: Callable[[class_split.VideoSet, bool], Batches],
  settings: zeroshot.TransferSettings,
  say: Callable[[str], Any] = lambda text: None,
) -> Evaluation:
  """Measures a model by a protocol.

  Args:
    protocol: classes and videos.
    encoders: of the model.
    read: (video set, first_frame) -> batches of every video once, as
      `input_pipeline.eval_batches` makes them.
    settings: of the transfer.
    say: is told what is being done.

  Returns:
    Rows, and what a prototype bank is made of.
  """
  seen, unseen = protocol.seen_classes, protocol.unseen_classes
  say(f'embedding {len(protocol.train)} videos of {len(seen)} seen classes')
  train, _ = embed_videos(encoders, read(protocol.train, False))
  sums = prototypes.PrototypeSums(len(seen), train.shape[-1])
  sums.add(train.mean(axis=1), protocol.train.labels)

  say(f'embedding {len(protocol.test)} videos of {len(unseen)} unseen classes')
  test, match = embed_videos(encoders, read(protocol.test, False), unseen)
  still, _ = embed_videos(encoders, read(protocol.test, True))

  embed = encoders.class_embeddings
  seen_classes = classes(protocol, seen, embed(seen))
  say('scoring')
  rows = zeroshot.evaluate(
    seen_classes,
    classes(protocol, unseen, embed(unseen)),
    sums.prototypes(),
    zeroshot.TestVideos(
      embeddings=test,
      match=match,
      labels=protocol.test.labels,
      groups=protocol.test.groups,
      first_frame_embeddings=still,
      unreadable_labels=protocol.unreadable_test_labels,
    ),
    settings,
  )
  return Evaluation(rows, sums.prototypes(), seen_classes.text, sums.counts)
