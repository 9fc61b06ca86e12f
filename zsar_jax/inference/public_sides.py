"""Opens public video and text encoders, to embed videos and class names.

`open_video` and `open_text` read weights from a folder. The prompts are our
choice. So is the frame rate if the weights' files do not give one.
"""

from collections.abc import Callable, Mapping, Sequence
import copy
import dataclasses
import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zsar_jax.inference import class_texts
from zsar_jax.models import defaults, pixel_ops, text_encoder, video_encoder
from zsar_jax.models import i3d as i3d_model
from zsar_jax.models import vjepa2 as vjepa2_model
from zsar_jax.pretrained import (
  bert,
  directory,
  dual_models,
  heads,
  mpnet,
  video,
)
from zsar_jax.pretrained import i3d as i3d_weights
from zsar_jax.pretrained import vjepa2 as vjepa2_weights

# Plain sentences that suit all kinds of names, such as "juggling", "basketball"
# and "jump rope".
CLIP_PROMPTS = (
  'a video of a person {}.',
  'a photo of a person {}.',
  'a video of {}.',
  'a person is {}.',
  '{}, a human action.',
)
SENTENCE_PROMPTS = ('a person {}', 'a video of {}', '{}')
# Of the mean sentence of a description beside the mean prompt. Our choice, made
# on the development draws of `experiments.described`.
DESCRIPTION_WEIGHT = 0.65
_SENTENCE_LENGTH = 48
# Padding is cut to a multiple of this many tokens, so few lengths are compiled.
_LENGTH_STEP = 8
_CLIP_FRAMES = 8
# Model type -> frame stride at 30 frames per second, as the authors trained on
# Kinetics. V-JEPA 2's is our choice.
_STRIDES = {'videomae': 4, 'vivit': 2, 'timesformer': 32, 'vjepa2': 4}
_NOMINAL_FPS = 30.0


@dataclasses.dataclass(frozen=True)
class VideoSide:
  """A video encoder with its weights.

  Attributes:
    source: the weights, as the user named them.
    digest: hash of the weights, hex digits.
    pixels: keyword arguments of `Preprocessing`, except those about text.
    program: a function (params, clips uint8 [b t h w 3]) -> embeddings [b d],
      unit vectors; and its params.
    labels: canonical names of the classifier's classes; () without one.
    columns: the classifier's weight vectors, float32 [s d]; None without one.
    space: id of its joint space of videos and texts; '' without one.
    about: what the files of the weights say of them; '' if they say nothing.
    dtype: computation dtype, one of `defaults.DTYPES`.
  """

  source: str
  digest: str
  pixels: Mapping[str, Any]
  program: tuple[Callable[..., jax.Array], Any]
  labels: tuple[str, ...] = ()
  columns: np.ndarray | None = None
  space: str = ''
  about: str = ''
  dtype: str = 'float32'

  @functools.cached_property
  def embed(self) -> Callable[[np.ndarray], np.ndarray]:
    """Maps clips uint8 [b v t h w 3] to embeddings [b v d], unit vectors."""
    function, params = self.program

    @jax.jit
    def embed(params, clips):
      b, v = clips.shape[:2]
      out = function(params, clips.reshape(b * v, *clips.shape[2:]))
      return out.reshape(b, v, -1)

    params = jax.device_put(params)
    return lambda clips: np.asarray(embed(params, clips))


