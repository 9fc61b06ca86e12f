"""The whole model: two encoders, one shared space, one fusion.

The model returns every intermediate by name, and encodes each modality alone:

  model = ZsarModel(...)
  video = model.apply({'params': params}, clip, method='encode_video')
  text = model.apply({'params': params}, ids, mask, method='encode_text')
  cosines = video['embedding'] @ text['embedding'].T
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import (
  clip,
  fusion,
  layers,
  resnet,
  text_encoder,
  towers,
  video_encoder,
)

# Learnt logit scales start at 1 / 0.1 and are bounded as CLIP's are
# (Radford et al. 2021); the start is our choice.
_INITIAL_SCALE = 10.0
MAX_SCALE = 100.0
# Value of the video key `backbone` -> ResNet depth.
REST_BACKBONES = {f'rest{depth}': depth for depth in resnet.LAYOUTS}


# Values of the text key `architecture`; CLIP is one of `backbone` too. Those of
# towers come on top.
BERT, CLIP = 'bert', 'clip'


def _own(module: type[nn.Module], kwargs: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the keyword arguments that a module has."""
  names = {field.name for field in dataclasses.fields(module)}
  return {k: v for k, v in kwargs.items() if k in names}


def make_text_encoder(
  text: Mapping[str, Any], dtype: layers.Dtype
) -> nn.Module:
  """Returns the text encoder that keyword arguments ask for.

  Args:
    text: keyword arguments of `text_encoder.TextEncoder`, or of
      `clip.ClipTextEncoder` if `architecture` is 'clip'. Others are ignored. An
      `architecture` of `towers.TOWERS` has its own in `tower`.
    dtype: computation dtype.

  Returns:
    The encoder.

  Raises:
    ValueError: the architecture is unknown.
  """
  kwargs = {'architecture': BERT, **text, 'dtype': dtype}
  architecture = kwargs['architecture']
  encoders = {BERT: text_encoder.TextEncoder, CLIP: clip.ClipTextEncoder}
  public = towers.TOWERS['text']
  if architecture in public:
    return towers.make('text', architecture, text, dtype)
  if architecture not in encoders:
    raise ValueError(
      f'model.text.architecture={architecture!r} is not one of '
      f'{[*encoders, *public]}'
    )
  module = encoders[architecture]
  return module(**_own(module, kwargs))


def make_video_encoder(
  video: Mapping[str, Any], dtype: layers.Dtype
) -> nn.Module:
  """Returns the video encoder that keyword arguments ask for.

  Args:
    video: keyword arguments of the encoder. Its `backbone` is '' for a
      `video_encoder.VideoEncoder`, a key of REST_BACKBONES for a
      `resnet.ResTEncoder`, or 'clip' for a `clip.ClipVideoEncoder` (which needs
      `image_size` too). Arguments of the other encoders are ignored. A
      `backbone` of `towers.TOWERS` has its own in `tower`.
    dtype: computation dtype.

  Returns:
    The encoder.

  Raises:
    ValueError: the backbone is unknown.
  """
  kwargs = {'backbone': '', **video, 'dtype': dtype}
  backbone = kwargs.pop('backbone')
  public = towers.TOWERS['video']
  if backbone in public:
    return towers.make('video', backbone, video, dtype)
  kwargs.pop('tower', None)
  if not backbone:
    kwargs.pop('resnet_norm', None)
    kwargs.pop('image_size', None)
    return video_encoder.VideoEncoder(**kwargs)
  if backbone == CLIP:
    kwargs['patch_size'] = kwargs['tubelet_size'][1]
    return clip.ClipVideoEncoder(**_own(clip.ClipVideoEncoder, kwargs))
  if backbone not in REST_BACKBONES:
    known = ['', *REST_BACKBONES, CLIP, *public]
    raise ValueError(f'model.video.backbone={backbone!r} is not one of {known}')
  kwargs.pop('tubelet_size', None)
  kwargs.pop('image_size', None)
  depth = REST_BACKBONES[backbone]
  return resnet.ResTEncoder(resnet_depth=depth, **kwargs)


