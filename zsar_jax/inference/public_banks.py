"""Makes prototype banks of public encoders: from a classifier, videos, or both.

A prototype from videos is the mean embedding of a class, minus the mean of all
classes, at unit length. Subtracting the mean removes a large part that public
encoders' embeddings share and that does not tell classes apart. Prototypes from
a classifier's columns are centred in the same way. A class with a column and
videos gets a weighted mean of both, see `bank_changes.merge`. All of this is
our choice, and not compared with alternatives yet.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.data import class_descriptions, class_names
from zsar_jax.data.protocols import (
  bank_protocols,
  class_split,
  prepared_dataset,
  video_sets,
)
from zsar_jax.evaluation import (
  choosing,
  embedding,
  methods,
  protocol_arrays,
  task,
)
from zsar_jax.inference import (
  bank_building,
  bank_changes,
  classifier_bank,
  embedders,
  prototype_bank,
  public_encoders,
  public_folders,
)
from zsar_jax.zeroshot import prototypes, scoring

CLASSIFIER, VIDEOS, BOTH = SOURCES = ('classifier', 'videos', 'both')
# Fewer classes are too few to calibrate on.
_LEAST_CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Choice:
  """The user's choice of a bank's content.

  Attributes:
    prototypes: one of `SOURCES`; '' uses all sources that exist.
    dataset_dir: a prepared dataset, for prototypes and calibration; '' for
      none.
    drop_seen: names of classes to leave out of the bank, in any spelling.
    licence: licence of the videos of the bank.
  """

  prototypes: str = ''
  dataset_dir: str = ''
  drop_seen: Sequence[str] = ()
  licence: str = ''

  def source(self, encoders: public_encoders.PublicEncoders) -> str:
    """Returns which of `SOURCES` to use for the encoders.

    Raises:
      ValueError: the source is unknown, or its classifier or dataset is
        missing.
    """
    has_columns = encoders.video.columns is not None
    source = self.prototypes
    if not source:
      source = CLASSIFIER
      if self.dataset_dir:
        source = BOTH if has_columns else VIDEOS
    if source not in SOURCES:
      raise ValueError(
        f'--prototypes={source} is not one of {", ".join(SOURCES)}'
      )
    if source != CLASSIFIER and not self.dataset_dir:
      raise ValueError(
        f'--prototypes={source} needs --dataset, a prepared dataset'
      )
    if source != VIDEOS and not has_columns:
      raise ValueError(classifier_bank.missing(encoders))
    return source


def describe(
  encoders: public_encoders.PublicEncoders,
  source: str | None,
  dataset_dir: str = '',
  say: Callable[[str], Any] = lambda text: None,
) -> public_encoders.PublicEncoders:
  """Gives encoders the descriptions that a bank is built with.

  Args:
    encoders: of both sides.
    source: see `class_descriptions.find`; '' for none. None takes those that
      ship, if a class has one and the text side is a sentence encoder: what
      they do to a joint space was not measured.
    dataset_dir: a prepared dataset, whose own descriptions come first; '' for
      none.
    say: gets lines about what is described, and what is not.

  Returns:
    The encoders, with a `weights_hash` of their own if there are any.

  Raises:
    FileNotFoundError, ValueError: see `class_descriptions`.
  """
  names, dataset = encoders.seen_classes, ''
  if dataset_dir:
    prepared = prepared_dataset.PreparedDataset(dataset_dir)
    dataset = prepared.metadata['dataset']
    names = (*dict.fromkeys((*names, *prepared.classes())),)
  if source is None:
    known = class_descriptions.shipped(dataset)
    if encoders.text.space or known.keys().isdisjoint(names):
      return encoders
    source = class_descriptions.SHIPPED
  if not source:
    return encoders
  described = class_descriptions.find(source, dataset)
  lacking = class_descriptions.check_some(described, names, source)
  say(
    lacking
    or f'descriptions: {source}, for all classes (--descriptions= takes names '
    'alone)'
  )
  return public_folders.describe(encoders, described)


def make_bank(
  encoders: public_encoders.PublicEncoders,
  choice: Choice,
  *,
  embeddings_dir: str = '',
  say: Callable[[str], Any] = lambda text: None,
) -> prototype_bank.PrototypeBank:
  """Makes a bank, and calibrates it if there are videos to calibrate on.

  Args:
    encoders: encoders of the bank.
    choice: content of the bank.
    embeddings_dir: parent of the embedding caches; '' for none.
    say: called with a line before each slow part, and with the reason if there
      is no calibration.

  Returns:
    The bank.

  Raises:
    FileNotFoundError: there is no prepared dataset at `dataset_dir`.
    ValueError: there is no source of prototypes, no class of a name in
      `drop_seen`, or `drop_seen` leaves too few classes.
  """
  source, own = choice.source(encoders), None
  drop = []
  if choice.drop_seen:
    drop = class_names.canonical_names(choice.drop_seen, 'drop_seen')
  if choice.dataset_dir:
    own = bank_protocols.make_own_protocol(choice.dataset_dir, drop)
  labels = () if source == VIDEOS else encoders.video.labels
  known = {*labels, *(own.dropped_classes if own else ())}
  unknown = [name for name in drop if name not in known]
  if unknown:
    where = [encoders.video.source] if labels else []
    where += [choice.dataset_dir] if own else []
    raise ValueError(
      f'drop_seen: {" and ".join(where)} has no class {", ".join(unknown)}'
    )
  if source != CLASSIFIER and len(own.seen_classes) < 2 and drop:
    every = len(own.seen_classes) + len(own.dropped_classes)
    raise ValueError(
      f'drop_seen leaves {len(own.seen_classes)} of {every} classes of '
      f'{choice.dataset_dir}; at least 2 must stay'
    )
  bank = None
  if source != VIDEOS:
    mine = [name for name in drop if name in labels]
    # Classes of the videos come to those of the classifier.
    least = 1 if source == BOTH else 2
    bank = classifier_bank.make_bank(encoders, mine, choice.licence, least)
  if own is None:
    return bank
  embed = embedders.make_embedder(encoders, None, embeddings_dir, say=say)
  if source != CLASSIFIER:
    of_videos = _of_videos(encoders, own, embed, choice.licence)
    bank = bank_changes.merge([bank, of_videos]) if bank else of_videos
  return _calibrated(bank, encoders, own, embed, source, say)


def _of_videos(
  encoders: public_encoders.PublicEncoders,
  own: class_split.Protocol,
  embed: embedding.Embedder,
  licence: str,
) -> prototype_bank.PrototypeBank:
  """Makes the bank of the dataset's training videos."""
  seen, _ = protocol_arrays.embed_seen(embed, own)
  centred = classifier_bank.prototypes(
    seen.prototypes, own.seen_classes, 'the mean embeddings of videos'
  )
  bank = bank_building.make_bank(
    encoders,
    own,
    dataclasses.replace(seen, prototypes=centred),
    encoders.transfer_settings,
    licence=licence,
  )
  return dataclasses.replace(bank, centre=seen.prototypes.mean(axis=0))


