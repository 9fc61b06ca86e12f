"""Ways to name clips by described classes, on models with a frozen text side.

The text side of such a model is a public encoder and a rotation that is drawn
from the run's seed and never trained. So sentences about the classes can be
added to their names afterwards: only class embeddings change.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
from typing import Any

import jax
import numpy as np

from experiments import grid
from zsar_jax import config_utils
from zsar_jax.data import preprocessing
from zsar_jax.evaluation import methods, protocol_evaluation, task
from zsar_jax.inference import model_builder, public_encoders
from zsar_jax.zeroshot import baselines, scoring

TRANSFER, NAME = 'transfer', 'nearest_name'
REGRESSION, TOGETHER = 'ridge_to_text', 'together'
# In this order: the last is made of the others.
METHODS = (TRANSFER, NAME, REGRESSION, TOGETHER)
# Class embeddings: weight of the descriptions -> name -> unit vector [e].
Texts = Mapping[float, Mapping[str, np.ndarray]]
# How near the embedding of a plain name must come to the model's own.
_CLOSE = 1e-3


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of a method.

  Attributes:
    weight: of the descriptions in a class embedding, in [0, 1].
    transfer: of composites; its `text_ridge` is of the regression.
    shares: of transfer, nearest name and regression in `together`.
  """

  weight: float = 0.0
  transfer: methods.TransferSettings = methods.TransferSettings()
  shares: tuple[float, float, float] = (1.0, 0.0, 1.0)


def rotation(config: Mapping[str, Any]) -> np.ndarray:
  """Returns the text projection of a run that never trained it.

  Args:
    config: of the run, as `config_utils.to_dict` gives it.

  Returns:
    [e d]; class embeddings are unit vectors of the encoder's times this.
  """
  wanted = ('model', 'preprocessing', 'seed')
  return _rotation(json.dumps({key: config[key] for key in wanted}))


@functools.cache
def _rotation(text: str) -> np.ndarray:
  config = config_utils.from_dict(json.loads(text))
  prep = preprocessing.Preprocessing.from_dict(
    {**config_utils.to_dict(config.preprocessing), 'vocabulary_hash': ''}
  )
  # The projection depends neither on the vocabulary nor on the classes.
  model = model_builder.build_model(config, prep, 100, 1)

  @jax.jit
  def kernel(key):
    params = model_builder.random_parameters(model, prep, key)
    return params['text_projection']['kernel']

  return np.asarray(kernel(jax.random.key(config.seed)))


def with_texts(
  evaluation: protocol_evaluation.Evaluation,
  rows: Mapping[str, np.ndarray],
  turned: np.ndarray,
) -> protocol_evaluation.Evaluation:
  """Returns a model's arrays with other class embeddings.

  Args:
    evaluation: arrays of one model.
    rows: class name -> unit vector of the text encoder [e].
    turned: the model's rotation [e d].
  """

  def changed(classes: task.Classes) -> task.Classes:
    text = _unit(np.stack([rows[name] for name in classes.names]) @ turned)
    return dataclasses.replace(classes, text=text.astype(np.float32))

  seen = evaluation.seen
  return dataclasses.replace(
    evaluation,
    seen=dataclasses.replace(seen, classes=changed(seen.classes)),
    unseen=changed(evaluation.unseen),
  )


def described(
  trained: grid.Trained, texts: Texts
) -> dict[float, protocol_evaluation.Evaluation]:
  """Returns a model's arrays with the class embeddings of every weight.

  Args:
    trained: the run.
    texts: class embeddings; weight 0 is the name alone.

  Raises:
    ValueError: the model's own embeddings are not those of weight 0. Then its
      text side was trained, or is another encoder's.
  """
  turned = rotation(trained.facts['config'])
  found = {
    weight: with_texts(trained.evaluation, rows, turned)
    for weight, rows in texts.items()
  }
  for own, made in (
    (trained.evaluation.seen.classes, found[0.0].seen.classes),
    (trained.evaluation.unseen, found[0.0].unseen),
  ):
    far = float(np.abs(own.text - made.text).max())
    if far > _CLOSE:
      raise ValueError(
        f'class embeddings of {own.names[0]!r} and others differ by {far:.3g} '
        f'from those of the run {trained.facts["protocol"]}: its text side '
        'must be this encoder, frozen'
      )
  return found


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _standardised(scores: np.ndarray) -> np.ndarray:
  """Scores [n u] with mean 0 and deviation 1 over a video's candidates."""
  away = scores - scores.mean(axis=1, keepdims=True)
  return away / np.maximum(away.std(axis=1, keepdims=True), 1e-12)


