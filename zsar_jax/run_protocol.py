"""A run's protocol, from its config, and the table that it is measured by."""

from collections.abc import Callable
import os
from typing import Any

import ml_collections

from zsar_jax import (
  config_utils,
  frozen_clip,
  initialisation,
  prototype_bank,
  results,
)
from zsar_jax import recognizer as recognizer_lib
from zsar_jax.data import input_pipeline
from zsar_jax.data.protocols import class_split
from zsar_jax.evaluators import classification, protocol_evaluation


def dataset_dir(data: ml_collections.ConfigDict) -> str:
  """The prepared dataset that a config names; renders stick_figures.

  Args:
    data: the config's `data` section.

  Returns:
    Folder of the prepared dataset.

  Raises:
    FileNotFoundError: `data.dataset_dir` holds none.
  """
  if data.dataset_dir:
    return os.path.expanduser(data.dataset_dir)
  from zsar_jax.data import datasets

  builder = datasets.make_builder(
    'stick_figures', data.data_dir, **data.stick_figures.to_dict()
  )
  datasets.prepare(
    builder,
    lambda: print(f'rendering stick_figures into {builder.data_dir}'),
  )
  return str(builder.data_dir)


def make_protocol(config: ml_collections.ConfigDict) -> class_split.Protocol:
  """The protocol that a config trains and tests by."""
  data = config.data
  return class_split.make_protocol(
    dataset_dir(data),
    class_split=data.class_split,
    class_split_index=data.class_split_index,
    validation_fraction=data.validation_fraction,
    seed=config.seed,
  )


def video_cache(
  config: ml_collections.ConfigDict,
) -> input_pipeline.VideoCache | None:
  """The cache of decoded videos that a config asks for."""
  if config.data.cache_mb <= 0:
    return None
  return input_pipeline.VideoCache(config.data.cache_mb * 2**20)


def validate(
  recognizer: recognizer_lib.Recognizer,
  protocol: class_split.Protocol,
  cache: input_pipeline.VideoCache | None,
) -> results.Row:
  """Top-1 on held-out videos of the seen classes."""
  videos = protocol.validation
  embeddings, _ = protocol_evaluation.embed_videos(
    recognizer.encoders,
    recognizer.eval_batches(videos, protocol.dataset_dir, cache=cache),
  )
  return classification.seen_validation_row(
    embeddings, videos.labels, list(videos.groups), recognizer.class_centres()
  )


def evaluate(
  recognizer: recognizer_lib.Recognizer,
  protocol: class_split.Protocol,
  cache: input_pipeline.VideoCache | None,
  say: Callable[[str], Any],
) -> tuple[dict[str, Any], prototype_bank.PrototypeBank]:
  """The whole table of a run, as the content of results.json, and its bank.

  The seen-class row is there only where the protocol's seen classes are the
  ones the classifier was trained for.
  """
  evaluation, bank = recognizer.evaluate(protocol, say, cache)
  rows = evaluation.rows
  if protocol.seen_classes == recognizer.seen_classes:
    rows = [*rows, validate(recognizer, protocol, cache)]
  rows = [*rows, *_frozen_clip_rows(recognizer.config, protocol, say)]
  content = results.make_results(
    protocol.name,
    rows,
    config_utils.to_dict(recognizer.config),
    {
      'step': recognizer.step,
      'initialisation': initialisation.describe(recognizer.config),
      'unreadable': [dict(video) for video in protocol.unreadable],
    },
  )
  return content, bank


def frozen_clip_of(
  config: ml_collections.ConfigDict,
) -> frozen_clip.FrozenClip:
  """The CLIP that a config starts from, as it comes."""
  return frozen_clip.FrozenClip.from_directory(
    config.init.clip, config.preprocessing.num_frames
  )


def _frozen_clip_rows(config, protocol, say) -> list[results.Row]:
  """What the CLIP that a run started from scores without any training."""
  path = config.init.clip
  if not path:
    return []
  if not os.path.exists(path):
    say(f'{path} is gone: the frozen_clip row is left out')
    return []
  say('embedding the same videos by the frozen CLIP')
  return frozen_clip_of(config).protocol_rows(
    protocol, config.zeroshot.batch_size, config.data.num_threads
  )
