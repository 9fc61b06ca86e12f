"""The Python API: from weights to answers.

The only place that joins tokenizer, decoder and model:

  recognizer = Recognizer.from_workdir('runs/demo')
  bank = prototype_bank.load_bank('runs/demo/bank.safetensors')
  ranking = recognizer.predict('clip.mp4', ['juggling', 'rowing'], bank)
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from zsar_jax import (
  checkpointing,
  config_utils,
  model_builder,
  pixel_ops,
  prototype_bank,
  sharding,
)
from zsar_jax.data import (
  byte_pairs,
  class_names,
  input_pipeline,
  prompts,
  user_videos,
)
from zsar_jax.data import clip_reader as clip_reader_lib
from zsar_jax.data.datasets import records
from zsar_jax.data.protocols import class_split, overlap, video_sets
from zsar_jax.evaluators import protocol_evaluation, zeroshot
from zsar_jax.models import zsar_model
from zsar_jax.zeroshot import scoring

# Names are matched with videos this many at a time: the fused tokens of all
# (video, name) pairs would not fit in memory for hundreds of names.
_MATCH_CHUNK = 64
BANK_FILE = 'bank.safetensors'


@dataclasses.dataclass(frozen=True)
class Ranked:
  """One candidate's place in a ranking.

  Attributes:
    name: canonical class name.
    score: transfer score, in [-1, 1].
    nearest_name: similarity of the video to the name itself, in [-1, 1].
    match_logit: of the fusion; above 0 means a match is the likelier.
    composited_from: (seen class, transfer weight), largest first.
  """

  name: str
  score: float
  nearest_name: float
  match_logit: float
  composited_from: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A ranking of class names for a video.

  Attributes:
    ranking: best first; each has a `name` and a `score`.
    warnings: what the user should know before believing it.
  """

  ranking: tuple[Any, ...]
  warnings: tuple[str, ...]


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
    self._tokenizer = byte_pairs.open_tokenizer(pieces, self.prep.token_length)
    self._encode_text = jax.jit(
      functools.partial(model.apply, method='encode_text')
    )
    self._encode_clips = sharding.on_mesh(jax.jit(self._embed), mesh)
    self._text_cache: dict[tuple[str, ...], dict[str, np.ndarray]] = {}

  @classmethod
  def from_workdir(cls, workdir: str) -> 'Recognizer':
    """Loads the newest checkpoint of a run onto all devices present.

    Args:
      workdir: of the run.

    Returns:
      The recognizer.

    Raises:
      FileNotFoundError: no checkpoint there.
    """
    with checkpointing.open_existing(workdir) as checkpoints:
      meta = checkpoints.restore_meta()
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
      shapes = model_builder.parameter_shapes(model, prep)
      return cls(
        config,
        model,
        checkpoints.restore_params(shapes, mesh),
        meta['vocabulary'],
        meta['seen_classes'],
        mesh,
        checkpoints.latest_step(),
        meta.get('descriptions'),
      )

  def with_params(self, params: Any, step: int) -> 'Recognizer':
    """The same encoders with other weights; nothing is compiled again."""
    other = object.__new__(Recognizer)
    other.__dict__.update(self.__dict__)
    other._params, other.step = params, step
    other._text_cache = {}
    return other

  def _embed(self, params, video, text_tokens, text_mask):
    """Clips uint8 [b v t h w 3] -> embeddings [b v d], match [b c]."""
    prep = self.prep
    b, v = video.shape[:2]
    x = pixel_ops.to_inputs(video, prep.mean, prep.std, prep.inputs)
    apply = functools.partial(self._model.apply, {'params': params})
    out = apply(x.reshape(b * v, *x.shape[2:]), method='encode_video')

    def match(chunk):
      tokens, mask = chunk
      spread = lambda y: jnp.broadcast_to(y[None], (b * v, *y.shape))
      return apply(out['tokens'], spread(tokens), spread(mask), method='match')

    embeddings = out['embedding'].reshape(b, v, -1)
    if not text_tokens.shape[0]:
      return embeddings, jnp.zeros((b, 0))
    logits = jax.lax.map(match, (text_tokens, text_mask))  # [k b*v chunk]
    logits = logits.transpose(1, 0, 2).reshape(b, v, -1)
    return embeddings, logits.mean(axis=1)

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
      outs = [
        self._encode_text({'params': self._params}, text['ids'], text['mask'])
        for text in self.token_ids(names)
      ]
      self._text_cache[key] = {
        'embedding': self._average(names, outs),
        'tokens': np.asarray(outs[0]['tokens']),
        'mask': self.token_ids(names)[0]['mask'],
      }
    return self._text_cache[key]

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
    shards = sharding.num_batch_shards(self._mesh)
    b = len(clips_of_videos)
    padding = -b % shards
    if padding:
      clips_of_videos = np.pad(
        clips_of_videos, [(0, padding)] + [(0, 0)] * 5, mode='edge'
      )
    tokens, mask = self._chunked_tokens(names)
    video = sharding.put_batch({'video': clips_of_videos}, self._mesh)['video']
    embeddings, match = self._encode_clips(self._params, video, tokens, mask)
    return np.asarray(embeddings)[:b], np.asarray(match)[:b, : len(names)]

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
    heads = self._model.apply({'params': self._params}, method='heads')
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
    first_frame: bool = False,
    cache: clip_reader_lib.VideoCache | None = None,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Batches of every video once; see `input_pipeline.eval_batches`."""
    return input_pipeline.eval_batches(
      self.clip_reader(videos, cache),
      batch_size=self.config.zeroshot.batch_size,
      num_views=self.config.zeroshot.num_views,
      num_crops=self.config.zeroshot.num_crops,
      first_frame=first_frame,
      num_threads=self.config.data.num_threads,
    )

  @property
  def encoders(self) -> protocol_evaluation.Encoders:
    """What evaluators need of these weights."""
    return protocol_evaluation.Encoders(
      class_embeddings=lambda names: self.encode_class_names(names)[
        'embedding'
      ],
      videos=self.encode_videos,
    )

  @property
  def transfer_settings(self) -> zeroshot.TransferSettings:
    """The config's settings of the semantic transfer."""
    c = self.config.zeroshot
    return zeroshot.TransferSettings(c.temperature, c.top_k, c.centre_text)

  def evaluate(
    self,
    protocols: Sequence[class_split.Protocol],
    say=lambda text: None,
    cache=None,
  ) -> tuple[protocol_evaluation.Evaluation, prototype_bank.PrototypeBank]:
    """Runs the splits of a protocol with these weights.

    Args:
      protocols: the splits. Their seen classes may be fewer than, or others
        than, those trained on; their unseen ones may not be any of those.
      say: is told what is being done.
      cache: decoded videos.

    Returns:
      The evaluation, and the prototype bank of the seen classes.

    Raises:
      ValueError: an unseen class was trained on, and no protocol says that
        it may.
    """
    first = protocols[0]
    for protocol in protocols:
      # Those that the protocol has as seen were audited when it was made.
      others = [n for n in self.seen_classes if n not in protocol.seen_classes]
      overlap.refuse(
        overlap.audit_names(others, protocol.unseen_classes),
        f'{protocol.name}, and what the model was trained on',
      )
    evaluation = protocol_evaluation.evaluate_protocols(
      protocols,
      self.encoders,
      lambda videos, first_frame: self.eval_batches(videos, first_frame, cache),
      self.transfer_settings,
      say,
    )
    bank = prototype_bank.PrototypeBank(
      seen_classes=first.seen_classes,
      seen_prototypes=evaluation.seen_prototypes,
      class_embeddings=evaluation.seen_text,
      counts=evaluation.counts,
      domain=first.domain,
      protocol=first.name,
      preprocessing=self.prep.to_json(),
      step=self.step,
    )
    return evaluation, bank

  def predict(
    self,
    path: str,
    names: Sequence[str],
    bank: prototype_bank.PrototypeBank,
    top_seen: int = 3,
  ) -> Prediction:
    """Ranks class names for a video, by semantic transfer.

    Args:
      path: a video file in any format PyAV reads.
      names: candidate class names, in any spelling; seen in training or not.
      bank: of these weights.
      top_seen: how many seen classes to name per candidate.

    Returns:
      The ranking.

    Raises:
      VideoError: the video cannot be used.
      ValueError: no names, an empty or a duplicate one, or a bank of other
        weights.
    """
    if bank.preprocessing != self.prep.to_json() or bank.step != self.step:
      raise ValueError(
        f'the bank belongs to other weights (step {bank.step}, here '
        f'{self.step}): evaluate the run again'
      )
    names = class_names.canonical_names(names, 'classes')
    views = user_videos.read_views(
      path,
      self.prep,
      self.config.zeroshot.num_views,
      self.config.zeroshot.num_crops,
    )
    warnings = list(views.warnings)
    if (
      bank.domain == records.RENDERED_DOMAIN
      and views.comment != records.RENDERED_TAG
    ):
      warnings.append(
        f'these weights were trained on {bank.domain} alone and {path} is '
        'something else: the ranking means little'
      )
    embeddings, match = self.encode_videos(views.clips[None], names)
    text = self.encode_class_names(names)['embedding']
    seen = zeroshot.Classes(bank.seen_classes, bank.class_embeddings)
    composites, weights = zeroshot.unseen_prototypes(
      seen, bank.seen_prototypes, text, self.transfer_settings
    )
    scores = np.asarray(scoring.similarity_scores(embeddings, composites))[0]
    near = np.asarray(scoring.similarity_scores(embeddings, text))[0]
    trained = [name for name in names if name in bank.seen_classes]
    if trained:
      warnings.append(f'seen in training, so not zero-shot: {trained}')
    ranking = []
    for i in np.argsort(-scores, kind='stable'):
      largest = np.argsort(-weights[i], kind='stable')[:top_seen]
      ranking.append(
        Ranked(
          names[i],
          float(scores[i]),
          float(near[i]),
          float(match[0, i]),
          tuple((bank.seen_classes[s], float(weights[i, s])) for s in largest),
        )
      )
    return Prediction(tuple(ranking), tuple(warnings))


def load_bank(workdir: str) -> prototype_bank.PrototypeBank:
  """The prototype bank that finished training left in a workdir."""
  return prototype_bank.load_bank(os.path.join(workdir, BANK_FILE))
