"""Maps each parameter of a video encoder to its tensor.

The tensor names are those of Hugging Face's transformers for ViT, VideoMAE,
ViViT and TimeSformer; see zsar_jax/pretrained/video.py.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.models import positions, tubelets
from zsar_jax.pretrained import assemble, directory

_QKV = ('query', 'key', 'value')
INFLATIONS = ('centre', 'average')
# Model types with 2-D patches.
FLAT = ('vit', 'timesformer')


def _prefix(weights: directory.Weights) -> str:
  """Returns the prefix of the encoder's tensors: '' in a bare model."""
  prefix = f'{weights.config["model_type"]}.'
  return prefix if any(n.startswith(prefix) for n in weights.tensors) else ''


def tubelet_kernel(
  kernel: np.ndarray, frames: int, inflation: str
) -> np.ndarray:
  """Turns PyTorch's patch kernel into the matrix of `TubeletEmbed`.

  Args:
    kernel: [out in t h w]; a 2-D kernel [out in h w] is inflated.
    frames: frames per tubelet, to inflate a 2-D kernel.
    inflation: how to inflate. 'centre' puts the kernel on the central frame,
      with zeros on the others, so that the encoder at first sees one image
      (Arnab et al. 2021). 'average' divides it equally among the frames, so
      that a still video gives the tokens of its image (Carreira and Zisserman
      2017).

  Returns:
    [t * h * w * in, out].

  Raises:
    ValueError: an unknown inflation.
  """
  if inflation not in INFLATIONS:
    raise ValueError(f'inflation {inflation!r} is not one of {INFLATIONS}')
  if kernel.ndim == 4:
    share = np.full(frames, 1 / frames, kernel.dtype)
    if inflation == 'centre':
      share = np.zeros(frames, kernel.dtype)
      share[frames // 2] = 1
    kernel = kernel[:, :, None] * share[:, None, None]
  return kernel.transpose(2, 3, 4, 1, 0).reshape(-1, kernel.shape[0])


def fold_cls(weights: directory.Weights) -> directory.Weights:
  """Adds the class token's position to the class token.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    The weights. If a tensor is missing or has another shape, they are
    unchanged, and `assemble` will report it.
  """
  prefix = _prefix(weights)
  name = f'{prefix}embeddings.cls_token'
  position = weights.tensors.get(f'{prefix}embeddings.position_embeddings')
  cls = weights.tensors.get(name)
  if cls is None or position is None:
    return weights
  if position.ndim != 3 or position[:, :1].shape != cls.shape:
    return weights
  folded = {**weights.tensors, name: cls + position[:, :1]}
  return dataclasses.replace(weights, tensors=folded)


def videomae_biases(weights: directory.Weights) -> str:
  """Returns which of query, key and value have a bias, by their initials.

  Most VideoMAE files keep these biases beside the dense layers, as `q_bias` and
  `v_bias`. transformers 5.17 keeps them in the layers, and the keys have one.

  Args:
    weights: of a VideoMAE, from `directory.read_weights`.
  """
  if not _biases_in_layers(weights):
    return 'qv' if directory.setting(weights, 'qv_bias', True) else ''
  inside = [f'.attention.attention.{x}.bias' for x in _QKV]
  return ''.join(
    part[0]
    for part, end in zip(_QKV, inside, strict=True)
    if any(name.endswith(end) for name in weights.tensors)
  )


def _biases_in_layers(weights: directory.Weights) -> bool:
  end = '.attention.attention.query.bias'
  return any(name.endswith(end) for name in weights.tensors)


def _position_plan(
  kind: str,
  prefix: str,
  native_grid: tuple[int, int, int],
  grid: tuple[int, int, int],
) -> assemble.Plan:
  """Plans the class token and the positions, resampled to a clip's grid."""

  def table(x, native, wanted):
    # `x` is without the class token's row, which `fold_cls` has used.
    return np.asarray(
      positions.resample(x[0].reshape(*native, x.shape[-1]), wanted)
    )

  if kind == 'videomae':
    return {}
  places = lambda native, wanted: assemble.Source(
    f'{prefix}embeddings.position_embeddings',
    lambda x: table(x[:, 1:], native, wanted),
  )
  plan = {
    'cls': assemble.Source(f'{prefix}embeddings.cls_token', lambda x: x[0])
  }
  if kind == 'vivit':
    return {**plan, 'position': places(native_grid, grid)}
  plan['space_position'] = places(native_grid[1:], grid[1:])
  if kind == 'timesformer':
    plan['time_position'] = assemble.Source(
      f'{prefix}embeddings.time_embeddings',
      lambda x: table(x, native_grid[:1], grid[:1]),
    )
  else:
    # An image model has no positions in time: start all frames at zero.
    plan['time_position'] = assemble.Source(
      f'{prefix}embeddings.position_embeddings',
      lambda x: np.zeros((grid[0], x.shape[-1]), x.dtype),
    )
  return plan


def _linear(target: str, name: str, bias: bool) -> dict[str, assemble.Source]:
  """Plans a dense layer, with or without bias."""
  found = assemble.dense(target, name)
  return found if bias else {f'{target}/kernel': found[f'{target}/kernel']}


def _attention_plan(
  kind: str, target: str, name: str, qkv_bias: str
) -> dict[str, assemble.Source]:
  """Plans an attention layer; each model type stores it differently."""
  found = assemble.dense(f'{target}/out', f'{name}.output.dense')
  for i, part in enumerate(_QKV):
    ours, theirs = f'{target}/{part}', f'{name}.attention.{part}'
    bias = part[0] in qkv_bias
    if kind == 'timesformer':
      # One matrix holds query, key and value, stacked along its rows.
      third = lambda x, i=i: np.split(x, 3)[i].T
      fused = _linear(ours, f'{name}.attention.qkv', bias)
      found |= {
        path: dataclasses.replace(source, transform=third)
        for path, source in fused.items()
      }
    elif kind == 'videomae':
      found |= _linear(ours, theirs, bias=False)
      if bias:
        source = assemble.Source(f'{name}.attention.{part[0]}_bias')
        found[f'{ours}/bias'] = source
    else:
      found |= _linear(ours, theirs, bias)
  return found


def _block_plan(
  kind: str, kwargs: Mapping[str, Any]
) -> dict[str, assemble.Source]:
  """Plans one block, with all names relative to it."""
  attention = lambda name: _attention_plan(kind, name, name, kwargs['qkv_bias'])
  found = {
    **attention('attention'),
    **assemble.norm('attention_norm', 'layernorm_before'),
    **assemble.norm('mlp_norm', 'layernorm_after'),
    **assemble.dense('mlp/in', 'intermediate.dense'),
    **assemble.dense('mlp/out', 'output.dense'),
  }
  if kwargs['attention'] == 'divided':
    found |= attention('temporal_attention')
    found |= assemble.norm('temporal_attention_norm', 'temporal_layernorm')
    found |= assemble.dense('temporal_projection', 'temporal_dense')
  return found


def plan(
  weights: directory.Weights,
  kwargs: Mapping[str, Any],
  clip: tuple[int, int, int],
  native_clip: tuple[int, int, int],
  inflation: str,
) -> assemble.Plan:
  """Maps every parameter of the encoder to its tensor.

  Args:
    weights: from `directory.read_weights`.
    kwargs: from `video.video_encoder_kwargs`; `scan_blocks` may be added.
    clip: frames, height and width of the encoder's clips.
    native_clip: frames, height and width of the clips in training.
    inflation: see `tubelet_kernel`.

  Returns:
    The plan, for weights after `fold_cls`.

  Raises:
    ValueError: the tubelets do not divide the clip.
  """
  kind, prefix = weights.config['model_type'], _prefix(weights)
  tubelet_size = kwargs['tubelet_size']
  flat = kind in FLAT
  native_grid = tubelets.token_grid(
    native_clip, (1, *tubelet_size[1:]) if flat else tubelet_size
  )
  grid = tubelets.token_grid(clip, tubelet_size)
  patches = f'{prefix}embeddings.patch_embeddings.projection'

  def patch_kernel(x):
    if x.ndim != (4 if flat else 5):
      raise ValueError(f'expected a {2 if flat else 3}-D convolution')
    return tubelet_kernel(x, tubelet_size[0], inflation)

  whole = {
    'tubelet_embed/projection/kernel': assemble.Source(
      f'{patches}.weight',
      patch_kernel,
    ),
    'tubelet_embed/projection/bias': assemble.Source(f'{patches}.bias'),
    **_position_plan(kind, prefix, native_grid, grid),
  }
  final = {
    'tokens': f'{prefix}layernorm',
    'pooled': 'fc_norm',
    'none': None,
  }[kwargs['final_norm']]
  if final:
    whole |= assemble.norm('norm', final)
  # A VideoMAE with its biases in the dense layers has the names of a ViT.
  named = 'vit' if _biases_in_layers(weights) else kind
  return whole | _blocks(named, prefix, kwargs)


def _blocks(kind: str, prefix: str, kwargs: Mapping[str, Any]) -> assemble.Plan:
  """Maps the parameters of all blocks to their tensors."""
  whole = {}
  for target, source in _block_plan(kind, kwargs).items():
    layers = [
      dataclasses.replace(
        source, name=f'{prefix}encoder.layer.{i}.{source.name}'
      )
      for i in range(kwargs['depth'])
    ]
    if kwargs.get('scan_blocks'):
      whole[f'blocks/{target}'] = layers
    else:
      for i, layer in enumerate(layers):
        whole[f'block_{i}/{target}'] = layer
  return whole