class ZsarModel(nn.Module):
  """Video encoder, text encoder, projections, class centres and fusion.

  Attributes:
    video: as `make_video_encoder`.
    text: as `make_text_encoder`.
    fusion: keyword arguments of `fusion.CrossModalTransformer`.
    embedding_dim: dimension d of the shared space.
    num_classes: number of seen classes, each with a learnt centre.
    dtype: computation dtype; parameters stay float32.
  """

  video: Mapping[str, Any]
  text: Mapping[str, Any]
  fusion: Mapping[str, Any]
  embedding_dim: int
  num_classes: int
  dtype: layers.Dtype = jnp.float32

  def setup(self):  # noqa: D102 (flax calls it)
    self.video_encoder = make_video_encoder(self.video, self.dtype)
    self.text_encoder = make_text_encoder(self.text, self.dtype)
    self.cross_modal = fusion.CrossModalTransformer(
      dtype=self.dtype, **self.fusion
    )
    self.video_projection = nn.Dense(self.embedding_dim, dtype=self.dtype)
    # It starts as a rotation, if the sizes allow. A rotation keeps the
    # relatedness of names that a pretrained encoder has learnt.
    self.text_projection = nn.Dense(
      self.embedding_dim,
      kernel_init=nn.initializers.orthogonal(),
      dtype=self.dtype,
    )
    self.class_centres = self.param(
      'class_centres',
      nn.initializers.normal(1.0),
      (self.num_classes, self.embedding_dim),
    )
    log_scale = lambda name: self.param(
      name, lambda key: jnp.log(jnp.float32(_INITIAL_SCALE))
    )
    self.visual_log_scale = log_scale('visual_log_scale')
    self.text_log_scale = log_scale('text_log_scale')

  def __call__(
    self, video: jax.Array, ids: jax.Array, mask: jax.Array
  ) -> dict[str, Any]:
    """Touches every parameter once; used to initialise.

    Args:
      video: normalised clip [b t h w c].
      ids: token ids [c l].
      mask: [c l] bool.

    Returns:
      The outputs of all parts by name.
    """
    video_out = self.encode_video(video)
    text_out = self.encode_text(ids, mask)
    pairs = (video.shape[0], *text_out['tokens'].shape)
    logits = self.match(
      video_out['tokens'],
      jnp.broadcast_to(text_out['tokens'], pairs),
      jnp.broadcast_to(mask, pairs[:-1]),
    )
    return {
      'video': video_out,
      'text': text_out,
      'match': logits,
      **self.heads(),
    }

  def encode_video(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes clips.

    Args:
      video: normalised clip [b t h w c].
      deterministic: False turns dropout on.

    Returns:
      `tokens` [b n e], `pooled` [b e] before the shared projection, and
      `embedding` [b d], unit vectors, float32.
    """
    out = self.video_encoder(video, deterministic)
    embedding = layers.l2_normalise(self.video_projection(out['pooled']))
    return {**out, 'embedding': embedding}

  def encode_text(
    self, ids: jax.Array, mask: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes class names.

    Args:
      ids: token ids [c l].
      mask: [c l] bool.
      deterministic: False turns dropout on.

    Returns:
      `tokens` [c l e], `pooled` [c e], and `embedding` [c d], unit vectors,
      float32.
    """
    return self.embed_encoded_text(self.text_encoder(ids, mask, deterministic))

  def embed_encoded_text(
    self, encoded: Mapping[str, jax.Array], deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Applies the part of `encode_text` that follows the text encoder.

    Args:
      encoded: outputs of the text encoder, `tokens` [c l e] and `pooled` [c e].
        A frozen encoder gives the same outputs in every step.
      deterministic: unused, since nothing here is random; as in `encode_text`.

    Returns:
      As `encode_text`.
    """
    del deterministic
    embedding = layers.l2_normalise(self.text_projection(encoded['pooled']))
    return {**encoded, 'embedding': embedding}

  def match(
    self,
    video_tokens: jax.Array,
    text_tokens: jax.Array,
    text_mask: jax.Array,
    deterministic: bool = True,
  ) -> jax.Array:
    """Computes match logits [b c]; see `fusion.CrossModalTransformer`."""
    return self.cross_modal(video_tokens, text_tokens, text_mask, deterministic)

  def heads(self) -> dict[str, jax.Array]:
    """Returns class centres [s d], unit vectors, and the two logit scales."""
    scale = lambda log: jnp.minimum(jnp.exp(log), MAX_SCALE)
    return {
      'class_centres': layers.l2_normalise(self.class_centres),
      'visual_scale': scale(self.visual_log_scale),
      'text_scale': scale(self.text_log_scale),
    }
