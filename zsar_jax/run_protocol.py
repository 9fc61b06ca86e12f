"""A run's protocol, from its config, and the table that it is measured by."""

from collections.abc import Callable, Sequence
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
from zsar_jax.data import clip_reader
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
  """The protocol that a config trains by: one split."""
  return class_split.make_protocol(
    dataset_dir(config.data), **_protocol_options(config)
  )


def make_protocols(
  config: ml_collections.ConfigDict, seen_classes: Sequence[str] = ()
) -> list[class_split.Protocol]:
  """The splits that a config is tested by.

  Args:
    config: of the run; or changed to test elsewhere.
    seen_classes: that the model was trained on; none for all that the
      protocol leaves.

  Returns:
    All splits of a registered protocol where one model may be tested on all
    of them, else the one that `make_protocol` makes.
  """
  return class_split.make_protocols(
    dataset_dir(config.data),
    seen_classes=seen_classes,
    **_protocol_options(config),
  )


def _protocol_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
  data = config.data
  return {
    'class_split': data.class_split,
    'class_split_index': data.class_split_index,
    'protocol': data.protocol,
    'test_dataset_dir': os.path.expanduser(data.test_dataset_dir),
    'validation_fraction': data.validation_fraction,
    'seed': config.seed,
    'strict_for': tuple(data.strict_for),
    'allow_leaks': data.allow_leaks,
    'drop_leaking': data.drop_leaking,
    'train_only': data.train_only,
  }


def video_cache(
  config: ml_collections.ConfigDict,
) -> clip_reader.VideoCache | None:
  """The cache of decoded videos that a config asks for."""
  if config.data.cache_mb <= 0:
    return None
  return clip_reader.VideoCache(config.data.cache_mb * 2**20)


def validate(
  recognizer: recognizer_lib.Recognizer,
  protocol: class_split.Protocol,
  cache: clip_reader.VideoCache | None,
) -> results.Row:
  """Top-1 on held-out videos of the seen classes."""
  videos = protocol.validation
  embedded = protocol_evaluation.embed_videos(
    recognizer.encoders, recognizer.eval_batches(videos, cache=cache)
  )
  return classification.seen_validation_row(
    embedded.embeddings,
    videos.labels,
    list(videos.groups),
    recognizer.class_centres(),
    embedded.readable,
  )


def evaluate(
  recognizer: recognizer_lib.Recognizer,
  protocols: Sequence[class_split.Protocol],
  cache: clip_reader.VideoCache | None,
  say: Callable[[str], Any],
) -> tuple[dict[str, Any], prototype_bank.PrototypeBank]:
  """The whole table of a run, as the content of results.json, and its bank.

  The seen-class row is there only where the protocol's seen classes are the
  ones the classifier was trained for.

  Args:
    recognizer: with the weights.
    protocols: the splits of one protocol; see `make_protocols`.
    cache: decoded videos.
    say: is told what is being done.

  Returns:
    Results and bank.
  """
  first = protocols[0]
  evaluation, bank = recognizer.evaluate(protocols, say, cache)
  rows = evaluation.rows
  if first.seen_classes == recognizer.seen_classes:
    rows = [*rows, validate(recognizer, first, cache)]
  rows = [*rows, *_frozen_clip_rows(recognizer.config, protocols, say)]
  several = len(protocols) > 1
  content = results.make_results(
    first.spec_id if several else first.name,
    rows,
    config_utils.to_dict(recognizer.config),
    {
      'step': recognizer.step,
      'initialisation': initialisation.describe(recognizer.config),
      'unreadable': _distinct(v for p in protocols for v in p.unreadable),
      'num_missing': max(p.num_missing for p in protocols),
      'dropped_classes': list(first.dropped_classes),
    },
    protocol_hash=first.spec_hash if several else first.hash,
    leaks=list(dict.fromkeys(str(leak) for p in protocols for leak in p.leaks)),
  )
  return content, bank


def _distinct(videos) -> list[dict[str, str]]:
  """Each video once."""
  return list({video['id']: dict(video) for video in videos}.values())


def frozen_clip_of(
  config: ml_collections.ConfigDict,
) -> frozen_clip.FrozenClip:
  """The CLIP that a config starts from, as it comes."""
  return frozen_clip.FrozenClip.from_directory(
    config.init.clip, config.preprocessing.num_frames
  )


def _frozen_clip_rows(config, protocols, say) -> list[results.Row]:
  """What the CLIP that a run started from scores without any training."""
  path = config.init.clip
  if not path or protocols[0].test is None:
    return []
  if not os.path.exists(path):
    say(f'{path} is gone: the frozen_clip row is left out')
    return []
  say('embedding the same videos by the frozen CLIP')
  clip = frozen_clip_of(config)
  tables = [
    clip.protocol_rows(
      protocol, config.zeroshot.batch_size, config.data.num_threads
    )
    for protocol in protocols
  ]
  if len(tables) == 1:
    return tables[0]
  lost = len(_distinct(v for p in protocols for v in p.unreadable))
  total = lost + len({i for p in protocols for i in p.test.ids})
  return results.average_rows(tables, total, lost)
