"""Prototype banks from the last layer of a public video classifier.

A classifier's column points to where the videos of its class lie. Less the
mean column, at unit length, it stands for the class's prototype (our choice).
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.inference import prototype_bank, public_encoders

PROTOCOL = 'classifier'


def prototypes(columns: np.ndarray) -> np.ndarray:
  """Turns a classifier's columns into prototypes.

  Args:
    columns: [s d], at least two.

  Returns:
    float32 [s d], unit vectors.

  Raises:
    ValueError: fewer than two columns, or one that equals their mean.
  """
  columns = np.asarray(columns, np.float64)
  if len(columns) < 2:
    raise ValueError('the prototype of one class says nothing about others')
  away = columns - columns.mean(axis=0)
  norms = np.linalg.norm(away, axis=1, keepdims=True)
  if not norms.min() > 0:
    raise ValueError(
      f'the column of class {int(norms.argmin())} equals the mean of all'
    )
  return (away / norms).astype(np.float32)


def missing(encoders: public_encoders.PublicEncoders) -> str:
  """Says that the video side has no classifier, and what to do."""
  return (
    f'{encoders.video.source} has no classifier, so no prototypes: give '
    '--dataset, a prepared dataset with videos of seen classes'
  )


def make_bank(
  encoders: public_encoders.PublicEncoders,
  drop_seen: Sequence[str] = (),
  licence: str = '',
) -> prototype_bank.PrototypeBank:
  """Makes the bank of a classifier's classes.

  Args:
    encoders: with a classifier on the video side.
    drop_seen: names in any spelling that the bank leaves out, as if the
      classifier had never learnt them.
    licence: of the classifier's training videos.

  Returns:
    The bank; its counts are 0, since no videos were at hand.

  Raises:
    ValueError: no classifier, or a name to drop that it does not have.
  """
  video = encoders.video
  if video.columns is None:
    raise ValueError(missing(encoders))
  dropped = []
  if drop_seen:
    dropped = class_names.canonical_names(drop_seen, 'drop_seen')
  unknown = [name for name in dropped if name not in video.labels]
  if unknown:
    raise ValueError(
      f'drop_seen: {video.source} has no class {", ".join(unknown)}'
    )
  kept = [i for i, name in enumerate(video.labels) if name not in dropped]
  names = tuple(video.labels[i] for i in kept)
  return prototype_bank.PrototypeBank(
    seen_classes=names,
    # Centred over all classes: what is dropped changes no other prototype.
    seen_prototypes=prototypes(video.columns)[kept],
    class_embeddings=encoders.encode_class_names(names)['embedding'],
    counts=np.zeros(len(names), np.int64),
    domain=f'the training videos of {public_encoders.short_name(video.source)}',
    protocol=PROTOCOL,
    protocol_hash='',
    preprocessing=encoders.prep.to_json(),
    weights_hash=encoders.weights_hash,
    step=encoders.step,
    licence=licence,
    origin=encoders.origin,
    settings=dataclasses.asdict(encoders.transfer_settings),
    calibration=None,
  )
