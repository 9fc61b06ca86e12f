"""Prints the cost of every model, beside its published cost.

python -m benchmarks.model_table [PART_OF_A_NAME ...]

Nothing is computed or allocated: each model is traced on abstract arrays.

- Parameters: of the model without a classifier. If the published count includes
  more, the row names it, and it is subtracted.
- GMAC: 10^9 multiply-adds of the matrix products and convolutions in one
  forward pass of one clip (or image, or text). Most vision papers call them
  "GFLOPs". The number of floating-point operations is twice that. Norms,
  softmax and activations are not counted; they add about 1%. Loops count as
  often as they run, unlike in XLA's own cost analysis.
- Activations: 10^6 bytes that the forward pass of one training clip in bfloat16
  keeps for the backward pass, without remat, and before XLA fuses or recomputes
  anything: an upper estimate.

PUBLISHED has the published numbers and their sources.
"""

from collections.abc import Callable, Mapping
import dataclasses
import sys
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from benchmarks import module_cost
from zsar_jax.models import clip, resnet, text_encoder, video_encoder


@dataclasses.dataclass(frozen=True)
class Published:
  """Published cost of a model.

  Attributes:
    parameters: published number of parameters.
    macs: published multiply-adds; published operations are halved.
    source: source of the numbers.
    without: number of parameters that only the published model has; negative
      if only ours has them.
    note: names these parameters, or explains another difference.
  """

  parameters: float
  macs: float | None
  source: str
  without: float = 0
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    name: name of the model.
    build: dtype -> (module, abstract arguments of its call).
    published: its published cost; None if unknown.
  """

  name: str
  build: Callable[[Any], tuple[nn.Module, tuple[jax.ShapeDtypeStruct, ...]]]
  published: Published | None = None


def parameter_shapes(module: nn.Module, arguments: tuple) -> Any:
  """Returns the abstract parameters of a module."""
  return jax.eval_shape(module.init, jax.random.key(0), *arguments)['params']


def count_parameters(params: Any) -> int:
  """Counts the numbers in a tree of parameters.

  Stored statistics of norms do not count; published counts leave them out too.
  """
  return sum(
    leaf.size
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    if path[-1].key not in ('mean', 'var')
  )


def _clip(*shape: int):
  return (jax.ShapeDtypeStruct((1, *shape, 3), jnp.float32),)


def _text(length: int):
  return (
    jax.ShapeDtypeStruct((1, length), jnp.int32),
    jax.ShapeDtypeStruct((1, length), jnp.bool_),
  )


def _vit(variant: str, frames: int, **kwargs: Any):
  return lambda dtype: (
    video_encoder.VideoEncoder(
      **video_encoder.variant(variant), dtype=dtype, **kwargs
    ),
    _clip(frames, 224, 224),
  )


def _resnet(depth: int):
  layout = resnet.LAYOUTS[depth]
  return lambda dtype: (
    resnet.ResNet(layout, 'frozen', dtype),
    _clip(224, 224),
  )


def _rest(depth: int):
  return lambda dtype: (
    resnet.ResTEncoder(
      width=512,
      depth=4,
      num_heads=8,
      mlp_dim=2048,
      resnet_depth=depth,
      dtype=dtype,
    ),
    _clip(16, 224, 224),
  )


def _bert(width: int, depth: int, length: int = 128):
  return lambda dtype: (
    text_encoder.TextEncoder(
      vocabulary_size=30522,
      width=width,
      depth=depth,
      num_heads=12,
      mlp_dim=4 * width,
      max_length=512,
      pooling='cls',
      dtype=dtype,
    ),
    _text(length),
  )


_CLIP_SIZES = dict(depth=12, activation='quick_gelu')


def _clip_image(dtype):
  return clip.ClipVideoEncoder(
    width=768,
    num_heads=12,
    mlp_dim=3072,
    image_size=224,
    patch_size=16,
    dtype=dtype,
    **_CLIP_SIZES,
  ), _clip(1, 224, 224)


def _clip_text(dtype):
  return clip.ClipTextEncoder(
    vocabulary_size=49408,
    width=512,
    num_heads=8,
    mlp_dim=2048,
    max_length=77,
    dtype=dtype,
    **_CLIP_SIZES,
  ), _text(77)


_HEAD = '1000 classes'
_VIVIT = 'Arnab et al. 2021, table 2'
_TORCHVISION = 'torchvision model table'
PUBLISHED: Mapping[str, Published] = {
  'ViT-B/16': Published(
    86.6e6, 17.6e9, 'Touvron et al. 2021 (DeiT)', 769_000, _HEAD
  ),
  'ViViT joint': Published(88.9e6, 455.2e9, _VIVIT, 768 * 400, '400 classes'),
  'ViViT factorised': Published(
    115.1e6, 284.4e9, _VIVIT, 768 * 400, '400 classes'
  ),
  'TimeSformer': Published(
    121.4e6, 196e9, 'Bertasius et al. 2021, table 2', 768 * 400, '400 classes'
  ),
  'VideoMAE': Published(
    87e6, 180e9, 'Tong et al. 2022', 768 * 400, '400 classes'
  ),
  'ResNet-18': Published(11_689_512, 1.81e9, _TORCHVISION, 513_000, _HEAD),
  'ResNet-50': Published(25_557_032, 4.09e9, _TORCHVISION, 2_049_000, _HEAD),
  'ResNet-101': Published(44_549_160, 7.80e9, _TORCHVISION, 2_049_000, _HEAD),
  'BERT-base': Published(
    110e6, 22.5e9 / 2, 'Devlin et al. 2019; Sun et al. 2020', 590_592, 'pooler'
  ),
  'CLIP image': Published(
    86.19e6, 35.13e9 / 2, 'open_clip model profile', 768 * 512, 'projection'
  ),
  'CLIP text': Published(
    63.43e6, 5.96e9 / 2, 'open_clip model profile', 512 * 512, 'projection'
  ),
}

_CLS = dict(pooling='cls', positions='full')
ROWS = (
  Row('ViT-Ti/16x2, 16 frames', _vit('Ti/16x2', 16)),
  Row('ViT-S/16x2, 16 frames', _vit('S/16x2', 16)),
  Row('ViT-B/16x2, 16 frames', _vit('B/16x2', 16)),
  Row('ViT-L/16x2, 16 frames', _vit('L/16x2', 16)),
  Row('ViT-B/16, image', _vit('B/16', 1, **_CLS), PUBLISHED['ViT-B/16']),
  Row(
    'ViViT-B/16x2 joint, 32 frames',
    _vit('B/16x2', 32, **_CLS),
    PUBLISHED['ViViT joint'],
  ),
  Row(
    'ViViT-B/16x2 factorised, 32 frames',
    _vit('B/16x2', 32, pooling='cls', attention='factorised', depth_time=4),
    PUBLISHED['ViViT factorised'],
  ),
  Row(
    'TimeSformer-B/16 divided, 8 frames',
    _vit('B/16', 8, pooling='cls', attention='divided'),
    PUBLISHED['TimeSformer'],
  ),
  Row(
    'VideoMAE-B/16x2, 16 frames',
    _vit('B/16x2', 16, positions='sincos', final_norm='pooled', qkv_bias='qv'),
    PUBLISHED['VideoMAE'],
  ),
  *(
    Row(f'ResNet-{n}, image', _resnet(n), PUBLISHED[f'ResNet-{n}'])
    for n in resnet.LAYOUTS
  ),
  *(Row(f'ResT_{n}, 16 frames', _rest(n)) for n in resnet.LAYOUTS),
  Row('BERT-base, 128 tokens', _bert(768, 12), PUBLISHED['BERT-base']),
  Row('MiniLM-L6, 128 tokens', _bert(384, 6)),
  Row('CLIP-B/16 image', _clip_image, PUBLISHED['CLIP image']),
  Row('CLIP-B/16 text, 77 tokens', _clip_text, PUBLISHED['CLIP text']),
)


def measure(row: Row) -> dict[str, float]:
  """Returns parameters, multiply-adds and activation bytes of a row's model."""
  module, arguments = row.build(jnp.bfloat16)
  params = parameter_shapes(module, arguments)
  return {
    'parameters': count_parameters(params),
    'macs': module_cost.forward_macs(module, params, arguments),
    'activation_bytes': module_cost.activation_bytes(module, params, arguments),
  }


