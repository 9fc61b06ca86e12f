"""The config's keys about devices, with their defaults."""

import ml_collections


def mesh() -> ml_collections.ConfigDict:
  """Returns the arrangement of the devices."""
  # data, fsdp, tensor: sizes of the mesh axes. One of them may be -1: it takes
  # the remaining devices. preset: '' uses these sizes; 'dp', 'fsdp' or
  # 'fsdp_tp' replaces them and fits any number of devices: see
  # zsar_jax/parallel/sharding.py.
  c = ml_collections.ConfigDict(dict(preset='', data=-1, fsdp=1, tensor=1))
  return c
