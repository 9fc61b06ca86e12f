"""Loads public models with a joint space of videos and texts."""

from collections.abc import Callable
import dataclasses
from typing import Any

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
    return self.model.text['max_length']


def load(weights: directory.Weights) -> DualModel:
  """Loads a model.

  Args:
    weights: from `directory.read_weights`, of one of MODEL_TYPES.

  Returns:
    The model. `pixels` and `tokenizer` read their files when called.

  Raises:
    ValueError: the files do not fit together.
  """
  kind = weights.config['model_type']
  if kind == siglip.MODEL_TYPE:
    kwargs, params = siglip.load_siglip(weights)
    model, source = siglip_model.Siglip(**kwargs), siglip
    frames, bias = None, float(params['logit_bias'])
    tokenizer = lambda: siglip.load_tokenizer(weights)
  elif kind == videoprism.MODEL_TYPE:
    kwargs, params = videoprism.load_videoprism(weights)
    model, source = videoprism_model.VideoPrism(**kwargs), videoprism
    frames, bias = videoprism.native_frames(weights), 0.0
    tokenizer = lambda: videoprism.load_tokenizer(weights)
  elif kind in pe_video.MODEL_TYPES:
    kwargs, params = pe_video.load_pe_video(weights)
    model, source = pe_video_model.PeVideo(**kwargs), pe_video
    frames, bias = None, 0.0
    tokenizer = lambda: pe_video.load_tokenizer(weights)
  else:
    kwargs, params = clip.load_clip(weights)
    model, source = clip_model.Clip(**kwargs), clip
    frames, bias = clip.native_frames(weights), 0.0
    length = kwargs['text']['max_length']
    tokenizer = lambda: clip.load_tokenizer(weights, length)
  if source in (videoprism, pe_video):
    scale = source.SCALE
  else:
    scale = float(model.apply({'params': params}, method='scale'))
  return DualModel(
    model,
    params,
    frames,
    scale,
    bias,
    lambda: source.pixel_settings(weights),
    tokenizer,
  )
