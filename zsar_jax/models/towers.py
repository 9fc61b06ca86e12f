"""Encoders of public models by name, as training takes them.

A tower has the arguments and outputs of `VideoEncoder` or `TextEncoder`. Its
keyword arguments come with public weights. A config keeps them in
`model.video.tower` or `model.text.tower`, so it builds the tower without the
weights.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from flax import linen as nn

from zsar_jax.models import (
  clip,
  i3d,
  layers,
  pe_video,
  siglip,
  videoprism,
  vjepa2,
)

# Values of `model.video.backbone` and of `model.text.architecture`.
TOWERS: Mapping[str, Mapping[str, type[nn.Module]]] = {
  'video': {
    'siglip': siglip.SiglipVideoEncoder,
    'xclip': clip.XClipVideoEncoder,
    'videoprism': videoprism.VideoPrismVideoEncoder,
    'pe_video': pe_video.PeVideoEncoder,
    'vjepa2': vjepa2.VJepa2,
    'i3d': i3d.I3D,
  },
  'text': {
    'siglip': clip.ClipTextEncoder,
    'xclip': clip.ClipTextEncoder,
    'videoprism': videoprism.VideoPrismTextEncoder,
    'pe_video': pe_video.PeTextEncoder,
  },
}
# Settings of a training that stand beside the tower's own, and their values
# that suit every tower.
_OF_TRAINING = {
  'dropout_rate': (0.0,),
  'stochastic_depth_rate': (0.0,),
  'remat': ('none',),
  'attention_implementation': ('auto', 'einsum'),
}


def make(
  side: str, name: str, section: Mapping[str, Any], dtype: layers.Dtype
) -> nn.Module:
  """Makes a tower.

  Args:
    side: 'video' or 'text'.
    name: a key of `TOWERS[side]`.
    section: the config's section `model.video` or `model.text`: `tower` has
      keyword arguments of the tower, and the settings of the training stand
      beside it.
    dtype: computation dtype.

  Returns:
    The tower.

  Raises:
    ValueError: there are no keyword arguments, or the tower lacks what a
      setting of the training asks for.
  """
  tower = section.get('tower')
  if not tower:
    key = 'backbone' if side == 'video' else 'architecture'
    raise ValueError(
      f'model.{side}.{key}={name!r} has no sizes: they come with public '
      'weights, by init.dual or init.video'
    )
  module = TOWERS[side][name]
  has = {field.name for field in dataclasses.fields(module)}
  settings = {}
  for key, suits_all in _OF_TRAINING.items():
    value = section.get(key, suits_all[0])
    if key in has:
      settings[key] = value
    elif value not in suits_all:
      raise ValueError(
        f'model.{side}.{key}={value!r}: the encoder of {name!r} does not have '
        f'this; leave it at {suits_all[0]!r}'
      )
  if section.get('scan_blocks'):
    raise ValueError(
      f'model.{side}.scan_blocks: the encoder of {name!r} does not scan; leave '
      'it at False'
    )
  return module(**settings, **tower, dtype=dtype)
