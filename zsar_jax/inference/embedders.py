"""Makes functions that embed sets of videos, for the evaluation."""

from collections.abc import Callable, Iterator
import functools
import os
from typing import Any

import numpy as np

from zsar_jax.data import clip_reader, input_pipeline
from zsar_jax.data.protocols import video_sets
from zsar_jax.evaluation import embedding, embedding_cache
from zsar_jax.inference import encoders


def eval_batches(
  recognizer: encoders.Recognizer,
  videos: video_sets.VideoSet,
  frames: str = clip_reader.FILMED,
  cache: clip_reader.VideoCache | None = None,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields batches of every video once; see `input_pipeline.eval_batches`."""
  config = recognizer.config
  return input_pipeline.eval_batches(
    clip_reader.ClipReader(videos, recognizer.prep, cache),
    batch_size=config.zeroshot.batch_size,
    num_views=config.zeroshot.num_views,
    num_crops=config.zeroshot.num_crops,
    frames=frames,
    num_threads=config.data.num_threads,
  )


def make_embedder(
  recognizer: encoders.Recognizer,
  cache: clip_reader.VideoCache | None = None,
  embeddings_dir: str = '',
  keep_tokens: bool = False,
  say: Callable[[str], Any] = lambda text: None,
) -> embedding.Embedder:
  """Makes an embedder of sets of videos.

  Args:
    recognizer: the encoders.
    cache: decoded videos.
    embeddings_dir: parent of the embedding caches; '' for none.
    keep_tokens: see `embedding.Embedder`.
    say: called with lines about the progress.

  Returns:
    The embedder.
  """
  config = recognizer.config

  @functools.cache
  def cache_of(dataset_dir: str) -> embedding_cache.EmbeddingCache:
    parts = os.path.normpath(dataset_dir).split(os.sep)[-3:]
    return embedding_cache.EmbeddingCache(
      embeddings_dir,
      parts[0],
      {
        'weights': recognizer.weights_hash,
        'preprocessing': recognizer.prep.to_json(),
        # The folder's name holds a fingerprint of the videos.
        'dataset': '/'.join(parts),
        'num_views': config.zeroshot.num_views,
        'num_crops': config.zeroshot.num_crops,
        'names': [list(config.names.prompts), recognizer.texts.descriptions],
      },
    )

  return embedding.Embedder(
    recognizer.encoders,
    lambda videos, frames: eval_batches(recognizer, videos, frames, cache),
    cache_of if embeddings_dir else None,
    keep_tokens,
    say,
    # Runs of earlier versions have no such key.
    embedding.CONTROLS if config.zeroshot.get('motion_controls', True) else (),
  )
