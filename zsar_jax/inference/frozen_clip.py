"""Zero-shot recognition by CLIP as it comes: nothing is trained.

For who has a video, some names and public CLIP weights, and the row that
every result of a CLIP-initialised model has to be compared with:

  clip = FrozenClip.from_directory('clip-vit-base-patch32')
  prediction = clip.predict('clip.mp4', ['juggling', 'rowing'])

A video is the direction of the mean of its frames' unit image embeddings, a
name that of its prompts' text embeddings (the ensemble of Radford et al.
2021), and the nearest name wins. Which prompts and how many frames are our
choices.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from zsar_jax.data import (
  byte_pairs,
  class_names,
  input_pipeline,
  tokenizer,
  user_videos,
)
from zsar_jax.data import preprocessing as preprocessing_lib
from zsar_jax.data.protocols import class_split
from zsar_jax.evaluation import embedding, protocol_evaluation, results
from zsar_jax.inference import predictions
from zsar_jax.models import clip as clip_model
from zsar_jax.models import pixel_ops
from zsar_jax.pretrained import clip as clip_weights
from zsar_jax.pretrained import directory
from zsar_jax.zeroshot import scoring

# Plain sentences that suit names of actions, "juggling" as well as
# "basketball" and "jump rope".
PROMPTS = (
  'a video of a person {}.',
  'a photo of a person {}.',
  'a video of {}.',
  'a person is {}.',
  '{}, a human action.',
)
# Texts are cut to a multiple of this many tokens: few lengths to compile for.
_LENGTH_STEP = 8


@dataclasses.dataclass(frozen=True)
class Ranked:
  """One candidate's place in a ranking.

  Attributes:
    name: canonical class name.
    score: cosine similarity of the video and the name.
    probability: softmax over the candidates with CLIP's own logit scale.
  """

  name: str
  score: float
  probability: float


class FrozenClip:
  """CLIP with its tokenizer and preprocessing.

  Attributes:
    prep: preprocessing that belongs to the weights.
    scale: what cosines are multiplied by before a softmax.
  """

  def __init__(
    self,
    model: clip_model.Clip,
    params: Any,
    tokenize: byte_pairs.BytePairTokenizer,
    prep: preprocessing_lib.Preprocessing,
  ):
    self.prep = prep
    self._params = jax.device_put(params)
    self._tokenize = tokenize
    self._encode_text = jax.jit(
      functools.partial(model.apply, method='encode_text')
    )
    self._encode_clips = jax.jit(functools.partial(self._embed, model))
    self.scale = float(model.apply({'params': params}, method='scale'))

  @classmethod
  def from_directory(cls, path: str, num_frames: int = 8) -> 'FrozenClip':
    """Loads public CLIP weights.

    Args:
      path: a Hugging Face directory of model type 'clip', or the id of one,
        `hf:org/name[@revision]`; see `pretrained.clip` for the files it must
        hold.
      num_frames: frames of a clip, spread evenly over the video.

    Returns:
      The recogniser.

    Raises:
      FileNotFoundError: a file is missing.
      OSError: as `pretrained.hub.resolve` has it.
      ValueError: the files do not fit each other or are of another
        architecture.
    """
    weights = directory.read_weights(path)
    kwargs, params = clip_weights.load_clip(weights)
    token_length = kwargs['text']['max_length']
    tokenize = clip_weights.load_tokenizer(weights, token_length)
    prep = preprocessing_lib.Preprocessing(
      **clip_weights.pixel_settings(weights),
      num_frames=num_frames,
      sampling='uniform',
      frame_stride=1,
      sample_fps=30.0,
      inputs='rgb',
      token_length=token_length,
      vocabulary_hash=tokenizer.vocabulary_hash([tokenize.definition]),
    )
    return cls(clip_model.Clip(**kwargs), params, tokenize, prep)

  def _embed(self, model, params, video):
    """Clips uint8 [b v t h w 3] -> embeddings [b v d]."""
    b, v = video.shape[:2]
    x = pixel_ops.to_inputs(video, self.prep.mean, self.prep.std)
    x = x.reshape(b * v, *x.shape[2:])
    out = model.apply({'params': params}, x, method='encode_video')
    return out['embedding'].reshape(b, v, -1)

  def class_embeddings(self, names: Sequence[str]) -> np.ndarray:
    """Encodes class names by the ensemble of PROMPTS.

    Args:
      names: canonical class names.

    Returns:
      Unit vectors [c d].

    Raises:
      ValueError: a name has more tokens than CLIP has positions.
    """
    total = 0.0
    for prompt in PROMPTS:
      ids, mask = self._tokenize([prompt.format(name) for name in names])
      # No token sees those after it, so the padding can go.
      longest = int(mask.sum(axis=1).max())
      length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
      out = self._encode_text(
        {'params': self._params}, ids[:, :length], mask[:, :length]
      )
      total = total + np.asarray(out['embedding'])
    return total / np.linalg.norm(total, axis=-1, keepdims=True)

  def encode_videos(
    self, clips_of_videos: np.ndarray, names: Sequence[str] = ()
  ) -> tuple[np.ndarray, np.ndarray]:
    """Embeds clips and matches them with names.

    Args:
      clips_of_videos: uint8 [b v t h w 3], v views of each video.
      names: canonical class names; may be none.

    Returns:
      Embeddings [b v d], unit vectors, and logits [b c], scaled cosines,
      mean over views.
    """
    embeddings = self._encode_clips(self._params, clips_of_videos)
    if not names:
      return np.asarray(embeddings), np.zeros((len(embeddings), 0), np.float32)
    scores = scoring.similarity_scores(embeddings, self.class_embeddings(names))
    return np.asarray(embeddings), self.scale * np.asarray(scores)

  @property
  def encoders(self) -> embedding.Encoders:
    """Returns the encoders that evaluators call, with these weights."""

    def videos(clips, names):
      embeddings, logits = self.encode_videos(clips, names)
      return {'embedding': embeddings, 'match': logits}

    return embedding.Encoders(
      class_embeddings=self.class_embeddings, videos=videos
    )

  def protocol_rows(
    self,
    protocols: Sequence[class_split.Protocol],
    batch_size: int,
    num_threads: int,
  ) -> list[results.Row]:
    """Returns the rows that a CLIP-initialised result has to be compared with.

    Args:
      protocols: the splits of a protocol.
      batch_size: videos at a time.
      num_threads: decoding threads.

    Returns:
      Rows of the method `frozen_clip`: nearest name, one view a video.
    """

    def read(videos, frames):
      return input_pipeline.eval_batches(
        input_pipeline.ClipReader(videos, self.prep),
        batch_size=batch_size,
        frames=frames,
        num_threads=num_threads,
      )

    return protocol_evaluation.nearest_name_rows(
      protocols, embedding.Embedder(self.encoders, read), 'frozen_clip'
    )

  def predict(self, path: str, names: Sequence[str]) -> predictions.Prediction:
    """Ranks class names for a video.

    Args:
      path: a video file in any format PyAV reads.
      names: candidate class names, in any spelling.

    Returns:
      The ranking.

    Raises:
      VideoError: the video cannot be used.
      ValueError: no names, or an empty, duplicate or too long one.
    """
    names = class_names.canonical_names(names, 'classes')
    views = user_videos.read_views(path, self.prep)
    logits = self.encode_videos(views.clips[None], names)[1][0]
    cosines = logits / self.scale
    probabilities = np.asarray(jax.nn.softmax(logits))
    ranking = tuple(
      Ranked(names[i], float(cosines[i]), float(probabilities[i]))
      for i in np.argsort(-cosines, kind='stable')
    )
    return predictions.Prediction(ranking, views.warnings)
