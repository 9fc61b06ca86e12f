"""Loads public models with a joint space of videos and texts."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import numpy as np

from zsar_jax.models import clip as clip_model
from zsar_jax.models import pe_video as pe_video_model
from zsar_jax.models import siglip as siglip_model
from zsar_jax.models import videoprism as videoprism_model
from zsar_jax.pretrained import clip, directory, pe_video, siglip, videoprism

MODEL_TYPES = (
  *clip.MODEL_TYPES,
  siglip.MODEL_TYPE,
  videoprism.MODEL_TYPE,
  *pe_video.MODEL_TYPES,
)


@dataclasses.dataclass(frozen=True)
class DualModel:
  """A model with its weights.

  Attributes:
    name: of the architecture: 'clip', or a key of `models.towers.TOWERS`.
    kwargs: keyword arguments of the model.
    model: module with the methods `encode_video` and `encode_text`.
    params: parameters of the model.
    num_frames: frames of a clip; None for any number.
    scale: factor on cosines before a softmax or sigmoid.
    bias: bias added after `scale`, of models trained with a sigmoid loss; else
      0.
    pixels: () -> `size`, `short_side`, `resize`, `crop`, `mean` and `std`;
      some weights also give `sampling` and `num_frames`.
    tokenizer: () -> the tokenizer.
  """

  name: str
  kwargs: Mapping[str, Any]
  model: Any
  params: Any
  num_frames: int | None
  scale: float
  bias: float
  pixels: Callable[[], dict[str, Any]]
  tokenizer: Callable[[], Any]

  @property
  def token_length(self) -> int:
    """Number of token ids per text."""
    return self.kwargs['text']['max_length']

  def projection(self, side: str) -> dict[str, np.ndarray]:
    """Returns the dense layer from an encoder into the joint space.

    Args:
      side: 'video' or 'text'.

    Returns:
      `kernel` [e d] and, if there is one, `bias` [d]. The kernel is the
      identity for an encoder whose `pooled` lies in the joint space.
    """
    name = f'{side}_projection'
    if name in self.params:
      return dict(self.params[name])
    of_text = self.params.get('text_projection')
    width = self.kwargs['text']['width']
    dim = of_text['kernel'].shape[1] if of_text else width
    return {'kernel': np.eye(dim, dtype=np.float32)}


def load(
  weights: directory.Weights, token_length: int | None = None
) -> DualModel:
  """Loads a model.

  Args:
    weights: from `directory.read_weights`, of one of MODEL_TYPES.
    token_length: token ids per text of a CLIP, MetaCLIP 2 or X-CLIP; None takes
      as many as it has positions. The others have lengths of their own.

  Returns:
    The model. `pixels` and `tokenizer` read their files when called.

  Raises:
    ValueError: the files do not fit together.
  """
  kind = weights.config['model_type']
  frames, bias = None, 0.0
  if kind == siglip.MODEL_TYPE:
    kwargs, params = siglip.load_siglip(weights)
    name, model, source = 'siglip', siglip_model.Siglip(**kwargs), siglip
    bias = float(params['logit_bias'])
  elif kind == videoprism.MODEL_TYPE:
    kwargs, params = videoprism.load_videoprism(weights)
    model, source = videoprism_model.VideoPrism(**kwargs), videoprism
    name, frames = 'videoprism', videoprism.native_frames(weights)
  elif kind in pe_video.MODEL_TYPES:
    kwargs, params = pe_video.load_pe_video(weights)
    name, model, source = 'pe_video', pe_video_model.PeVideo(**kwargs), pe_video
  else:
    kwargs, params = clip.load_clip(weights, token_length)
    name = 'xclip' if kind == 'xclip' else 'clip'
    model, source = clip_model.Clip(**kwargs), clip
    frames = clip.native_frames(weights)
  if source is clip:
    length = kwargs['text']['max_length']
    tokenizer = lambda: clip.load_tokenizer(weights, length)
  else:
    tokenizer = lambda: source.load_tokenizer(weights)
  if source in (videoprism, pe_video):
    scale = source.SCALE
  else:
    scale = float(model.apply({'params': params}, method='scale'))
  return DualModel(
    name,
    kwargs,
    model,
    params,
    frames,
    scale,
    bias,
    lambda: source.pixel_settings(weights),
    tokenizer,
  )
