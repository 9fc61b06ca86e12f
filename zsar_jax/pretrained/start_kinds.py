"""Which public weights can start training, and by which key."""

import os

from zsar_jax.pretrained import (
  dual_models,
  hub,
  i3d,
  tensor_files,
  video,
  vjepa2,
)

# Key of the config's section `init` -> the model types that it starts from.
# `init.video` takes ResNets for the model's ResNet backbones, and I3D by name.
STARTS = {
  'text': ('bert', 'mpnet'),
  'video': (*video.MODEL_TYPES, 'resnet', vjepa2.MODEL_TYPE, i3d.NAME),
  'dual': dual_models.MODEL_TYPES,
}


def _model_type(path: str) -> str:
  """Returns a directory's model type without reading tensors; '' if none."""
  if hub.is_id(path):
    folder = hub.resolve_files(path, ['config.json']).folder
  else:
    folder = os.path.expanduser(path)
  file = os.path.join(folder, 'config.json')
  if not os.path.exists(file):
    return i3d.NAME if path == i3d.NAME else ''
  return str(tensor_files.read_json(file).get('model_type', ''))


def check(key: str, path: str) -> None:
  """Refuses weights that are known, but cannot start training by this key.

  It reads config.json alone. Weights of an unknown kind pass: their loader
  says what is wrong with them.

  Args:
    key: a key of STARTS, or 'clip', the older name of 'dual'.
    path: the weights, as `directory.read_weights` takes them.

  Raises:
    ValueError: the message says what this key takes, and which key takes these
      weights.
    OSError: see `hub.resolve`.
  """
  kind = _model_type(path)
  starts = STARTS['dual' if key == 'clip' else key]
  other = next((k for k, kinds in STARTS.items() if kind in kinds), '')
  if kind in starts or not other:
    return
  raise ValueError(
    f'init.{key}={path}: its model_type is {kind!r}, and training by this key '
    f'starts from {" or ".join(map(repr, starts))}; init.{other} takes these '
    'weights'
  )