def line(row: Row) -> str:
  """Returns a row as text: ours, published, their ratio, and the source."""
  ours, theirs = measure(row), row.published
  text = (
    f'{row.name:36}{ours["parameters"] / 1e6:8.2f}{ours["macs"] / 1e9:9.2f}'
    f'{ours["activation_bytes"] / 1e6:9.0f}'
  )
  if theirs is None:
    return text
  parameters = theirs.parameters - theirs.without
  text += f'{parameters / 1e6:9.2f}{ours["parameters"] / parameters:7.3f}'
  text += f'{theirs.macs / 1e9:9.2f}{ours["macs"] / theirs.macs:7.3f}'
  without = f'; less {theirs.note}' if theirs.note else ''
  return f'{text}  {theirs.source}{without}'


def main(argv: list[str]) -> None:
  """Prints rows whose name contains an argument; all rows without arguments."""
  print(
    f'{"":36}{"ours":>8}{"":18}{"published":>9}\n'
    f'{"":36}{"Mparam":>8}{"GMAC":>9}{"act. MB":>9}{"Mparam":>9}{"ratio":>7}'
    f'{"GMAC":>9}{"ratio":>7}  source'
  )
  for row in ROWS:
    if not argv or any(part.lower() in row.name.lower() for part in argv):
      print(line(row), flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
