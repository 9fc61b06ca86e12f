"""The clips of `experiments.pretrained_clips` as arrays, each embedded once."""

from collections.abc import Callable, Sequence
import dataclasses
import os
from typing import Any

import numpy as np

from experiments import dropped_classes
from zsar_jax.data import clip_reader, input_pipeline, preprocessing
from zsar_jax.data.protocols import prepared_dataset
from zsar_jax.evaluation import embedding, embedding_cache
from zsar_jax.pretrained import i3d

_BATCH, _THREADS = 4, 2


@dataclasses.dataclass(frozen=True)
class Clips:
  """All clips of a dataset through I3D.

  Attributes:
    classes: canonical names, sorted.
    sources: of each class.
    labels: int [n], index among the classes.
    groups: recording session of each clip.
    features: mean over views of what the last layer reads [n d], not
      normalised, so that logits are a product with its columns.
    metadata: log of width / height and log of the duration [n 2].
    first_frames: as `features`, of the first frame repeated; None if not
      asked for.
  """

  classes: tuple[str, ...]
  sources: tuple[str, ...]
  labels: np.ndarray
  groups: tuple[str, ...]
  features: np.ndarray
  metadata: np.ndarray
  first_frames: np.ndarray | None = None


def embed(
  dataset_dir: str,
  cache_dir: str,
  views: int,
  first_frames: bool = False,
  say: Callable[[str], Any] = lambda text: None,
) -> Clips:
  """Embeds every clip of a dataset once; a stopped run goes on.

  Args:
    dataset_dir: prepared dataset.
    cache_dir: parent of the embedding cache.
    views: temporal views of a clip.
    first_frames: also embed the first frame of each view, repeated.
    say: gets lines about the progress.

  Returns:
    The clips.

  Raises:
    FileNotFoundError: no prepared dataset there, or no weights.
    ValueError: a clip cannot be read.
  """
  dataset = prepared_dataset.PreparedDataset(dataset_dir)
  names = tuple(dataset.classes())
  (split,) = dataset.indices
  videos = dataset.select(split, names)
  embedder = _embedder(dataset, cache_dir, views, say)
  say(f'embedding {len(videos)} clips in {views} views')
  found = embedder(videos)
  still = embedder(videos, clip_reader.FIRST) if first_frames else None
  lost = np.flatnonzero(~found.readable)
  if lost.size:
    raise ValueError(
      f'{dataset_dir}: {videos.ids[lost[0]]} and {lost.size - 1} more clips '
      'cannot be read'
    )
  return Clips(
    names,
    _sources(names, videos),
    np.asarray(videos.labels, int),
    videos.groups,
    found.pooled,
    found.metadata.astype(np.float64),
    None if still is None else still.pooled,
  )


def _embedder(dataset, cache_dir, views, say) -> embedding.Embedder:
  prep = preprocessing.Preprocessing(
    **i3d.PREPROCESSING, token_length=1, vocabulary_hash=''
  )
  _, digest = i3d.load()
  network = dropped_classes.make_network()

  def videos(clips, names):
    b, v = clips.shape[:2]
    features, _ = network(clips.reshape(b * v, *clips.shape[2:]))
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    split = lambda x: x.reshape(b, v, -1)
    return {
      'embedding': split(features / norms),
      'pooled': split(features).mean(axis=1),
    }

  def read(chosen, frames):
    return input_pipeline.eval_batches(
      clip_reader.ClipReader(chosen, prep),
      batch_size=_BATCH,
      num_views=views,
      frames=frames,
      num_threads=_THREADS,
    )

  identity = {
    'what': 'features of I3D, not normalised',
    'weights': digest,
    'preprocessing': prep.to_json(),
    'dataset': dataset.name,
    'num_views': views,
  }
  cache = embedding_cache.EmbeddingCache(
    cache_dir, dataset.name.split(os.sep)[0], identity
  )
  return embedding.Embedder(
    embedding.Encoders(lambda names: np.zeros((0, 1)), videos, matches=False),
    read,
    lambda _: cache,
    say=say,
  )


def _sources(names: Sequence[str], videos) -> tuple[str, ...]:
  """The source of each class; its first clip has it."""
  first = [int(np.argmax(videos.labels == c)) for c in range(len(names))]
  return tuple(videos.sources[i] for i in first)
