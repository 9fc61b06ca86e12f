"""The methods of `experiments.pretrained_clips`: from arrays to scores.

A task has seen classes with clips, the columns of a classifier of other
classes, and clips to name. A method is a function of a task and of settings.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

import numpy as np

from zsar_jax.evaluation import methods, task
from zsar_jax.inference import public_encoders
from zsar_jax.zeroshot import (
  baselines,
  kept,
  prototypes,
  scoring,
  semantic_transfer,
)


@dataclasses.dataclass(frozen=True)
class Columns:
  """A classifier's last layer.

  Attributes:
    names: of its classes [k].
    text: class embeddings [k e], unit vectors.
    rows: prototypes [k d]: columns less their mean, unit vectors.
    raw: what features are multiplied with [k d].
    bias: [k].
  """

  names: tuple[str, ...]
  text: np.ndarray
  rows: np.ndarray
  raw: np.ndarray
  bias: np.ndarray

  def without(self, names: Sequence[str]) -> 'Columns':
    """The same without the columns of some classes."""
    keep = ~np.isin(self.names, names)
    return Columns(
      tuple(np.array(self.names)[keep]),
      *(x[keep] for x in (self.text, self.rows, self.raw, self.bias)),
    )


@dataclasses.dataclass(frozen=True)
class Task:
  """The clips to name, and the data of the other classes.

  Attributes:
    seen_features: of the seen clips [n d], not normalised.
    labels: int [n], index among the seen classes.
    seen_text: class embeddings [s e], unit vectors.
    columns: of the classifier.
    features: of the clips to name [m d], not normalised.
    text: class embeddings of the candidates [u e], unit vectors.
  """

  seen_features: np.ndarray
  labels: np.ndarray
  seen_text: np.ndarray
  columns: Columns
  features: np.ndarray
  text: np.ndarray


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the methods.

  Attributes:
    transfer: of composites; `text_ridge` of regressions and `conse_top` too.
    centre_video: take the mean seen clip off all features.
    columns_share: share of the columns beside the seen clips, in (0, 1): in
      composites of both, and among the training points of a regression.
    regression_share: share of the regression in the ensemble, in (0, 1).
  """

  transfer: methods.TransferSettings = methods.TransferSettings()
  centre_video: bool = True
  columns_share: float = 0.5
  regression_share: float = 0.5


Scores = np.ndarray
_TILE = 256


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def embeddings(of: Task, centre: bool) -> tuple[np.ndarray, np.ndarray]:
  """Unit vectors of the seen clips [n d] and of those to name [m d].

  Args:
    of: the task.
    centre: take the mean over seen classes of their mean clips off first.
  """
  seen, tested = _unit(of.seen_features), _unit(of.features)
  if centre:
    sums = prototypes.PrototypeSums(len(of.seen_text), seen.shape[1])
    sums.add(seen, of.labels)
    mean = (sums.sums / sums.counts[:, None]).mean(axis=0)
    seen, tested = _unit(seen - mean), _unit(tested - mean)
  return seen.astype(np.float32), tested.astype(np.float32)


def _classes(text: np.ndarray) -> task.Classes:
  return task.Classes(('',) * len(text), text)


def _column_composites(of: Task, settings: Settings) -> np.ndarray:
  found, _ = methods.unseen_prototypes(
    _classes(of.columns.text), of.columns.rows, of.text, settings.transfer
  )
  return found


def _seen_composites(
  of: Task, seen: np.ndarray, settings: Settings
) -> np.ndarray:
  found, _ = methods.unseen_prototypes(
    _classes(of.seen_text),
    prototypes.class_prototypes(seen, of.labels, len(of.seen_text)),
    of.text,
    settings.transfer,
  )
  return found


def transfer_columns(of: Task, settings: Settings) -> Scores:
  """Composites of the classifier's columns; seen clips are not used."""
  _, tested = embeddings(of, settings.centre_video)
  return scoring.similarity_scores(
    tested[:, None], _column_composites(of, settings)
  )


def transfer_seen(of: Task, settings: Settings) -> Scores:
  """Composites of the seen classes' prototypes."""
  seen, tested = embeddings(of, settings.centre_video)
  return scoring.similarity_scores(
    tested[:, None], _seen_composites(of, seen, settings)
  )


