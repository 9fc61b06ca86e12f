"""Which public weights can start training, and what the others can do."""

import os

from zsar_jax.pretrained import (
  clip,
  hub,
  i3d,
  pe_video,
  siglip,
  tensor_files,
  video,
  videoprism,
  vjepa2,
)

# Key of the config's section `init` -> the model types that it starts from.
# `init.video` takes ResNets for the model's ResNet backbones.
STARTS = {
  'text': ('bert', 'mpnet'),
  'video': (*video.MODEL_TYPES, 'resnet'),
  'dual': ('clip', 'metaclip_2'),
}
# Models with a joint space, which rank names as they are.
_JOINT = (
  *clip.MODEL_TYPES,
  siglip.MODEL_TYPE,
  videoprism.MODEL_TYPE,
  *pe_video.MODEL_TYPES,
)


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


def _instead(kind: str, path: str) -> str:
  """Says what weights can do; '' for an unknown kind."""
  for key, kinds in STARTS.items():
    if kind in kinds:
      return f'init.{key} takes these weights'
  if kind in _JOINT:
    return (
      'these weights work untrained: `zsar predict --pretrained='
      f'{path}`, or a bank by `zsar bank build --video={path} --text={path}`'
    )
  if kind in (vjepa2.MODEL_TYPE, i3d.NAME):
    return (
      f'these weights work untrained: `zsar bank build --video={path} '
      '--text=DIR` makes a bank'
    )
  return ''


def check(key: str, path: str) -> None:
  """Refuses weights that are known, but cannot start training by this key.

  It reads config.json alone. Weights of an unknown kind pass: their loader
  says what is wrong with them.

  Args:
    key: a key of STARTS, or 'clip', the older name of 'dual'.
    path: the weights, as `directory.read_weights` takes them.

  Raises:
    ValueError: the message says which kinds can start training, and what these
      weights can do instead.
    OSError: see `hub.resolve`.
  """
  kind = _model_type(path)
  starts = STARTS['dual' if key == 'clip' else key]
  instead = _instead(kind, path)
  if kind in starts or not instead:
    return
  raise ValueError(
    f'init.{key}={path}: its model_type is {kind!r}, and training by this key '
    f'starts from {" or ".join(map(repr, starts))}; {instead}'
  )
