"""The config's keys about public weights, with their defaults."""

import ml_collections


def init() -> ml_collections.ConfigDict:
  """Returns the settings of the weights that training starts from."""
  # Public weights: directories with config.json and model.safetensors, or ids
  # of the Hugging Face Hub, 'hf:org/name' or 'hf:org/name@revision'; '' starts
  # from random weights. The weights' sizes, vocabulary and normalisation
  # replace the config's. `clip` starts both encoders.
  c = ml_collections.ConfigDict(dict(text='', video='', clip=''))
  # How 2-D patch kernels become tubelets: 'centre' or 'average'.
  c.inflation = 'centre'
  # Names the weights that were read. Training fills it in.
  c.loaded = ''
  return c
