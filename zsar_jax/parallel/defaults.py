"""The config's keys about devices, with their defaults."""

import ml_collections


def mesh() -> ml_collections.ConfigDict:
  """How devices are arranged."""
  # Sizes of the mesh axes; one may be -1 and takes the devices left. A preset,
  # 'dp', 'fsdp' or 'fsdp_tp', takes their place and fits any devices: see
  # zsar_jax/parallel/sharding.py.
  c = ml_collections.ConfigDict(dict(preset='', data=-1, fsdp=1, tensor=1))
  return c