def _calibrated(
  bank: prototype_bank.PrototypeBank,
  encoders: public_encoders.PublicEncoders,
  own: class_split.Protocol,
  embed: embedding.Embedder,
  source: str,
  say: Callable[[str], Any],
) -> prototype_bank.PrototypeBank:
  """Adds a calibration to a bank, if the dataset has enough videos."""
  protocol = bank.protocol
  if own.name not in protocol:
    protocol = f'{protocol} + {own.name}'
  bank = dataclasses.replace(bank, protocol=protocol)
  videos = own.validation
  if source == CLASSIFIER:
    # No prototype uses the training videos, so they can calibrate too.
    videos = video_sets.concatenate([own.train, videos])
  classes, shown = own.seen_classes, None
  if len(classes) >= _LEAST_CLASSES and len(videos):
    say(f'embedding {len(videos)} videos to calibrate on')
    shown = protocol_arrays.seen_videos(videos, embed(videos))
  if shown is None or not len(shown.labels):
    say(
      f'no calibration: {own.dataset_dir} has {len(classes)} classes and '
      f'{len(videos)} held-out videos; a calibration needs {_LEAST_CLASSES} '
      'classes or more, and readable videos'
    )
    return bank
  fitted = choosing.calibrate(
    bank_building.seen_of(bank, encoders.joint),
    task.Classes(classes, encoders.encode_class_names(classes)['embedding']),
    shown,
    methods.TransferSettings(**bank.settings),
    _measured_on(encoders, own, len(shown.labels)),
  )
  if bank.centre is None:
    # What example videos need later; see `example_videos.space`.
    present, labels = np.unique(shown.labels, return_inverse=True)
    means = prototypes.class_prototypes(
      scoring.view_means(shown.embeddings), labels, len(present)
    )
    bank = dataclasses.replace(bank, centre=means.mean(axis=0))
  return dataclasses.replace(bank, calibration=fitted.to_dict())


def _measured_on(
  encoders: public_encoders.PublicEncoders,
  own: class_split.Protocol,
  num_videos: int,
) -> str:
  """Describes the videos of a calibration, with a caution."""
  classes = own.seen_classes
  trained = sum(name in encoders.seen_classes for name in classes)
  if trained:
    caution = (
      f'the public weights were trained on {trained} of the classes, so the '
      'probabilities are too high'
    )
  elif encoders.seen_classes:
    caution = 'the classifier knows none of these classes'
  else:
    caution = 'what the public weights were trained on is not known'
  return (
    f'{num_videos} videos of {len(classes)} classes of '
    f'{own.name.partition(":")[0]}, each class composited from the others: '
    f'{caution}'
  )
