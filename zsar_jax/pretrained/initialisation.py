"""Initialises a model from public weights, and its config from theirs.

The paper's strict setting trains the video side from random values. Starting
from a pre-trained text or video encoder is another setting. `describe` names
the setting, and every result records it.
"""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

import ml_collections

from zsar_jax.data import tokenizer
from zsar_jax.models import resnet, zsar_model
from zsar_jax.pretrained import assemble, bert, directory, mpnet, start_kinds
from zsar_jax.pretrained import clip as clip_weights
from zsar_jax.pretrained import pixels as pixel_settings
from zsar_jax.pretrained import resnet as resnet_weights
from zsar_jax.pretrained import video as video_weights

# Keys of the config's section `init` that name weights; `inference.starts`
# reads those of `model`. `clip` is the older name of `dual`, and only older
# configs lack `dual`.
_DUAL = ('dual', 'clip')
SOURCES = ('text', 'video', *_DUAL, 'model')
# The normalisation of all torchvision ResNets, whose files do not hold it.
_IMAGENET = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}
# Model type -> what loads it into a `TextEncoder`.
_TEXT_LOADERS = {'bert': bert, 'mpnet': mpnet}


@dataclasses.dataclass(frozen=True)
class Start:
  """The weights that training starts from.

  Attributes:
    config: the config, with sizes and other settings of the weights filled
      in. It then builds the model without the weights.
    pieces: the vocabulary.
    loaded: path in the model's parameters -> the subtree to put there.
  """

  config: ml_collections.ConfigDict
  pieces: list[str]
  loaded: Mapping[str, Any]


def describe(config: ml_collections.ConfigDict) -> str:
  """Names the initialisation: 'random', or the weights of each side.

  The name holds a hash of the weights, because folders may share a name. For
  weights from the Hugging Face Hub it also holds the commit.

  Args:
    config: of a `Start`.
  """
  return config.init.loaded or 'random'


def _dual_key(config: ml_collections.ConfigDict) -> str:
  """Returns the key that names weights of both sides; '' without any."""
  return next((key for key in _DUAL if config.init.get(key, '')), '')


def dual_source(config: ml_collections.ConfigDict) -> str:
  """Returns the weights of both sides that a config starts from, or ''.

  Args:
    config: the whole config, also that of an older run.
  """
  key = _dual_key(config)
  return config.init[key] if key else ''


def _take(section: ml_collections.ConfigDict, values: Mapping[str, Any]):
  """Copies values whose keys the section has."""
  for key, value in values.items():
    if key in section:
      section[key] = tuple(value) if isinstance(value, list) else value


def _read(config: ml_collections.ConfigDict, side: str) -> directory.Weights:
  """Reads a side's weights, and records their name in the config."""
  start_kinds.check(side, config.init[side])
  weights = directory.read_weights(config.init[side])
  name = os.path.basename(os.path.normpath(weights.path))
  if weights.source:
    # Record the commit: a branch may hold other weights later.
    name = config.init[side] = weights.source
  note = f'{side}={name}:{directory.fingerprint(weights.tensors)}'
  config.init.loaded = ', '.join(filter(None, [config.init.loaded, note]))
  return weights


def _expect_rgb(config: ml_collections.ConfigDict, path: str) -> None:
  inputs = config.preprocessing.inputs
  if inputs != 'rgb':
    raise ValueError(f'preprocessing.inputs={inputs!r}: {path} needs rgb')


def _start_text(config: ml_collections.ConfigDict):
  weights = _read(config, 'text')
  kind = directory.expect_model_type(weights, *_TEXT_LOADERS)
  kwargs, params, pieces = _TEXT_LOADERS[kind].load_text_encoder(
    weights, config.preprocessing.token_length
  )
  _take(config.model.text, kwargs)
  return pieces, {'text_encoder': params}


