"""Loads ViT, VideoMAE, ViViT and TimeSformer weights into `VideoEncoder`.

A directory is one that Hugging Face's transformers has saved, of the bare model
or with a head:

  weights = directory.read_weights('weights/vivit-b-16x2-kinetics400')
  kwargs, params = load_video_encoder(weights)
  out = VideoEncoder(**kwargs).apply({'params': params}, clip)

`preprocessing` returns the pixel settings. The class token's position is added
to the class token. Layers that only a head uses are ignored; every other tensor
must be used.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from zsar_jax.models import tubelets, video_encoder
from zsar_jax.pretrained import assemble, directory, pixels, video_plan

MODEL_TYPES = ('vit', 'videomae', 'vivit', 'timesformer')
_TIMESFORMER_ATTENTIONS = {
  'divided_space_time': 'divided',
  'joint_space_time': 'joint',
}
# Tensors that only a head or pre-training uses.
_IGNORED = (
  r'^([a-z]+\.)?pooler\.',
  r'^classifier\.',
  r'^decoder\.',
  r'^encoder_to_decoder\.',
  r'^([a-z]+\.embeddings\.)?mask_token$',
)


def _pair(value: int | list[int]) -> tuple[int, int]:
  """Returns (height, width) of a setting that may be one number for both."""
  return (value, value) if isinstance(value, int) else tuple(value)


def _timesformer_attention(weights: directory.Weights) -> str:
  found = directory.setting(weights, 'attention_type', kind='text')
  if found not in _TIMESFORMER_ATTENTIONS:
    raise ValueError(
      f'{weights.path}/config.json: attention_type is {found!r}, expected one '
      f'of {sorted(_TIMESFORMER_ATTENTIONS)}'
    )
  return _TIMESFORMER_ATTENTIONS[found]


def native_clip(weights: directory.Weights) -> tuple[int, int, int]:
  """Returns the size of the clips that weights were trained on.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    (t, h, w) in frames and pixels; for ViT, one frame.

  Raises:
    ValueError: config.json lacks a size.
  """
  size = _pair(directory.setting(weights, 'image_size', kind='pair'))
  if weights.config['model_type'] == 'vit':
    return (1, *size)
  return (directory.setting(weights, 'num_frames', kind='size'), *size)


def _tubelet_size(
  weights: directory.Weights, kind: str, tubelet_frames: int | None
) -> tuple[int, ...]:
  """Returns the (t, h, w) of a tubelet in frames and pixels."""
  setting = functools.partial(directory.setting, weights)
  if kind == 'vivit':
    tubelet_size = tuple(setting('tubelet_size', kind='three sizes'))
  else:
    tubelet_size = (tubelet_frames or 1,)
    if kind == 'videomae':
      tubelet_size = (setting('tubelet_size', kind='size'),)
    tubelet_size += _pair(setting('patch_size', kind='pair'))
  if tubelet_frames not in (None, tubelet_size[0]):
    raise ValueError(
      f'{weights.path}: its tubelets have {tubelet_size[0]} frames, not '
      f'{tubelet_frames}; only 2-D patches can be inflated to tubelets'
    )
  return tubelet_size


def video_encoder_kwargs(
  weights: directory.Weights, tubelet_frames: int | None = None
) -> dict[str, Any]:
  """Reads the architecture from config.json.

  Args:
    weights: from `directory.read_weights`.
    tubelet_frames: frames per tubelet, for weights with 2-D patches (ViT and
      TimeSformer); None for one.

  Returns:
    Keyword arguments of `video_encoder.VideoEncoder`.

  Raises:
    ValueError: the architecture or a setting is not supported.
  """
  kind = directory.expect_model_type(weights, *MODEL_TYPES)
  setting = functools.partial(directory.setting, weights)
  tubelet_size = _tubelet_size(weights, kind, tubelet_frames)
  kwargs = dict(
    **directory.sizes(
      weights,
      width='hidden_size',
      depth='num_hidden_layers',
      num_heads='num_attention_heads',
      mlp_dim='intermediate_size',
    ),
    tubelet_size=tubelet_size,
    pooling='cls',
    attention='joint',
    positions='separable',
    activation=directory.activation(weights, setting('hidden_act')),
    norm_epsilon=setting('layer_norm_eps', kind='number'),
    qkv_bias='qkv' if setting('qkv_bias', True) else '',
    final_norm='tokens',
  )
  directory.check_heads(weights, kwargs['width'], kwargs['num_heads'])
  if kind == 'vivit':
    kwargs['positions'] = 'full'
  elif kind == 'timesformer':
    kwargs['attention'] = _timesformer_attention(weights)
  elif kind == 'videomae':
    kwargs.update(
      pooling='mean',
      positions='sincos',
      sincos_grid=tubelets.token_grid(native_clip(weights), tubelet_size),
      qkv_bias=video_plan.videomae_biases(weights),
    )
    if setting('use_mean_pooling', True):
      # The norm follows the pooling, and only classifiers have it.
      pooled = 'fc_norm.weight' in weights.tensors
      kwargs['final_norm'] = 'pooled' if pooled else 'none'
  return kwargs


def load_video_encoder(
  weights: directory.Weights,
  inflation: str = 'centre',
  *,
  tubelet_frames: int | None = None,
  num_frames: int | None = None,
  size: int | None = None,
  scan_blocks: bool = False,
) -> tuple[dict[str, Any], Any]:
  """Loads a video encoder.

  Positions are resampled if the clips have another size than in training.

  Args:
    weights: from `directory.read_weights`.
    inflation: see `video_plan.tubelet_kernel`.
    tubelet_frames: see `video_encoder_kwargs`.
    num_frames: frames per clip; None takes the weights' own, or one tubelet
      for ViT.
    size: height and width of the clips in pixels; None takes the weights' own.
    scan_blocks: return the parameters of a scanned stack of blocks.

  Returns:
    Keyword arguments of `video_encoder.VideoEncoder`, and its parameters
    (float32 numpy).

  Raises:
    ValueError: the architecture is another one, or a tensor is missing, left
      over or of a wrong shape. The message names file and tensor.
  """
  kwargs = video_encoder_kwargs(weights, tubelet_frames)
  kwargs['scan_blocks'] = scan_blocks
  native = native_clip(weights)
  frames = num_frames or max(native[0], kwargs['tubelet_size'][0])
  clip = (frames, *(_pair(size) if size else native[1:]))
  encoder = video_encoder.VideoEncoder(**kwargs)
  channels = directory.setting(weights, 'num_channels', 3)
  shapes = jax.eval_shape(
    encoder.init, jax.random.key(0), jnp.zeros((1, *clip, channels))
  )
  return kwargs, assemble.assemble(
    video_plan.fold_cls(weights),
    video_plan.plan(weights, kwargs, clip, native, inflation),
    shapes['params'],
    ignore=_IGNORED,
  )


def preprocessing(weights: directory.Weights) -> dict[str, Any]:
  """Returns the preprocessing that belongs to weights.

  Args:
    weights: from `directory.read_weights`.

  Returns:
    The values of `pixels.read`, and `num_frames` of a clip (None for weights
    trained on images).

  Raises:
    FileNotFoundError: see `pixels.read`.
    ValueError: see `pixels.read`; or the frames are not square.
  """
  kind = directory.expect_model_type(weights, *MODEL_TYPES)
  frames, height, width = native_clip(weights)
  if height != width:
    raise ValueError(
      f'{weights.path}/config.json: frames of {height} x {width} are not square'
    )
  return {
    **pixels.read(weights, height),
    'num_frames': None if kind == 'vit' else frames,
  }
