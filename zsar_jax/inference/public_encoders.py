"""Encoders with public weights: a video side and a text side, untrained here.

The two sides need no joint space. Semantic transfer takes the relatedness of
names from the text side only, and prototypes from the video side only. Only
`nearest_name` needs both in one space, such as CLIP's.
"""

from collections.abc import Mapping, Sequence
import copy
import dataclasses
import functools
import hashlib
import json
import os
from typing import Any

import ml_collections
import numpy as np

from zsar_jax import config_utils
from zsar_jax.data import preprocessing, tokenizer
from zsar_jax.evaluation import embedding, methods
from zsar_jax.inference import encoders as encoders_lib
from zsar_jax.inference import public_sides
from zsar_jax.pretrained import hub
from zsar_jax.zeroshot import scoring

# Our choice for classifiers with hundreds of seen classes, made on the
# development draws of `experiments.relatedness`. The temperature is for the
# softmax weights, which the evaluation's table also shows.
SETTINGS = methods.TransferSettings(
  temperature=0.2, weighting='kernel', ridge=0.3
)


class PublicEncoders(encoders_lib.Recognizer):
  """Embeds videos and class names with public weights.

  Attributes:
    config: a config with the weights' preprocessing, for the evaluation.
    prep: the preprocessing of both sides.
    video: the video side.
    text: the text side.
    texts: turns class names into prompts and token ids.
    seen_classes: names of the video classifier's classes; () without one.
    step: 0, as the weights were not trained here.
  """

  step, centred = 0, True

  def __init__(
    self, video: public_sides.VideoSide, text: public_sides.TextSide
  ):
    self.video, self.text, self.texts = video, text, text.texts
    self.prep = preprocessing.Preprocessing(
      **video.pixels,
      token_length=text.token_length,
      vocabulary_hash=tokenizer.vocabulary_hash(text.texts.pieces),
    )
    self.config = _make_config(self.prep, text.texts.templates)
    self.seen_classes = video.labels
    self._text_cache: dict[tuple[str, ...], np.ndarray] = {}

  @property
  def joint(self) -> bool:
    """Whether videos and names share one space."""
    return bool(self.video.space) and self.video.space == self.text.space

  @functools.cached_property
  def weights_hash(self) -> str:
    """Hash of all that the embeddings depend on; 12 hex digits."""
    digest = hashlib.sha256(self.prep.to_json().encode())
    for part in (self.video.digest, self.text.digest, *self.texts.templates):
      digest.update(part.encode())
    if self.video.dtype != 'float32':
      digest.update(self.video.dtype.encode())
    if self.texts.descriptions:
      content = [self.texts.descriptions, self.texts.description_weight]
      digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()[:12]

  def with_descriptions(
    self, descriptions: Mapping[str, Sequence[str]]
  ) -> 'PublicEncoders':
    """See `Recognizer.with_descriptions`."""
    other = copy.copy(self)
    # A cached property lies here, so the copy has it.
    other.__dict__['weights_hash'] = self.weights_hash
    other.text = self.text.described(descriptions)
    other.texts, other._text_cache = other.text.texts, {}
    return other

  def encode_class_names(self, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Embeds class names.

    Args:
      names: canonical class names.

    Returns:
      `embedding` [c e], unit vectors.
    """
    key = tuple(names)
    if key not in self._text_cache:
      self._text_cache[key] = self.text.embed_names(names)
    return {'embedding': self._text_cache[key]}

  def encode_videos(
    self, clips_of_videos: np.ndarray, names: Sequence[str] = ()
  ) -> tuple[np.ndarray, np.ndarray]:
    """Embeds clips, and compares them with names if there is a joint space.

    Args:
      clips_of_videos: uint8 [b v t h w 3], v views of each video.
      names: canonical class names; may be empty.

    Returns:
      Embeddings [b v d], unit vectors; and logits [b c], mean over views:
      cosines times the text side's scale, plus its bias. Without a joint space,
      the logits are [b 0].
    """
    embeddings = self.video.embed(clips_of_videos)
    if not self.joint or not names:
      return embeddings, np.zeros((len(embeddings), 0), np.float32)
    scores = scoring.similarity_scores(
      embeddings, self.encode_class_names(names)['embedding']
    )
    logits = self.text.scale * np.asarray(scores) + self.text.bias
    return embeddings, logits

  @property
  def encoders(self) -> embedding.Encoders:
    """The functions that an evaluation needs."""

    def videos(clips, names):
      embeddings, logits = self.encode_videos(clips, names)
      out = {'embedding': embeddings}
      return {**out, 'match': logits} if self.joint else out

    return embedding.Encoders(
      class_embeddings=lambda names: self.encode_class_names(names)[
        'embedding'
      ],
      videos=videos,
      trained_classes=self.seen_classes,
      matches=self.joint,
      joint=self.joint,
    )

  @property
  def programs(self) -> dict[str, encoders_lib.Program]:
    """Both sides as pure functions; see `Recognizer`."""
    return self._make_programs(self.video.program, self.text.program)

  @property
  def transfer_settings(self) -> methods.TransferSettings:
    """The default settings of the semantic transfer for public encoders."""
    return SETTINGS

  @property
  def origin(self) -> str:
    """The weights of both sides with their digests; see `Recognizer`."""
    video, text = (
      f'{short_name(side.source)}:{side.digest}'
      for side in (self.video, self.text)
    )
    dtype = self.video.dtype
    half = '' if dtype == 'float32' else f' in {dtype}'
    return f'video={video}{half}, text={text}'


def short_name(source: str) -> str:
  """Returns the name of a folder; returns an id of the Hub unchanged."""
  if hub.is_id(source):
    return source
  return os.path.basename(os.path.normpath(source))


def _make_config(
  prep: preprocessing.Preprocessing, templates: Sequence[str]
) -> ml_collections.ConfigDict:
  """Makes a config like a run's; its model section is not used."""
  config = config_utils.default_config()
  values: dict[str, Any] = dataclasses.asdict(prep)
  del values['vocabulary_hash']
  with config.unlocked():
    config.preprocessing.update(values)
    config.names.prompts = tuple(templates)
    for key in ('temperature', 'weighting', 'ridge'):
      config.zeroshot[key] = getattr(SETTINGS, key)
    config.zeroshot.batch_size = 4
  return config
