"""Defaults of the config's section `init`."""

import ml_collections


def init() -> ml_collections.ConfigDict:
  """Returns the settings of the weights that training starts from."""
  # Public weights: a directory with config.json and model.safetensors, or an id
  # of the Hugging Face Hub, 'hf:org/name' or 'hf:org/name@revision'. '' starts
  # from random weights. The weights' sizes, vocabulary and normalisation
  # replace those of the config. `dual` initialises both encoders; `clip` is
  # its older name, kept for the runs that have it.
  c = ml_collections.ConfigDict(dict(text='', video='', dual='', clip=''))
  # Or a trained model: a folder of `bank export`, or the name of one that
  # ships. Its network and preprocessing replace those of the config.
  c.model = ''
  # How 2-D patch kernels become tubelets: 'centre' or 'average'.
  c.inflation = 'centre'
  # Names and fingerprints of the weights. Training fills it in.
  c.loaded = ''
  # Classes that the model of `model` was trained on. Training fills it in.
  c.seen_classes = ()
  return c
