"""Makes prototype banks from the last layer of a public video classifier.

A classifier's column (the weight vector of a class) points to the embeddings of
its class. We subtract the mean column and normalise, and use the result as the
class's prototype (our choice).
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from zsar_jax.data import class_names
from zsar_jax.inference import prototype_bank, public_encoders

PROTOCOL = 'classifier'


# Below this share of the longest column, a distance from the mean is rounding.
_ROUNDING = 1e-12


def prototypes(
  columns: np.ndarray, names: Sequence[str], source: str
) -> np.ndarray:
  """Turns a classifier's columns into prototypes.

  Args:
    columns: [s d], at least two.
    names: canonical names of the s classes, for messages.
    source: where the columns come from, for messages.

  Returns:
    float32 [s d], unit vectors.

  Raises:
    ValueError: there are fewer than two columns, or one equals their mean. The
      message names the source and the class.
  """
  columns = np.asarray(columns, np.float64)
  if len(columns) < 2:
    raise ValueError(
      f'{source}: prototypes need at least two classes: they are centred'
    )
  away = columns - columns.mean(axis=0)
  norms = np.linalg.norm(away, axis=1, keepdims=True)
  if not norms.min() > _ROUNDING * np.linalg.norm(columns, axis=1).max():
    raise ValueError(
      f'{source}: the vector of the class {names[int(norms.argmin())]!r} '
      f'equals the mean of all {len(columns)} classes, so it makes no prototype'
    )
  return (away / norms).astype(np.float32)


def missing(encoders: public_encoders.PublicEncoders) -> str:
  """Returns the error message for a video side without classifier."""
  return (
    f'{encoders.video.source} has no classifier to make prototypes from: give '
    '--dataset, a prepared dataset with videos of seen classes'
  )


def make_bank(
  encoders: public_encoders.PublicEncoders,
  drop_seen: Sequence[str] = (),
  licence: str = '',
  least: int = 2,
) -> prototype_bank.PrototypeBank:
  """Makes the bank of a classifier's classes.

  Args:
    encoders: encoders with a classifier on the video side.
    drop_seen: names of classes to leave out of the bank, in any spelling.
    licence: licence of the classifier's training videos.
    least: the fewest classes that may be left. A bank of one class alone
      predicts the same for every video.

  Returns:
    The bank. Its counts are 0, because no videos were used.

  Raises:
    ValueError: there is no classifier, it lacks a class of `drop_seen`, fewer
      than `least` classes are left, or a column makes no prototype.
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
  if len(kept) < least:
    raise ValueError(
      f'drop_seen leaves {len(kept)} of {len(video.labels)} classes of '
      f'{video.source}; at least {least} must stay'
    )
  names = tuple(video.labels[i] for i in kept)
  source = f"{video.source}: the classifier's last layer"
  return prototype_bank.PrototypeBank(
    seen_classes=names,
    # The mean is over all classes, so dropping one changes no prototype.
    seen_prototypes=prototypes(video.columns, video.labels, source)[kept],
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
    left_out=prototype_bank.without(encoders.trained_on, names),
  )
