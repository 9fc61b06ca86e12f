"""Evaluates a run: makes its protocol from its config, and its results."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
from typing import Any

import ml_collections
import numpy as np

from zsar_jax import config_utils
from zsar_jax.data import clip_reader
from zsar_jax.data.protocols import (
  class_split,
  inner_draws,
  prepared_dataset,
  registry,
  split_choice,
)
from zsar_jax.evaluation import (
  choosing,
  classification,
  embedding,
  methods,
  protocol_evaluation,
  results,
  score_files,
)
from zsar_jax.inference import (
  bank_building,
  embedders,
  prototype_bank,
  public_encoders,
  public_folders,
)
from zsar_jax.inference import encoders as encoders_lib
from zsar_jax.pretrained import hub, initialisation
from zsar_jax.system import terminal

# Names in a workdir, beside results.json.
PREDICTIONS_FILE = 'predictions.safetensors'
EMBEDDINGS_FOLDER = 'embeddings'
CHOICE_FILE = 'choice.json'


def dataset_dir(data: ml_collections.ConfigDict) -> str:
  """Returns the folder of a config's prepared dataset.

  If the config names none, this renders the stick figures.

  Args:
    data: the config's `data` section.

  Returns:
    Folder of the prepared dataset.
  """
  if data.dataset_dir:
    return os.path.expanduser(data.dataset_dir)
  from zsar_jax.data import datasets

  builder = datasets.make_builder(
    'stick_figures', data.data_dir, **data.stick_figures.to_dict()
  )
  datasets.prepare(
    builder,
    lambda: terminal.say(f'rendering stick_figures into {builder.data_dir}'),
  )
  return str(builder.data_dir)


def make_protocol(config: ml_collections.ConfigDict) -> class_split.Protocol:
  """Makes the protocol to train by: one split, or an inner draw of it."""
  protocol = class_split.make_protocol(
    dataset_dir(config.data), _split_choice(config)
  )
  return _inner(config, protocol)


def _inner(config, protocol: class_split.Protocol) -> class_split.Protocol:
  data = config.data
  if data.inner_draw < 0:
    return protocol
  return inner_draws.inner_draw(protocol, data.inner_draw, data.inner_share)


def make_protocols(
  config: ml_collections.ConfigDict, seen_classes: Sequence[str] = ()
) -> list[class_split.Protocol]:
  """Makes the protocols to test by, one per split.

  Args:
    config: config of the run, perhaps with another test.
    seen_classes: classes that the model was trained on; () for the seen classes
      of the protocol.

  Returns:
    All splits of a registered protocol, if one model can be tested on all of
    them; else the split of `make_protocol`.
  """
  if config.data.inner_draw >= 0:
    return [make_protocol(config)]
  return class_split.make_protocols(
    dataset_dir(config.data), _split_choice(config, tuple(seen_classes))
  )


def _split_choice(
  config: ml_collections.ConfigDict, seen_classes: tuple[str, ...] = ()
) -> split_choice.SplitChoice:
  data = config.data
  return split_choice.SplitChoice(
    class_split=data.class_split,
    protocol=data.protocol,
    class_split_index=data.class_split_index,
    test_dataset_dir=os.path.expanduser(data.test_dataset_dir),
    validation_fraction=data.validation_fraction,
    seed=config.seed,
    seen_classes=seen_classes,
    strict_for=tuple(data.strict_for),
    allow_leaks=data.allow_leaks,
    drop_leaking=data.drop_leaking,
    train_only=data.train_only,
  )


def video_cache(
  config: ml_collections.ConfigDict,
) -> clip_reader.VideoCache | None:
  """Makes a cache for decoded videos of the config's size; None for size 0."""
  if config.data.cache_mb <= 0:
    return None
  return clip_reader.VideoCache(config.data.cache_mb * 2**20)


