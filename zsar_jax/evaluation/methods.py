"""Methods of zero-shot recognition: from embeddings to scores of classes.

These are pure functions of arrays: they need no model and no videos.
"""

import dataclasses

import numpy as np

from zsar_jax.evaluation import task
from zsar_jax.zeroshot import (
  baselines,
  hubness,
  kept,
  scoring,
  semantic_transfer,
)

# The methods of the table; all other rows are diagnostics.
METHODS = (
  'transfer',
  'transfer_ridge',
  'transfer_simplex',
  'transfer_kernel',
  'nearest_name',
  'conse',
  'ridge_to_text',
  'fusion',
  'ensemble',
)
# Methods that use all test videos at once; only
# `TransferSettings.transductive` adds them.
TRANSDUCTIVE = ('transductive_inverted_softmax', 'transductive_sinkhorn')
# The comparison declared before any result: the transfer against this method.
PRIMARY = 'nearest_name'
# At most this many seen classes estimate how near composites are to seen
# prototypes.
_LEFT_OUT = 64
RELATEDNESS_SOURCES = ('trained', 'initial')
PROTOTYPE_SOURCES = ('videos', 'classifier')


@dataclasses.dataclass(frozen=True)
class TransferSettings:
  """Settings of the methods; see `zsar_jax.zeroshot`.

  Attributes:
    temperature: tau of the softmax weights.
    top_k: number of seen classes in a composite; 0 means all.
    centre_text: subtract the mean seen class embedding first.
    weighting: weights of predictions and composites; the table has a row for
      each of `semantic_transfer.WEIGHTINGS`.
    ridge: lambda of the ridge and kernel weights.
    kernel_gamma: gamma of the kernel weights.
    hub_correction: beta of `hubness.shrink_hubs`; only for kernel weights.
    relatedness_source: 'trained' for class embeddings of the trained text
      encoder, 'initial' for those from before training.
    prototype_source: 'videos' for means of training videos, 'classifier' for
      the classifier's centres.
    conse_top: T of ConSE.
    text_ridge: lambda of `ridge_to_text`.
    ensemble_beta: weight of the match score in the ensemble, in [0, 1].
    ensemble_transfer_temperature: T1 of the ensemble.
    ensemble_match_temperature: T2 of the ensemble.
    seen_penalty: penalty that GZSL subtracts from the scores of seen classes,
      chosen on inner draws; None if none was chosen.
    example_prior: kappa of `examples.mix`: the number of example videos that a
      class's name counts as.
    transductive: also score with corrections that use all test videos.
  """

  temperature: float = 0.1
  top_k: int = 0
  centre_text: bool = True
  weighting: str = 'softmax'
  ridge: float = 0.1
  kernel_gamma: float = 1.0
  hub_correction: float = 0.5
  relatedness_source: str = 'trained'
  prototype_source: str = 'videos'
  conse_top: int = 10
  text_ridge: float = 0.01
  ensemble_beta: float = 0.5
  ensemble_transfer_temperature: float = 0.05
  ensemble_match_temperature: float = 1.0
  seen_penalty: float | None = None
  example_prior: float = 0.5
  transductive: bool = False

  def __post_init__(self):
    for name, known in (
      ('weighting', semantic_transfer.WEIGHTINGS),
      ('relatedness_source', RELATEDNESS_SOURCES),
      ('prototype_source', PROTOTYPE_SOURCES),
    ):
      if getattr(self, name) not in known:
        raise ValueError(
          f'zeroshot.{name}={getattr(self, name)!r} is not one of {known}'
        )