@dataclasses.dataclass(frozen=True)
class TextSide:
  """A text encoder with its weights.

  Attributes:
    source: the weights, as the user named them.
    digest: hash of the weights and of the pooling, hex digits.
    texts: turns class names into prompts and token ids.
    token_length: token ids per text.
    program: a function (params, `ids` int [c l], `mask` bool [c l]) ->
      embeddings [c d], unit vectors; and its params.
    space: see `VideoSide`.
    scale: factor on cosines in the joint space, before a softmax or sigmoid.
    bias: bias added after `scale`, of models trained with a sigmoid loss; else
      0.
    pooling: 'mean' or 'cls', of a sentence encoder; '' for other encoders.
    tensors_digest: hash of the tensors alone, as in folders of earlier
      versions.
    about: see `VideoSide`.
  """

  source: str
  digest: str
  texts: class_texts.ClassTexts
  token_length: int
  program: tuple[Callable[..., jax.Array], Any]
  space: str = ''
  scale: float = 1.0
  bias: float = 0.0
  pooling: str = ''
  tensors_digest: str = ''
  about: str = ''

  @functools.cached_property
  def _embed(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    function, params = jax.jit(self.program[0]), jax.device_put(self.program[1])
    return lambda ids, mask: np.asarray(
      function(params, *_shortened(ids, mask))
    )

  def described(
    self,
    descriptions: Mapping[str, Sequence[str]],
    weight: float | None = None,
  ) -> 'TextSide':
    """Returns the same side with further descriptions.

    Args:
      descriptions: canonical class name -> sentences.
      weight: see `ClassTexts`; None keeps it.
    """
    other = copy.copy(self)  # with what is compiled, and on the devices
    texts = self.texts.described(descriptions)
    if weight is not None:
      texts.description_weight = weight
    object.__setattr__(other, 'texts', texts)
    return other

  def embed_names(self, names: Sequence[str]) -> np.ndarray:
    """Embeds class names in all prompts, and with their descriptions.

    Args:
      names: canonical class names.

    Returns:
      [c d], unit vectors: see `ClassTexts.mean`.

    Raises:
      ValueError: a name or a sentence is too long for the encoder.
    """
    return self.texts.mean(names, self.embed_texts(names))

  def embed_texts(self, names: Sequence[str]) -> list[np.ndarray]:
    """Returns embeddings [c d] of each row of `texts.token_ids`."""
    rows = self.texts.token_ids(names, 'shorten it')
    return [self._embed(row['ids'], row['mask']) for row in rows]


def _unit(x: jax.Array) -> jax.Array:
  norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
  return x / jnp.maximum(norm, 1e-12)


def _video_program(apply, params, pixels):
  """Returns the `program` of `apply`: (params, inputs [n t h w c]) -> [n d]."""

  def embed(params, clips):
    x = pixel_ops.to_inputs(clips, pixels['mean'], pixels['std'])
    return _unit(apply(params, x).astype(jnp.float32))

  return embed, params


def _shortened(ids: np.ndarray, mask: np.ndarray):
  """Cuts off padding, to a multiple of `_LENGTH_STEP` tokens."""
  longest = int(mask.sum(axis=1).max())
  length = min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, ids.shape[1])
  return ids[:, :length], mask[:, :length]


def open_video(
  path: str, num_frames: int = 0, dtype: str = 'float32'
) -> VideoSide:
  """Opens a video encoder.

  Args:
    path: weights, as `directory.read_weights` takes them; or 'i3d' for the
      installed weights of `pretrained.i3d`.
    num_frames: frames per clip; 0 takes the number of the weights' training, or
      8 if they were trained on images.
    dtype: computation dtype, one of `defaults.DTYPES`. The parameters stay
      float32, and so do the embeddings.

  Returns:
    The encoder.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: the files do not fit together, their architecture is not
      supported as a video encoder, or there is no such dtype.
  """
  if dtype not in defaults.DTYPES:
    raise ValueError(
      f'dtype {dtype!r} is not one of {", ".join(defaults.DTYPES)}'
    )
  if path == i3d_weights.NAME:
    return _open_i3d(num_frames, dtype)
  weights = directory.read_weights(path)
  path = weights.source or path
  known = (
    *dual_models.MODEL_TYPES,
    *video.MODEL_TYPES,
    vjepa2_weights.MODEL_TYPE,
  )
  kind = directory.expect_model_type(weights, *known)
  if kind in dual_models.MODEL_TYPES:
    return _open_dual_video(path, weights, num_frames, dtype)
  is_vjepa2 = kind == vjepa2_weights.MODEL_TYPE
  found = (vjepa2_weights if is_vjepa2 else video).preprocessing(weights)
  frames = num_frames or found['num_frames'] or _CLIP_FRAMES
  pixels = {
    **found,
    'num_frames': frames,
    'sampling': 'dense' if kind in _STRIDES else 'uniform',
    'frame_stride': _STRIDES.get(kind, 1),
    'sample_fps': _NOMINAL_FPS,
    'inputs': 'rgb',
  }
  if is_vjepa2:
    kwargs, params = vjepa2_weights.load_vjepa2(weights)
    encoder = vjepa2_model.VJepa2(**kwargs, dtype=jnp.dtype(dtype))
  else:
    kwargs, params = video.load_video_encoder(weights, num_frames=frames)
    encoder = video_encoder.VideoEncoder(**kwargs, dtype=jnp.dtype(dtype))
  apply = lambda params, x: encoder.apply({'params': params}, x)['pooled']
  labels, columns = (), None
  if heads.has_head(weights):
    labels = heads.read_labels(weights)
    columns = heads.read_columns(weights, kwargs['width'])
  return VideoSide(
    path,
    directory.fingerprint(weights.tensors),
    pixels,
    _video_program(apply, params, pixels),
    labels,
    columns,
    about=directory.described(weights),
    dtype=dtype,
  )


