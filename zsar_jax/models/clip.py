"""CLIP: an image and a text Transformer with one shared space.

The architecture is that of Radford et al. 2021 as transformers' CLIPModel runs
it. The image tower encodes every frame of a clip on its own. The two encoders
have the arguments and outputs of `VideoEncoder` and `TextEncoder`, so they can
replace them. `Clip` adds the projections into the shared space:

  model = Clip(video=dict(...), text=dict(...), embedding_dim=512)
  video = model.apply({'params': params}, clip, method='encode_video')
  text = model.apply({'params': params}, ids, mask, method='encode_text')
  cosines = video['embedding'] @ text['embedding'].T
"""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from zsar_jax.models import layers, text_encoder, tubelets, xclip

# config.json of the first public CLIP weights names this end token, wrongly.
# They were trained with 49407, the largest id.
LEGACY_END_ID = 2
# log(1 / 0.07), the value at which CLIP's training starts.
_INITIAL_LOG_SCALE = 2.6592
# Of texts: the first end token, where LEGACY_END_ID means the largest id; the
# first end token, whatever its id (MetaCLIP 2); the last place (SigLIP).
POOLED_TOKENS = ('end', 'exact_end', 'last')


def end_positions(
  ids: jax.Array, mask: jax.Array, end_id: int | None = None
) -> jax.Array:
  """Returns where each text ends: the token that CLIP pools.

  Args:
    ids: token ids [c l].
    mask: [c l] bool; padding does not count.
    end_id: id of the end token; its first position counts. With LEGACY_END_ID
      or None the first position of the largest id counts.

  Returns:
    Positions [c] int32; 0 for a text without an end token.
  """
  if end_id in (None, LEGACY_END_ID):
    return jnp.where(mask, ids, -1).argmax(axis=-1)
  return (mask & (ids == end_id)).argmax(axis=-1)


