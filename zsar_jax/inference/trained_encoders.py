"""The encoders of a trained run: tokenizer, preprocessing and model."""

from collections.abc import Mapping, Sequence
import copy
import dataclasses
import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from zsar_jax.evaluation import embedding, methods
from zsar_jax.inference import class_texts, model_builder
from zsar_jax.inference import encoders as encoders_lib
from zsar_jax.models import pixel_ops, space_time, zsar_model
from zsar_jax.parallel import sharding
from zsar_jax.pretrained import hub, initialisation

# Videos are matched with this many names at a time. For hundreds of names, the
# fused tokens of all pairs would not fit into memory.
_MATCH_CHUNK = 64


class TrainedEncoders(encoders_lib.Recognizer):
  """Encoders that were trained here.

  Attributes: those of `Recognizer`. `config` is the run's; `seen_classes` are
  in the order of the class centres.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    model: zsar_model.ZsarModel,
    params: Any,
    texts: class_texts.ClassTexts,
    seen_classes: Sequence[str],
    mesh: jax.sharding.Mesh,
    step: int = 0,
  ):
    self.config, self.texts = config, texts
    self.prep = model_builder.make_preprocessing(config, texts.pieces)
    self.seen_classes = tuple(seen_classes)
    self.step = step
    self._model = model
    self._params = params
    self._mesh = mesh
    self._encode_text = jax.jit(
      functools.partial(model.apply, method='encode_text')
    )
    self._heads = jax.jit(functools.partial(model.apply, method='heads'))
    self._encode_clips = sharding.on_mesh(jax.jit(self._embed), mesh)
    self._match_again = sharding.on_mesh(
      jax.jit(self._match, static_argnums=2), mesh
    )
    self._weights_hash = ''
    self._initial_params = None
    self._text_cache: dict[tuple[str, ...], dict[str, np.ndarray]] = {}

  def with_params(self, params: Any, step: int) -> 'TrainedEncoders':
    """Returns the same encoders with other weights; compiled programs stay."""
    other = copy.copy(self)
    other._params, other.step = params, step
    other._text_cache, other._weights_hash = {}, ''
    return other

  def with_descriptions(
    self, descriptions: Mapping[str, Sequence[str]]
  ) -> 'TrainedEncoders':
    """See `Recognizer.with_descriptions`."""
    other = copy.copy(self)
    other.texts, other._text_cache = self.texts.described(descriptions), {}
    return other

  # Training puts videos and names into one space, and prototypes are the means
  # of videos as they are.
  joint, centred = True, False

  @property
  def origin(self) -> str:
    """The public weights that training started from; see `Recognizer`."""
    return initialisation.describe(self.config)

  @property
  def model(self) -> zsar_model.ZsarModel:
    """Returns the network, without its parameters."""
    return self._model

  @property
  def params(self) -> Any:
    """The parameters, on the devices."""
    return self._params

  @property
  def weights_hash(self) -> str:
    """Hash of parameters and preprocessing, 12 hex digits."""
    if not self._weights_hash:
      digest = hashlib.sha256(self.prep.to_json().encode())
      for path, leaf in jax.tree.leaves_with_path(self._params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
      self._weights_hash = digest.hexdigest()[:12]
    return self._weights_hash

  def _embed(self, params, video, text_tokens, text_mask):
    """Maps clips uint8 [b v t h w 3] to arrays, see `embedding.Encoders`."""
    prep = self.prep
    b, v = video.shape[:2]
    x = pixel_ops.to_inputs(video, prep.mean, prep.std, prep.inputs)
    apply = functools.partial(self._model.apply, {'params': params})
    out = apply(x.reshape(b * v, *x.shape[2:]), method='encode_video')

    unflatten = lambda x: x.reshape(b, v, *x.shape[1:])
    return {
      'embedding': unflatten(out['embedding']),
      'match': self._match(params, out['tokens'], b, text_tokens, text_mask),
      'pooled': unflatten(out['pooled']).mean(axis=1, dtype=jnp.float32),
      # float16 halves the memory; only caches of tokens use them.
      'tokens': unflatten(out['tokens'].astype(jnp.float16)),
    }

  def _match(self, params, video_tokens, b, text_tokens, text_mask):
    """Maps video tokens [b*v n e] to match logits [b c], mean over views."""
    if not text_tokens.shape[0]:
      return jnp.zeros((b, 0))
    apply = functools.partial(self._model.apply, {'params': params})
    pairs = len(video_tokens)

    def match(chunk):
      tokens, mask = chunk
      spread = lambda y: jnp.broadcast_to(y[None], (pairs, *y.shape))
      return apply(video_tokens, spread(tokens), spread(mask), method='match')

    logits = jax.lax.map(match, (text_tokens, text_mask))  # [k b*v chunk]
    logits = logits.transpose(1, 0, 2).reshape(b, pairs // b, -1)
    return logits.mean(axis=1)

  def encode_class_names(self, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Encodes class names, with all prompts and descriptions.

    Args:
      names: canonical class names.

    Returns:
      `embedding` [c d], unit vectors: the normalised mean over a class's texts.
      `tokens` [c l e] and `mask` [c l] of its first text, for the fusion.
    """
    key = tuple(names)
    if key not in self._text_cache:
      outs = [self.encode_tokens(row) for row in self.texts.token_ids(names)]
      self._text_cache[key] = {
        'embedding': self.texts.mean(
          names, [np.asarray(out['embedding']) for out in outs]
        ),
        'tokens': np.asarray(outs[0]['tokens']),
        'mask': self.texts.token_ids(names)[0]['mask'],
      }
    return self._text_cache[key]

  def encode_tokens(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Runs the text encoder on a row of `ClassTexts.token_ids`.

    Args:
      row: `ids` [c l] and `mask` [c l].

    Returns:
      `embedding` [c d], `tokens` [c l e] and `pooled` [c e], on the device.
    """
    return self._encode_text({'params': self._params}, row['ids'], row['mask'])

  def encode_videos(
    self, clips_of_videos: np.ndarray, names: Sequence[str] = ()
  ) -> tuple[np.ndarray, np.ndarray]:
    """Embeds clips and matches them with names.

    Args:
      clips_of_videos: uint8 [b v t h w 3], v views of each video.
      names: canonical class names; may be empty.

    Returns:
      Embeddings [b v d], unit vectors, and match logits [b c], mean over
      views.
    """
    out = self._encode(clips_of_videos, names)
    return np.asarray(out['embedding']), np.asarray(out['match'])

  def _encode(self, clips_of_videos, names) -> dict[str, Any]:
    """Returns all arrays of the videos, on the device."""
    b = len(clips_of_videos)
    clips_of_videos = self._pad(clips_of_videos)
    tokens, mask = self._chunked_tokens(names)
    video = sharding.put_batch({'video': clips_of_videos}, self._mesh)['video']
    out = self._encode_clips(self._params, video, tokens, mask)
    out = {name: x[:b] for name, x in out.items()}
    return {**out, 'match': out['match'][:, : len(names)]}

  def _pad(self, x: np.ndarray) -> np.ndarray:
    """Repeats the last video until the mesh divides the batch."""
    padding = -len(x) % sharding.num_batch_shards(self._mesh)
    if not padding:
      return x
    return encoders_lib.pad_batch(x, len(x) + padding)

  def match_tokens(
    self, video_tokens: np.ndarray, names: Sequence[str]
  ) -> np.ndarray:
    """Matches stored video tokens with names.

    Args:
      video_tokens: [n v k e], k tokens of each view.
      names: canonical class names.

    Returns:
      Match logits [n c], mean over views.
    """
    tokens, mask = self._chunked_tokens(names)
    size = self.config.zeroshot.batch_size
    parts = []
    for first in range(0, len(video_tokens), size):
      batch = video_tokens[first : first + size].astype(np.float32)
      padded = encoders_lib.pad_batch(batch, size)
      out = self._match_again(
        self._params, padded.reshape(-1, *padded.shape[2:]), size, tokens, mask
      )
      parts.append(np.asarray(out)[: len(batch), : len(names)])
    return np.concatenate(parts)

  def _chunked_tokens(self, names: Sequence[str]):
    """Returns text tokens [k chunk l e] and mask; pads with the first name."""
    if not names:
      return np.zeros((0, 0, 0, 0), np.float32), np.zeros((0, 0, 0), bool)
    text = self.encode_class_names(names)
    chunk = min(_MATCH_CHUNK, len(names))
    padding = -len(names) % chunk

    def pad(x):
      x = np.concatenate([x, np.repeat(x[:1], padding, axis=0)])
      return x.reshape(-1, chunk, *x.shape[1:])

    return pad(text['tokens']), pad(text['mask'])

  def class_centres(self) -> np.ndarray:
    """Returns the learnt centres of the seen classes [s d], unit vectors."""
    heads = self._heads({'params': self._params})
    return np.asarray(heads['class_centres'])

  @property
  def encoders(self) -> embedding.Encoders:
    """The functions that evaluations need, with these weights."""
    heads = self._heads({'params': self._params})
    return embedding.Encoders(
      class_embeddings=lambda names: self.encode_class_names(names)[
        'embedding'
      ],
      videos=self._encode,
      match_tokens=self.match_tokens,
      initial_embeddings=self.initial_embeddings(),
      class_centres=np.asarray(heads['class_centres']),
      scale=float(heads['visual_scale']),
      trained_classes=self.seen_classes,
    )

  @property
  def programs(self) -> dict[str, encoders_lib.Program]:
    """Both encoders as pure functions, in float32."""
    model = self._model.clone(
      dtype=jnp.float32,
      video={
        **self._model.video,
        'attention_implementation': 'einsum',
        'scan_blocks': False,
      },
    )
    params = {
      **self._params,
      'video_encoder': space_time.unrolled(self._params['video_encoder']),
    }
    prep = self.prep

    def video(params, clips):
      x = pixel_ops.to_inputs(clips, prep.mean, prep.std, prep.inputs)
      out = model.apply({'params': params}, x, method='encode_video')
      return out['embedding']

    def text(params, ids, mask):
      out = model.apply({'params': params}, ids, mask, method='encode_text')
      return out['embedding']

    return self._make_programs((video, params), (text, params))

  def initial_embeddings(self):
    """Returns a function that embeds names as before training, or None.

    It returns the encoder's pooled output, because the shared projection is
    random before training. It is None if the text encoder started from random
    values, or if its public weights are not on this machine.
    """
    init = self.config.init
    source = init.text or initialisation.dual_source(self.config)
    if not source or not hub.at_hand(source):
      return None

    def embed(names):
      if self._initial_params is None:
        config = self.config.copy_and_resolve_references()
        config.init.video = ''
        loaded = initialisation.start(config).loaded
        self._initial_params = initialisation.put(
          self._params, {'text_encoder': loaded['text_encoder']}
        )
      outs = [
        self._encode_text({'params': self._initial_params}, t['ids'], t['mask'])
        for t in self.texts.token_ids(names)
      ]
      pooled = [_unit(np.asarray(out['pooled'])) for out in outs]
      return self.texts.mean(names, pooled)

    return embed

  @property
  def transfer_settings(self) -> methods.TransferSettings:
    """The config's settings of the semantic transfer."""
    c = self.config.zeroshot
    names = {f.name for f in dataclasses.fields(methods.TransferSettings)}
    return methods.TransferSettings(
      **{key: value for key, value in c.items() if key in names}
    )


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