def _open_i3d(num_frames: int, dtype: str) -> VideoSide:
  params, digest = i3d_weights.load()
  pixels = dict(i3d_weights.PREPROCESSING)
  pixels['num_frames'] = num_frames or pixels['num_frames']
  network = i3d_model.I3D(dtype=jnp.dtype(dtype))
  apply = lambda params, x: network.apply({'params': params}, x)['pooled']
  return VideoSide(
    i3d_weights.NAME,
    digest,
    pixels,
    _video_program(apply, params, pixels),
    i3d_weights.labels(),
    np.asarray(params['logits']['kernel']).T,
    about=i3d_weights.ABOUT,
    dtype=dtype,
  )


def _open_dual_video(path, weights, num_frames: int, dtype: str) -> VideoSide:
  dual = dual_models.load(weights)
  model = dual.model.clone(dtype=jnp.dtype(dtype))
  native = dual.num_frames
  if native and num_frames not in (0, native):
    raise ValueError(f'{path} takes clips of {native} frames, not {num_frames}')
  pixels = {
    'num_frames': native or _CLIP_FRAMES,
    'sampling': 'uniform',
    'frame_stride': 1,
    'sample_fps': _NOMINAL_FPS,
    'inputs': 'rgb',
    **dual.pixels(),
  }
  pixels['num_frames'] = num_frames or pixels['num_frames']
  apply = lambda params, x: model.apply(
    {'params': params}, x, method='encode_video'
  )['embedding']
  digest = directory.fingerprint(weights.tensors)
  return VideoSide(
    path,
    digest,
    pixels,
    _video_program(apply, dual.params, pixels),
    space=digest,
    about=directory.described(weights),
    dtype=dtype,
  )


def open_text(path: str, prompts: Sequence[str] = ()) -> TextSide:
  """Opens a text encoder.

  Args:
    path: weights of a BERT, an MPNet, or a model with a joint space, as
      `directory.read_weights` takes them.
    prompts: sentences with `{}` in place of the name; () takes this project's.

  Returns:
    The encoder.

  Raises:
    FileNotFoundError: a file is missing, such as the tokenizer's.
    ValueError: the files do not fit together, or their architecture is not
      supported as a text encoder.
  """
  weights = directory.read_weights(path)
  path = weights.source or path
  kind = directory.expect_model_type(
    weights, 'bert', 'mpnet', *dual_models.MODEL_TYPES
  )
  digest = directory.fingerprint(weights.tensors)
  if kind in dual_models.MODEL_TYPES:
    return _dual_text(weights, path, digest, prompts or CLIP_PROMPTS)
  loader = mpnet if kind == 'mpnet' else bert
  length = min(_SENTENCE_LENGTH, loader.positions(weights))
  kwargs, params, pieces = loader.load_text_encoder(weights, length)
  pooling, of_tensors = bert.pooling(weights.path), digest
  if pooling != 'mean':
    # The tensors are those of other embeddings too. Most encoders take the
    # mean, and keep the digest that earlier versions gave them.
    digest = hashlib.sha256(f'{digest} {pooling}'.encode()).hexdigest()[:8]
  model = text_encoder.TextEncoder(**kwargs, pooling=pooling)
  encode = lambda params, ids, mask: model.apply({'params': params}, ids, mask)
  embed = lambda *args: _unit(encode(*args)['pooled'].astype(jnp.float32))
  return TextSide(
    path,
    digest,
    _texts(pieces, length, prompts or SENTENCE_PROMPTS),
    length,
    (embed, params),
    pooling=pooling,
    tensors_digest=of_tensors,
    about=directory.described(weights),
  )


def _texts(
  pieces: Sequence[str], length: int, prompts: Sequence[str]
) -> class_texts.ClassTexts:
  return class_texts.ClassTexts(
    pieces, length, prompts, description_weight=DESCRIPTION_WEIGHT
  )


def _dual_text(
  weights: directory.Weights, path: str, digest: str, prompts: Sequence[str]
) -> TextSide:
  """The text side of a model with a joint space."""
  dual = dual_models.load(weights)
  apply = functools.partial(dual.model.apply, method='encode_text')
  encode = lambda params, ids, mask: apply({'params': params}, ids, mask)
  embed = lambda *args: _unit(encode(*args)['embedding'].astype(jnp.float32))
  return TextSide(
    path,
    digest,
    _texts([dual.tokenizer().definition], dual.token_length, prompts),
    dual.token_length,
    (embed, dual.params),
    space=digest,
    scale=dual.scale,
    bias=dual.bias,
    tensors_digest=digest,
    about=directory.described(weights),
  )
