"""SigLIP: an image and a text Transformer whose pairs are judged one by one.

The architecture of Zhai et al. 2023 as transformers' SiglipModel runs it,
which is SigLIP 2's of fixed resolution too (Tschannen et al. 2025). The image
tower reads every frame of a clip on its own. A pair's probability is the
sigmoid of its logit: the cosine times `scale` plus `bias`.

  model = Siglip(video=dict(...), text=dict(...), embedding_dim=768)
  video = model.apply({'params': params}, clip, method='encode_video')
  text = model.apply({'params': params}, ids, mask, method='encode_text')
"""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import clip, layers, video_encoder

# log(10) and -10, where the training starts.
_INITIAL_LOG_SCALE, _INITIAL_BIAS = 2.302585, -10.0


class SiglipVideoEncoder(video_encoder.VideoEncoder):
  """SigLIP's vision Transformer, on every frame of a clip alone.

  Attributes: those of `VideoEncoder`, of single frames.
  """

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes clips.

    Args:
      video: normalised clip [b t h w 3]. What is left at the right and at
        the bottom of the last whole patch is not seen.
      deterministic: False turns dropout on.

    Returns:
      `tokens` [b t*n d] after the last norm; `frames` [b t d], the model's
      image embeddings, unit vectors; `pooled` [b d], their mean, float32.
    """
    b, t, *size, c = video.shape
    patch = self.tubelet_size[1:]
    h, w = (n // p * p for n, p in zip(size, patch, strict=True))
    images = video[:, :, :h, :w].reshape(b * t, 1, h, w, c)
    out = super().__call__(images, deterministic)
    frames = layers.l2_normalise(out['pooled']).reshape(b, t, -1)
    return {
      'tokens': out['tokens'].reshape(b, -1, self.width),
      'frames': frames,
      'pooled': frames.mean(axis=1),
    }


class Siglip(nn.Module):
  """Both encoders, the text's head, and the learnt scale and bias.

  Attributes:
    video: keyword arguments of `SiglipVideoEncoder`.
    text: keyword arguments of `clip.ClipTextEncoder`.
    embedding_dim: dimension d of the shared space.
    dtype: computation dtype; parameters stay float32.
  """

  video: Mapping[str, Any]
  text: Mapping[str, Any]
  embedding_dim: int
  dtype: layers.Dtype = jnp.float32

  def setup(self):  # noqa: D102 (flax calls it)
    self.video_encoder = SiglipVideoEncoder(dtype=self.dtype, **self.video)
    self.text_encoder = clip.ClipTextEncoder(dtype=self.dtype, **self.text)
    self.text_projection = nn.Dense(self.embedding_dim, dtype=self.dtype)
    constant = nn.initializers.constant
    self.log_scale = self.param('log_scale', constant(_INITIAL_LOG_SCALE), ())
    self.logit_bias = self.param('logit_bias', constant(_INITIAL_BIAS), ())

  def __call__(
    self, video: jax.Array, ids: jax.Array, mask: jax.Array
  ) -> dict[str, Any]:
    """Touches every parameter once; arguments as of the methods."""
    return {
      'video': self.encode_video(video),
      'text': self.encode_text(ids, mask),
      'scale': self.scale(),
      'bias': self.bias(),
    }

  def encode_video(self, video: jax.Array) -> dict[str, jax.Array]:
    """Encodes clips frame by frame.

    Args:
      video: normalised clip [b t h w 3].

    Returns:
      The encoder's outputs and `embedding` [b d], the direction of `pooled`;
      unit vectors, float32.
    """
    out = self.video_encoder(video)
    return {**out, 'embedding': layers.l2_normalise(out['pooled'])}

  def encode_text(
    self, ids: jax.Array, mask: jax.Array
  ) -> dict[str, jax.Array]:
    """Encodes texts.

    Args:
      ids: token ids [c l]; l is the length of the training, because the last
        place is pooled.
      mask: [c l] bool; True everywhere, as in the training.

    Returns:
      The encoder's outputs and `embedding` [c d], unit vectors, float32.
    """
    out = self.text_encoder(ids, mask)
    embedding = layers.l2_normalise(self.text_projection(out['pooled']))
    return {**out, 'embedding': embedding}

  def scale(self) -> jax.Array:
    """Returns the logit scale, which multiplies cosines."""
    return jnp.exp(self.log_scale)

  def bias(self) -> jax.Array:
    """Returns the logit bias, which is added to scaled cosines."""
    return self.logit_bias