def class_rows(
  seen: task.Classes, unseen: task.Classes, settings: TransferSettings
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the class embeddings that relatedness is computed from.

  Args:
    seen: the seen classes.
    unseen: the unseen classes.
    settings: `relatedness_source` selects the embeddings.

  Returns:
    Embeddings of the unseen [u e] and of the seen classes [s e].

  Raises:
    ValueError: the selected embeddings are missing.
  """
  if settings.relatedness_source == 'trained':
    return unseen.text, seen.text
  if seen.initial_text is None or unseen.initial_text is None:
    raise ValueError(
      "zeroshot.relatedness_source='initial' needs class embeddings from "
      'before training, and there are none'
    )
  return unseen.initial_text, seen.initial_text


def unseen_prototypes(
  seen: task.Classes,
  seen_prototypes: np.ndarray,
  unseen: task.Classes | np.ndarray,
  settings: TransferSettings,
) -> tuple[np.ndarray, np.ndarray]:
  """Composites prototypes of unseen classes.

  Args:
    seen: the seen classes.
    seen_prototypes: [s d], unit vectors.
    unseen: the unseen classes, or their embeddings [u e].
    settings: of the transfer.

  Returns:
    Prototypes [u d] and transfer weights [u s].
  """
  if not isinstance(unseen, task.Classes):
    unseen = task.Classes(('',) * len(unseen), unseen)
  unseen_text, seen_text = class_rows(seen, unseen, settings)
  weights = semantic_transfer.transfer_weights(
    unseen_text,
    seen_text,
    weighting=settings.weighting,
    temperature=settings.temperature,
    top_k=settings.top_k,
    ridge=settings.ridge,
    gamma=settings.kernel_gamma,
    centre=settings.centre_text,
  )
  composites = np.asarray(semantic_transfer.composite(weights, seen_prototypes))
  if settings.weighting == 'kernel' and settings.hub_correction:
    composites = _without_hubs(composites, seen_text, seen_prototypes, settings)
  return composites, weights


def _without_hubs(
  composites: np.ndarray,
  seen_text: np.ndarray,
  seen_prototypes: np.ndarray,
  settings: TransferSettings,
) -> np.ndarray:
  """Shortens composites that are near many seen classes."""
  if len(seen_text) < 2:
    # No class can be left out to compare with.
    return np.asarray(composites, np.float32)
  typical = _typical_likeness(
    np.asarray(seen_text),
    np.asarray(seen_prototypes),
    settings.kernel_gamma,
    settings.ridge,
    settings.centre_text,
  )
  return hubness.shrink_hubs(
    composites, seen_prototypes, settings.hub_correction, float(typical)
  )


@kept.recent
def _typical_likeness(
  seen_text: np.ndarray,
  seen_prototypes: np.ndarray,
  gamma: float,
  ridge: float,
  centre: bool,
) -> np.ndarray:
  """`hubness.typical_likeness` of composites by kernel weights, a scalar."""
  s = len(seen_text)
  # Some seen classes stand for all, or a new bank would take long.
  ids = np.arange(0, s, -(-s // _LEFT_OUT))
  weights = semantic_transfer.left_out_kernel_weights(
    seen_text, gamma, ridge, ids, centre
  )
  left_out = np.asarray(semantic_transfer.composite(weights, seen_prototypes))
  return np.array(hubness.typical_likeness(left_out, ids, seen_prototypes))


def _name(weighting: str) -> str:
  """Returns the method that composites by this weighting."""
  return 'transfer' if weighting == 'softmax' else f'transfer_{weighting}'


def compared(settings: TransferSettings) -> tuple[str, ...]:
  """Returns the methods that the paired differences are of.

  They are the transfer by softmax weights, and by the settings' own weighting,
  which predictions have.
  """
  return tuple(dict.fromkeys(('transfer', _name(settings.weighting))))


def all_composites(
  seen: task.Seen, unseen: task.Classes, settings: TransferSettings
) -> dict[str, np.ndarray]:
  """Composites prototypes of unseen classes by every weighting.

  Args:
    seen: the seen classes.
    unseen: the unseen classes.
    settings: of the transfer; `weighting` is not used.

  Returns:
    Method (such as 'transfer_ridge') -> prototypes [u d].

  Raises:
    ValueError: the settings need arrays that are missing.
  """
  sources = seen.prototypes
  if settings.prototype_source == 'classifier':
    if seen.centres is None:
      raise ValueError(
        "zeroshot.prototype_source='classifier' needs a classifier of these "
        'seen classes, and there is none'
      )
    sources = seen.centres
  composites = {}
  for weighting in semantic_transfer.WEIGHTINGS:
    composites[_name(weighting)], _ = unseen_prototypes(
      seen.classes,
      sources,
      unseen,
      dataclasses.replace(settings, weighting=weighting),
    )
  return composites


def method_scores(
  seen: task.Seen,
  unseen: task.Classes,
  embeddings: np.ndarray,
  match: np.ndarray | None,
  settings: TransferSettings,
) -> dict[str, np.ndarray]:
  """Scores videos by all methods that the arrays allow.

  Args:
    seen: the seen classes.
    unseen: the candidates of all splits: the columns of the scores.
    embeddings: means over views [n d].
    match: match logits [n u]; None leaves out `fusion` and `ensemble`.
    settings: of the methods.

  Returns:
    Method -> float32 [n u], in the order of `METHODS`.
  """
  # One matrix product scores all methods that multiply with embeddings.
  rows = all_composites(seen, unseen, settings)
  if seen.joint and unseen.text.shape[1] == embeddings.shape[1]:
    rows['nearest_name'] = unseen.text
  if seen.sums is not None:
    regression = baselines.ridge_to_text(
      seen.sums.gram,
      seen.sums.sums,
      seen.sums.counts,
      seen.classes.text,
      settings.text_ridge,
    )
    rows['ridge_to_text'] = baselines.regression_rows(regression, unseen.text)
  stacked = scoring.score_videos(embeddings, np.concatenate([*rows.values()]))
  u = len(unseen.names)
  scores = {
    name: np.ascontiguousarray(stacked[:, i * u : (i + 1) * u])
    for i, name in enumerate(rows)
  }
  centres = seen.prototypes if seen.centres is None else seen.centres
  scores['conse'] = baselines.conse_scores(
    embeddings,
    centres,
    seen.scale,
    seen.classes.text,
    unseen.text,
    settings.conse_top,
  )
  if match is not None:
    scores['fusion'] = match
    scores['ensemble'] = baselines.ensemble_scores(
      scores['transfer'],
      match,
      beta=settings.ensemble_beta,
      transfer_temperature=settings.ensemble_transfer_temperature,
      match_temperature=settings.ensemble_match_temperature,
    )
  return {name: scores[name] for name in METHODS if name in scores}


def transductive_scores(
  scores: np.ndarray, temperature: float
) -> dict[str, np.ndarray]:
  """Corrects hubness, using all test videos of one split at once.

  Args:
    scores: transfer scores of the split [n u].
    temperature: of the transfer, > 0.

  Returns:
    Method -> [n u], in the order of `TRANSDUCTIVE`.
  """
  corrections = (hubness.inverted_softmax, hubness.sinkhorn)
  return {
    name: correct(scores, temperature)
    for name, correct in zip(TRANSDUCTIVE, corrections, strict=True)
  }


def nearest_name_scores(embeddings: np.ndarray, text: np.ndarray) -> np.ndarray:
  """Scores videos by the mean over views of z . t.

  Args:
    embeddings: [n v d].
    text: class embeddings [u d].

  Returns:
    float32 [n u].
  """
  return scoring.score_videos(scoring.view_means(embeddings), text)
