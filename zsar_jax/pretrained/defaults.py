"""The config's keys about public weights, with their defaults."""

import ml_collections


def init() -> ml_collections.ConfigDict:
  """Which weights to start from."""
  # Public weights to start from: directories with config.json and
  # model.safetensors, or ids of the Hugging Face Hub, 'hf:org/name' or
  # 'hf:org/name@revision'; '' is random. What they bring (sizes, vocabulary,
  # normalisation) takes the place of the keys above. `clip` is for both sides.
  c = ml_collections.ConfigDict(dict(text='', video='', clip=''))
  # How 2-D patch kernels become tubelets: 'centre' or 'average'.
  c.inflation = 'centre'
  # Which weights were read; training fills it in.
  c.loaded = ''
  return c
