"""Loads ResNet weights, torchvision-style or from Hugging Face.

  weights = directory.read_weights('resnet18.safetensors')
  params = load_resnet(weights, models.resnet.LAYOUTS[18])

The parameters are those of `models.resnet.ResNet` with norm='frozen' and three
input channels.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from zsar_jax.models import resnet
from zsar_jax.pretrained import assemble, directory

# Tensors that are not needed: the classifier, and PyTorch's batch counters.
IGNORE = (r'^fc\.', r'^classifier\.', r'\.num_batches_tracked$')
_NORM_TENSORS = {
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


def _is_hugging_face(weights: directory.Weights) -> bool:
  return any('embedder.embedder.' in name for name in weights.tensors)


def _torchvision_names(layout: resnet.Layout) -> dict[str, tuple[str, str]]:
  """Maps our units to torchvision's (convolution, norm)."""
  names = {'stem': ('conv1', 'bn1')}
  for stage, block, num_convs in _blocks(layout):
    ours, theirs = f'stage_{stage}_block_{block}', f'layer{stage + 1}.{block}'
    for i in range(num_convs):
      at = f'{ours}/conv_{i}'
      names[at] = (f'{theirs}.conv{i + 1}', f'{theirs}.bn{i + 1}')
    shortcut = f'{theirs}.downsample'
    names[f'{ours}/shortcut'] = (f'{shortcut}.0', f'{shortcut}.1')
  return names


def _hugging_face_names(
  layout: resnet.Layout, prefix: str
) -> dict[str, tuple[str, str]]:
  """Maps our units to Hugging Face's (convolution, norm)."""
  pair = lambda at: (f'{prefix}{at}.convolution', f'{prefix}{at}.normalization')
  names = {'stem': pair('embedder.embedder')}
  for stage, block, num_convs in _blocks(layout):
    ours = f'stage_{stage}_block_{block}'
    theirs = f'encoder.stages.{stage}.layers.{block}'
    for i in range(num_convs):
      names[f'{ours}/conv_{i}'] = pair(f'{theirs}.layer.{i}')
    names[f'{ours}/shortcut'] = pair(f'{theirs}.shortcut')
  return names


def _blocks(layout: resnet.Layout) -> Iterator[tuple[int, int, int]]:
  """Yields (stage, block, number of convolutions) of every residual block."""
  num_convs = 3 if layout.bottleneck else 2
  for stage, depth in enumerate(layout.stage_depths):
    for block in range(depth):
      yield stage, block, num_convs


def plan(weights: directory.Weights, layout: resnet.Layout) -> assemble.Plan:
  """Maps every parameter of a ResNet to its tensor.

  Args:
    weights: from `directory.read_weights`; the tensors' names tell whether
      they are torchvision-style or from Hugging Face.
    layout: layout of the wanted network.

  Returns:
    The plan. It has a shortcut for every block; `assemble` only uses those
    that the network has.
  """
  if _is_hugging_face(weights):
    # A model with a classifier puts this prefix before its backbone.
    inside = any(name.startswith('resnet.') for name in weights.tensors)
    names = _hugging_face_names(layout, 'resnet.' if inside else '')
  else:
    names = _torchvision_names(layout)
  sources = {}
  for ours, (conv, norm) in names.items():
    sources[f'{ours}/conv/kernel'] = assemble.Source(
      f'{conv}.weight', assemble.conv2d_kernel
    )
    for parameter, tensor in _NORM_TENSORS.items():
      sources[f'{ours}/norm/{parameter}'] = assemble.Source(f'{norm}.{tensor}')
  return sources


def _check_config(weights: directory.Weights, layout: resnet.Layout) -> None:
  """Raises ValueError if config.json describes another network.

  Shapes alone do not reveal another stride or activation.
  """
  directory.expect_model_type(weights, 'resnet')
  widths = [
    layout.width * 2**stage * (4 if layout.bottleneck else 1)
    for stage in range(len(layout.stage_depths))
  ]
  # Key, default if config.json omits it, and the value that we need.
  for key, default, needed in (
    ('depths', [3, 4, 6, 3], list(layout.stage_depths)),
    (
      'layer_type',
      'bottleneck',
      'bottleneck' if layout.bottleneck else 'basic',
    ),
    ('embedding_size', 64, layout.width),
    ('hidden_sizes', [256, 512, 1024, 2048], widths),
    ('hidden_act', 'relu', 'relu'),
    ('downsample_in_first_stage', False, False),
    ('num_channels', 3, 3),
  ):
    found = directory.setting(weights, key, default)
    if found != needed:
      raise ValueError(
        f'{weights.path}/config.json: {key} is {found!r}, this ResNet has '
        f'{needed!r}'
      )
  if layout.bottleneck and directory.setting(
    weights, 'downsample_in_bottleneck', False
  ):
    raise ValueError(
      f'{weights.path}/config.json: downsample_in_bottleneck puts the stride '
      'into the first 1x1 convolution; only a stride in the 3x3 convolution '
      '("v1.5") is supported'
    )


def load_resnet(weights: directory.Weights, layout: resnet.Layout) -> Any:
  """Loads the parameters of a ResNet with frozen norms.

  Args:
    weights: from `directory.read_weights`.
    layout: layout of the wanted network, such as `resnet.LAYOUTS[50]`.

  Returns:
    The `params` of `resnet.ResNet(layout, norm='frozen')` for images of
    three channels, float32.

  Raises:
    ValueError: the architecture is another one, a tensor is missing or left
      over, or a shape is wrong. The message names file and tensor.
  """
  if weights.config:
    _check_config(weights, layout)
  module = resnet.ResNet(layout, norm='frozen')
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  shapes = jax.eval_shape(module.init, jax.random.key(0), image)['params']
  return assemble.assemble(weights, plan(weights, layout), shapes, IGNORE)
