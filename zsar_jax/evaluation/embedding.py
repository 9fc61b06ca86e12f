"""Embeds videos once, and keeps the embeddings in a cache."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import time
from typing import Any

import numpy as np

from zsar_jax.data import clip_reader
from zsar_jax.data.protocols import video_sets
from zsar_jax.evaluation import embedding_cache
from zsar_jax.parallel import distributed

# Changes of the frames that the table has controls for.
CONTROLS = (clip_reader.FIRST, clip_reader.SHUFFLED)
Batches = Iterator[dict[str, np.ndarray]]
_SAY_EVERY = 30.0  # seconds
# Change of the frames -> its name in an embedding cache.
_KINDS = {
  clip_reader.FILMED: 'clips',
  clip_reader.FIRST: 'first_frames',
  clip_reader.SHUFFLED: clip_reader.SHUFFLED,
}


@dataclasses.dataclass(frozen=True)
class Encoders:
  """The functions and arrays of a model that an evaluation needs.

  Attributes:
    class_embeddings: names -> unit vectors [c d].
    videos: (clips uint8 [b v t h w 3], names) -> dict of arrays: `embedding`
      [b v d], unit vectors; `match` [b c], logits of each video with each
      name, mean over views ([b 0] without names). Some models also give
      `pooled` [b e], the encoder's output before the shared projection, mean
      over views, and `tokens` [b v n e].
    match_tokens: (tokens [b v n e], names) -> match [b c]; None if the model
      cannot match stored tokens.
    initial_embeddings: like `class_embeddings`, by the text encoder before
      training; None if unknown.
    class_centres: learnt centres [s d] of `trained_classes`, unit vectors.
    scale: alpha_v, the factor on cosines to the centres.
    trained_classes: names, in the order of the centres.
    matches: whether `videos` gives match logits.
    joint: whether `embedding` and `class_embeddings` lie in one space.
  """

  class_embeddings: Callable[[Sequence[str]], np.ndarray]
  videos: Callable[[np.ndarray, Sequence[str]], dict[str, np.ndarray]]
  match_tokens: Callable[[np.ndarray, Sequence[str]], np.ndarray] | None = None
  initial_embeddings: Callable[[Sequence[str]], np.ndarray] | None = None
  class_centres: np.ndarray | None = None
  scale: float = 20.0
  trained_classes: tuple[str, ...] = ()
  matches: bool = True
  joint: bool = True


@dataclasses.dataclass(frozen=True)
class Embedded:
  """Embedded videos, in the order of their set.

  Attributes:
    embeddings: [n v d], v views of each video, unit vectors.
    match: match logits [n c], mean over views; [n 0] without names; None if
      the cache lacks them.
    readable: bool [n]; ignore the rows of unreadable videos.
    pooled: encoder output before the shared projection [n e]; None if the
      model does not give it.
    metadata: float32 [n 2], see `input_pipeline.eval_batches`; None if the
      batches lack it.
  """

  embeddings: np.ndarray
  match: np.ndarray | None
  readable: np.ndarray
  pooled: np.ndarray | None = None
  metadata: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Embedder:
  """Embeds sets of videos.

  Attributes:
    encoders: functions of the model.
    read: (video set, frames) -> batches of every video once, as
      `input_pipeline.eval_batches` makes them.
    cache_of: folder of a dataset -> its cache; None for no cache.
    keep_tokens: also cache every video's tokens, to compute match logits for
      other names later.
    controls: changes of the frames to embed test videos with, for controls.
    say: receives lines about the progress.
  """

  encoders: Encoders
  read: Callable[[video_sets.VideoSet, str], Batches]
  cache_of: Callable[[str], embedding_cache.EmbeddingCache] | None = None
  keep_tokens: bool = False
  say: Callable[[str], Any] = lambda text: None
  controls: Sequence[str] = CONTROLS

  def __call__(
    self,
    videos: video_sets.VideoSet,
    frames: str = clip_reader.FILMED,
    names: Sequence[str] = (),
    match_names: Sequence[str] = (),
  ) -> Embedded:
    """Embeds every video of a set once.

    Args:
      videos: the set; it holds no video twice.
      frames: change of each clip's frames; see `clip_reader`.
      names: class names to match every video with.
      match_names: more names whose match logits go into the cache; ignored
        without a cache.

    Returns:
      The videos, without padding.
    """
    if not self.encoders.matches:
      names = match_names = ()
    if self.cache_of is None:
      joined = self._shared(videos, frames, names)
    else:
      wanted = tuple(dict.fromkeys((*names, *match_names)))
      keep = self.keep_tokens and bool(names)

      def compute(at):
        chosen = videos
        if len(at) < len(videos):
          mask = np.zeros(len(videos), bool)
          mask[at] = True
          chosen = videos.subset(mask)
        return self._compute(chosen, frames, wanted, keep)

      keys = [
        (split, int(row))
        for split, row in zip(videos.splits, videos.rows, strict=True)
      ]
      joined = self.cache_of(videos.dataset_dir).embed(
        _KINDS[frames],
        keys,
        tuple(names),
        compute,
        self.encoders.match_tokens,
        tokens=keep,
        stored_names=wanted,
      )
    return Embedded(
      joined['embedding'],
      joined.get('match') if self.encoders.matches else None,
      joined['readable'],
      joined.get('pooled'),
      joined.get('metadata'),
    )

  def _shared(self, videos, frames, names):
    """Embeds all videos; each process embeds its share."""
    # A process with an empty share embeds the first video, to know the shapes.
    mine = distributed.share(len(videos))
    empty = not mine.any()
    mine[0] |= empty
    batches = list(self._compute(videos.subset(mine), frames, names))
    joined = {
      name: np.concatenate([batch[name] for batch in batches])
      for name in batches[0]
      if name != embedding_cache.TOKENS
    }
    if empty:
      joined = {name: x[:0] for name, x in joined.items()}
    return distributed.gather_shares(joined, len(videos))

  def _compute(self, videos, frames, names, keep_tokens=False):
    """Yields batches of arrays, without padding."""
    began = said = time.monotonic()
    done = 0
    for batch in self.read(videos, frames):
      out = self.encoders.videos(batch['video'], names)
      real = batch['example_mask']
      arrays = {
        name: np.asarray(x)[real]
        for name, x in out.items()
        if name != embedding_cache.TOKENS or keep_tokens
      }
      arrays['readable'] = batch['readable'][real]
      if 'metadata' in batch:
        arrays['metadata'] = batch['metadata'][real]
      done += int(real.sum())
      now = time.monotonic()
      if now - said > _SAY_EVERY:
        said = now
        left = int((now - began) / done * (len(videos) - done))
        self.say(
          f'embedded {done}/{len(videos)} videos, {left // 60}:{left % 60:02d} '
          'left'
        )
      yield arrays