def together(
  scores: Sequence[np.ndarray], shares: Sequence[float]
) -> np.ndarray:
  """Mean of several methods' scores, each standardised video by video.

  Args:
    scores: of each method [n u]; scales may differ.
    shares: weight of each method, at least 0, not all 0.

  Returns:
    [n u].
  """
  parts = [s * _standardised(x) for s, x in zip(shares, scores, strict=True)]
  return np.sum(parts, axis=0) / sum(shares)


def score(
  method: str,
  texts: Mapping[float, protocol_evaluation.Evaluation],
  chosen: Mapping[str, Settings],
) -> np.ndarray:
  """Scores a model's test videos.

  Args:
    method: one of `METHODS`.
    texts: from `described`.
    chosen: settings of the method, and of those that it is made of.

  Returns:
    [n u], higher is better.
  """
  settings = chosen[method]
  if method == TOGETHER:
    parts = [score(part, texts, chosen) for part in METHODS[:-1]]
    return together(parts, settings.shares)
  evaluation = texts[settings.weight]
  seen, unseen = evaluation.seen, evaluation.unseen
  if method == TRANSFER:
    rows, _ = methods.unseen_prototypes(
      seen.classes, seen.prototypes, unseen, settings.transfer
    )
  elif method == NAME:
    rows = unseen.text
  else:
    regression = baselines.ridge_to_text(
      seen.sums.gram,
      seen.sums.sums,
      seen.sums.counts,
      seen.classes.text,
      settings.transfer.text_ridge,
    )
    rows = baselines.regression_rows(regression, unseen.text)
  z = scoring.view_means(evaluation.videos.embeddings)
  return scoring.score_videos(z, rows)


def candidates(method: str, described: bool) -> list[Settings]:
  """Returns the settings of a method to choose of, at most eight.

  Args:
    method: one of `METHODS`.
    described: whether classes have descriptions; else all weights are 0.

  Returns:
    The declared settings, then settings that differ from them in one thing.
  """
  declared = (
    DECLARED if described else dataclasses.replace(DECLARED, weight=0.0)
  )
  changed = lambda **change: dataclasses.replace(declared, **change)
  transfer = lambda **change: changed(
    transfer=dataclasses.replace(declared.transfer, **change)
  )
  product = public_encoders.SETTINGS
  kernel = {'weighting': product.weighting, 'ridge': product.ridge}
  others = {
    TRANSFER: [
      transfer(temperature=0.1),
      transfer(temperature=0.2),
      transfer(**kernel),
      transfer(**kernel, hub_correction=0.0),
    ],
    NAME: [],
    REGRESSION: [transfer(text_ridge=0.01), transfer(text_ridge=0.03)],
    TOGETHER: [
      changed(shares=shares)
      for shares in ((2.0, 0.0, 1.0), (1.0, 0.0, 2.0), (1.0, 1.0, 1.0))
    ],
  }[method]
  weights = []
  if described and method != TOGETHER:
    weights = [changed(weight=w) for w in WEIGHTS if w != declared.weight]
  return [declared, *weights, *others]


# Of the descriptions in a class embedding.
WEIGHTS = (0.2, 0.35, 0.5, 0.65)
# Made on inner draws of the development split.
DECLARED = Settings(
  weight=0.35,
  transfer=methods.TransferSettings(temperature=0.4, text_ridge=0.1),
)