def validate(
  recognizer: encoders_lib.Recognizer,
  protocol: class_split.Protocol,
  cache: clip_reader.VideoCache | None,
  embed: embedding.Embedder | None = None,
) -> results.Row:
  """Measures top-1 accuracy on held-out videos of the seen classes."""
  videos = protocol.validation
  embed = embed or embedders.make_embedder(recognizer, cache)
  embedded = embed(videos)
  return classification.seen_validation_row(
    embedded.embeddings,
    videos.labels,
    list(videos.groups),
    recognizer.class_centres(),
    embedded.readable,
  )


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The outcome of an evaluation.

  Attributes:
    content: content of results.json.
    evaluation: the arrays behind it.
    bank: the prototype bank of the seen classes; None without seen classes.
    scores: scores of every video, for predictions.safetensors; None without a
      test.
  """

  content: dict[str, Any]
  evaluation: protocol_evaluation.Evaluation
  bank: prototype_bank.PrototypeBank | None
  scores: score_files.Scores | None


def evaluate(
  recognizer: encoders_lib.Recognizer,
  protocols: Sequence[class_split.Protocol],
  cache: clip_reader.VideoCache | None,
  say: Callable[[str], Any],
  *,
  embeddings_dir: str = '',
  keep_tokens: bool = False,
  choice: Mapping[str, Any] | None = None,
  bank: prototype_bank.PrototypeBank | None = None,
) -> Outcome:
  """Evaluates a model on a protocol.

  The seen-class validation is left out if the protocol has other seen classes
  than the model.

  Args:
    recognizer: the encoders.
    protocols: the splits of one protocol; see `make_protocols`.
    cache: decoded videos.
    say: called with a line before each slow part.
    embeddings_dir: parent of the embedding caches; '' for none.
    keep_tokens: also cache the video tokens, to match other names later.
    choice: choice of settings by `choosing.choose`; None takes the config's.
    bank: bank of public encoders, with seen classes and settings; None
      computes prototypes from the training videos.

  Returns:
    The outcome.

  Raises:
    ValueError: a class leaks and leaks are not allowed, or the settings cannot
      work.
  """
  first, choice = protocols[0], choice or {}
  embed = embedders.make_embedder(
    recognizer, cache, embeddings_dir, keep_tokens, say
  )
  settings = _settings(recognizer, choice, bank)
  seen = bank and bank_building.seen_of(bank, recognizer.joint)
  if bank is None:
    bank_building.check_unseen(recognizer, protocols)
  else:
    bank_building.warn_of_unseen(recognizer, bank, protocols, say)
  evaluation = protocol_evaluation.evaluate_protocols(
    protocols, embed, settings, _match_names(protocols), seen
  )
  rows = [*evaluation.rows]
  if bank is None and first.seen_classes == recognizer.seen_classes:
    rows.append(validate(recognizer, first, cache, embed))
  rows += _frozen_clip_rows(recognizer.config, protocols, say)
  calibrated = bank and bank.calibration
  if bank is None:
    calibrated = _calibrate(evaluation, settings, protocols, choice)
  origin = settings, choice.get('chosen_on', 'the config')
  content = _content(recognizer, protocols, evaluation, rows, origin)
  if calibrated and evaluation.table:
    content['facts']['calibration'] = _calibration_facts(calibrated)
  bank = bank or bank_building.make_bank(
    recognizer, first, evaluation.seen, settings, calibrated
  )
  return Outcome(content, evaluation, bank, _scores(evaluation, protocols))


def evaluate_pretrained(
  recognizer: encoders_lib.Recognizer,
  protocols: Sequence[class_split.Protocol],
  say: Callable[[str], Any],
  embeddings_dir: str = '',
) -> Outcome:
  """Evaluates encoders with a joint space by the nearest name.

  Args:
    recognizer: encoders with a joint space of videos and names.
    protocols: the splits of one protocol; their seen classes are not used.
    say: called with a line before each slow part.
    embeddings_dir: parent of the embedding caches; '' for none.

  Returns:
    The outcome, without a bank.
  """
  evaluation = protocol_evaluation.evaluate_nearest_name(
    protocols,
    embedders.make_embedder(recognizer, None, embeddings_dir, say=say),
  )
  content = _content(
    recognizer,
    protocols,
    evaluation,
    [*evaluation.rows],
    (recognizer.transfer_settings, 'the config'),
  )
  return Outcome(content, evaluation, None, _scores(evaluation, protocols))


def _calibrate(evaluation, settings, protocols, choice) -> dict | None:
  """The chosen calibration, or one on held-out seen videos if there are any."""
  if choice.get('calibration'):
    return choice['calibration']
  name, _ = _name_and_hash(protocols)
  fitted = choosing.calibrate_on_seen(evaluation, settings, name)
  return fitted and fitted.to_dict()


def _calibration_facts(calibrated: Mapping[str, Any]) -> dict[str, Any]:
  return {'measured_on': calibrated['measured_on'], **calibrated['figures']}


def _settings(recognizer, choice, bank) -> methods.TransferSettings:
  """Returns the bank's settings, else the chosen ones, else the config's."""
  if bank is not None:
    return methods.TransferSettings(**bank.settings)
  if choice:
    return methods.TransferSettings(**choice['settings'])
  return recognizer.transfer_settings


def _name_and_hash(protocols) -> tuple[str, str]:
  """Returns id and hash of the whole protocol, or of its only split."""
  one, first = len(protocols) == 1, protocols[0]
  return (first.name, first.hash) if one else (first.spec_id, first.spec_hash)


def _content(
  recognizer, protocols, evaluation, rows, settings_from
) -> dict[str, Any]:
  """Returns the content of results.json.

  `settings_from` holds the settings, and where they come from.
  """
  settings, origin = settings_from
  first, table = protocols[0], evaluation.table
  name, digest = _name_and_hash(protocols)
  return results.make_results(
    name,
    rows,
    config_utils.to_dict(recognizer.config),
    {
      'step': recognizer.step,
      'split': first.part if len(protocols) == 1 else '',
      'weights_hash': recognizer.weights_hash,
      'initialisation': recognizer.origin,
      **({'model': recognizer.source} if recognizer.source else {}),
      'settings': dataclasses.asdict(settings),
      'settings_from': origin,
      'unreadable': _distinct(v for p in protocols for v in p.unreadable),
      'num_missing': max(p.num_missing for p in protocols),
      'dropped_classes': list(first.dropped_classes),
      'facts': table.facts if table else {},
      'notes': list(table.notes) if table else [],
    },
    protocol_hash=digest,
    leaks=list(dict.fromkeys(str(leak) for p in protocols for leak in p.leaks)),
    paired=table.paired if table else (),
  )


def _match_names(protocols) -> tuple[str, ...]:
  """Returns all class names that protocols of the tested dataset may need."""
  first = protocols[0]
  if first.test is None:
    return ()
  dataset = prepared_dataset.PreparedDataset(first.test.dataset_dir)
  if first.test.dataset_dir == first.dataset_dir:
    return ()  # other splits need other models
  names = set(dataset.classes())
  for spec_id in registry.ids():
    spec = registry.get(spec_id)
    if spec.dataset == dataset.metadata['dataset']:
      names |= {name for split in spec.splits for name in split.unseen}
  return tuple(sorted(names))


def _scores(
  evaluation: protocol_evaluation.Evaluation,
  protocols: Sequence[class_split.Protocol],
) -> score_files.Scores | None:
  """Returns the scores of every readable video by every method."""
  table, videos = evaluation.table, evaluation.videos
  if table is None:
    return None
  n, names = len(videos.labels), evaluation.unseen.names
  several = len(protocols) > 1
  name, digest = _name_and_hash(protocols)
  return score_files.Scores(
    video_ids=tuple(evaluation.video_ids[:n]),
    class_names=names,
    scores={m: np.asarray(s, np.float32) for m, s in table.scores.items()},
    labels=tuple(names[label] for label in videos.labels),
    groups=tuple(videos.groups),
    sources=dict(zip(names, evaluation.unseen.sources, strict=True)),
    protocol=name,
    protocol_hash=digest,
    tested=videos.tested[:n] if several else None,
    candidates=videos.candidates if several else None,
    split_names=(),
  )


def _distinct(videos) -> list[dict[str, str]]:
  """Returns each video once."""
  return list({video['id']: dict(video) for video in videos}.values())


def frozen_clip_of(
  config: ml_collections.ConfigDict,
) -> public_encoders.PublicEncoders:
  """Returns the untrained model that a config starts from by `init.dual`."""
  path = initialisation.dual_source(config)
  clip = public_folders.open_sides(path, path, config.preprocessing.num_frames)
  clip.config.zeroshot.batch_size = config.zeroshot.batch_size
  clip.config.zeroshot.num_views = clip.config.zeroshot.num_crops = 1
  clip.config.data.num_threads = config.data.num_threads
  return clip


def _frozen_clip_rows(config, protocols, say) -> list[results.Row]:
  """Evaluates the untrained model that a run started from by `init.dual`."""
  path = initialisation.dual_source(config)
  if not path or protocols[0].test is None:
    return []
  if not hub.at_hand(path):
    say(f'{path} is not on this machine: the frozen_clip row is left out')
    return []
  say('embedding the same videos by the frozen model of init.dual')
  return protocol_evaluation.nearest_name_rows(
    protocols, embedders.make_embedder(frozen_clip_of(config)), 'frozen_clip'
  )
