"""Ranks candidates for embedded videos, with all that is known of each."""

from collections.abc import Iterator, Sequence

import numpy as np

from zsar_jax.data import user_videos
from zsar_jax.inference import candidates, confidence, encoders, predictions
from zsar_jax.zeroshot import prototypes, scoring


def rank(
  is_joint: bool,
  by: candidates.Candidates,
  sure: confidence.Confidence,
  embeddings: np.ndarray,
  match: np.ndarray,
) -> Iterator[tuple[tuple[predictions.Ranked, ...], float | None]]:
  """Ranks the candidates: by transfer where they have prototypes.

  Args:
    is_joint: whether videos and names share one space.
    by: the candidates.
    sure: makes probabilities of scores.
    embeddings: of videos [b v d], unit vectors.
    match: match logits [b c]; [b 0] where there are none.

  Yields:
    For each video the ranking, best first, and the probability of none of the
    candidates; None where nothing was calibrated.

  Raises:
    ValueError: an embedding is not finite.
  """
  prototypes.check_embeddings(embeddings, 'the video encoder')
  near = None
  if is_joint:
    near = np.asarray(scoring.similarity_scores(embeddings, by.text))
  scores = near
  if by.prototypes is not None:
    scores = np.asarray(scoring.similarity_scores(embeddings, by.prototypes))
  probabilities, none = sure.probabilities(scores, match)
  explained, shares = by.explain(), by.example_shares
  of = lambda rows, v, i: None if rows is None else float(rows[v, i])
  match = match if match.shape[1] else None
  for v in range(len(embeddings)):
    ranking = tuple(
      predictions.Ranked(
        by.names[i],
        of(probabilities, v, i),
        float(scores[v, i]),
        of(near, v, i),
        of(match, v, i),
        explained[by.names[i]],
        int(by.counts[i]),
        float(shares[i]),
      )
      for i in np.argsort(-scores[v], kind='stable')
    )
    yield ranking, None if none is None else float(none[v])


def rank_views(
  recognizer: encoders.Recognizer,
  by: candidates.Candidates,
  sure: confidence.Confidence,
  views: Sequence[user_videos.Views],
  batch_size: int,
) -> Iterator[tuple[tuple[predictions.Ranked, ...], float | None]]:
  """Embeds videos in one batch, and ranks the candidates for each.

  Args:
    recognizer: the encoders.
    by: the candidates.
    sure: makes probabilities of scores.
    views: of at most `batch_size` videos.
    batch_size: fewer videos are padded, so that nothing is compiled again.

  Returns:
    See `rank`.
  """
  clips = np.stack([v.clips for v in views])
  clips = encoders.pad_batch(clips, batch_size)
  embeddings, match = recognizer.encode_videos(clips, by.names)
  n = len(views)
  return rank(recognizer.joint, by, sure, embeddings[:n], match[:n])
