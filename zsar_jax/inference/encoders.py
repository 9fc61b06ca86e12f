"""Encoders with weights: the only place that joins tokenizer and model."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from zsar_jax import config_utils
from zsar_jax.data import (
  byte_pairs,
  input_pipeline,
  prompts,
)
from zsar_jax.data import clip_reader as clip_reader_lib
from zsar_jax.data.protocols import class_split, overlap, video_sets
from zsar_jax.evaluation import embedding, embedding_cache, methods, task
from zsar_jax.inference import model_builder, model_files, prototype_bank
from zsar_jax.models import pixel_ops, zsar_model
from zsar_jax.parallel import sharding

# Names are matched with videos this many at a time: the fused tokens of all
# (video, name) pairs would not fit in memory for hundreds of names.
_MATCH_CHUNK = 64
BANK_FILE = 'bank.safetensors'


class Recognizer:
  """Encoders with weights.

  Attributes:
    config: the run's config.
    prep: preprocessing that belongs to the weights.
    seen_classes: names in the order of the class centres.
    step: of the weights.
    descriptions: canonical class name -> sentences; see `data.prompts`.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    model: zsar_model.ZsarModel,
    params: Any,
    pieces: Sequence[str],
    seen_classes: Sequence[str],
    mesh: jax.sharding.Mesh,
    step: int = 0,
    descriptions: Mapping[str, Sequence[str]] | None = None,
  ):
    self.config = config
    self.descriptions = dict(descriptions or {})
    self.prep = model_builder.make_preprocessing(config, pieces)
    self.seen_classes = tuple(seen_classes)
    self.step = step
    self._model = model
    self._params = params
    self._mesh = mesh
    self._pieces = tuple(pieces)
    self._tokenizer = byte_pairs.open_tokenizer(pieces, self.prep.token_length)
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

  @classmethod
  def from_workdir(cls, workdir: str, step: int | None = None) -> 'Recognizer':
    """Loads a model onto all devices present.

    Args:
      workdir: of a run; a folder that `export` wrote; or the name of a model
        that ships.
      step: of the run's checkpoint to take; None means the newest.

    Returns:
      The recognizer.

    Raises:
      FileNotFoundError: no model there, or no checkpoint of that step.
      ValueError: its files are damaged or do not belong together.
    """
    workdir = model_files.resolve(workdir)
    if model_files.is_model(workdir):
      if step is not None:
        raise ValueError(f'{workdir} is no run: it has no step to choose')
      params, meta = model_files.read(workdir)

      def place(shapes, mesh, ema):
        del ema  # what was exported is what is to be used
        # Tracing a model's shapes takes longer than reading its files.
        if not model_files.is_as_written(params, meta):
          _check_shapes(workdir, params, shapes())
        return jax.device_put(params, sharding.replicated(mesh))

      return cls._of_meta(meta, place, meta['step'])
    from zsar_jax.inference import saved_checkpoints  # and with it orbax

    with saved_checkpoints.open_existing(workdir, step) as checkpoints:
      step = checkpoints.latest_step() if step is None else step
      return cls._of_meta(
        checkpoints.restore_meta(step),
        lambda shapes, mesh, ema: checkpoints.restore_params(
          shapes(), mesh, ema, step
        ),
        step,
      )

  @classmethod
  def _of_meta(cls, meta, place, step: int) -> 'Recognizer':
    """The recognizer of a saved `meta`; `place` puts parameters on a mesh.

    It may ask for their shapes, by a call.
    """
    config = config_utils.from_dict(meta['config'])
    prep = model_builder.make_preprocessing(config, meta['vocabulary'])
    model = model_builder.build_model(
      config,
      prep,
      model_builder.vocabulary_size(meta['vocabulary']),
      len(meta['seen_classes']),
    )
    # Inference splits the batch alone, whatever mesh it was trained on.
    mesh = sharding.make_mesh({'data': -1, 'fsdp': 1, 'tensor': 1})
    shapes = functools.partial(model_builder.parameter_shapes, model, prep)
    return cls(
      config,
      model,
      place(shapes, mesh, config.optim.ema_decay > 0),
      meta['vocabulary'],
      meta['seen_classes'],
      mesh,
      step,
      meta.get('descriptions'),
    )

  def export(self, folder: str) -> None:
    """Writes the model as plain files; see `model_files`.

    Args:
      folder: made if missing.
    """
    config = config_utils.to_dict(self.config)
    # Paths of this machine are nobody else's.
    for key in ('dataset_dir', 'data_dir', 'test_dataset_dir', 'class_split'):
      config['data'][key] = ''
    model_files.write(
      folder,
      jax.tree.map(np.asarray, self._params),
      {
        'config': config,
        'vocabulary': list(self._pieces),
        'seen_classes': list(self.seen_classes),
        'descriptions': self.descriptions,
        'step': self.step,
      },
    )

  def with_params(self, params: Any, step: int) -> 'Recognizer':
    """The same encoders with other weights; nothing is compiled again."""
    other = object.__new__(Recognizer)
    other.__dict__.update(self.__dict__)
    other._params, other.step = params, step
    other._text_cache, other._weights_hash = {}, ''
    return other

  @property
  def params(self) -> Any:
    """The parameters, as they lie on the devices."""
    return self._params

  @property
  def weights_hash(self) -> str:
    """12 hex digits over all parameters, and how names become tokens."""
    if not self._weights_hash:
      digest = hashlib.sha256(self.prep.to_json().encode())
      for path, leaf in jax.tree.leaves_with_path(self._params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
      self._weights_hash = digest.hexdigest()[:12]
    return self._weights_hash

  def _embed(self, params, video, text_tokens, text_mask):
    """Clips uint8 [b v t h w 3] -> arrays, see `embedding.Encoders`."""
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
      # Half the memory; read only where they are kept.
      'tokens': unflatten(out['tokens'].astype(jnp.float16)),
    }

  def _match(self, params, video_tokens, b, text_tokens, text_mask):
    """Video tokens [b*v n e] -> match logits [b c], mean over views."""
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
    """Encodes class names, in all prompts and with their descriptions.

    Args:
      names: canonical class names.

    Returns:
      `embedding` [c d] unit vectors, the normalised mean over the texts of a
      class; `tokens` [c l e] and `mask` [c l] of its first text, which the
      fusion reads.
    """
    key = tuple(names)
    if key not in self._text_cache:
      outs = [self.encode_tokens(row) for row in self.token_ids(names)]
      self._text_cache[key] = {
        'embedding': self._average(names, outs),
        'tokens': np.asarray(outs[0]['tokens']),
        'mask': self.token_ids(names)[0]['mask'],
      }
    return self._text_cache[key]

  def encode_tokens(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Runs the text encoder on a row of `token_ids`.

    Args:
      row: `ids` [c l] and `mask` [c l].

    Returns:
      On the device: `embedding` [c d], `tokens` [c l e] and `pooled` [c e].
    """
    return self._encode_text({'params': self._params}, row['ids'], row['mask'])

  def _texts(self, names: Sequence[str]) -> list[list[str]]:
    return prompts.class_texts(
      names, tuple(self.config.names.prompts), self.descriptions
    )

  def _average(self, names, outs) -> np.ndarray:
    """Mean embedding of each class's own texts, none of them twice."""
    embeddings = np.stack([np.asarray(out['embedding']) for out in outs])
    if len(outs) == 1:
      return embeddings[0]
    counts = np.array([len(texts) for texts in self._texts(names)])
    own = np.arange(len(outs))[:, None] < counts  # [p c]
    total = (embeddings * own[..., None]).sum(axis=0)
    return total / np.linalg.norm(total, axis=-1, keepdims=True)

  def token_ids(self, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Token ids of names.

    Args:
      names: canonical class names.

    Returns:
      `ids` [c l] and `mask` [c l] for each row of `prompts.text_grid`; in
      training the rows take turns.
    """
    rows = []
    for texts in prompts.text_grid(self._texts(names)):
      ids, mask = self._tokenizer(texts)
      rows.append({'ids': ids, 'mask': mask})
    return rows

  def encode_videos(
    self, clips_of_videos: np.ndarray, names: Sequence[str] = ()
  ) -> tuple[np.ndarray, np.ndarray]:
    """Embeds clips and matches them with names.

    Args:
      clips_of_videos: uint8 [b v t h w 3], v views of each video.
      names: canonical class names; may be none.

    Returns:
      Embeddings [b v d], unit vectors, and match logits [b c], mean over
      views.
    """
    out = self._encode(clips_of_videos, names)
    return np.asarray(out['embedding']), np.asarray(out['match'])

  def _encode(self, clips_of_videos, names) -> dict[str, Any]:
    """All arrays of some videos, on the device."""
    b = len(clips_of_videos)
    clips_of_videos = self._pad(clips_of_videos)
    tokens, mask = self._chunked_tokens(names)
    video = sharding.put_batch({'video': clips_of_videos}, self._mesh)['video']
    out = self._encode_clips(self._params, video, tokens, mask)
    out = {name: x[:b] for name, x in out.items()}
    return {**out, 'match': out['match'][:, : len(names)]}

  def _pad(self, x: np.ndarray) -> np.ndarray:
    """Repeats the last video until the batch divides over the mesh."""
    padding = -len(x) % sharding.num_batch_shards(self._mesh)
    if not padding:
      return x
    return np.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1), mode='edge')

  def match_tokens(
    self, video_tokens: np.ndarray, names: Sequence[str]
  ) -> np.ndarray:
    """Matches videos that were encoded before with names.

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
      padded = np.pad(
        batch, [(0, size - len(batch))] + [(0, 0)] * 3, mode='edge'
      )
      out = self._match_again(
        self._params, padded.reshape(-1, *padded.shape[2:]), size, tokens, mask
      )
      parts.append(np.asarray(out)[: len(batch), : len(names)])
    return np.concatenate(parts)

  def _chunked_tokens(self, names: Sequence[str]):
    """Text tokens [k chunk l e] and mask; padding repeats the first name."""
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
    """Learnt centres of the seen classes [s d], unit vectors."""
    heads = self._heads({'params': self._params})
    return np.asarray(heads['class_centres'])

  def clip_reader(
    self,
    videos: video_sets.VideoSet,
    cache: clip_reader_lib.VideoCache | None = None,
  ) -> clip_reader_lib.ClipReader:
    """A reader that cuts clips as these weights want them."""
    return clip_reader_lib.ClipReader(videos, self.prep, cache)

  def eval_batches(
    self,
    videos: video_sets.VideoSet,
    frames: str = clip_reader_lib.FILMED,
    cache: clip_reader_lib.VideoCache | None = None,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Batches of every video once; see `input_pipeline.eval_batches`."""
    return input_pipeline.eval_batches(
      self.clip_reader(videos, cache),
      batch_size=self.config.zeroshot.batch_size,
      num_views=self.config.zeroshot.num_views,
      num_crops=self.config.zeroshot.num_crops,
      frames=frames,
      num_threads=self.config.data.num_threads,
    )

  @property
  def encoders(self) -> embedding.Encoders:
    """What evaluators need of these weights."""
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

  def initial_embeddings(self):
    """Encodes names as the public weights do that the text side began with.

    Before training the shared projection is random, so the encoder's own
    pooled output is taken. None where the text side began with random values
    (then it knew nothing), or where its weights are not there any more.
    """
    init = self.config.init
    source = init.text or init.clip
    if not source or not os.path.exists(os.path.expanduser(source)):
      return None

    def embed(names):
      if self._initial_params is None:
        from zsar_jax.pretrained import initialisation

        config = self.config.copy_and_resolve_references()
        config.init.video = ''
        loaded = initialisation.start(config).loaded
        self._initial_params = initialisation.put(
          self._params, {'text_encoder': loaded['text_encoder']}
        )
      outs = [
        self._encode_text({'params': self._initial_params}, t['ids'], t['mask'])
        for t in self.token_ids(names)
      ]
      pooled = [{'embedding': _unit(np.asarray(o['pooled']))} for o in outs]
      return self._average(names, pooled)

    return embed

  def embedder(
    self,
    cache: clip_reader_lib.VideoCache | None = None,
    embeddings_dir: str = '',
    keep_tokens: bool = False,
    say=lambda text: None,
  ) -> embedding.Embedder:
    """Embeds sets of videos with these weights.

    Args:
      cache: decoded videos.
      embeddings_dir: parent of the embedding caches; '' for none.
      keep_tokens: see `embedding.Embedder`.
      say: is told what takes long.

    Returns:
      The embedder.
    """

    @functools.cache
    def cache_of(dataset_dir: str) -> embedding_cache.EmbeddingCache:
      parts = os.path.normpath(dataset_dir).split(os.sep)[-3:]
      zeroshot_config = self.config.zeroshot
      return embedding_cache.EmbeddingCache(
        embeddings_dir,
        parts[0],
        {
          'weights': self.weights_hash,
          'preprocessing': self.prep.to_json(),
          # The folder's name holds a fingerprint of the videos.
          'dataset': '/'.join(parts),
          'num_views': zeroshot_config.num_views,
          'num_crops': zeroshot_config.num_crops,
          'names': [list(self.config.names.prompts), self.descriptions],
        },
      )

    return embedding.Embedder(
      self.encoders,
      lambda videos, frames: self.eval_batches(videos, frames, cache),
      cache_of if embeddings_dir else None,
      keep_tokens,
      say,
    )

  @property
  def transfer_settings(self) -> methods.TransferSettings:
    """The config's settings of the semantic transfer."""
    c = self.config.zeroshot
    names = {f.name for f in dataclasses.fields(methods.TransferSettings)}
    return methods.TransferSettings(
      **{key: value for key, value in c.items() if key in names}
    )

  def check_unseen(self, protocols: Sequence[class_split.Protocol]) -> None:
    """Refuses protocols whose unseen classes were trained on.

    Args:
      protocols: the splits. Their seen classes may be fewer than, or others
        than, those trained on; their unseen ones may not be any of those.

    Raises:
      ValueError: an unseen class was trained on, and no protocol says that
        it may.
    """
    for protocol in protocols:
      # Those that the protocol has as seen were audited when it was made.
      others = [n for n in self.seen_classes if n not in protocol.seen_classes]
      overlap.refuse(
        overlap.audit_names(others, protocol.unseen_classes),
        f'{protocol.name}, and what the model was trained on',
      )

  def make_bank(
    self,
    protocol: class_split.Protocol,
    seen: task.Seen,
    settings: methods.TransferSettings,
    calibration: Mapping[str, Any] | None = None,
    licence: str = '',
  ) -> prototype_bank.PrototypeBank:
    """The prototype bank of a protocol's seen classes.

    Args:
      protocol: whose seen classes they are.
      seen: their prototypes.
      settings: of the transfer.
      calibration: of `calibration.Calibration.to_dict`, or None.
      licence: under which the training videos may be used.

    Returns:
      The bank.
    """
    return prototype_bank.PrototypeBank(
      seen_classes=protocol.seen_classes,
      seen_prototypes=seen.prototypes,
      class_embeddings=np.asarray(seen.classes.text, np.float32),
      counts=seen.sums.counts,
      domain=protocol.domain,
      protocol=protocol.name,
      protocol_hash=protocol.hash,
      preprocessing=self.prep.to_json(),
      weights_hash=self.weights_hash,
      step=self.step,
      licence=licence,
      settings=dataclasses.asdict(settings),
      calibration=None if calibration is None else dict(calibration),
    )


def _check_shapes(workdir: str, params: Any, shapes: Any) -> None:
  """Refuses the parameters of a folder that are not of a model's shapes."""
  wrong = model_builder.shape_differences(params, shapes)
  if wrong:
    raise ValueError(
      f'{workdir}: the parameters {wrong[:5]} are not those of its config'
    )


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