def _start_video(config: ml_collections.ConfigDict):
  weights = _read(config, 'video')
  video, prep = config.model.video, config.preprocessing
  _expect_rgb(config, weights.path)
  if video.backbone:
    layout = resnet.LAYOUTS[zsar_model.REST_BACKBONES[video.backbone]]
    # Loaded batch statistics stay fixed: see resnet.FrozenBatchNorm.
    _take(video, {'resnet_norm': 'frozen'})
    params = resnet_weights.load_resnet(weights, layout)
    pixels = _IMAGENET
    if weights.preprocessor:
      pixels = pixel_settings.normalisation(weights)
    _take(prep, pixels)
    return {'video_encoder/resnet': params}
  pixels = video_weights.preprocessing(weights)
  _take(prep, {k: v for k, v in pixels.items() if v is not None})
  kind = weights.config['model_type']
  inflated = video.tubelet_size[0] if kind in ('vit', 'timesformer') else None
  kwargs, params = video_weights.load_video_encoder(
    weights,
    config.init.inflation,
    tubelet_frames=inflated,
    num_frames=prep.num_frames,
    size=prep.size,
    scan_blocks=video.scan_blocks,
  )
  _take(video, {**kwargs, 'variant': ''})
  return {'video_encoder': params}


def _start_dual(config: ml_collections.ConfigDict, key: str):
  weights = _read(config, key)
  directory.expect_model_type(weights, *start_kinds.STARTS['dual'])
  length = config.preprocessing.token_length
  kwargs, params = clip_weights.load_clip(weights, length)
  tokenize = clip_weights.load_tokenizer(weights, length)
  patch = kwargs['video']['patch_size']
  _take(config.preprocessing, clip_weights.pixel_settings(weights))
  _take(
    config.model.video,
    {
      **kwargs['video'],
      'backbone': zsar_model.CLIP,
      'variant': '',
      'tubelet_size': (1, patch, patch),
    },
  )
  text = {'pooled_token': 'end', **kwargs['text']}
  _take(config.model.text, {**text, 'architecture': zsar_model.CLIP})
  config.model.embedding_dim = kwargs['embedding_dim']
  loaded = {side: params[side] for side in ('video_encoder', 'text_encoder')}
  # CLIP's projections have no bias; ours start at zero.
  for side in ('video_projection', 'text_projection'):
    loaded[f'{side}/kernel'] = params[side]['kernel']
  loaded['text_log_scale'] = params['log_scale']
  return [tokenize.definition], loaded


def start(config: ml_collections.ConfigDict) -> Start:
  """Reads the public weights that a config names in `init`.

  Args:
    config: the whole config, checked; it is not changed.

  Returns:
    The start. Without `init.text` and `init.dual`, the vocabulary is the
    config's.

  Raises:
    FileNotFoundError: weights or a vocabulary are missing.
    ValueError: the weights do not fit. The message names file and tensor.
  """
  config = config.copy_and_resolve_references()
  pieces, loaded = [], {}
  key = _dual_key(config)
  if key:
    if key == 'dual' and config.init.clip:
      raise ValueError(
        f'init.dual={config.init.dual} and init.clip={config.init.clip}: '
        'init.clip is the older name of init.dual; set only one'
      )
    if config.init.text or config.init.video or config.vocabulary:
      raise ValueError(
        f'init.{key} sets both encoders and the vocabulary: leave out '
        'init.text, init.video and vocabulary'
      )
    _expect_rgb(config, config.init[key])
    pieces, loaded = _start_dual(config, key)
    return Start(config, pieces, loaded)
  if config.init.text:
    if config.vocabulary:
      raise ValueError(
        f'vocabulary={config.vocabulary} and init.text={config.init.text}: '
        'the weights have their own vocabulary; set only one'
      )
    pieces, loaded = _start_text(config)
  else:
    pieces = tokenizer.read_vocabulary(
      config.vocabulary or tokenizer.default_vocabulary_path()
    )
  if config.init.video:
    loaded.update(_start_video(config))
  return Start(config, pieces, loaded)


def put(params: Any, loaded: Mapping[str, Any]) -> Any:
  """Replaces freshly initialised parameters by loaded subtrees.

  Args:
    params: the whole model's parameters.
    loaded: `loaded` of a `Start`.

  Returns:
    The parameters, with the same dtypes and shardings.
  """
  for path, subtree in loaded.items():
    params = assemble.replace_subtree(params, path, subtree)
  return params
