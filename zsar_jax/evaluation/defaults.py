"""Defaults of the config's section `zeroshot`."""

import ml_collections


def zeroshot() -> ml_collections.ConfigDict:
  """Returns the settings of the semantic transfer and of test views."""
  # TransferSettings in zsar_jax/evaluation/methods.py explains each key.
  # zsar_jax/zeroshot/semantic_transfer.py gives the formulas.
  c = ml_collections.ConfigDict(
    dict(
      temperature=0.1,
      top_k=0,
      centre_text=True,
      weighting='softmax',
      ridge=0.1,
      kernel_gamma=1.0,
      hub_correction=0.5,
      relatedness_source='trained',
      prototype_source='videos',
      conse_top=10,
      text_ridge=0.01,
      ensemble_beta=0.5,
      ensemble_transfer_temperature=0.05,
      ensemble_match_temperature=1.0,
      example_prior=0.5,
      transductive=False,
    )
  )
  # Clips of a test video: number of temporal views, and number of crops per
  # view along the longer side.
  c.num_views = 1
  c.num_crops = 1
  # Two controls embed every test video again: as its first frame alone, and
  # with shuffled frames.
  c.motion_controls = True
  # Videos per batch.
  c.batch_size = 32
  return c
