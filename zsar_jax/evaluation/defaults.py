"""The config's keys about inference, with their defaults."""

import ml_collections


def zeroshot() -> ml_collections.ConfigDict:
  """The semantic transfer, and the views of a test video."""
  # Inference: see zsar_jax/zeroshot/semantic_transfer.py.
  # What each key does: zsar_jax/evaluation/methods.py, TransferSettings.
  c = ml_collections.ConfigDict(
    dict(
      temperature=0.1,
      top_k=0,
      centre_text=True,
      weighting='softmax',
      ridge=0.1,
      relatedness_source='trained',
      prototype_source='videos',
      conse_top=10,
      text_ridge=0.01,
      ensemble_beta=0.5,
      ensemble_transfer_temperature=0.05,
      ensemble_match_temperature=1.0,
      transductive=False,
    )
  )
  # Clips of a test video: temporal views, and crops of each along its longer
  # side.
  c.num_views = 1
  c.num_crops = 1
  c.batch_size = 32
  return c
