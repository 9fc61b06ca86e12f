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
import numpy as np

from zsar_jax.data import tokenizer
from zsar_jax.models import resnet, zsar_model
from zsar_jax.pretrained import (
  assemble,
  bert,
  directory,
  dual_models,
  i3d,
  mpnet,
  start_kinds,
  vjepa2,
)
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


def take(section: ml_collections.ConfigDict, values: Mapping[str, Any]) -> None:
  """Copies values whose keys a section has, and those of its parts.

  Args:
    section: of a config; it is changed. A part without keys, such as a tower's
      settings, takes all of its values.
    values: key -> value, or the values of a part.
  """
  for key, value in values.items():
    if key not in section:
      continue
    if not isinstance(value, Mapping):
      section[key] = tuple(value) if isinstance(value, list) else value
    elif section[key]:
      take(section[key], value)
    else:
      with section.unlocked():
        section[key] = ml_collections.ConfigDict(value)


def _set_tower(
  section: ml_collections.ConfigDict, key: str, name: str, kwargs: Any
) -> None:
  """Makes a section's encoder the public one of this name."""
  section[key] = name
  with section.unlocked():
    section.tower = ml_collections.ConfigDict(kwargs)


def _read(config: ml_collections.ConfigDict, side: str) -> directory.Weights:
  """Reads a side's weights, and records their name in the config."""
  start_kinds.check(side, config.init[side])
  weights = directory.read_weights(config.init[side])
  name = os.path.basename(os.path.normpath(weights.path))
  if weights.source:
    # Record the commit: a branch may hold other weights later.
    name = config.init[side] = weights.source
  _record(config, f'{side}={name}:{directory.fingerprint(weights.tensors)}')
  return weights


def _record(config: ml_collections.ConfigDict, note: str) -> None:
  """Adds a side's weights to the initialisation's name."""
  config.init.loaded = ', '.join(filter(None, [config.init.loaded, note]))


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
  take(config.model.text, kwargs)
  return pieces, {'text_encoder': params}


def _start_video(config: ml_collections.ConfigDict):
  source = config.init.video
  _expect_rgb(config, source)
  if source == i3d.NAME:
    start_kinds.check('video', source)
    return _start_i3d(config)
  weights = _read(config, 'video')
  video, kind = config.model.video, weights.config.get('model_type')
  if video.backbone in zsar_model.REST_BACKBONES:
    # torchvision's files have no config.
    if kind not in ('resnet', None):
      raise ValueError(
        f'model.video.backbone={video.backbone!r} is a ResNet, but the '
        f'model_type of init.video={source} is {kind!r}: leave out the backbone'
      )
    return _start_resnet(config, weights)
  if kind == vjepa2.MODEL_TYPE:
    take(config.preprocessing, vjepa2.preprocessing(weights))
    kwargs, params = vjepa2.load_vjepa2(weights)
    _set_tower(video, 'backbone', 'vjepa2', kwargs)
    return {'video_encoder': params}
  return _start_tubelets(config, weights)


def _start_i3d(config: ml_collections.ConfigDict):
  kwargs, params, digest = i3d.load_encoder()
  _record(config, f'video={i3d.NAME}:{digest}')
  take(config.preprocessing, i3d.PREPROCESSING)
  _set_tower(config.model.video, 'backbone', i3d.NAME, kwargs)
  return {'video_encoder': params}


def _start_resnet(config: ml_collections.ConfigDict, weights):
  video = config.model.video
  layout = resnet.LAYOUTS[zsar_model.REST_BACKBONES[video.backbone]]
  # Loaded batch statistics stay fixed: see resnet.FrozenBatchNorm.
  take(video, {'resnet_norm': 'frozen'})
  params = resnet_weights.load_resnet(weights, layout)
  pixels = _IMAGENET
  if weights.preprocessor:
    pixels = pixel_settings.normalisation(weights)
  take(config.preprocessing, pixels)
  return {'video_encoder/resnet': params}


def _start_tubelets(config: ml_collections.ConfigDict, weights):
  video, prep = config.model.video, config.preprocessing
  pixels = video_weights.preprocessing(weights)
  take(prep, {k: v for k, v in pixels.items() if v is not None})
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
  take(video, {**kwargs, 'backbone': '', 'variant': ''})
  return {'video_encoder': params}


def _start_dual(config: ml_collections.ConfigDict, key: str):
  """Starts both sides where the untrained model stands.

  The shared projections are the model's own, or the identity where `pooled`
  lies in the joint space. The learnt scale is its own, of at most MAX_SCALE. A
  bias of SigLIP's or PE-Video's logits has no place: a softmax does not see it.
  """
  weights = _read(config, key)
  directory.expect_model_type(weights, *start_kinds.STARTS['dual'])
  prep = config.preprocessing
  dual = dual_models.load(weights, prep.token_length)
  take(prep, {**dual.pixels(), 'token_length': dual.token_length})
  if dual.num_frames:
    prep.num_frames = dual.num_frames
  if dual.name == zsar_model.CLIP:
    _take_clip(config.model, dual.kwargs)
  else:
    _set_tower(config.model.video, 'backbone', dual.name, dual.kwargs['video'])
    _set_tower(
      config.model.text, 'architecture', dual.name, dual.kwargs['text']
    )
  loaded = {}
  for side in ('video', 'text'):
    loaded[f'{side}_encoder'] = dual.params[f'{side}_encoder']
    projection = dual.projection(side)
    config.model.embedding_dim = projection['kernel'].shape[1]
    # Without a bias, ours starts at zero.
    loaded |= {f'{side}_projection/{k}': x for k, x in projection.items()}
  scale = min(dual.scale, zsar_model.MAX_SCALE)
  loaded['text_log_scale'] = np.float32(np.log(scale))
  return [dual.tokenizer().definition], loaded


def _take_clip(model: ml_collections.ConfigDict, kwargs: Any) -> None:
  """Makes both encoders those of a CLIP, by the keys that others have too."""
  patch = kwargs['video']['patch_size']
  take(
    model.video,
    {
      **kwargs['video'],
      'backbone': zsar_model.CLIP,
      'variant': '',
      'tubelet_size': (1, patch, patch),
    },
  )
  text = {'pooled_token': 'end', **kwargs['text']}
  take(model.text, {**text, 'architecture': zsar_model.CLIP})


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