def _both_composites(
  of: Task, columns: Settings, seen: Settings, centre: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Clips to name, and composites of columns and of seen prototypes."""
  of_seen, tested = embeddings(of, centre)
  return (
    tested,
    _unit(_column_composites(of, columns)),
    _seen_composites(of, of_seen, seen),
  )


def transfer_both(
  of: Task, settings: Settings, columns: Settings, seen: Settings
) -> Scores:
  """Mixtures of both composites of a class, at unit length.

  Args:
    of: the task.
    settings: `columns_share` and `centre_video`.
    columns: settings of the composites of columns.
    seen: settings of the composites of seen prototypes.
  """
  tested, of_columns, of_seen = _both_composites(
    of, columns, seen, settings.centre_video
  )
  share = settings.columns_share
  mixed = _unit(share * of_columns + (1 - share) * of_seen)
  return scoring.similarity_scores(tested[:, None], mixed)


def _training_points(
  of: Task, seen: np.ndarray | None, columns: bool, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """What a regression to text is fitted to; classes weigh the same.

  Args:
    of: the task.
    seen: embeddings of the seen clips [n d]; None leaves them out.
    columns: whether the columns are points too.
    share: of the columns, where there are both.

  Returns:
    Points [p d], their classes int [p], weights of the classes [c], which sum
    to one, and class embeddings [c e].
  """
  points, labels, weights, texts = [], [], [], []
  if columns:
    number = len(of.columns.rows)
    points.append(of.columns.rows)
    labels.append(np.arange(number))
    weights.append(np.full(number, (1.0 if seen is None else share) / number))
    texts.append(of.columns.text)
  if seen is not None:
    number = len(of.seen_text)
    points.append(seen)
    labels.append(of.labels + sum(map(len, weights)))
    weights.append(np.full(number, (1.0 - share if columns else 1.0) / number))
    texts.append(of.seen_text)
  return tuple(map(np.concatenate, (points, labels, weights, texts)))


@kept.recent
def _reduced(points: np.ndarray) -> np.ndarray:
  """Rows of a basis of points [p d], then the points in it: [d + p, r]."""
  basis, in_basis = np.linalg.qr(points.T)
  return np.concatenate([basis, in_basis.T])


def ridge(
  of: Task, settings: Settings, *, clips: bool, columns: bool
) -> Scores:
  """Cosines of names with the regression from embeddings to names.

  Args:
    of: the task.
    settings: lambda, `columns_share`, and whether names and embeddings
      are centred.
    clips: whether the seen clips are training points.
    columns: whether the columns are training points.
  """
  seen, tested = embeddings(of, settings.centre_video)
  points, labels, weights, known = _training_points(
    of, seen if clips else None, columns, settings.columns_share
  )
  text = of.text
  if settings.transfer.centre_text:
    mean = weights @ known
    known, text = _unit(known - mean), _unit(text - mean)
  # The solution lies in the span of the points, which is smaller.
  basis, z = np.split(_reduced(points.astype(np.float64)), [points.shape[1]])
  weighted = z * (weights / np.bincount(labels))[labels][:, None]
  sums = np.zeros((len(weights), z.shape[1]))
  np.add.at(sums, labels, weighted)
  regression = baselines.ridge_to_text(
    weighted.T @ z, sums, weights, known, settings.transfer.text_ridge
  )
  return _unit(tested @ basis @ regression) @ text.T


def conse(of: Task, settings: Settings) -> Scores:
  """ConSE: the mean name of the classifier's most probable classes."""
  extended = lambda x, last: np.column_stack([x, last]).astype(np.float32)
  # Programs are compiled for shapes, of which there should be few.
  number = len(of.features)
  features = np.pad(of.features, ((0, -number % _TILE), (0, 0)))
  known, text = of.columns.text, of.text
  if settings.transfer.centre_text:
    text, known = semantic_transfer.centred_rows(text, known)
  return baselines.conse_scores(
    # A feature of 1 carries the bias.
    extended(features, np.ones(len(features))),
    extended(of.columns.raw, of.columns.bias),
    1.0,
    known,
    text,
    settings.transfer.conse_top,
  )[:number]


COLUMNS, SEEN = 'transfer, columns', 'transfer, seen'
BOTH = 'transfer, both'
RIDGE_COLUMNS, RIDGE_SEEN = 'ridge, columns', 'ridge, seen'
RIDGE_BOTH = 'ridge, both'
CONSE, ENSEMBLE = 'conse', 'ensemble'
# In this order: later ones are made of earlier ones.
METHODS = (
  COLUMNS,
  SEEN,
  BOTH,
  RIDGE_COLUMNS,
  RIDGE_SEEN,
  RIDGE_BOTH,
  CONSE,
  ENSEMBLE,
)


def score(
  name: str,
  of: Task,
  chosen: Mapping[str, Settings],
  made: Mapping[str, Scores],
) -> Scores:
  """Scores clips by one method.

  Args:
    name: one of `METHODS`.
    of: the task.
    chosen: settings of the method, and of those that it is made of.
    made: scores of the methods before it.

  Returns:
    [m u], higher is better.

  Raises:
    KeyError: no such method, or no settings or scores of one that it needs.
  """
  settings = chosen[name]
  if name == BOTH:
    return transfer_both(of, settings, chosen[COLUMNS], chosen[SEEN])
  if name == ENSEMBLE:
    return baselines.ensemble_scores(
      made[BOTH],
      made[RIDGE_BOTH],
      beta=settings.regression_share,
      transfer_temperature=1.0,
    )
  simple = {
    COLUMNS: transfer_columns,
    SEEN: transfer_seen,
    RIDGE_COLUMNS: functools.partial(ridge, clips=False, columns=True),
    RIDGE_SEEN: functools.partial(ridge, clips=True, columns=False),
    RIDGE_BOTH: functools.partial(ridge, clips=True, columns=True),
    CONSE: conse,
  }
  return simple[name](of, settings)


def all_scores(of: Task, chosen: Mapping[str, Settings]) -> dict[str, Scores]:
  """Scores of all methods, [m u] each."""
  made = {}
  for name in METHODS:
    made[name] = score(name, of, chosen, made)
  return made


def grid(name: str) -> list[Settings]:
  """The settings of a method to choose of, at most eight, declared first."""
  declared = _DECLARED[name]
  transfers = [
    dataclasses.replace(
      declared,
      transfer=dataclasses.replace(declared.transfer, **change),
    )
    for change in _TRANSFERS.get(name, ())
  ]
  others = [
    dataclasses.replace(declared, **change) for change in _OTHERS.get(name, ())
  ]
  return [declared, *transfers, *others]


_PRODUCT = public_encoders.SETTINGS
# Of the development split; see the module docstring of pretrained_clips.
_DECLARED = {
  COLUMNS: Settings(_PRODUCT, centre_video=False),
  SEEN: Settings(),
  BOTH: Settings(),
  RIDGE_COLUMNS: Settings(),
  RIDGE_SEEN: Settings(),
  RIDGE_BOTH: Settings(),
  CONSE: Settings(),
  ENSEMBLE: Settings(),
}
_TRANSFERS = {
  COLUMNS: (
    {'hub_correction': 0.0},
    {'weighting': 'softmax', 'temperature': 0.1},
    {'weighting': 'softmax', 'temperature': 0.2},
    {'weighting': 'softmax', 'temperature': 0.4},
    {'centre_text': False},
  ),
  SEEN: (
    {'temperature': 0.05},
    {'temperature': 0.2},
    {'temperature': 0.4},
    {'top_k': 3},
    {'weighting': 'ridge'},
    {'centre_text': False},
  ),
  CONSE: ({'centre_text': False}, {'conse_top': 5}, {'conse_top': 40}),
  **dict.fromkeys(
    (RIDGE_COLUMNS, RIDGE_SEEN, RIDGE_BOTH),
    ({'centre_text': False}, {'text_ridge': 0.003}, {'text_ridge': 0.03}),
  ),
}
_SHARES = ({'columns_share': 0.25}, {'columns_share': 0.75})
_OTHERS = {
  COLUMNS: ({'centre_video': True},),
  SEEN: ({'centre_video': False},),
  BOTH: (*_SHARES, {'centre_video': False}),
  RIDGE_BOTH: _SHARES,
  ENSEMBLE: ({'regression_share': 0.25}, {'regression_share': 0.75}),
}