class ClipTextEncoder(nn.Module):
  """Pre-norm Transformer over tokens, causal unless told, pooled at the end.

  Attributes:
    vocabulary_size: number of tokens. The word table has
      `text_encoder.word_rows` of this many rows.
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    max_length: the longest text in tokens.
    end_id: see `end_positions`.
    activation: of the MLPs, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    dropout_rate: on embeddings and every residual branch.
    dtype: computation dtype.
    causal: whether a token sees only those before it.
    pooled_token: one of POOLED_TOKENS.
  """

  vocabulary_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  max_length: int
  end_id: int | None = None
  activation: str = 'quick_gelu'
  norm_epsilon: float = 1e-5
  dropout_rate: float = 0.0
  dtype: layers.Dtype = jnp.float32
  causal: bool = True
  pooled_token: str = 'end'

  @nn.compact
  def __call__(
    self, ids: jax.Array, mask: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes texts.

    Args:
      ids: token ids [c l], l at most `max_length`.
      mask: [c l] bool, True where a token is real.
      deterministic: False turns dropout on.

    Returns:
      `tokens` [c l d] after the last norm, and `pooled` [c d], the end
      token's.

    Raises:
      ValueError: an unknown `pooled_token`.
    """
    if self.pooled_token not in POOLED_TOKENS:
      raise ValueError(
        f'pooled_token {self.pooled_token!r} is not one of {POOLED_TOKENS}'
      )
    length = ids.shape[1]
    table = lambda name, n: layers.embedding_table(self, name, n, self.width)
    x = table('word', text_encoder.word_rows(self.vocabulary_size))[ids]
    x = x + table('position', self.max_length)[:length]
    x = nn.Dropout(self.dropout_rate)(x.astype(self.dtype), deterministic)
    attended = mask[:, None, None, :]
    if self.causal:
      # A token attends to itself and the real tokens before it.
      causal = jnp.tril(jnp.ones((length, length), bool))
      attended = causal[None, None] & attended
    for i in range(self.depth):
      x = layers.PreNormBlock(
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        activation=self.activation,
        norm_epsilon=self.norm_epsilon,
        dtype=self.dtype,
        name=f'block_{i}',
      )(x, attended, deterministic=deterministic)
    x = nn.LayerNorm(epsilon=self.norm_epsilon, dtype=self.dtype, name='norm')(
      x
    )
    if self.pooled_token == 'last':
      return {'tokens': x, 'pooled': x[:, -1]}
    if self.pooled_token == 'exact_end':
      ends = (mask & (ids == self.end_id)).argmax(axis=-1)
    else:
      ends = end_positions(ids, mask, self.end_id)
    pooled = jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
    return {'tokens': x, 'pooled': pooled}


class ClipVideoEncoder(nn.Module):
  """CLIP's vision Transformer, on every frame of a clip alone.

  Attributes:
    width: dimension of a token.
    depth: number of blocks.
    num_heads: attention heads.
    mlp_dim: width of the hidden layers.
    image_size: height and width of a frame in pixels.
    patch_size: height and width of a patch in pixels.
    activation: of the MLPs, a key of `layers.ACTIVATIONS`.
    norm_epsilon: added to the variance in every norm.
    dropout_rate: on embeddings and every residual branch.
    dtype: computation dtype.
    messages: whether frames send each other messages (X-CLIP).
  """

  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  image_size: int
  patch_size: int
  activation: str = 'quick_gelu'
  norm_epsilon: float = 1e-5
  dropout_rate: float = 0.0
  dtype: layers.Dtype = jnp.float32
  messages: bool = False

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes clips.

    Args:
      video: normalised clip [b t h w 3], h = w = `image_size`.
      deterministic: False turns dropout on.

    Returns:
      `tokens` [b t*n d] of the last block, each frame's class token in front
      of its patches; `frames` [b t d], the normed class tokens; `pooled`
      [b d], their mean.

    Raises:
      ValueError: frames have another size, or the patch size does not divide
        it.
    """
    b, t, *size, _ = video.shape
    self._check_size(size)
    norm = lambda name: nn.LayerNorm(
      epsilon=self.norm_epsilon, dtype=self.dtype, name=name
    )
    x = tubelets.TubeletEmbed(
      (1, self.patch_size, self.patch_size),
      self.width,
      use_bias=False,
      dtype=self.dtype,
      name='patch_embed',
    )(video)
    x = x.reshape(b * t, -1, self.width)
    cls = layers.embedding_table(self, 'cls', self.width).astype(x.dtype)
    cls = jnp.broadcast_to(cls, (b * t, 1, self.width))
    x = jnp.concatenate([cls, x], axis=1)
    position = layers.embedding_table(self, 'position', *x.shape[1:])
    x = norm('embed_norm')(x + position.astype(x.dtype))
    x = nn.Dropout(self.dropout_rate)(x, deterministic)
    for i in range(self.depth):
      tokens = x.shape[1]
      if self.messages:
        message = xclip.Messages(
          self.num_heads, self.norm_epsilon, self.dtype, name=f'messages_{i}'
        )(x[:, 0].reshape(b, t, self.width))
        x = jnp.concatenate([x, message.reshape(b * t, 1, -1)], axis=1)
      x = layers.PreNormBlock(
        self.num_heads,
        self.mlp_dim,
        self.dropout_rate,
        activation=self.activation,
        norm_epsilon=self.norm_epsilon,
        dtype=self.dtype,
        name=f'block_{i}',
      )(x, deterministic=deterministic)[:, :tokens]
    # CLIP's last norm is for the class token alone.
    frames = norm('norm')(x[:, 0]).reshape(b, t, self.width)
    return {
      'tokens': x.reshape(b, -1, self.width),
      'frames': frames,
      'pooled': frames.mean(axis=1),
    }

  def _check_size(self, size: list[int]) -> None:
    if size != [self.image_size] * 2:
      raise ValueError(
        f'frames of {size[0]}x{size[1]} pixels for an encoder of '
        f'{self.image_size}x{self.image_size}'
      )


class XClipVideoEncoder(ClipVideoEncoder, kw_only=True):
  """X-CLIP's video side: frames exchange messages and are joined at the end.

  Attributes:
    embedding_dim: dimension d of the joint space.
    integration: keyword arguments of `xclip.FrameIntegration`.
  """

  embedding_dim: int
  integration: Mapping[str, Any]
  messages: bool = True

  @nn.compact
  def __call__(
    self, video: jax.Array, deterministic: bool = True
  ) -> dict[str, jax.Array]:
    """Encodes clips.

    Args:
      video: normalised clip [b t h w 3], h = w = `image_size`.
      deterministic: False turns dropout on, in the blocks of the frames.

    Returns:
      `tokens` and `frames` of `ClipVideoEncoder`, and `pooled` [b d], the clip
      in the joint space, not normalised.

    Raises:
      ValueError: clips of another size or length.
    """
    out = super().__call__(video, deterministic)
    frames = nn.Dense(
      self.embedding_dim, use_bias=False, dtype=self.dtype, name='projection'
    )(out['frames'])
    pooled = xclip.FrameIntegration(
      dtype=self.dtype, name='integration', **self.integration
    )(frames)
    return {**out, 'pooled': pooled}


class Clip(nn.Module):
  """Both encoders, their projections and the learnt logit scale.

  Attributes:
    video: keyword arguments of `ClipVideoEncoder`; of `XClipVideoEncoder`, if
      there is an `integration` among them. That one has its own projection.
    text: keyword arguments of `ClipTextEncoder`.
    embedding_dim: dimension d of the shared space.
    dtype: computation dtype; parameters stay float32.
  """

  video: Mapping[str, Any]
  text: Mapping[str, Any]
  embedding_dim: int
  dtype: layers.Dtype = jnp.float32

  def setup(self):  # noqa: D102 (flax calls it)
    project = lambda: nn.Dense(
      self.embedding_dim, use_bias=False, dtype=self.dtype
    )
    if 'integration' in self.video:
      self.video_encoder = XClipVideoEncoder(dtype=self.dtype, **self.video)
    else:
      self.video_encoder = ClipVideoEncoder(dtype=self.dtype, **self.video)
      self.video_projection = project()
    self.text_encoder = ClipTextEncoder(dtype=self.dtype, **self.text)
    self.text_projection = project()
    self.log_scale = self.param(
      'log_scale', nn.initializers.constant(_INITIAL_LOG_SCALE), ()
    )

  def __call__(
    self, video: jax.Array, ids: jax.Array, mask: jax.Array
  ) -> dict[str, Any]:
    """Touches every parameter once; arguments as of the methods."""
    return {
      'video': self.encode_video(video),
      'text': self.encode_text(ids, mask),
      'scale': self.scale(),
    }

  def encode_video(self, video: jax.Array) -> dict[str, jax.Array]:
    """Encodes clips.

    Args:
      video: normalised clip [b t h w 3].

    Returns:
      The encoder's outputs and `embedding` [b d]. That is X-CLIP's own, or the
      direction of the mean of CLIP's image embeddings, which are
      `frame_embeddings` [b t d]; unit vectors, float32.
    """
    out = self.video_encoder(video)
    if 'integration' in self.video:
      return {**out, 'embedding': layers.l2_normalise(out['pooled'])}
    frames = layers.l2_normalise(self.video_projection(out['frames']))
    embedding = layers.l2_normalise(frames.mean(axis=1))
    return {**out, 'frame_embeddings': frames, 'embedding': embedding}

  def encode_text(
    self, ids: jax.Array, mask: jax.Array
  ) -> dict[str, jax.Array]:
    """Encodes texts.

    Args:
      ids: token ids [c l].
      mask: [c l] bool.

    Returns:
      The encoder's outputs and `embedding` [c d], unit vectors, float32.
    """
    out = self.text_encoder(ids, mask)
    embedding = layers.l2_normalise(self.text_projection(out['pooled']))
    return {**out, 'embedding': embedding}

  def scale(self) -> jax.Array:
    """Returns the logit scale, which multiplies cosines before a softmax."""
    return jnp.exp(self.log_scale)
