"""Prototype banks of public encoders: from a classifier, one's videos, or both.

A video prototype is the mean of a class's embeddings less the mean of all
classes, at unit length, as a column is: embeddings of public encoders share a
large common part that says nothing of the class. A class with a column and
videos gets both, by their number (see `bank_changes.merge`). All of this is
our choice, and not compared with others yet.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.data.protocols import bank_protocols, class_split, video_sets
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
)
from zsar_jax.zeroshot import prototypes, scoring

CLASSIFIER, VIDEOS, BOTH = SOURCES = ('classifier', 'videos', 'both')
# Among fewer classes there is nothing to calibrate.
_LEAST_CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Choice:
  """What a bank is made of.

  Attributes:
    prototypes: one of `SOURCES`; '' for all that there is.
    dataset_dir: a prepared dataset, for prototypes and calibration; '' for
      none.
    drop_seen: names in any spelling that the bank leaves out.
    licence: of the videos behind the bank.
  """

  prototypes: str = ''
  dataset_dir: str = ''
  drop_seen: Sequence[str] = ()
  licence: str = ''

  def source(self, encoders: public_encoders.PublicEncoders) -> str:
    """Which of `SOURCES` it is for some encoders.

    Raises:
      ValueError: there is no classifier, or no dataset, to take them from.
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


def make_bank(
  encoders: public_encoders.PublicEncoders,
  choice: Choice,
  *,
  embeddings_dir: str = '',
  say: Callable[[str], Any] = lambda text: None,
) -> prototype_bank.PrototypeBank:
  """Makes a bank, calibrated where there are videos for it.

  Args:
    encoders: of the bank.
    choice: what it is made of.
    embeddings_dir: parent of the embedding caches; '' embeds anew.
    say: gets a line before each slow part, and why nothing is calibrated.

  Returns:
    The bank.

  Raises:
    FileNotFoundError: no prepared dataset there.
    ValueError: nothing to make it of, or a name to drop that is not there.
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
  bank = None
  if source != VIDEOS:
    mine = [name for name in drop if name in labels]
    bank = classifier_bank.make_bank(encoders, mine, choice.licence)
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
  """The bank of one's own training videos."""
  seen, _ = protocol_arrays.embed_seen(embed, own)
  centred = classifier_bank.prototypes(seen.prototypes)
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
  """The same bank with a calibration; without one where it cannot be."""
  protocol = bank.protocol
  if own.name not in protocol:
    protocol = f'{protocol} + {own.name}'
  bank = dataclasses.replace(bank, protocol=protocol)
  videos = own.validation
  if source == CLASSIFIER:
    # No prototype is made of the training videos.
    videos = video_sets.concatenate([own.train, videos])
  classes, shown = own.seen_classes, None
  if len(classes) >= _LEAST_CLASSES and len(videos):
    say(f'embedding {len(videos)} videos to calibrate on')
    shown = protocol_arrays.seen_videos(videos, embed(videos))
  if shown is None or not len(shown.labels):
    say(
      f'no calibration: {own.dataset_dir} must have {_LEAST_CLASSES} classes '
      f'or more, there are {len(classes)}, and readable videos to hold out, of '
      f'{len(videos)}'
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
  """What a calibration was measured on, in words."""
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
